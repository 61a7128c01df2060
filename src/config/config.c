#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/quote.h"
#include "config/settings.h"

enum { SECRET_LIMIT = 1 << 16 };

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

/* HEADRACE_KAFKA_SASL_PASSWORD_FILE: the secret kafka.sasl.password is in a file; NULL: no such variable. */
static const char *secret_of_variable(struct text variable, char name[OPTION_NAME_SIZE])
{
    static const char suffix[] = "_FILE";
    const size_t size = sizeof suffix - 1;
    if (variable.size <= size || memcmp(variable.data + variable.size - size, suffix, size) != 0)
        return NULL;
    const char *option = option_of_variable((struct text){variable.data, variable.size - size}, name);
    return option != NULL && config_is_secret(option) ? option : NULL;
}

static bool is_decided(char *const *environment, struct text variable)
{
    for (; *environment != NULL; environment++)
        if (strncmp(*environment, variable.data, variable.size) == 0 && (*environment)[variable.size] == '=')
            return true;
    return false;
}

static int assign_variable(struct config *config, const char *option, struct text variable, struct text value,
                           struct error *err)
{
    char origin[OPTION_NAME_SIZE], quoted[QUOTE_SIZE];
    snprintf(origin, sizeof origin, TEXT_FORMAT, TEXT_ARGS(variable));
    if (settings_assign(config, option, value, (struct config_origin){SOURCE_ENVIRONMENT, origin}, err) != 0)
        return error_wrap(err, "%s", quote(variable, quoted));
    return 0;
}

/* The file's content without the line ends behind it, which editors and `echo` put there. */
static int load_secret(struct config *config, const char *option, struct text variable, const char *path,
                       struct error *err)
{
    char quoted[QUOTE_SIZE];
    struct buffer secret = {0};
    int result = file_read(path, SECRET_LIMIT, &secret, err);
    while (result == 0 && secret.size > 0 &&
           (secret.data[secret.size - 1] == '\n' || secret.data[secret.size - 1] == '\r'))
        secret.size--;
    if (result == 0 && secret.size == 0)
        result = error_set(err, ERROR_BAD_INPUT, "%s is empty", path);
    else if (result == 0 && memchr(secret.data, '\0', secret.size) != NULL)
        result = error_set(err, ERROR_BAD_INPUT, "%s is not text", path);
    if (result != 0)
        error_wrap(err, "%s", quote(variable, quoted));
    else
        result = assign_variable(config, option, variable, buffer_text(&secret), err);
    buffer_free(&secret);
    return result;
}

static int load_variable(struct config *config, char *const *environment, const char *assignment, struct error *err)
{
    static const char prefix[] = "HEADRACE_";
    const char *equals = strchr(assignment, '=');
    if (equals == NULL || strncmp(assignment, prefix, sizeof prefix - 1) != 0)
        return 0;
    struct text variable = {assignment, (size_t)(equals - assignment)};
    char name[OPTION_NAME_SIZE], quoted[QUOTE_SIZE];
    const char *option = secret_of_variable(variable, name);
    if (option != NULL) {
        struct text plain = {variable.data, variable.size - strlen("_FILE")};
        if (is_decided(environment, plain))
            return error_set(err, ERROR_BAD_INPUT, "%s is in the environment with and without _FILE: use one of them",
                             quote(plain, quoted));
        return load_secret(config, option, variable, equals + 1, err);
    }
    option = option_of_variable(variable, name);
    if (option == NULL)
        return unknown_variable(variable, err);
    return assign_variable(config, option, variable, text_of(equals + 1), err);
}

int config_load_environment(struct config *config, char *const *environment, struct error *err)
{
    for (char *const *at = environment; *at != NULL; at++)
        if (load_variable(config, environment, *at, err) != 0)
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
