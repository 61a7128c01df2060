/* key.c - what a trajectory depends on, as one number */
#include <stdio.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "graph/vectors.h"
#include "model/heads.h"
#include "replay/loop.h"

enum { ROWS_VERSION = 2 }; /* another one when the same log and settings come to give other rows */

static void put_text(struct buffer *out, const char *text)
{
    buffer_printf(out, "%s\n", text == NULL ? "" : text);
}

static void put_graph(struct buffer *out, const struct graph_settings *graph)
{
    put_text(out, graph->directory);
    buffer_printf(out, "%a %d %zu %zu %a %zu %llu %d %d %d\n", graph->like_threshold, graph->like_inclusive,
                  graph->layers, graph->dimension, (double)graph->push_threshold, graph->push_budget,
                  (unsigned long long)graph->seed, (int)graph->result, graph->normalise, (int)graph->edges);
    for (size_t i = 0; i < EMBEDDING_LAYERS_LIMIT; i++)
        buffer_printf(out, "%a ", (double)graph->weights[i]);
    put_text(out, graph->vectors == NULL ? NULL : graph->vectors->version);
    put_text(out, graph->title_version);
    buffer_printf(out, "%lld %zu %zu\n", (long long)graph->window_ms, graph->max_edges_per_node, graph->max_nodes);
}

static void put_settings(struct buffer *out, const struct replay_settings *settings)
{
    const struct plan_settings *plan = &settings->plan;
    const struct split *split = &settings->split;
    buffer_printf(out, "%d %zu %zu %zu %d\n", (int)plan->similar_mode, plan->similar_users, plan->history_max,
                  plan->history_min, settings->prompt != NULL);
    buffer_printf(out, "%lld %lld %lld %a %d %llu %zu %a\n", (long long)settings->label_window_ms,
                  (long long)settings->from_ms, (long long)settings->to_ms, settings->sample, settings->sample_requests,
                  (unsigned long long)settings->seed, settings->limit, settings->warm);
    buffer_printf(out, "%d %a %a %a %llu %d %u\n", (int)split->protocol, split->shares[0], split->shares[1],
                  split->shares[2], (unsigned long long)split->seed, settings->both_protocols, settings->parts);
}

static void put_heads(struct buffer *out, const struct replay_heads *set)
{
    const struct heads *heads = set->heads;
    put_text(out, set->name);
    buffer_printf(out, "%zu %zu %zu %a\n", heads->count, heads->width, heads->evidence_count,
                  (double)heads->norm_epsilon);
    if (heads->exit0 != NULL) {
        buffer_append(out, heads->exit0, heads->evidence_count * sizeof *heads->exit0);
        buffer_append(out, &heads->exit0_bias, sizeof heads->exit0_bias);
    }
    for (size_t i = 0; i < heads->count; i++) {
        const struct head *head = &heads->exits[i];
        size_t layers = head->layer - head->first + 1;
        buffer_printf(out, "%zu %zu %d\n", head->layer, head->first, head->evidence != NULL);
        buffer_append(out, head->rows, layers * heads->width * sizeof *head->rows);
        buffer_append(out, head->biases, layers * sizeof *head->biases);
        if (head->evidence != NULL)
            buffer_append(out, head->evidence, heads->evidence_count * sizeof *head->evidence);
    }
}

int replay_key(struct replay_log *log, const struct replay_settings *settings, const struct replay_model *model,
               char key[17], struct error *err)
{
    struct buffer out = {0};
    uint64_t messages;
    if (replay_log_order(log, err) != 0 || replay_log_hash(log, &messages, err) != 0)
        return -1;
    buffer_printf(&out, "%d %llu %d\n", ROWS_VERSION, (unsigned long long)messages, replay_log_untimed(log));
    put_graph(&out, &settings->graph);
    put_settings(&out, settings);
    put_text(&out, model->model_id);
    put_text(&out, model->model_hash);
    put_text(&out, model->template_hash);
    put_text(&out,
             model->arithmetic != NULL || model->engine == NULL ? model->arithmetic : engine_arithmetic(model->engine));
    put_text(&out, HEADRACE_VERSION);
    for (size_t i = 0; i < model->set_count; i++)
        put_heads(&out, &model->sets[i]);
    int result = buffer_check(&out, "naming a trajectory", err);
    if (result == 0)
        snprintf(key, 17, "%016llx", (unsigned long long)XXH3_64bits(out.data, out.size));
    buffer_free(&out);
    return result;
}
