#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "base/file.h"
#include "base/table.h"
#include "config/quote.h"
#include "config/settings.h"

/* One file being read. `event` is the newest one; next_event() takes the one before it back. */
struct reader {
    struct config *config;
    const char *path;
    struct text yaml;
    yaml_parser_t parser;
    yaml_event_t event;
    struct table seen; /* names already decided in this file */
};

/* Puts PATH:LINE:COLUMN in front; lines and columns count from 1, columns in characters. */
static int wrap_place(const struct reader *reader, size_t line, size_t column, struct error *err)
{
    char path[QUOTE_SIZE];
    return error_wrap(err, "%s:%zu:%zu", quote_path(reader->path, path), line, column);
}

static int wrap_mark(const struct reader *reader, yaml_mark_t mark, struct error *err)
{
    return wrap_place(reader, mark.line + 1, mark.column + 1, err);
}

static int fail_at(const struct reader *reader, yaml_mark_t mark, struct error *err, const char *complaint)
{
    error_set(err, ERROR_BAD_INPUT, "%s", complaint);
    return wrap_mark(reader, mark, err);
}

static void locate(struct text yaml, size_t offset, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < offset && i < yaml.size; i++) {
        if (yaml.data[i] == '\n') {
            *line += 1;
            *column = 1;
        } else if (((uint8_t)yaml.data[i] & 0xc0) != 0x80) {
            *column += 1;
        }
    }
}

static bool is_tab_at(struct text yaml, yaml_mark_t mark)
{
    const char *at = yaml.data, *end = yaml.data + yaml.size;
    for (size_t line = 0; line < mark.line && at != NULL; line++) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at == NULL ? NULL : at + 1;
    }
    if (at == NULL)
        return false;
    while (at < end && *at == ' ')
        at++;
    return at < end && *at == '\t';
}

static int fail_to_parse(const struct reader *reader, struct error *err)
{
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", reader->path);
    if (parser->context != NULL)
        error_set(err, ERROR_BAD_INPUT, "not YAML: %s %s from line %zu", parser->problem, parser->context,
                  parser->context_mark.line + 1);
    else
        error_set(err, ERROR_BAD_INPUT, "not YAML: %s", parser->problem);
    if (parser->error == YAML_READER_ERROR) {
        size_t line, column;
        locate(reader->yaml, parser->problem_offset, &line, &column);
        return wrap_place(reader, line, column, err);
    }
    if (is_tab_at(reader->yaml, parser->problem_mark))
        error_set(err, ERROR_BAD_INPUT, "a tab at the start of a line: YAML indents by spaces");
    return wrap_mark(reader, parser->problem_mark, err);
}

static int next_event(struct reader *reader, struct error *err)
{
    yaml_event_delete(&reader->event);
    memset(&reader->event, 0, sizeof reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event))
        return fail_to_parse(reader, err);
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        anchor = event->data.alias.anchor;
    if (event->type == YAML_SCALAR_EVENT)
        anchor = event->data.scalar.anchor, tag = event->data.scalar.tag;
    if (event->type == YAML_SEQUENCE_START_EVENT)
        anchor = event->data.sequence_start.anchor, tag = event->data.sequence_start.tag;
    if (event->type == YAML_MAPPING_START_EVENT)
        anchor = event->data.mapping_start.anchor, tag = event->data.mapping_start.tag;
    if (anchor != NULL)
        return fail_at(reader, event->start_mark, err,
                       "anchors (&) and aliases (*) are not taken: write the value out, or in quotes");
    if (tag != NULL)
        return fail_at(reader, event->start_mark, err, "tags (!) are not taken: write the value out, or in quotes");
    return 0;
}

static struct text scalar_text(const yaml_event_t *event)
{
    return (struct text){(const char *)event->data.scalar.value, event->data.scalar.length};
}

/* Nothing at all, or YAML's words for it. */
static bool is_null(const yaml_event_t *event)
{
    struct text text = scalar_text(event);
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text.size == 0 || text_equal(text, text_of("~")) || text_equal(text, text_of("null")));
}

