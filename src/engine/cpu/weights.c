#include "engine/cpu/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/cpu/packed_file.h"

enum { CACHE_LINE = 64 };

/* Goes up with every change of the numbers in a panel, or of the order of panels or matrices. */
enum { WEIGHTS_LAYOUT = 1 };

/* A matrix of the model that becomes columns of ours. */
struct source {
    const struct tensor *tensor;
    const float *bias; /* NULL: none */
    const float *gain; /* (depth) of the norm before it; NULL: none */
    size_t head_size;  /* not 0: rotary pairs come apart in heads of this size */
};

/* What a matrix of ours is made of: one source after the other, or panels of both in turn. */
struct recipe {
    struct matrix *matrix;
    struct source sources[2];
    bool in_turn;
};

enum { MATRICES = 5 }; /* of a layer */

struct packing {
    const struct weights *weights;
    const struct recipe *recipe;
    uint8_t *panels;
    float *rows; /* (threads, depth) */
};

void *lines_allocate(size_t bytes)
{
    if (bytes > SIZE_MAX - CACHE_LINE)
        return NULL;
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return aligned_alloc(CACHE_LINE, bytes == 0 ? CACHE_LINE : bytes);
}

/* The model's row that comes at place `index` of the source. */
static size_t source_row(const struct source *source, size_t index)
{
    if (source->head_size == 0)
        return index;
    size_t place = index % source->head_size, pairs = source->head_size / 2;
    return index - place + (place < pairs ? 2 * place : 2 * (place - pairs) + 1);
}

static size_t whole_panels(const struct kernels *kernels, size_t outputs)
{
    return (outputs + kernels->panel - 1) / kernels->panel * kernels->panel;
}

/* `row` is scratch, (depth). */
static void put_column(const struct weights *weights, const struct source *source, size_t index, size_t depth,
                       uint8_t *panel, size_t column, float *row)
{
    tensor_row(source->tensor, source_row(source, index), row);
    for (size_t k = 0; source->gain != NULL && k < depth; k++)
        row[k] *= source->gain[k];
    weights->format->put_column(panel, depth, column, row);
}

/* Writes panel `index` of the recipe's matrix to `panel`. */
static void write_panel(const struct weights *weights, const struct recipe *recipe, size_t index, uint8_t *panel,
                        float *row)
{
    const struct source *source = &recipe->sources[0];
    size_t width = weights->kernels->panel, from = index;

    if (recipe->in_turn) {
        source = &recipe->sources[index % 2];
        from = index / 2;
    } else if (index * width >= source->tensor->rows) {
        from -= whole_panels(weights->kernels, source->tensor->rows) / width;
        source = &recipe->sources[1];
    }
    memset(panel, 0, recipe->matrix->panel_bytes);
    for (size_t c = 0; c < width && from * width + c < source->tensor->rows; c++)
        put_column(weights, source, from * width + c, recipe->matrix->depth, panel, c, row);
}

static void pack_panel(void *job, size_t index, size_t worker)
{
    const struct packing *packing = job;
    const struct matrix *matrix = packing->recipe->matrix;
    write_panel(packing->weights, packing->recipe, index, packing->panels + index * matrix->panel_bytes,
                packing->rows + worker * matrix->depth);
}

/* `gains` holds those of both norms. */
static void write_recipes(struct weights *weights, size_t index, float *gains, struct recipe recipes[MATRICES])
{
    const struct model_layer *from = &weights->model->layers[index];
    struct layer_weights *to = &weights->layers[index];
    size_t size = weights->model->head_size;
    float *attention_gain = gains, *mlp_gain = gains + weights->model->width;

    tensor_row(from->attention_norm, 0, attention_gain);
    tensor_row(from->mlp_norm, 0, mlp_gain);
    recipes[0] = (struct recipe){
        &to->key_value,
        {{from->key, from->key_bias, attention_gain, size}, {from->value, from->value_bias, attention_gain, 0}},
        false};
    recipes[1] = (struct recipe){&to->query, {{from->query, from->query_bias, attention_gain, size}}, false};
    recipes[2] = (struct recipe){&to->attention_output, {{from->attention_output, NULL, NULL, 0}}, false};
    recipes[3] = (struct recipe){&to->gate_up, {{from->gate, NULL, mlp_gain, 0}, {from->up, NULL, mlp_gain, 0}}, true};
    recipes[4] = (struct recipe){&to->down, {{from->down, NULL, NULL, 0}}, false};
}

