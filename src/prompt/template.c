#include "prompt/template.h"

#include <stdbool.h>

/* Where a name may stand: one of the parts, or inside a list. */
enum place { IN_SYSTEM, IN_USER, IN_CANDIDATE, IN_FIELD, IN_EVENT, IN_SIMILAR, IN_VERDICT };

#define AT(place) (1u << (place))
enum { ANYWHERE = AT(IN_VERDICT + 1) - 1 };

static const struct {
    const char *spelling;
    unsigned places;
    enum place inside; /* lists: what the lines of EACH stand in */
} names[NAME_COUNT] = {
    [NAME_YES] = {"yes", ANYWHERE, 0},
    [NAME_NO] = {"no", ANYWHERE, 0},
    [NAME_LIKED] = {"liked", ANYWHERE, 0},
    [NAME_DISLIKED] = {"disliked", ANYWHERE, 0},
    [NAME_NEUTRAL] = {"neutral", ANYWHERE, 0},
    [NAME_UNTITLED] = {"untitled", ANYWHERE, 0},
    [NAME_TITLE] = {"title", AT(IN_EVENT) | AT(IN_CANDIDATE), 0},
    [NAME_VERDICT] = {"verdict", AT(IN_EVENT) | AT(IN_VERDICT), 0},
    [NAME_RATING] = {"rating", AT(IN_EVENT), 0},
    [NAME_NAME] = {"name", AT(IN_FIELD), 0},
    [NAME_VALUE] = {"value", AT(IN_FIELD), 0},
    [NAME_RATINGS] = {"ratings", AT(IN_CANDIDATE), 0},
    [NAME_LIKES] = {"likes", AT(IN_CANDIDATE), 0},
    [NAME_LIKES_PERCENT] = {"likes_percent", AT(IN_CANDIDATE), 0},
    [NAME_SIMILAR_KNOWN] = {"similar_known", AT(IN_CANDIDATE), 0},
    [NAME_SIMILAR_LIKED] = {"similar_liked", AT(IN_CANDIDATE), 0},
    [NAME_RECENT_KNOWN] = {"recent_known", AT(IN_CANDIDATE), 0},
    [NAME_RECENT_LIKED] = {"recent_liked", AT(IN_CANDIDATE), 0},
    [NAME_LIKED_PERCENT] = {"liked_percent", AT(IN_CANDIDATE), 0},
    [NAME_AFFINITY_PERCENT] = {"affinity_percent", AT(IN_CANDIDATE), 0},
    [NAME_VOTE_PERCENT] = {"vote_percent", AT(IN_CANDIDATE), 0},
    [NAME_PROFILE] = {"profile", AT(IN_USER), IN_FIELD},
    [NAME_HISTORY] = {"history", AT(IN_USER), IN_EVENT},
    [NAME_SIMILAR] = {"similar", AT(IN_USER), IN_SIMILAR},
    [NAME_EVENTS] = {"events", AT(IN_SIMILAR), IN_EVENT},
    [NAME_ATTRIBUTES] = {"attributes", AT(IN_CANDIDATE), IN_FIELD},
    [NAME_SIMILAR_VERDICTS] = {"similar_verdicts", AT(IN_CANDIDATE), IN_VERDICT},
};

enum section { SECTION_LABELS = PART_COUNT, SECTION_COUNT, SECTION_NONE };

static const char *const sections[SECTION_COUNT] = {"system", "user", "candidate", "labels"};

enum { BLOCK_DEPTH = 8, SUGGESTION_DISTANCE = 2 };

struct block {
    size_t node;
    size_t line;
    enum place outside;
};

struct parser {
    struct prompt_template *prompt;
    const char *path;
    size_t line; /* from 1 */
    int section; /* enum section */
    bool seen[SECTION_COUNT];
    size_t empty_lines; /* waiting: text only if more of the part follows */
    enum place place;
    struct block blocks[BLOCK_DEPTH];
    size_t depth;
    struct error *err;
};

static struct text slice(struct text text, size_t start, size_t end)
{
    return (struct text){text.data + start, end - start};
}