static int assign(struct reader *reader, const char *name, yaml_mark_t key, yaml_mark_t at, struct text value,
                  struct error *err)
{
    struct buffer origin = {0};
    buffer_printf(&origin, "%s:%zu", reader->path, key.line + 1);
    int result =
        settings_assign(reader->config, name, value, (struct config_origin){SOURCE_FILE, buffer_string(&origin)}, err);
    if (result != 0 && err->kind == ERROR_BAD_INPUT)
        wrap_mark(reader, at, err);
    buffer_free(&origin);
    return result;
}

/* The items joined by commas: the same list as in the environment. */
static int read_sequence(struct reader *reader, const char *name, yaml_mark_t key, struct error *err)
{
    struct buffer list = {0};
    int result = -1;
    yaml_mark_t start = reader->event.start_mark;
    for (size_t count = 0;; count++) {
        if (next_event(reader, err) != 0)
            goto out;
        if (reader->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        if (reader->event.type != YAML_SCALAR_EVENT || is_null(&reader->event)) {
            fail_at(reader, reader->event.start_mark, err, "a plain value is due here, in a list of values");
            goto out;
        }
        if (count > 0)
            buffer_append_byte(&list, ',');
        buffer_append_text(&list, scalar_text(&reader->event));
    }
    if (buffer_check(&list, "reading a list", err) == 0)
        result = assign(reader, name, key, start, buffer_text(&list), err);
out:
    buffer_free(&list);
    return result;
}

static int fail_nested(const struct reader *reader, const char *name, yaml_mark_t key, const char *what,
                       struct error *err)
{
    char quoted[QUOTE_SIZE];
    if (option_find(name) == NULL && !option_is_section(name) && !option_is_kafka(name)) {
        settings_unknown(name, err);
        return wrap_mark(reader, key, err);
    }
    error_set(err, ERROR_BAD_INPUT, "%s wants %s, not %s", quote(text_of(name), quoted),
              option_is_section(name) ? "options by name" : "one value", what);
    return wrap_mark(reader, reader->event.start_mark, err);
}

static int read_scalar(struct reader *reader, const char *name, yaml_mark_t key, struct error *err)
{
    char quoted[QUOTE_SIZE];
    if (option_is_section(name)) /* a section whose lines are all commented out is an empty one */
        return is_null(&reader->event) ? 0 : fail_nested(reader, name, key, "a value", err);
    if (is_null(&reader->event) && (option_find(name) != NULL || option_is_kafka(name))) {
        error_set(err, ERROR_BAD_INPUT, "%s has no value; \"\" is the empty text", quote(text_of(name), quoted));
        return wrap_mark(reader, key, err);
    }
    yaml_mark_t at = option_find(name) != NULL ? reader->event.start_mark : key;
    return assign(reader, name, key, at, scalar_text(&reader->event), err);
}

static bool takes_list(const char *name)
{
    const struct config_option *option = option_find(name);
    return option_is_kafka(name) ||
           (option != NULL && (option->kind == OPTION_INTEGERS || option->kind == OPTION_CHOICES));
}

/* "section.key", or an error when it is none, too long, or there already. */
static int read_name(struct reader *reader, const char *section, char name[OPTION_NAME_SIZE], struct error *err)
{
    yaml_mark_t mark = reader->event.start_mark;
    if (reader->event.type != YAML_SCALAR_EVENT)
        return fail_at(reader, mark, err, "the name of an option is due here");
    struct text key = scalar_text(&reader->event);
    char quoted[QUOTE_SIZE];
    int length = snprintf(name, OPTION_NAME_SIZE, "%s%s" TEXT_FORMAT, section == NULL ? "" : section,
                          section == NULL ? "" : ".", TEXT_ARGS(key));
    if (key.size == 0 || !text_is_utf8(key) || length >= OPTION_NAME_SIZE) {
        error_set(err, ERROR_BAD_INPUT, "\"%s\" is not the name of an option", quote(key, quoted));
        return wrap_mark(reader, mark, err);
    }
    size_t known = reader->seen.count;
    uint32_t index = table_add(&reader->seen, text_of(name));
    if (index == TABLE_NONE)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", reader->path);
    if (index < known) {
        error_set(err, ERROR_BAD_INPUT, "%s is given twice", quote(text_of(name), quoted));
        return wrap_mark(reader, mark, err);
    }
    return 0;
}

/* Reads up to the mapping's end. Sections (section != NULL) hold no mappings, so this nests twice at most. */
static int read_mapping(struct reader *reader, const char *section, struct error *err)
{
    char name[OPTION_NAME_SIZE];
    for (;;) {
        if (next_event(reader, err) != 0)
            return -1;
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        yaml_mark_t key = reader->event.start_mark;
        if (read_name(reader, section, name, err) != 0 || next_event(reader, err) != 0)
            return -1;
        int result;
        if (reader->event.type == YAML_SCALAR_EVENT)
            result = read_scalar(reader, name, key, err);
        else if (reader->event.type == YAML_SEQUENCE_START_EVENT)
            result = takes_list(name) ? read_sequence(reader, name, key, err)
                                      : fail_nested(reader, name, key, "a list", err);
        else
            result = section == NULL && option_is_section(name) ? read_mapping(reader, name, err)
                                                                : fail_nested(reader, name, key, "a mapping", err);
        if (result != 0)
            return -1;
    }
}

static int read_stream(struct reader *reader, struct error *err)
{
    if (next_event(reader, err) != 0 || next_event(reader, err) != 0) /* the stream's start and what follows */
        return -1;
    if (reader->event.type == YAML_STREAM_END_EVENT)
        return 0;
    if (next_event(reader, err) != 0)
        return -1;
    if (reader->event.type == YAML_MAPPING_START_EVENT) {
        if (read_mapping(reader, NULL, err) != 0)
            return -1;
    } else if (!is_null(&reader->event)) {
        return fail_at(reader, reader->event.start_mark, err, "options by name are due here, as in \"graph:\"");
    }
    if (next_event(reader, err) != 0 || next_event(reader, err) != 0) /* the document's end and what follows */
        return -1;
    if (reader->event.type != YAML_STREAM_END_EVENT)
        return fail_at(reader, reader->event.start_mark, err, "a second document: one is all that is read");
    return 0;
}

static int check_utf8(const struct reader *reader, struct error *err)
{
    struct text yaml = reader->yaml;
    uint32_t code_point;
    for (size_t at = 0; at < yaml.size;) {
        size_t length = text_code_point(yaml.data + at, yaml.size - at, &code_point);
        if (length == 0) {
            size_t line, column;
            locate(yaml, at, &line, &column);
            error_set(err, ERROR_BAD_INPUT, "not UTF-8 text: byte %#04x", (unsigned)(uint8_t)yaml.data[at]);
            return wrap_place(reader, line, column, err);
        }
        at += length;
    }
    return 0;
}

int config_load_text(struct config *config, const char *path, struct text yaml, struct error *err)
{
    struct reader reader = {.config = config, .path = path, .yaml = yaml};
    if (yaml.size > CONFIG_FILE_LIMIT)
        return error_set(err, ERROR_BAD_INPUT, "%s is larger than %d bytes", path, CONFIG_FILE_LIMIT);
    if (check_utf8(&reader, err) != 0)
        return -1;
    if (!yaml_parser_initialize(&reader.parser))
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", path);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)yaml.data, yaml.size);
    int result = read_stream(&reader, err);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    table_free(&reader.seen);
    return result;
}

int config_load_file(struct config *config, const char *path, struct error *err)
{
    struct buffer yaml = {0};
    int result = file_read(path, CONFIG_FILE_LIMIT, &yaml, err);
    if (result == 0)
        result = config_load_text(config, path, buffer_text(&yaml), err);
    buffer_free(&yaml);
    return result;
}
