#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/quote.h"
#include "config/settings.h"

struct config *config_create(void)
{
    struct config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return NULL;
    arena_init(&config->arena, 0);
    config->values = calloc(config_option_count, sizeof *config->values);
    config->origins = calloc(config_option_count, sizeof *config->origins);
    if (config->values == NULL || config->origins == NULL)
        goto fail;
    struct error err;
    for (size_t i = 0; i < config_option_count; i++)
        if (settings_assign(config, config_options[i].name, text_of(config_options[i].preset),
                            (struct config_origin){SOURCE_DEFAULT, "default"}, &err) != 0)
            goto fail;
    return config;
fail:
    config_destroy(config);
    return NULL;
}

void config_destroy(struct config *config)
{
    if (config == NULL)
        return;
    arena_free(&config->arena);
    free(config->values);
    free(config->origins);
    free(config->passed);
    free(config->properties);
    free(config);
}

/* HEADRACE_KAFKA_SASL_PASSWORD: kafka.sasl.password */
static void kafka_name(struct text variable, char out[OPTION_NAME_SIZE])
{
    size_t prefix = strlen("HEADRACE_");
    int length = snprintf(out, OPTION_NAME_SIZE, TEXT_FORMAT, (int)(variable.size - prefix), variable.data + prefix);
    for (int i = 0; i < length; i++)
        if (out[i] == '_')
            out[i] = '.';
        else if (out[i] >= 'A' && out[i] <= 'Z')
            out[i] = (char)(out[i] - 'A' + 'a');
}

static const char *option_of_variable(struct text variable, char name[OPTION_NAME_SIZE])
{
    char known[OPTION_NAME_SIZE];
    for (size_t i = 0; i < config_option_count; i++) {
        option_environment_name(config_options[i].name, known);
        if (text_equal(text_of(known), variable))
            return config_options[i].name;
    }
    static const char kafka[] = "HEADRACE_KAFKA_";
    size_t size = sizeof kafka - 1;
    if (variable.size <= size || variable.size >= OPTION_NAME_SIZE || memcmp(variable.data, kafka, size) != 0)
        return NULL;
    kafka_name(variable, name);
    return name;
}

static int unknown_variable(struct text variable, struct error *err)
{
    char quoted[QUOTE_SIZE], known[OPTION_NAME_SIZE], nearest[OPTION_NAME_SIZE] = "";
    size_t least = 5; /* letters that differ, in names that share HEADRACE_ */
    for (size_t i = 0; i < config_option_count; i++) {
        option_environment_name(config_options[i].name, known);
        size_t distance = text_distance(text_of(known), variable);
        if (distance < least) {
            least = distance;
            memcpy(nearest, known, sizeof nearest);
        }
    }
    quote(variable, quoted);
    if (nearest[0] != '\0')
        return error_set(err, ERROR_BAD_INPUT, "%s in the environment is no option; did you mean %s?", quoted, nearest);
    return error_set(err, ERROR_BAD_INPUT, "%s in the environment is no option; unset it, or see --help for the names",
                     quoted);
}

static int load_variable(struct config *config, const char *assignment, struct error *err)
{
    static const char prefix[] = "HEADRACE_";
    const char *equals = strchr(assignment, '=');
    if (equals == NULL || strncmp(assignment, prefix, sizeof prefix - 1) != 0)
        return 0;
    struct text variable = {assignment, (size_t)(equals - assignment)};
    char name[OPTION_NAME_SIZE], origin[OPTION_NAME_SIZE], quoted[QUOTE_SIZE];
    const char *option = option_of_variable(variable, name);
    if (option == NULL)
        return unknown_variable(variable, err);
    snprintf(origin, sizeof origin, TEXT_FORMAT, TEXT_ARGS(variable));
    if (settings_assign(config, option, text_of(equals + 1), (struct config_origin){SOURCE_ENVIRONMENT, origin}, err))
        return error_wrap(err, "%s", quote(variable, quoted));
    return 0;
}

int config_load_environment(struct config *config, char *const *environment, struct error *err)
{
    for (; *environment != NULL; environment++)
        if (load_variable(config, *environment, err) != 0)
            return -1;
    return 0;
}

int config_set(struct config *config, const char *assignment, struct error *err)
{
    /* What stands behind the name may be a secret: it is not shown. */
    size_t length = strspn(assignment, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    char quoted[QUOTE_SIZE], name[OPTION_NAME_SIZE];
    quote((struct text){assignment, length}, quoted);
    if (length == 0 || assignment[length] != '=')
        return error_set(err, ERROR_BAD_INPUT, "--set %s: wants NAME=VALUE, as in --set graph.layers=3", quoted);
    if (length >= sizeof name)
        return error_set(err, ERROR_BAD_INPUT, "--set %s: the name is too long", quoted);
    memcpy(name, assignment, length);
    name[length] = '\0';
    struct config_origin origin = {SOURCE_COMMAND_LINE, "--set"};
    if (settings_assign(config, name, text_of(assignment + length + 1), origin, err) != 0)
        return error_wrap(err, "--set");
    return 0;
}

static size_t place_of(const char *name)
{
    const struct config_option *option = option_find(name);
    if (option == NULL) {
        fprintf(stderr, "headrace: the program asks for an option \"%s\" that it does not have\n", name);
        abort();
    }
    return (size_t)(option - config_options);
}

static const struct config_value *value_of(const struct config *config, const char *name, unsigned kinds)
{
    size_t place = place_of(name);
    if ((kinds & 1u << config_options[place].kind) == 0) {
        fprintf(stderr, "headrace: the program takes option \"%s\" for one of another kind\n", name);
        abort();
    }
    return &config->values[place];
}

const char *config_text(const struct config *config, const char *name)
{
    return value_of(config, name, 1u << OPTION_TEXT | 1u << OPTION_REQUIRED | 1u << OPTION_TOPIC)->text;
}

int64_t config_integer(const struct config *config, const char *name)
{
    return value_of(config, name, 1u << OPTION_INTEGER)->integer;
}

double config_number(const struct config *config, const char *name)
{
    return value_of(config, name, 1u << OPTION_NUMBER)->number;
}

bool config_flag(const struct config *config, const char *name)
{
    return value_of(config, name, 1u << OPTION_FLAG)->flag;
}

size_t config_choice(const struct config *config, const char *name)
{
    return value_of(config, name, 1u << OPTION_CHOICE)->choice;
}

const int64_t *config_list(const struct config *config, const char *name, size_t *count)
{
    const struct config_value *value = value_of(config, name, 1u << OPTION_INTEGERS);
    *count = value->list_count;
    return value->list;
}

bool config_includes(const struct config *config, const char *name, const char *choice)
{
    const struct config_value *value = value_of(config, name, 1u << OPTION_CHOICES);
    int index = value_find_choice(&config_options[place_of(name)], text_of(choice));
    if (index < 0) {
        fprintf(stderr, "headrace: the program asks whether \"%s\" holds \"%s\", which it cannot\n", name, choice);
        abort();
    }
    for (size_t i = 0; i < value->list_count; i++)
        if (value->list[i] == index)
            return true;
    return false;
}

const struct property *config_kafka_properties(const struct config *config, size_t *count)
{
    *count = config->property_count;
    return config->properties;
}
