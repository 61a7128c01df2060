/* inspect.h - inside cmd/: what the sub-words of `headrace inspect` share */
#ifndef HEADRACE_CMD_INSPECT_H
#define HEADRACE_CMD_INSPECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "cmd/setup.h"
#include "cmd/vectors.h"

#define INSPECT_NOW INT64_MAX

struct inspection {
    struct config *config;
    const char *operand;     /* the user, the item or the file; NULL: none was given */
    const char *user, *item; /* of a prompt; of similar users who know the item */
    const char *class;       /* of dead letters; NULL: all */
    int64_t at_ms;           /* only what happened before counts; INSPECT_NOW: all */
    size_t limit;            /* events, edges, similar users shown */
    bool tokens;             /* of a prompt: each token with its piece */
    bool json;
};

/* Each prints on standard output. ERROR_BAD_INPUT: there is no such thing to show. */
int inspect_graph(const struct inspection *inspection, struct error *err);
int inspect_user(const struct inspection *inspection, struct error *err);
int inspect_item(const struct inspection *inspection, struct error *err);
int inspect_similar(const struct inspection *inspection, struct error *err);
int inspect_prompt(const struct inspection *inspection, struct error *err);
int inspect_edges(const struct inspection *inspection, struct error *err); /* JSON lines that `produce` takes */
int inspect_model(const struct inspection *inspection, struct error *err);
int inspect_heads(const struct inspection *inspection, struct error *err);
int inspect_dead(const struct inspection *inspection, struct error *err);

/* The graph, open for reading only, and what it needs while it is. */
struct inspected {
    struct trained trained;
    struct graph *graph;
};

/* On failure nothing is left open. */
int inspect_open(const struct inspection *inspection, struct inspected *inspected, struct error *err);
void inspect_close(struct inspected *inspected);

const char *inspect_verdict(int verdict); /* enum verdict */

/* A new JSON string; null for a text that is absent or no UTF-8. */
json_t *inspect_json_text(struct text text);

/* Prints the document and gives it back; NULL: it could not be built. */
int inspect_print_json(json_t *document, struct error *err);

#endif