static bool starts_with(struct text text, const char *prefix)
{
    size_t size = strlen(prefix);
    return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

static struct text trim(struct text text)
{
    while (text.size > 0 && (*text.data == ' ' || *text.data == '\t'))
        text = slice(text, 1, text.size);
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Index of `wanted` in `text` at or after `from`; text.size when it is not there. */
static size_t find(struct text text, const char *wanted, size_t from)
{
    for (size_t at = from; at < text.size; at++)
        if (starts_with(slice(text, at, text.size), wanted))
            return at;
    return text.size;
}

/* For messages: what of somebody's text may be shown. */
#define SHOWN(t) TEXT_ARGS(text_prefix((t), 40))
/* A fault of the template on the line being read; -1. */
#define FAIL(parser, ...)                                                                                              \
    (error_set((parser)->err, ERROR_BAD_INPUT, __VA_ARGS__),                                                           \
     error_wrap((parser)->err, "%s:%zu", (parser)->path, (parser)->line))

static struct part *current_part(struct parser *parser)
{
    return &parser->prompt->parts[parser->section];
}

static int add_node(struct parser *parser, struct node node)
{
    struct part *part = current_part(parser);
    if (array_reserve(&part->nodes, &part->capacity, part->count + 1, sizeof *part->nodes) != 0)
        return error_set(parser->err, ERROR_FATAL, "out of memory while reading %s", parser->path);
    part->nodes[part->count++] = node;
    return 0;
}

/* A token spelt like a special one that the model does not have would be read as so many letters. */
static int add_plain(struct parser *parser, struct text text)
{
    if (text.size == 0)
        return 0;
    size_t start = find(text, "<|", 0);
    size_t end = find(text, "|>", start);
    if (end < text.size)
        return FAIL(parser, "\"" TEXT_FORMAT "\" is no special token of this model; write the template for its tokens",
                    SHOWN(slice(text, start, end + 2)));
    return add_node(parser, (struct node){.kind = NODE_TEXT, .text = text});
}

static int add_text(struct parser *parser, struct text text)
{
    size_t start, length;
    int32_t id;
    while (text.size > 0 && tokenizer_find_special(parser->prompt->tokenizer, text, &start, &length, &id)) {
        if (add_plain(parser, slice(text, 0, start)) != 0 ||
            add_node(parser, (struct node){
                                 .kind = NODE_SPECIAL, .text = slice(text, start, start + length), .special = id}) != 0)
            return -1;
        text = slice(text, start + length, text.size);
    }
    return add_plain(parser, text);
}

static int fail_unknown(struct parser *parser, struct text spelling)
{
    const char *nearest = NULL;
    size_t least = SUGGESTION_DISTANCE + 1;
    char known[200];
    size_t used = 0;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        if ((names[i].places & AT(parser->place)) == 0)
            continue;
        size_t distance = text_distance(spelling, text_of(names[i].spelling));
        if (distance < least) {
            least = distance;
            nearest = names[i].spelling;
        }
        size_t size = strlen(names[i].spelling);
        if (used + size + 3 > sizeof known)
            continue;
        known[used++] = ' ';
        memcpy(known + used, names[i].spelling, size);
        used += size;
    }
    known[used] = '\0';
    if (nearest != NULL)
        return FAIL(parser, "\"" TEXT_FORMAT "\" is not known here; did you mean \"%s\"?", SHOWN(spelling), nearest);
    return FAIL(parser, "\"" TEXT_FORMAT "\" is not known here; known are:%s", SHOWN(spelling), known);
}

static int find_name(struct parser *parser, struct text spelling, enum name *name)
{
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (text_equal(spelling, text_of(names[i].spelling)) && (names[i].places & AT(parser->place)) != 0) {
            *name = (enum name)i;
            return 0;
        }
    return fail_unknown(parser, spelling);
}

static int open_block(struct parser *parser, enum node_kind kind, struct text spelling)
{
    enum name name;
    if (find_name(parser, spelling, &name) != 0)
        return -1;
    if (kind == NODE_EACH && name < FIRST_LIST)
        return FAIL(parser, "%s is no list; {{?%s}} and {{^%s}} ask whether there is any", names[name].spelling,
                    names[name].spelling, names[name].spelling);
    if (parser->depth == BLOCK_DEPTH)
        return FAIL(parser, "more than %d blocks inside each other", BLOCK_DEPTH);
    parser->blocks[parser->depth++] = (struct block){current_part(parser)->count, parser->line, parser->place};
    if (kind == NODE_EACH)
        parser->place = names[name].inside;
    return add_node(parser, (struct node){.kind = kind, .name = name});
}

static int close_block(struct parser *parser, struct text spelling)
{
    if (parser->depth == 0)
        return FAIL(parser, "{{/" TEXT_FORMAT "}} ends a block that was not begun", SHOWN(spelling));
    const struct block *block = &parser->blocks[parser->depth - 1];
    struct part *part = current_part(parser);
    struct node *node = &part->nodes[block->node];
    if (!text_equal(spelling, text_of(names[node->name].spelling)))
        return FAIL(parser, "{{/" TEXT_FORMAT "}} where {{/%s}} is due, for the block of line %zu", SHOWN(spelling),
                    names[node->name].spelling, block->line);
    node->end = part->count;
    parser->place = block->outside;
    parser->depth--;
    return 0;
}

static bool is_sign(char c)
{
    return strchr("#?^/!", c) != NULL;
}

/* Whether a trimmed line is one tag and nothing else. */
static bool is_tag(struct text line)
{
    return line.size >= 5 && starts_with(line, "{{") && is_sign(line.data[2]) && find(line, "}}", 0) + 2 == line.size;
}

static int parse_tag(struct parser *parser, struct text line)
{
    struct text spelling = trim(slice(line, 3, line.size - 2));
    switch (line.data[2]) {
    case '#':
        return open_block(parser, NODE_EACH, spelling);
    case '?':
        return open_block(parser, NODE_ANY, spelling);
    case '^':
        return open_block(parser, NODE_NONE, spelling);
    case '/':
        return close_block(parser, spelling);
    default:
        return 0; /* a comment */
    }
}

static int parse_value(struct parser *parser, struct text spelling)
{
    enum name name;
    if (spelling.size > 0 && is_sign(spelling.data[0]))
        return FAIL(parser, "{{" TEXT_FORMAT "}} must stand alone on its line", SHOWN(spelling));
    if (find_name(parser, spelling, &name) != 0)
        return -1;
    if (name >= FIRST_LIST)
        return FAIL(parser, "%s is a list: {{#%s}} and {{/%s}}, on lines of their own, go through it",
                    names[name].spelling, names[name].spelling, names[name].spelling);
    return add_node(parser, (struct node){.kind = NODE_VALUE, .name = name});
}

static int parse_words(struct parser *parser, struct text line)
{
    bool joined = line.data[line.size - 1] == '\\';
    if (joined)
        line.size--;
    for (;;) {
        size_t start = find(line, "{{", 0);
        if (add_text(parser, slice(line, 0, start)) != 0)
            return -1;
        if (start == line.size)
            break;
        size_t end = find(line, "}}", start);
        if (end == line.size)
            return FAIL(parser, "\"{{\" without \"}}\" on its line");
        if (parse_value(parser, trim(slice(line, start + 2, end))) != 0)
            return -1;
        line = slice(line, end + 2, line.size);
    }
    return joined ? 0 : add_text(parser, text_of("\n"));
}

static int parse_text(struct parser *parser, struct text line)
{
    struct text trimmed = trim(line);
    if (trimmed.size == 0) {
        parser->empty_lines += current_part(parser)->count > 0;
        return 0;
    }
    for (; parser->empty_lines > 0; parser->empty_lines--)
        if (add_text(parser, text_of("\n")) != 0)
            return -1;
    return is_tag(trimmed) ? parse_tag(parser, trimmed) : parse_words(parser, line);
}

static int parse_label(struct parser *parser, struct text line)
{
    line = trim(line);
    if (line.size == 0 || line.data[0] == '#')
        return 0;
    size_t equals = find(line, "=", 0);
    if (equals == line.size)
        return FAIL(parser, "[labels] holds lines such as yes = Yes");
    struct text spelling = trim(slice(line, 0, equals));
    enum name name;
    parser->place = IN_SYSTEM; /* where nothing but the words is known */
    if (find_name(parser, spelling, &name) != 0)
        return -1;

    struct text word = trim(slice(line, equals + 1, line.size));
    if (word.size >= 2 && word.data[0] == '"' && word.data[word.size - 1] == '"')
        word = slice(word, 1, word.size - 1);
    if (word.size == 0)
        return FAIL(parser, "%s has no word", names[name].spelling);
    if (parser->prompt->words[name].data != NULL)
        return FAIL(parser, "%s is set a second time", names[name].spelling);
    parser->prompt->words[name] = word;
    return 0;
}

static int end_section(struct parser *parser)
{
    parser->empty_lines = 0;
    if (parser->depth == 0)
        return 0;
    const struct block *block = &parser->blocks[parser->depth - 1];
    const char *spelling = names[current_part(parser)->nodes[block->node].name].spelling;
    parser->line = block->line;
    return FAIL(parser, "the block of %s is not ended: {{/%s}} is missing", spelling, spelling);
}

/* Whether a line is [word], in small letters; others, such as [INST], are text. */
static bool is_heading(struct text line)
{
    if (line.size < 3 || line.data[0] != '[' || line.data[line.size - 1] != ']')
        return false;
    for (size_t i = 1; i + 1 < line.size; i++)
        if (line.data[i] < 'a' || line.data[i] > 'z')
            return false;
    return true;
}

static int begin_section(struct parser *parser, struct text line)
{
    if (end_section(parser) != 0)
        return -1;
    struct text spelling = slice(line, 1, line.size - 1);
    int section = 0;
    while (section < SECTION_COUNT && !text_equal(spelling, text_of(sections[section])))
        section++;
    if (section == SECTION_COUNT)
        return FAIL(parser, "no such section: [" TEXT_FORMAT "]; there are [labels], [system], [user], [candidate]",
                    SHOWN(spelling));
    if (parser->seen[section])
        return FAIL(parser, "a second section [%s]", sections[section]);
    static const enum place places[PART_COUNT] = {IN_SYSTEM, IN_USER, IN_CANDIDATE};
    parser->seen[section] = true;
    parser->section = section;
    if (section < PART_COUNT)
        parser->place = places[section];
    return 0;
}

static int parse_line(struct parser *parser, struct text line)
{
    if (!text_is_utf8(line))
        return FAIL(parser, "not UTF-8");
    struct text trimmed = trim(line);
    if (is_heading(trimmed))
        return begin_section(parser, trimmed);
    if (parser->section == SECTION_LABELS)
        return parse_label(parser, line);
    if (parser->section < PART_COUNT)
        return parse_text(parser, line);
    if (trimmed.size > 0 && trimmed.data[0] != '#')
        return FAIL(parser, "text before the first section; [labels], [system], [user] and [candidate] head them");
    return 0;
}

static int check_complete(const struct parser *parser)
{
    for (size_t i = 0; i < SECTION_COUNT; i++)
        if (!parser->seen[i])
            return error_set(parser->err, ERROR_BAD_INPUT, "%s: section [%s] is missing", parser->path, sections[i]);
    for (size_t i = 0; i < WORD_COUNT; i++)
        if (parser->prompt->words[i].data == NULL)
            return error_set(parser->err, ERROR_BAD_INPUT, "%s: [labels] lacks %s", parser->path, names[i].spelling);
    if (parser->prompt->parts[PART_CANDIDATE].count == 0)
        return error_set(parser->err, ERROR_BAD_INPUT, "%s: [candidate] is empty", parser->path);
    return 0;
}

int template_parse(struct prompt_template *prompt, const char *path, struct text text, struct error *err)
{
    struct parser parser = {.prompt = prompt, .path = path, .section = SECTION_NONE, .err = err};
    while (text.size > 0) {
        size_t end = find(text, "\n", 0);
        struct text line = slice(text, 0, end);
        if (line.size > 0 && line.data[line.size - 1] == '\r')
            line.size--;
        parser.line++;
        if (parse_line(&parser, line) != 0)
            return -1;
        text = slice(text, end + (end < text.size), text.size);
    }
    return end_section(&parser) != 0 ? -1 : check_complete(&parser);
}
