/* vectors.h - the file of graph.vectors, as `headrace train graph` writes it, for the graph */
#ifndef HEADRACE_CMD_VECTORS_H
#define HEADRACE_CMD_VECTORS_H

#include "config/config.h"
#include "graph/vectors.h"
#include "model/gguf.h"

struct trained {
    struct gguf *gguf; /* NULL: graph.vectors names no file */
    struct graph_vectors vectors;
};

/* A zeroed `trained` is fine to close afterwards, also on -1. It must outlive the graph. */
int trained_open(struct trained *trained, const struct config *config, struct error *err);
void trained_close(struct trained *trained);

/* For the graph's settings; NULL: none. */
const struct graph_vectors *trained_vectors(const struct trained *trained);

#endif
