/* setup_codec.c - the codec that the configuration asks for */
#include <unistd.h>

#include "base/clock.h"
#include "cmd/setup.h"

enum { UNKNOWN_MS = 30000, READY_MS = 30000, STEP_MS = 100 };

struct registry_settings setup_registry(const struct config *config)
{
    return (struct registry_settings){
        .url = config_text(config, "registry.url"),
        .user = config_text(config, "registry.user"),
        .password = config_text(config, "registry.password"),
        .ca_file = config_text(config, "registry.ca_file"),
        .connect_timeout_ms = (int)config_integer(config, "registry.connect_timeout_ms"),
        .timeout_ms = (int)config_integer(config, "registry.timeout_ms"),
        .unknown_ms = UNKNOWN_MS,
        .name = (enum registry_subject)config_choice(config, "registry.subject"),
        .may_register = config_flag(config, "registry.register"),
    };
}

int setup_codec(const struct config *config, struct codec **codec, struct error *err)
{
    struct registry_settings settings = setup_registry(config);
    struct registry *registry;
    if (codec_create(codec, err) != 0)
        return -1;
    if (*settings.url == '\0')
        return 0;
    if (registry_create(&registry, &settings, err) != 0) {
        codec_destroy(*codec);
        *codec = NULL;
        return -1;
    }
    codec_use_registry(*codec, registry);
    return 0;
}

int setup_codec_ready(struct codec *codec, const volatile sig_atomic_t *interrupted, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    int result;
    while ((result = codec_ready(codec, STEP_MS, err)) != 0 && err->kind == ERROR_RETRY &&
           (interrupted == NULL || !*interrupted) && clock_since_ms(start_ns) < READY_MS)
        usleep(STEP_MS * 1000);
    return result;
}
