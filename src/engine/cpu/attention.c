#include <math.h>
#include <string.h>

#include "engine/cpu/forward.h"

/*
 * Keys come tile by tile, and all rows that see a tile go past it while it is in the cache: a user's candidates, and
 * the heads of a group, share it. A row's softmax goes on from tile to tile (struct softmax): what a row sums up, and
 * in which order, depends on its own place alone.
 */

/* A key head's part of a tile of keys and values, ready for products. */
struct tile {
    const uint8_t *keys, *values;
    size_t key_panel_bytes, value_panel_bytes;
    size_t count; /* of its tokens */
};

/* The rows of a span in one key head: token by token, the group's heads of each. */
struct rows {
    const struct span *span;
    size_t place; /* of the first in block->queries and what goes with it */
    size_t count;
};

static size_t group_of(const struct forward *forward)
{
    return forward->weights->model->heads / forward->weights->model->key_heads;
}

/* What multiplies queries and shares: floats where the tile has been widened to such. */
static const struct format *product_of(const struct forward *forward)
{
    const struct weights *weights = forward->weights;
    return weights->attention->widen == NULL ? weights->attention : weights->kernels->floats;
}

static struct tile ready_tile(const struct forward *forward, struct block *block, const uint8_t *memory,
                              size_t key_head, size_t count)
{
    const struct format *format = forward->weights->attention;
    size_t panel = forward->weights->kernels->panel, size = forward->weights->model->head_size;
    size_t key_panels = CHUNK_TOKENS / panel, value_panels = forward->value_panels;
    struct tile tile = {
        .keys = memory + key_head * key_panels * forward->key_panel_bytes,
        .values = memory + forward->values_offset + key_head * value_panels * forward->value_panel_bytes,
        .key_panel_bytes = forward->key_panel_bytes,
        .value_panel_bytes = forward->value_panel_bytes,
        .count = count,
    };
    if (format->widen == NULL)
        return tile;

    size_t key_floats = (size + size % 2) * panel, value_floats = CHUNK_TOKENS * panel;
    for (size_t p = 0; p < key_panels; p++)
        format->widen(tile.keys + p * tile.key_panel_bytes, size, block->keys + p * key_floats);
    for (size_t p = 0; p < value_panels; p++)
        format->widen(tile.values + p * tile.value_panel_bytes, CHUNK_TOKENS, block->values + p * value_floats);
    tile.keys = (const uint8_t *)block->keys;
    tile.values = (const uint8_t *)block->values;
    tile.key_panel_bytes = key_floats * sizeof(float);
    tile.value_panel_bytes = value_floats * sizeof(float);
    return tile;
}

/* The rows from `first` on that fit the kernels' tile go past a tile of keys; counts as in struct piece. */
static void attend(const struct forward *forward, struct block *block, const struct tile *tile, const uint8_t *queries,
                   size_t place, struct piece *piece)
{
    const struct format *format = forward->weights->attention, *product = product_of(forward);
    size_t panel = forward->weights->kernels->panel, size = forward->weights->model->head_size;
    size_t bytes = format->operand_bytes(size), most = piece->counts[piece->rows - 1], step = panel < 16 ? 16 : panel;

    piece->rows_so_far = block->softmaxes + place;
    piece->out = block->out + place * piece->out_stride;
    if (format->attend != NULL) {
        format->attend(tile->keys, tile->values, size, queries + place * bytes, piece);
        return;
    }
    piece->limit = (most + step - 1) / step * step;
    for (size_t c = 0; c < piece->limit; c += panel)
        product->multiply(tile->keys + c / panel * tile->key_panel_bytes, size, queries + place * bytes, bytes,
                          piece->rows, piece->scores + c, CHUNK_TOKENS, false, NULL);
    format->share(piece);
    for (size_t p = 0; p < forward->value_panels; p++)
        product->multiply(tile->values + p * tile->value_panel_bytes, piece->limit, piece->scores,
                          CHUNK_TOKENS * sizeof *piece->scores, piece->rows, piece->out + p * panel, piece->out_stride,
                          true, NULL);
}

