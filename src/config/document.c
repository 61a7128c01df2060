#include <stdio.h>
#include <string.h>

#include "config/quote.h"
#include "config/settings.h"

/* Letters before the dot; 0 for an option outside every section. */
static size_t section_length(const char *name)
{
    const char *dot = strchr(name, '.');
    return dot == NULL ? 0 : (size_t)(dot - name);
}

static bool is_in_section(const char *name, const char *section)
{
    return section_length(name) == strlen(section) && memcmp(name, section, strlen(section)) == 0;
}

/* Text and flags explain themselves. */
static bool needs_phrase(const struct config_option *option)
{
    return option->kind >= OPTION_INTEGER;
}

static void write_line(const struct config_option *option, struct buffer *out)
{
    buffer_append_string(out, option->line);
    if (needs_phrase(option)) {
        char phrase[OPTION_PHRASE_SIZE];
        option_phrase(option, phrase);
        buffer_printf(out, " [%s]", phrase);
    }
}

static void write_list(const char *list, struct buffer *out)
{
    buffer_append_byte(out, '[');
    for (; *list != '\0'; list++) {
        buffer_append_byte(out, (uint8_t)*list);
        if (*list == ',')
            buffer_append_byte(out, ' ');
    }
    buffer_append_byte(out, ']');
}

static void write_option(const struct config_option *option, const char *indent, struct buffer *out)
{
    size_t section = section_length(option->name);
    buffer_printf(out, "%s# ", indent);
    write_line(option, out);
    buffer_printf(out, "\n%s%s: ", indent, option->name + (section == 0 ? 0 : section + 1));
    if (option->kind == OPTION_INTEGERS || option->kind == OPTION_CHOICES)
        write_list(option->preset, out);
    else if (option->kind < OPTION_FLAG)
        quote_yaml(text_of(option->preset), out);
    else
        buffer_append_string(out, option->preset);
    buffer_append_byte(out, '\n');
}

void config_write_yaml(struct buffer *out)
{
    buffer_append_string(out,
                         "# Every option of headrace with its default. A file needs to name only what it changes.\n"
                         "# Stronger than a file are the environment (HEADRACE_GRAPH_LAYERS=2 for graph.layers) and, "
                         "strongest, the\n# command line (--set graph.layers=2). `headrace check` shows what counts "
                         "and where it comes from.\n"
                         "# Written from the program's table of options: change it there.\n\n");
    for (size_t i = 0; i < config_option_count; i++)
        if (section_length(config_options[i].name) == 0)
            write_option(&config_options[i], "", out);
    for (size_t s = 0; s < config_section_count; s++) {
        buffer_printf(out, "\n# %s\n%s:\n", config_sections[s].line, config_sections[s].name);
        for (size_t i = 0; i < config_option_count; i++)
            if (is_in_section(config_options[i].name, config_sections[s].name))
                write_option(&config_options[i], "  ", out);
    }
}

static void help_option(const struct config_option *option, struct buffer *out)
{
    buffer_printf(out, "  %s=%s\n      ", option->name, option->preset);
    write_line(option, out);
    buffer_append_byte(out, '\n');
}

void config_help(struct buffer *out)
{
    buffer_append_string(out, "Options, with their defaults: --set NAME=VALUE, or HEADRACE_NAME in the environment "
                              "(capitals, dots as\nunderscores), or the YAML file.\n\n");
    for (size_t i = 0; i < config_option_count; i++)
        if (section_length(config_options[i].name) == 0)
            help_option(&config_options[i], out);
    for (size_t s = 0; s < config_section_count; s++) {
        buffer_printf(out, "\n%s: %s\n", config_sections[s].name, config_sections[s].line);
        for (size_t i = 0; i < config_option_count; i++)
            if (is_in_section(config_options[i].name, config_sections[s].name))
                help_option(&config_options[i], out);
    }
}

bool config_is_secret(const char *name)
{
    static const char *const marks[] = {
        "password", "passphrase", "secret", "key.pem", "sasl.oauthbearer.config", "basic.auth.user.info"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(name, marks[i]) != NULL)
            return true;
    return false;
}

static void describe_value(const char *name, const char *value, bool quoted, const char *origin, struct buffer *out)
{
    struct buffer shown = {0};
    if (config_is_secret(name))
        buffer_append_string(&shown, "********");
    else if (quoted)
        quote_yaml(text_of(value), &shown);
    else
        buffer_append_string(&shown, value);
    buffer_printf(out, "%-26s %-26s %s\n", name, buffer_string(&shown), origin);
    out->failed |= shown.failed;
    buffer_free(&shown);
}

static void describe_option(const struct config *config, size_t place, struct buffer *out)
{
    const struct config_option *option = &config_options[place];
    describe_value(option->name, config->values[place].text, option->kind < OPTION_FLAG, config->origins[place].name,
                   out);
}

void config_describe(const struct config *config, struct buffer *out)
{
    bool kafka = false;
    for (size_t i = 0; i < config_option_count; i++) {
        bool was_kafka = kafka;
        kafka = option_is_kafka(config_options[i].name);
        if (was_kafka && !kafka)
            for (size_t j = 0; j < config->passed_count; j++)
                describe_value(config->passed[j].name, config->passed[j].value, true, config->passed[j].origin.name,
                               out);
        describe_option(config, i, out);
    }
}
