#include "config/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "config/quote.h"

enum { PASSED_LIMIT = 512 }; /* librdkafka has about 200; keeps a hostile file from costing square time */

static const char *keep(struct config *config, struct text text, struct error *err)
{
    char *copy = arena_allocate(&config->arena, text.size + 1);
    if (copy == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while loading the configuration");
        return NULL;
    }
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    return copy;
}

int settings_unknown(const char *name, struct error *err)
{
    char quoted[QUOTE_SIZE];
    quote(text_of(name), quoted);
    if (option_is_section(name))
        return error_set(err, ERROR_BAD_INPUT, "%s is a section: --help lists the options in it", quoted);
    const char *nearest = option_nearest(name);
    if (nearest != NULL)
        return error_set(err, ERROR_BAD_INPUT, "%s is not an option; did you mean %s?", quoted, nearest);
    return error_set(err, ERROR_BAD_INPUT, "%s is not an option; --help lists them", quoted);
}

/* Room is made before anything changes, so that publish_properties() cannot fail. */
static int reserve_property(struct config *config, struct error *err)
{
    if (array_reserve(&config->passed, &config->passed_capacity, config->passed_count + 1, sizeof *config->passed) ||
        array_reserve(&config->properties, &config->property_capacity, config_option_count + config->passed_count + 1,
                      sizeof *config->properties))
        return error_set(err, ERROR_FATAL, "out of memory while loading the configuration");
    return 0;
}

static void publish_properties(struct config *config)
{
    size_t count = 0, prefix = strlen("kafka.");
    for (size_t i = 0; i < config_option_count; i++) {
        const char *name = config_options[i].name, *value = config->values[i].text;
        if (option_is_kafka(name) && value != NULL && value[0] != '\0')
            config->properties[count++] = (struct property){name + prefix, value};
    }
    for (size_t i = 0; i < config->passed_count; i++)
        config->properties[count++] = (struct property){config->passed[i].name + prefix, config->passed[i].value};
    config->property_count = count;
}

static int assign_option(struct config *config, const struct config_option *option, const char *value,
                         struct config_origin origin, struct error *err)
{
    struct config_value parsed;
    if (value_parse(option, value, &parsed, err) != 0)
        return -1;
    size_t place = (size_t)(option - config_options);
    if (origin.source < config->origins[place].source)
        return 0;
    config->values[place] = parsed;
    config->origins[place] = origin;
    return 0;
}

static struct passed_through *find_passed(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->passed_count; i++)
        if (strcmp(config->passed[i].name, name) == 0)
            return &config->passed[i];
    return NULL;
}

static int assign_passed(struct config *config, const char *name, const char *value, struct config_origin origin,
                         struct error *err)
{
    size_t length = strlen(name), prefix = strlen("kafka.");
    char quoted[QUOTE_SIZE];
    if (length == prefix || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != length)
        return error_set(err, ERROR_BAD_INPUT, "%s is not a Kafka property: small letters, digits, dots, underscores",
                         quote(text_of(name), quoted));
    struct passed_through *passed = find_passed(config, name);
    if (passed == NULL) {
        if (config->passed_count == PASSED_LIMIT)
            return error_set(err, ERROR_BAD_INPUT, "more than %d Kafka properties", PASSED_LIMIT);
        const char *kept = keep(config, text_of(name), err);
        if (kept == NULL)
            return -1;
        passed = &config->passed[config->passed_count++];
        *passed = (struct passed_through){.name = kept};
    }
    if (origin.source >= passed->origin.source) {
        passed->value = value;
        passed->origin = origin;
    }
    return 0;
}

int settings_assign(struct config *config, const char *name, struct text value, struct config_origin origin,
                    struct error *err)
{
    const struct config_option *option = option_find(name);
    if (option == NULL && !option_is_kafka(name))
        return settings_unknown(name, err);
    if (!text_is_utf8(value))
        return error_set(err, ERROR_BAD_INPUT, "%s: the value is not UTF-8 text", name);
    const char *kept = keep(config, value, err);
    origin.name = kept != NULL ? keep(config, text_of(origin.name), err) : NULL;
    if (origin.name == NULL || reserve_property(config, err) != 0)
        return -1;
    if (option != NULL ? assign_option(config, option, kept, origin, err)
                       : assign_passed(config, name, kept, origin, err))
        return -1;
    publish_properties(config);
    return 0;
}