/* Sets shapes and biases, and counts the panels' bytes. */
static int lay_out(struct weights *weights, const struct recipe *recipe, struct error *err)
{
    const struct kernels *kernels = weights->kernels;
    struct matrix *matrix = recipe->matrix;
    size_t start = 0;

    *matrix = (struct matrix){.depth = recipe->sources[0].tensor->columns};
    matrix->panel_bytes = weights->format->panel_bytes(matrix->depth);
    for (size_t i = 0; i < 2 && recipe->sources[i].tensor != NULL; i++)
        matrix->columns += whole_panels(kernels, recipe->sources[i].tensor->rows);
    weights->bytes += matrix->columns / kernels->panel * matrix->panel_bytes;
    if (recipe->sources[0].bias == NULL)
        return 0;
    matrix->bias = calloc(matrix->columns, sizeof *matrix->bias);
    if (matrix->bias == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the biases of a layer");
    for (size_t i = 0; i < 2 && recipe->sources[i].tensor != NULL; i++) {
        const struct source *source = &recipe->sources[i];
        for (size_t j = 0; j < source->tensor->rows; j++)
            matrix->bias[start + j] = source->bias[source_row(source, j)];
        start += whole_panels(kernels, source->tensor->rows);
    }
    return 0;
}

static int pack_layer(struct weights *weights, const struct recipe recipes[MATRICES], struct pool *pool,
                      struct error *err)
{
    for (size_t i = 0; i < MATRICES; i++) {
        const struct matrix *matrix = recipes[i].matrix;
        struct packing packing = {weights, &recipes[i], weights->memory + (matrix->panels - weights->memory), NULL};
        packing.rows = lines_allocate(pool_threads(pool) * matrix->depth * sizeof(float));
        if (packing.rows == NULL)
            return error_set(err, ERROR_FATAL, "out of memory while unpacking tensor " TEXT_FORMAT,
                             TEXT_ARGS(recipes[i].sources[0].tensor->name));
        pool_run(pool, matrix->columns / weights->kernels->panel, pack_panel, &packing);
        free(packing.rows);
    }
    return 0;
}

/* Where each matrix begins. */
static void place_layers(struct weights *weights, const uint8_t *place)
{
    for (size_t i = 0; i < weights->model->layer_count; i++) {
        struct layer_weights *layer = &weights->layers[i];
        struct matrix *matrices[MATRICES] = {&layer->key_value, &layer->query, &layer->attention_output,
                                             &layer->gate_up, &layer->down};
        for (size_t j = 0; j < MATRICES; j++) {
            matrices[j]->panels = place;
            place += matrices[j]->columns / weights->kernels->panel * matrices[j]->panel_bytes;
        }
    }
}

static int lay_out_layers(struct weights *weights, float *gains, struct error *err)
{
    struct recipe recipes[MATRICES];
    for (size_t i = 0; i < weights->model->layer_count; i++) {
        write_recipes(weights, i, gains, recipes);
        for (size_t j = 0; j < MATRICES; j++)
            if (lay_out(weights, &recipes[j], err) != 0)
                return -1;
    }
    return 0;
}

static int pack_layers(struct weights *weights, float *gains, struct pool *pool, struct error *err)
{
    struct recipe recipes[MATRICES];

    weights->memory = lines_allocate(weights->bytes);
    if (weights->memory == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu MB of weights", weights->bytes >> 20);
    place_layers(weights, weights->memory);
    for (size_t i = 0; i < weights->model->layer_count; i++) {
        write_recipes(weights, i, gains, recipes);
        if (pack_layer(weights, recipes, pool, err) != 0)
            return -1;
    }
    return 0;
}

/* Packs a panel of matrix `which` of a layer and looks whether it is there. `panel` and `row` are scratch. */
static bool panel_is_ours(struct weights *weights, size_t layer, size_t which, size_t index, float *gains,
                          uint8_t *panel, float *row)
{
    struct recipe recipes[MATRICES];
    write_recipes(weights, layer, gains, recipes);
    const struct matrix *matrix = recipes[which].matrix;
    index %= matrix->columns / weights->kernels->panel;
    write_panel(weights, &recipes[which], index, panel, row);
    return memcmp(panel, matrix->panels + index * matrix->panel_bytes, matrix->panel_bytes) == 0;
}

/* A panel of each layer, of the matrices in turn, here and there in them: a hundredth of the work of packing all. */
static int check_panels(struct weights *weights, float *gains, const char *path, struct error *err)
{
    const struct matrix *longest = &weights->layers[0].down;
    size_t layers = weights->model->layer_count, checks = layers > MATRICES ? layers : MATRICES;
    if (longest->depth < weights->layers[0].attention_output.depth)
        longest = &weights->layers[0].attention_output;
    if (longest->depth < weights->layers[0].query.depth)
        longest = &weights->layers[0].query;
    uint8_t *panel = lines_allocate(longest->panel_bytes);
    float *row = lines_allocate(longest->depth * sizeof *row);
    bool able = panel != NULL && row != NULL, ours = true;

    for (size_t i = 0; able && ours && i < checks; i++)
        ours = panel_is_ours(weights, i % layers, i % MATRICES, 7 * i, gains, panel, row);
    free(panel);
    free(row);
    if (!able)
        return error_set(err, ERROR_FATAL, "out of memory while checking %s", path);
    return ours ? 0 : error_set(err, ERROR_FATAL, "%s holds other numbers than this version packs", path);
}

/* Whether the weights are there now. */
static bool read_kept(struct weights *weights, const struct packed_file *file, float *gains, struct pool *pool)
{
    int64_t start_ns = clock_monotonic_ns();
    const uint8_t *layers = NULL;
    struct error err;

    int result = packed_file_map(file, pool, &weights->map, &layers, &err);
    if (result == 0 && layers == NULL)
        return false;
    if (result == 0) {
        place_layers(weights, layers);
        result = check_panels(weights, gains, file->path, &err);
    }
    if (result != 0) {
        file_unmap(&weights->map);
        log_warn("engine", "%s: the weights are packed anew", err.message);
        return false;
    }
    log_info("engine", "weights from %s in %.0f ms", file->path, clock_since_ms(start_ns));
    return true;
}

static void keep(const struct weights *weights, const struct packed_file *file, struct pool *pool, double packing_ms)
{
    int64_t start_ns = clock_monotonic_ns();
    struct error err;
    bool written;

    if (packed_file_write(file, pool, weights->memory, &written, &err) != 0)
        log_warn("engine",
                 "packed weights are not kept for the next start: %s; engine.weights_cache names another "
                 "directory, or none",
                 err.message);
    else if (written)
        log_info("engine", "weights packed in %.0f ms and kept in %s in %.0f ms", packing_ms, file->path,
                 clock_since_ms(start_ns));
    else
        log_info("engine", "weights packed in %.0f ms; another process keeps them in %s", packing_ms, file->path);
}

static int read_or_pack(struct weights *weights, const struct weights_cache *cache, float *gains, struct pool *pool,
                        struct error *err)
{
    const struct packed_key key = {cache->directory,      cache->model,           weights->model->adapters,
                                   weights->format->name, weights->kernels->name, WEIGHTS_LAYOUT};
    size_t layers = weights->model->layer_count; /* of one size: their shapes are the model's */
    struct packed_file file;
    struct error path;
    bool kept = cache->directory != NULL && cache->model != NULL;

    if (kept && packed_file_describe(&file, &key, layers, weights->bytes / layers, &path) != 0) {
        log_warn("engine", "packed weights are not kept for the next start: %s", path.message);
        kept = false;
    }
    if (kept && read_kept(weights, &file, gains, pool))
        return 0;
    int64_t start_ns = clock_monotonic_ns();
    if (pack_layers(weights, gains, pool, err) != 0)
        return -1;
    if (kept)
        keep(weights, &file, pool, clock_since_ms(start_ns));
    return 0;
}

int weights_open(struct weights *weights, const struct model *model, const struct kernels *kernels,
                 enum engine_mode mode, const struct weights_cache *cache, struct pool *pool, struct error *err)
{
    *weights = (struct weights){.model = model, .kernels = kernels};
    weights->format = mode == ENGINE_F32 ? kernels->floats : mode == ENGINE_BF16 ? kernels->bfloats : kernels->integers;
    weights->attention = mode == ENGINE_F32 ? kernels->floats : kernels->attention;
    weights->layers = calloc(model->layer_count, sizeof *weights->layers);
    float *gains = lines_allocate(2 * model->width * sizeof *gains);
    int result = -1;

    if (weights->layers == NULL || gains == NULL)
        error_set(err, ERROR_FATAL, "out of memory while unpacking %zu layers", model->layer_count);
    else if (lay_out_layers(weights, gains, err) == 0)
        result = read_or_pack(weights, cache, gains, pool, err);
    free(gains);
    if (result != 0)
        weights_free(weights);
    return result;
}

void weights_free(struct weights *weights)
{
    for (size_t i = 0; weights->layers != NULL && i < weights->model->layer_count; i++) {
        free(weights->layers[i].key_value.bias);
        free(weights->layers[i].query.bias);
    }
    free(weights->layers);
    free(weights->memory);
    file_unmap(&weights->map);
    *weights = (struct weights){0};
}
