#include <math.h>
#include <string.h>

#include "engine/cpu/forward.h"

enum { COLUMNS = 16 }; /* keys are scored and weighed in steps of so many: what soften() asks for */

/* Rows of one tile: queries of one key head, token by token, so that the last row sees most. */
struct tile {
    size_t first; /* place of the first row: token within the span * heads of the group + head within the group */
    size_t rows;
    size_t seen; /* own tokens that the last row sees */
};

static size_t own_columns(const struct forward *forward, size_t seen)
{
    size_t step = forward->weights->kernels->panel;
    step = step < COLUMNS ? COLUMNS : step;
    return (seen + step - 1) / step * step;
}

/* Scores on `columns` keys of a tile, a multiple of the panel. */
static void score_keys(const struct forward *forward, const uint8_t *keys, size_t key_head, size_t columns,
                       const uint8_t *queries, size_t rows, float *scores, size_t stride)
{
    const struct format *format = forward->weights->attention;
    size_t size = forward->weights->model->head_size, panel = forward->weights->kernels->panel;
    size_t bytes = format->operand_bytes(size);

    keys += key_head * (CHUNK_TOKENS / panel) * forward->key_panel_bytes;
    for (size_t c = 0; c < columns; c += panel, keys += forward->key_panel_bytes)
        format->multiply(keys, size, queries, bytes, rows, scores + c, stride, false);
}

static void score_past(const struct forward *forward, struct block *block, size_t layer, const struct span *span,
                       size_t key_head, const uint8_t *queries, size_t rows)
{
    for (size_t i = 0; i < span->past_count; i++) {
        const struct chunk *chunk = span->past[i];
        float *scores = block->scores + i * CHUNK_TOKENS;
        score_keys(forward, chunk->layers[layer], key_head, CHUNK_TOKENS, queries, rows, scores, block->columns);
        for (size_t r = 0; chunk->count < CHUNK_TOKENS && r < rows; r++)
            for (size_t c = chunk->count; c < CHUNK_TOKENS; c++)
                scores[r * block->columns + c] = -INFINITY;
    }
}

static void score_own(const struct forward *forward, struct block *block, const struct span *span, size_t key_head,
                      const uint8_t *queries, const struct tile *tile)
{
    float *scores = block->scores + span->past_count * CHUNK_TOKENS;
    for (size_t c = 0; c < tile->seen; c += CHUNK_TOKENS) {
        size_t columns = own_columns(forward, tile->seen - c);
        score_keys(forward, span->own + c / CHUNK_TOKENS * forward->tile_bytes, key_head,
                   columns < CHUNK_TOKENS ? columns : CHUNK_TOKENS, queries, tile->rows, scores + c, block->columns);
    }
}

/* Adds the values of a tile's first `count` keys, weighed by the shares from `column` on, to `out`. */
static void weigh_values(const struct forward *forward, const struct block *block, const uint8_t *tile, size_t key_head,
                         size_t panel, size_t column, size_t count, size_t rows, float *out)
{
    const struct format *format = forward->weights->attention;
    const uint8_t *values =
        tile + forward->values_offset + (key_head * forward->value_panels + panel) * forward->value_panel_bytes;
    const uint8_t *shares = format->floats ? (const uint8_t *)block->scores : block->shares;

    format->multiply(values, count, shares + format->operand_bytes(column), format->operand_bytes(block->columns), rows,
                     out, forward->weights->kernels->panel, column != 0);
}

static void scatter(const struct forward *forward, struct block *block, const struct span *span, size_t key_head,
                    size_t panel, const struct tile *tile, const float *out, const float *sums)
{
    const struct model *model = forward->weights->model;
    size_t group = model->heads / model->key_heads, width = forward->weights->kernels->panel;
    size_t count = model->head_size - panel * width < width ? model->head_size - panel * width : width;

    for (size_t r = 0; r < tile->rows; r++) {
        size_t token = (tile->first + r) / group, head = key_head * group + (tile->first + r) % group;
        size_t row = token + 1 == span->count ? span->last_row : span->row + token;
        float *to = block->attended + (row * model->heads + head) * model->head_size + panel * width;
        for (size_t c = 0; c < count; c++)
            to[c] = out[r * width + c] / sums[r];
    }
}

static void attend(const struct forward *forward, struct block *block, size_t layer, const struct span *span,
                   size_t key_head, const uint8_t *queries, const struct tile *tile)
{
    const struct format *format = forward->weights->attention;
    const struct model *model = forward->weights->model;
    size_t group = model->heads / model->key_heads, past = span->past_count * CHUNK_TOKENS;
    size_t limit = past + own_columns(forward, tile->seen), bytes = format->operand_bytes(block->columns);
    float sums[KERNELS_TILE], out[KERNELS_TILE * 64];

    score_past(forward, block, layer, span, key_head, queries, tile->rows);
    score_own(forward, block, span, key_head, queries, tile);
    for (size_t r = 0; r < tile->rows; r++)
        sums[r] = format->soften(block->scores + r * block->columns, past + span->token + (tile->first + r) / group + 1,
                                 limit, block->shares + r * bytes);

    for (size_t panel = 0; panel < forward->value_panels; panel++) {
        for (size_t i = 0; i < span->past_count; i++) {
            const struct chunk *chunk = span->past[i];
            size_t count = (chunk->count + COLUMNS - 1) / COLUMNS * COLUMNS;
            weigh_values(forward, block, chunk->layers[layer], key_head, panel, i * CHUNK_TOKENS, count, tile->rows,
                         out);
        }
        for (size_t c = past; c < limit; c += CHUNK_TOKENS)
            weigh_values(forward, block, span->own + (c - past) / CHUNK_TOKENS * forward->tile_bytes, key_head, panel,
                         c, limit - c < CHUNK_TOKENS ? limit - c : CHUNK_TOKENS, tile->rows, out);
        scatter(forward, block, span, key_head, panel, tile, out, sums);
    }
}

void attention_run(const struct forward *forward, struct block *block, size_t layer, const struct passage *passage)
{
    const struct span *spans = passage->spans;
    const struct model *model = forward->weights->model;
    size_t group = model->heads / model->key_heads;
    size_t bytes = forward->weights->attention->operand_bytes(model->head_size);

    for (size_t key_head = 0; key_head < model->key_heads; key_head++) {
        const uint8_t *queries = block->queries + key_head * block->rows * group * bytes;
        for (size_t i = 0; i < passage->span_count; i++) {
            size_t rows = spans[i].count * group;
            for (size_t first = 0; first < rows; first += KERNELS_TILE) {
                struct tile tile = {first, rows - first < KERNELS_TILE ? rows - first : KERNELS_TILE, 0};
                tile.seen = spans[i].token + (first + tile.rows - 1) / group + 1;
                attend(forward, block, layer, &spans[i], key_head, queries + first * bytes, &tile);
            }
            queries += rows * bytes;
        }
    }
}
