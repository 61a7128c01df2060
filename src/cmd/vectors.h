/*
 * vectors.h - vectors that come from elsewhere, for the graph: the file of graph.vectors, as `headrace train graph`
 * writes it, and with graph.base title or graph.similar text those of titles, from the model file
 */
#ifndef HEADRACE_CMD_VECTORS_H
#define HEADRACE_CMD_VECTORS_H

#include "cmd/titles.h"
#include "config/config.h"
#include "graph/graph.h"
#include "graph/vectors.h"
#include "model/gguf.h"

struct trained {
    struct gguf *gguf; /* NULL: graph.vectors names no file */
    struct graph_vectors vectors;
    struct titles *titles; /* NULL: not asked for */
};

/* A zeroed `trained` is fine to close afterwards, also on -1. It must outlive the graph. */
int trained_open(struct trained *trained, const struct config *config, struct error *err);
void trained_close(struct trained *trained);

/* Into the graph's settings. */
void trained_give(const struct trained *trained, struct graph_settings *settings);

#endif
