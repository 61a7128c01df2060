/*
 * settings.h - inside config/: where the values are, and the one way in
 *
 * Threads: as config.h.
 */
#ifndef HEADRACE_CONFIG_SETTINGS_H
#define HEADRACE_CONFIG_SETTINGS_H

#include "base/arena.h"
#include "config/config.h"
#include "config/value.h"

/* Weakest first. */
enum config_source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_COMMAND_LINE };

struct config_origin {
    enum config_source source;
    const char *name; /* "default", "headrace.yaml:12", "HEADRACE_GRAPH_LAYERS", "--set" */
};

struct passed_through { /* a Kafka property that the table does not have */
    const char *name;   /* with "kafka." */
    const char *value;
    struct config_origin origin;
};

struct config {
    struct arena arena;          /* every text below */
    struct config_value *values; /* by place in config_options */
    struct config_origin *origins;
    struct passed_through *passed; /* in the order of their first mention */
    size_t passed_count, passed_capacity;
    struct property *properties; /* what config_kafka_properties() gives */
    size_t property_count, property_capacity;
};

/*
 * Decides a value, unless a stronger decision is there. `value` must be a text without NUL; both texts and the origin's
 * name are copied. Messages do not say where: the caller puts that in front.
 */
int settings_assign(struct config *config, const char *name, struct text value, struct config_origin origin,
                    struct error *err);

/* "graph.layer is not an option; did you mean graph.layers?" */
int settings_unknown(const char *name, struct error *err);

#endif
