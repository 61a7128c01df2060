#include <math.h>
#include <string.h>

#include "graph/embedding_state.h"

static const double PI = 3.14159265358979323846;

/* out += weight * z, or weight * z / |z| with normalise: what one layer puts into a result. */
static void enter_result(const struct embedding *embedding, const float *z, size_t k, float *out)
{
    size_t n = embedding->settings.dimension;
    float weight = embedding->weights[k - 1];
    if (embedding->settings.normalise) {
        double square = 0;
        for (size_t i = 0; i < n; i++)
            square += (double)z[i] * (double)z[i];
        if (!(square > 0))
            return;
        weight = (float)((double)weight / sqrt(square));
    }
    for (size_t i = 0; i < n; i++)
        out[i] += weight * z[i];
}

void embedding_read(const struct embedding *embedding, uint32_t node, float *out)
{
    size_t n = embedding->settings.dimension;
    memset(out, 0, n * sizeof *out);
    if (embedding->nodes[node].degree == 0)
        return;
    float z[EMBEDDING_DIMENSION_LIMIT];
    for (size_t k = 1; k <= embedding->settings.layers; k++) {
        float weight = embedding->weights[k - 1];
        if (weight <= 0.0f)
            continue;
        if (embedding->settings.normalise) {
            embedding_read_layer(embedding, node, k, z);
            enter_result(embedding, z, k, out);
        } else {
            row_read(sum_of(embedding, node, k), weight * share_of(embedding, node) * UNIT, out, n);
        }
    }
}

void embedding_fetch(const struct embedding *embedding, uint32_t node)
{
    enum { CACHE_LINE = 64 };
    size_t size = embedding->settings.dimension * sizeof(int32_t);
    __builtin_prefetch(&embedding->nodes[node]);
    for (size_t k = 1; k <= embedding->settings.layers; k++) {
        const char *low = (const char *)low_sum(embedding, node, k);
        for (size_t at = 0; at < size; at += CACHE_LINE)
            __builtin_prefetch(low + at);
    }
}

void embedding_read_layer(const struct embedding *embedding, uint32_t node, size_t k, float *out)
{
    size_t n = embedding->settings.dimension;
    memset(out, 0, n * sizeof *out);
    if (k > 0) {
        row_read(sum_of(embedding, node, k), share_of(embedding, node) * UNIT, out, n);
        return;
    }
    const int32_t *base = base_of(embedding, node);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)base[i] * UNIT;
}

void embedding_read_mean_of(const struct embedding *embedding, const uint32_t *nodes, size_t count, float *out)
{
    size_t n = embedding->settings.dimension;
    memset(out, 0, n * sizeof *out);
    float z[EMBEDDING_DIMENSION_LIMIT], mean[EMBEDDING_DIMENSION_LIMIT];
    for (size_t k = 1; k <= embedding->settings.layers && count > 0; k++) {
        memset(mean, 0, n * sizeof *mean);
        for (size_t i = 0; i < count; i++) {
            embedding_read_layer(embedding, nodes[i], k - 1, z);
            for (size_t j = 0; j < n; j++)
                mean[j] += z[j];
        }
        for (size_t j = 0; j < n; j++)
            mean[j] /= (float)count;
        enter_result(embedding, mean, k, out);
    }
}

/* Largest |z^k - what some neighbour has of it|. */
static double largest_unpublished(const struct embedding *embedding, size_t k)
{
    double largest = (double)largest_of_all(&embedding->unpublished[k]);
    const struct flight *flight = &embedding->flight;
    if (flight->active && flight->layer == k)
        largest = fmax(largest, (double)largest_at(&embedding->unpublished[k], flight->node) + (double)flight->length);
    return largest * (double)UNIT;
}

float embedding_layer_bound(const struct embedding *embedding, size_t k)
{
    double bound = 0;
    for (size_t j = 0; j < k; j++)
        bound += largest_unpublished(embedding, j);
    return (float)bound;
}

/* Largest |x / |x| - y / |y||, where |x - y| <= bound. */
static double turned(double bound, double length)
{
    return bound < length ? 2 * sin(asin(bound / length) / 2) : bound > 0 ? 2 : 0;
}

float embedding_bound(const struct embedding *embedding)
{
    double bound = 0, of_layer = 0;
    for (size_t k = 1; k <= embedding->settings.layers; k++) {
        of_layer += largest_unpublished(embedding, k - 1);
        bound += (double)embedding->weights[k - 1] * (embedding->settings.normalise ? turned(of_layer, 0) : of_layer);
    }
    return (float)bound;
}

static double length_of(const float *x, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)x[i] * (double)x[i];
    return sqrt(square);
}

float embedding_angle(const struct embedding *embedding, uint32_t node)
{
    size_t n = embedding->settings.dimension;
    float row[EMBEDDING_DIMENSION_LIMIT];
    double bound = (double)embedding_bound(embedding);
    if (embedding->settings.normalise) {
        bound = 0;
        for (size_t k = 1; k <= embedding->settings.layers; k++) {
            embedding_read_layer(embedding, node, k, row);
            bound += (double)embedding->weights[k - 1] *
                     turned((double)embedding_layer_bound(embedding, k), length_of(row, n));
        }
    }
    embedding_read(embedding, node, row);
    double length = length_of(row, n);
    if (!(bound > 0))
        return 0.0f;
    return (float)(bound < length ? asin(bound / length) : PI);
}

static double cosine_of(struct products products, double of_zero)
{
    return products.xx > 0 && products.yy > 0 ? products.xy / sqrt(products.xx * products.yy) : of_zero;
}

double embedding_cosine(const float *a, const float *b, size_t n)
{
    return cosine_of(float_products(a, b, n), 0.0);
}

double embedding_cosine_to(const struct embedding *embedding, uint32_t node, const float *query)
{
    size_t n = embedding->settings.dimension, layers = 0;
    struct products products;
    if (embedding->settings.normalise) {
        float own[EMBEDDING_DIMENSION_LIMIT];
        embedding_read(embedding, node, own);
        products = float_products(query, own, n);
    } else {
        struct sum sums[EMBEDDING_LAYERS_LIMIT];
        float scales[EMBEDDING_LAYERS_LIMIT];
        for (size_t k = 1; k <= embedding->settings.layers; k++)
            if (embedding->weights[k - 1] > 0.0f) {
                scales[layers] = embedding->weights[k - 1] * share_of(embedding, node) * UNIT;
                sums[layers++] = sum_of(embedding, node, k);
            }
        products = row_products(sums, scales, layers, query, n);
    }
    return cosine_of(products, (double)NAN);
}