/* All rows of a span that see some of a tile whose first token is own token `start`; or of the past, which all see. */
static void pass_tile(const struct forward *forward, struct block *block, const struct tile *tile,
                      const struct rows *rows, const uint8_t *queries, bool past, size_t start)
{
    size_t group = group_of(forward), token = rows->span->token;
    struct piece piece = {
        .scores = block->scores,
        .out_stride = forward->value_panels * forward->weights->kernels->panel,
        .width = forward->value_panels * forward->weights->kernels->panel,
    };

    for (size_t first = 0; first < rows->count; first += KERNELS_TILE) {
        piece.rows = rows->count - first < KERNELS_TILE ? rows->count - first : KERNELS_TILE;
        for (size_t r = 0; r < piece.rows; r++) {
            size_t seen = token + (first + r) / group + 1; /* own tokens */
            size_t here = seen > start ? seen - start : 0;
            piece.counts[r] = past || here > tile->count ? tile->count : here;
        }
        if (piece.counts[piece.rows - 1] > 0)
            attend(forward, block, tile, queries, rows->place + first, &piece);
    }
}

static void scatter(const struct forward *forward, struct block *block, const struct rows *rows, size_t key_head)
{
    const struct model *model = forward->weights->model;
    size_t group = group_of(forward), stride = forward->value_panels * forward->weights->kernels->panel;

    for (size_t i = 0; i < rows->count; i++) {
        const struct span *span = rows->span;
        size_t token = i / group, row = token + 1 == span->count ? span->last_row : span->row + token;
        const float *from = block->out + (rows->place + i) * stride;
        float *to = block->attended + (row * model->heads + key_head * group + i % group) * model->head_size;
        float sum = 0.0f;
        for (size_t j = 0; j < sizeof block->softmaxes->sums / sizeof sum; j++)
            sum += block->softmaxes[rows->place + i].sums[j];
        float inverse = 1.0f / sum;
        for (size_t c = 0; c < model->head_size; c++)
            to[c] = from[c] * inverse;
    }
}

/* A past that the spans from `first` on have in common, as far as each goes. */
static void pass_past(const struct forward *forward, struct block *block, size_t layer, const struct passage *passage,
                      size_t first, size_t end, size_t key_head, const uint8_t *queries)
{
    size_t group = group_of(forward), most = 0;

    for (size_t i = first; i < end; i++)
        most = passage->spans[i].past_count > most ? passage->spans[i].past_count : most;
    for (size_t chunk = 0; chunk < most; chunk++) {
        const struct chunk *past = passage->spans[first].past[chunk];
        struct tile tile = ready_tile(forward, block, past->layers[layer], key_head, past->count);
        size_t place = 0;
        for (size_t i = 0; i < end; i++) {
            const struct rows rows = {&passage->spans[i], place, passage->spans[i].count * group};
            if (i >= first && rows.span->past_count > chunk)
                pass_tile(forward, block, &tile, &rows, queries, true, 0);
            place += rows.count;
        }
    }
}

static void start_rows(const struct forward *forward, struct block *block, size_t count)
{
    size_t stride = forward->value_panels * forward->weights->kernels->panel;
    memset(block->out, 0, count * stride * sizeof *block->out);
    for (size_t i = 0; i < count; i++)
        block->softmaxes[i] = (struct softmax){.greatest = -INFINITY};
}

static void attend_head(const struct forward *forward, struct block *block, size_t layer, const struct passage *passage,
                        size_t key_head, const uint8_t *queries)
{
    size_t group = group_of(forward), place = 0;

    start_rows(forward, block, passage->rows * group);
    for (size_t first = 0, end; first < passage->span_count; first = end) {
        for (end = first + 1; end < passage->span_count && passage->spans[end].past == passage->spans[first].past;)
            end++;
        pass_past(forward, block, layer, passage, first, end, key_head, queries);
    }
    for (size_t i = 0; i < passage->span_count; i++) {
        const struct span *span = &passage->spans[i];
        const struct rows rows = {span, place, span->count * group};
        size_t seen = span->token + span->count;
        for (size_t start = 0; start < seen; start += CHUNK_TOKENS) {
            size_t count = seen - start < CHUNK_TOKENS ? seen - start : CHUNK_TOKENS;
            struct tile tile =
                ready_tile(forward, block, span->own + start / CHUNK_TOKENS * forward->tile_bytes, key_head, count);
            pass_tile(forward, block, &tile, &rows, queries, false, start);
        }
        scatter(forward, block, &rows, key_head);
        place += rows.count;
    }
}

void attention_run(const struct forward *forward, struct block *block, size_t layer, const struct passage *passage)
{
    const struct model *model = forward->weights->model;
    size_t bytes = forward->weights->attention->operand_bytes(model->head_size) * group_of(forward);

    for (size_t key_head = 0; key_head < model->key_heads; key_head++)
        attend_head(forward, block, layer, passage, key_head, block->queries + key_head * block->rows * bytes);
}
