/* train_vectors.c - trained rows as a GGUF file */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "cmd/train.h"
#include "model/gguf_writer.h"

/* Embeddings take components below 4 (embedding_set_base()): rare nodes' rows can be many times the median's length. */
static const float largest_component = 3;

struct scaled {
    size_t nodes, users, n; /* n: dimension */
    float *rows;            /* (nodes, n) */
    float *degrees;         /* (nodes) */
    float *norms;           /* (nodes), for the median */
    double scale;
};

static int ascending(const void *a, const void *b)
{
    float one = *(const float *)a, other = *(const float *)b;
    return (one > other) - (one < other);
}

/* Rows without their scale: e0, or z0 = e0 / sqrt(degree); every node of the file has an edge that trained. */
static float normalise_rows(struct scaled *scaled, const float *base, bool by_degree)
{
    float largest = 0;
    for (size_t node = 0; node < scaled->nodes; node++) {
        double root = by_degree ? sqrt((double)scaled->degrees[node]) : 1, squares = 0;
        for (size_t i = node * scaled->n; i < (node + 1) * scaled->n; i++) {
            double value = (double)base[i] / root;
            squares += value * value;
            scaled->rows[i] = (float)value;
            largest = fmaxf(largest, fabsf(scaled->rows[i]));
        }
        scaled->norms[node] = (float)sqrt(squares);
    }
    return largest;
}

static void scale_rows(struct scaled *scaled, float largest)
{
    qsort(scaled->norms, scaled->nodes, sizeof *scaled->norms, ascending);
    double median = (double)scaled->norms[scaled->nodes / 2];
    scaled->scale = median > 0 ? 1 / median : 1;
    if ((double)largest * scaled->scale > (double)largest_component)
        scaled->scale = (double)(largest_component / largest);
    for (size_t i = 0; i < scaled->nodes * scaled->n; i++)
        scaled->rows[i] = (float)((double)scaled->rows[i] * scaled->scale);
}

static int make_rows(struct scaled *scaled, const struct trainer *trainer, bool by_degree, struct error *err)
{
    const struct propagation *graph = trainer_graph(trainer);
    scaled->nodes = graph->nodes;
    scaled->users = graph->users;
    scaled->rows = malloc(scaled->nodes * scaled->n * sizeof *scaled->rows);
    scaled->degrees = malloc(scaled->nodes * sizeof *scaled->degrees);
    scaled->norms = malloc(scaled->nodes * sizeof *scaled->norms);
    if (scaled->rows == NULL || scaled->degrees == NULL || scaled->norms == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the file of %zu vectors", scaled->nodes);
    for (size_t node = 0; node < scaled->nodes; node++)
        scaled->degrees[node] = (float)propagation_degree(graph, node);
    scale_rows(scaled, normalise_rows(scaled, trainer_base(trainer), by_degree));
    return 0;
}

static struct text id_at(const void *context, size_t index)
{
    return table_key(context, (uint32_t)index);
}

#define KEY "headrace.vectors."

static void put_keys(struct gguf_writer *writer, const struct training_result *result,
                     const struct trainer_settings *settings, const struct training_data *data, double scale)
{
    gguf_put_text(writer, "general.architecture", text_of("headrace-vectors"));
    gguf_put_text(writer, KEY "source", text_of(result->source));
    gguf_put_text(writer, KEY "normalisation", text_of(settings->layers > 0 ? "z" : "none"));
    gguf_put_float(writer, KEY "scale", scale);
    gguf_put_unsigned(writer, KEY "layers", settings->layers);
    gguf_put_unsigned(writer, KEY "dimension", settings->dimension);
    gguf_put_unsigned(writer, KEY "seed", settings->seed);
    gguf_put_text(writer, KEY "edges", text_of(result->likes ? "likes" : "all"));
    gguf_put_unsigned(writer, KEY "edge_count", data->pair_count);
    gguf_put_integer(writer, KEY "first_event_ms", data->first_ms);
    gguf_put_integer(writer, KEY "last_event_ms", data->last_ms);
    gguf_put_unsigned(writer, KEY "epochs", result->epochs);
    gguf_put_float(writer, KEY "loss", result->loss);
    if (result->recall >= 0) {
        gguf_put_float(writer, KEY "recall", result->recall);
        gguf_put_unsigned(writer, KEY "recall_at", TRAINING_RECALL_AT);
        gguf_put_unsigned(writer, KEY "held_out", data->held_out_count);
    }
    gguf_put_unsigned(writer, KEY "batch", settings->batch);
    gguf_put_unsigned(writer, KEY "negatives", settings->negatives);
    gguf_put_float(writer, KEY "learning_rate", settings->learning_rate);
    gguf_put_float(writer, KEY "l2", settings->l2);
    gguf_put_texts(writer, KEY "users", data->users.count, id_at, &data->users);
    gguf_put_texts(writer, KEY "items", data->items.count, id_at, &data->items);
}

static void put_tensors(struct gguf_writer *writer, const struct scaled *scaled, const float *item_bias)
{
    size_t items = scaled->nodes - scaled->users;
    gguf_put_tensor(writer, "users", scaled->users, scaled->n, scaled->rows);
    gguf_put_tensor(writer, "items", items, scaled->n, scaled->rows + scaled->users * scaled->n);
    gguf_put_tensor(writer, "users.degree", 0, scaled->users, scaled->degrees);
    gguf_put_tensor(writer, "items.degree", 0, items, scaled->degrees + scaled->users);
    if (item_bias != NULL)
        gguf_put_tensor(writer, "items.bias", 0, items, item_bias);
}

/* Of what is in the writer, so that the same content has the same version. */
static int put_version(struct gguf_writer *writer, char version[17], struct error *err)
{
    if (buffer_check(&writer->keys, "writing vectors", err) != 0 ||
        buffer_check(&writer->data, "writing vectors", err) != 0)
        return -1;
    XXH64_hash_t keys = XXH3_64bits(writer->keys.data, writer->keys.size);
    XXH64_hash_t all = XXH3_64bits_withSeed(writer->data.data, writer->data.size, keys);
    snprintf(version, 17, "%016llx", (unsigned long long)all);
    gguf_put_text(writer, KEY "version", text_of(version));
    return 0;
}

int training_result_save(struct training_result *result, const struct trainer_settings *settings,
                         const struct training_data *data, const struct trainer *trainer, const char *path,
                         struct error *err)
{
    struct gguf_writer writer = {0};
    struct scaled scaled = {.n = settings->dimension};
    int saved = make_rows(&scaled, trainer, settings->layers > 0, err);
    if (saved == 0) {
        put_keys(&writer, result, settings, data, scaled.scale);
        put_tensors(&writer, &scaled, trainer_item_bias(trainer));
        saved = put_version(&writer, result->version, err);
    }
    if (saved == 0)
        saved = gguf_writer_save(&writer, path, err);
    gguf_writer_free(&writer);
    free(scaled.rows);
    free(scaled.degrees);
    free(scaled.norms);
    return saved;
}
