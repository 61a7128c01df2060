/* Any bytes as a configuration: an error that says where, or a configuration that can be shown and read again. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool fine(int result, const struct error *err)
{
    must(result == 0 || (err->kind == ERROR_BAD_INPUT && memchr(err->message, '\0', sizeof err->message) != NULL &&
                         strchr(err->message, '\n') == NULL));
    return result == 0;
}

static void show(const struct config *config)
{
    struct buffer text = {0};
    struct error err;
    size_t count;
    config_describe(config, &text);
    must(buffer_check(&text, "describing", &err) == 0 && text.size > 0);
    const struct property *properties = config_kafka_properties(config, &count);
    for (size_t i = 0; i < count; i++)
        must(properties[i].name != NULL && properties[i].value != NULL);
    must(config_text(config, "kafka.group.id")[0] != '\0');
    buffer_free(&text);
}

/* A line as a --set and as a variable of the environment; what is taken is shown. */
static void set(const char *assignment)
{
    struct error err;
    struct config *config = config_create();
    char *variable = malloc(strlen(assignment) + sizeof "HEADRACE_");
    must(config != NULL && variable != NULL);
    strcpy(variable, "HEADRACE_");
    strcat(variable, assignment);
    char *const environment[] = {variable, NULL};
    if (fine(config_set(config, assignment, &err), &err))
        show(config);
    /* A variable that ends in _FILE is opened: not here. */
    if (strstr(variable, "_FILE=") == NULL && fine(config_load_environment(config, environment, &err), &err))
        show(config);
    config_destroy(config);
    free(variable);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct error err;
    struct config *config = config_create();
    char *string = malloc(size + 1);
    must(config != NULL && string != NULL);
    memcpy(string, bytes, size);
    string[size] = '\0';
    if (fine(config_load_text(config, "input.yaml", (struct text){string, size}, &err), &err)) {
        show(config);
        fine(config_validate(config, &err), &err);
    } else {
        must(strncmp(err.message, "input.yaml", 10) == 0);
    }
    config_destroy(config);
    if (strchr(string, '=') != NULL && strchr(string, '\n') == NULL)
        set(string);
    free(string);
    return 0;
}
