#include <math.h>
#include <string.h>

#include "graph/embedding_state.h"

enum {
    AHEAD = 8, /* neighbours */
    CACHE_LINE = 64,

    /* Epsilon rises when so many budgets wait: an answer is behind by as many events. */
    BACKLOG_BUDGETS = 256,
};

/* Below this length a node's change is measured against it: what is nearly 0 is not published for its noise. */
static const float LENGTH_FLOOR = 0.05f;

/*
 * What is worked out of lengths is on the safe side: a length may be off by half a unit and a float's last bit for each
 * component of z, and in its own last bits.
 */
static const float ROUNDING = 64.0f;
static const float ROUNDED_UP = 1.000002f;

static void chain_append(struct embedding *embedding, enum chain_kind kind, uint32_t node)
{
    struct chain *chain = &embedding->chains[kind];
    if (embedding->nodes[node].next[kind] != NOT_THERE)
        return;
    embedding->nodes[node].next[kind] = CHAIN_END;
    if (chain->count++ == 0)
        chain->first = node;
    else
        embedding->nodes[chain->last].next[kind] = node;
    chain->last = node;
}

/* There must be one. */
static uint32_t chain_take(struct embedding *embedding, enum chain_kind kind)
{
    struct chain *chain = &embedding->chains[kind];
    uint32_t node = chain->first;
    chain->first = embedding->nodes[node].next[kind];
    chain->count--;
    embedding->nodes[node].next[kind] = NOT_THERE;
    return node;
}

/* Epsilon and the backlog. */

float embedding_epsilon(const struct embedding *embedding)
{
    return embedding->settings.epsilon * (float)(1 << embedding->level);
}

/* What nodes are looked at with: while those skipped are gone through, no new ones may be skipped at the higher value.
 */
static float looking_epsilon(const struct embedding *embedding)
{
    return embedding_epsilon(embedding) / (embedding->reviewing ? 2 : 1);
}

uint64_t embedding_backlog(const struct embedding *embedding)
{
    const struct flight *flight = &embedding->flight;
    return embedding->backlog + (flight->active ? flight->end - flight->cursor : 0);
}

static bool exceeds(struct change change, float epsilon)
{
    static const float floor = LENGTH_FLOOR / UNIT * (LENGTH_FLOOR / UNIT);
    return change.moved > epsilon * epsilon * (change.norm > floor ? change.norm : floor);
}

/*
 * The node was looked at, and does not exceed epsilon. When z has moved on by x, it is at most moved + x from what is
 * published, and at least norm - x long; so it does not exceed epsilon as long as moved + x is not above this.
 */
static float look_above(struct change change, float epsilon)
{
    float floor = epsilon * (LENGTH_FLOOR / UNIT);
    float above = epsilon / (1 + epsilon) * (sqrtf(change.norm) + sqrtf(change.moved));
    return (above > floor ? above : floor) / ROUNDED_UP - ROUNDING;
}

void recount_backlog(struct embedding *embedding, uint32_t node, uint32_t before)
{
    uint64_t layers = (uint64_t)__builtin_popcount(embedding->nodes[node].waiting);
    embedding->backlog += layers * embedding->nodes[node].degree;
    embedding->backlog -= layers * before;
}

void wait_to_publish(struct embedding *embedding, uint32_t node, size_t k)
{
    struct node *state = &embedding->nodes[node];
    unsigned bit = 1u << k;
    if ((state->waiting & bit) != 0)
        return;
    state->waiting |= (uint8_t)bit;
    state->skipped &= (uint8_t)~bit;
    if (k > 0)
        embedding->looks[k][node] = INFINITY;
    embedding->backlog += (uint64_t)state->degree + 1;
    chain_append(embedding, CHAIN_WAITING, node);
}

/* The node does not wait at layer k. Remembers it when only the raised epsilon lets it hold this back. */
static void let_be(struct embedding *embedding, uint32_t node, size_t k, struct change change)
{
    bool skipped = embedding->level > 0 && exceeds(change, embedding->settings.epsilon);
    largest_set(&embedding->unpublished[k], node, sqrtf(change.moved));
    embedding->looks[k][node] = look_above(change, skipped ? looking_epsilon(embedding) : embedding->settings.epsilon);
    if (!skipped)
        return;
    embedding->nodes[node].skipped |= (uint8_t)(1u << k);
    chain_append(embedding, CHAIN_SKIPPED, node);
}

static void judge(struct embedding *embedding, uint32_t node, size_t k, struct change change)
{
    bool waits = (embedding->nodes[node].waiting & 1u << k) != 0;
    if (!waits && !exceeds(change, looking_epsilon(embedding))) {
        let_be(embedding, node, k, change);
        return;
    }
    largest_set(&embedding->unpublished[k], node, sqrtf(change.moved));
    wait_to_publish(embedding, node, k);
}

static struct change measure(const struct embedding *embedding, uint32_t node, size_t k)
{
    return row_measure(sum_of(embedding, node, k), share_of(embedding, node), published(embedding, node, k),
                       embedding->settings.dimension);
}

void receive(struct embedding *embedding, uint32_t node, size_t k, const int32_t *row, bool take)
{
    embedding->operations++;
    if (embedding->changed != NULL)
        embedding->changed[node / 64] |= UINT64_C(1) << node % 64;
    row_add(sum_of(embedding, node, k), row, take, embedding->settings.dimension);
    if (k < embedding->settings.layers)
        judge(embedding, node, k, measure(embedding, node, k));
}

/* Pushes. */

bool has_not_received(const struct embedding *embedding, uint32_t node, uint32_t place)
{
    const struct flight *flight = &embedding->flight;
    return flight->active && flight->node == node && place >= flight->cursor && place < flight->end;
}

static void publish_base(struct embedding *embedding, uint32_t node)
{
    struct base_changes *changes = &embedding->base_changes;
    size_t n = embedding->settings.dimension;
    uint32_t at = embedding->nodes[node].base_change;
    if (at == NOT_THERE)
        return;
    memcpy(published(embedding, node, 0), changes->rows + at * n, n * sizeof *changes->rows);
    embedding->nodes[node].base_change = NOT_THERE;
    largest_set(&embedding->unpublished[0], node, 0.0f);

    size_t last = --changes->count;
    if (at == last)
        return;
    changes->nodes[at] = changes->nodes[last];
    memcpy(changes->rows + at * n, changes->rows + last * n, n * sizeof *changes->rows);
    embedding->nodes[changes->nodes[at]].base_change = at;
}

/*
 * Fetching ahead: out of cache, a push is mostly waiting for memory, and many pushes are short. While one is handed on,
 * the rows of the neighbour AHEAD are fetched with its node, which says where the upper rows of a hub are, and those
 * when it is half as far. The next push has its first neighbours fetched, the one behind it its list and own rows, the
 * third its node. A graph of one chunk stays in the cache of a processor: there, asking costs more than waiting.
 *
 * Always inline: gcc takes a function that does nothing but fetch for one without effect, and drops calls of it.
 */
#define INLINE static inline __attribute__((always_inline))

INLINE void fetch_lines(const void *memory, size_t size)
{
    for (size_t at = 0; at < size; at += CACHE_LINE)
        __builtin_prefetch((const char *)memory + at, 1);
}

/* What begin() touches of a node, but for the upper row of a hub. P^k lies before S^k. */
INLINE void fetch_both_rows(const struct embedding *embedding, uint32_t node, size_t k)
{
    fetch_lines(published(embedding, node, k), 2 * embedding->settings.dimension * sizeof(int32_t));
}

/* What a push needs of the layer that it goes to, so that it is not looked up again for each neighbour. */
struct target {
    const struct node *nodes;
    int32_t *const *chunks;
    unsigned chunk_bits;
    size_t node_size, low_at, high_at; /* a node's rows; where S^k is among them, and in the upper rows of a hub */
    size_t n;
    struct largest *unpublished; /* NULL: the last layer, which nobody publishes */
    const float *looks;
};

INLINE struct target target_of(struct embedding *embedding, size_t k)
{
    size_t layers = embedding->settings.layers, n = embedding->settings.dimension;
    return (struct target){.nodes = embedding->nodes,
                           .chunks = embedding->chunks,
                           .chunk_bits = embedding->chunk_bits,
                           .node_size = 2 * layers * n,
                           .low_at = (size_t)(low_sum(embedding, 0, k) - node_rows(embedding, 0)),
                           .high_at = (k - 1) * n,
                           .n = n,
                           .unpublished = k < layers ? &embedding->unpublished[k] : NULL,
                           .looks = embedding->looks[k]};
}

/* As far as this neighbours are fetched ahead. */
INLINE uint32_t fetch_end(const struct embedding *embedding)
{
    return embedding->chunk_count == 1 ? 0 : embedding->flight.end;
}

INLINE struct sum sum_in(const struct target *target, uint32_t node)
{
    size_t at = node & ((UINT32_C(1) << target->chunk_bits) - 1);
    int32_t *high = target->nodes[node].high;
    return (struct sum){target->chunks[node >> target->chunk_bits] + at * target->node_size + target->low_at,
                        high == NULL ? NULL : high + target->high_at};
}

INLINE void fetch_target(const struct target *target, uint32_t node)
{
    size_t at = node & ((UINT32_C(1) << target->chunk_bits) - 1);
    __builtin_prefetch(&target->nodes[node], 1);
    fetch_lines(target->chunks[node >> target->chunk_bits] + at * target->node_size + target->low_at,
                target->n * sizeof(int32_t));
    if (target->unpublished == NULL)
        return;
    __builtin_prefetch(&target->unpublished->levels[0][node], 1);
    __builtin_prefetch(&target->looks[node]);
}

INLINE void fetch_high(const struct target *target, uint32_t node)
{
    const int32_t *high = target->nodes[node].high;
    if (high != NULL)
        fetch_lines(high + target->high_at, target->n * sizeof *high);
}

INLINE void fetch_next_pushes(struct embedding *embedding)
{
    const struct node *nodes = embedding->nodes;
    if (embedding->chunk_count == 1 || embedding->chains[CHAIN_WAITING].count < 2)
        return;
    uint32_t first = embedding->chains[CHAIN_WAITING].first, second = nodes[first].next[CHAIN_WAITING];
    if (nodes[first].waiting != 0) {
        struct target target = target_of(embedding, (size_t)__builtin_ctz(nodes[first].waiting) + 1);
        for (uint32_t i = 0; i < AHEAD && i < nodes[first].degree; i++)
            fetch_target(&target, nodes[first].links[i].node);
    }
    if (nodes[second].next[CHAIN_WAITING] != CHAIN_END)
        __builtin_prefetch(&nodes[nodes[second].next[CHAIN_WAITING]]);
    if (nodes[second].waiting == 0)
        return;
    fetch_lines(nodes[second].links, AHEAD * sizeof *nodes->links);
    size_t k = (size_t)__builtin_ctz(nodes[second].waiting);
    if (k > 0)
        fetch_both_rows(embedding, second, k);
}

/* `length` of what the node has to tell, units. */
static void publish(struct embedding *embedding, uint32_t node, size_t k, float length)
{
    size_t n = embedding->settings.dimension;
    int32_t *row = published(embedding, node, k);
    memcpy(embedding->before, row, n * sizeof *row);
    if (k == 0) {
        publish_base(embedding, node);
        for (size_t i = 0; i < n; i++)
            embedding->delta[i] = row[i] - embedding->before[i];
    } else {
        row_publish(sum_of(embedding, node, k), share_of(embedding, node), row, embedding->delta, n);
    }
    embedding->flight = (struct flight){
        .active = true, .node = node, .layer = (uint32_t)k, .end = embedding->nodes[node].degree, .length = length};
    struct target target = target_of(embedding, k + 1);
    for (uint32_t i = 0; i < AHEAD / 2 && i < fetch_end(embedding); i++)
        fetch_high(&target, embedding->nodes[node].links[i].node);
}

/* One operation: the node that waits longest begins its lowest layer, if it still has anything to tell. */
static void begin(struct embedding *embedding)
{
    uint32_t node = chain_take(embedding, CHAIN_WAITING);
    struct node *state = &embedding->nodes[node];
    embedding->operations++;
    if (state->waiting == 0)
        return; /* it has lost all its edges meanwhile */
    size_t k = (size_t)__builtin_ctz(state->waiting);
    state->waiting &= (uint8_t)(state->waiting - 1);
    embedding->backlog -= (uint64_t)state->degree + 1;
    if (state->waiting != 0)
        chain_append(embedding, CHAIN_WAITING, node);
    fetch_next_pushes(embedding);

    if (k == 0) {
        publish(embedding, node, k, largest_at(&embedding->unpublished[0], node));
        return;
    }
    struct change change = measure(embedding, node, k);
    if (exceeds(change, looking_epsilon(embedding))) {
        publish(embedding, node, k, sqrtf(change.moved));
        change.moved = 0;
    }
    let_be(embedding, node, k, change);
}

/* The node's z^k has moved by what the push in flight brought: it is looked at only if it may have to publish. */
INLINE void follow(struct embedding *embedding, const struct target *target, uint32_t node, size_t k)
{
    float moved = largest_at(target->unpublished, node);
    moved = (moved + embedding->flight.length / (float)target->nodes[node].degree) * ROUNDED_UP;
    if (moved > target->looks[node])
        judge(embedding, node, k, measure(embedding, node, k));
    else
        largest_raise(target->unpublished, node, moved);
}

/* At most `most` operations of the push in flight; returns how many. */
static size_t hand_on(struct embedding *embedding, size_t most)
{
    struct flight *flight = &embedding->flight;
    const struct link *links = embedding->nodes[flight->node].links;
    uint32_t end = fetch_end(embedding);
    size_t k = flight->layer + 1, left = flight->end - flight->cursor;
    size_t count = left < most ? left : most;
    struct target target = target_of(embedding, k);
    for (uint32_t at = flight->cursor; at < flight->cursor + count; at++) {
        uint32_t node = links[at].node;
        if (at + AHEAD < end)
            fetch_target(&target, links[at + AHEAD].node);
        if (at + AHEAD / 2 < end)
            fetch_high(&target, links[at + AHEAD / 2].node);
        if (embedding->changed != NULL)
            embedding->changed[node / 64] |= UINT64_C(1) << node % 64;
        row_add(sum_in(&target, node), embedding->delta, false, target.n);
        if (target.unpublished != NULL)
            follow(embedding, &target, node, k);
    }
    embedding->operations += count;
    flight->cursor += (uint32_t)count;
    flight->active = flight->cursor < flight->end;
    return count;
}

/*
 * Nothing waits, but epsilon is raised: one of the nodes skipped is looked at with half of it, one operation. Layer by
 * layer; when all layers are through, nobody is left who holds back more than half, and that is epsilon from then on.
 */
static void review(struct embedding *embedding)
{
    if (!embedding->reviewing || embedding->review_left == 0) {
        embedding->review_layer = embedding->reviewing ? embedding->review_layer + 1 : 1;
        embedding->reviewing = embedding->review_layer < embedding->settings.layers;
        embedding->review_left = embedding->chains[CHAIN_SKIPPED].count;
        if (!embedding->reviewing)
            embedding->level--;
        return;
    }
    uint32_t node = chain_take(embedding, CHAIN_SKIPPED);
    struct node *state = &embedding->nodes[node];
    unsigned bit = 1u << embedding->review_layer;
    embedding->review_left--;
    embedding->operations++;
    if ((state->skipped & bit) != 0) {
        state->skipped &= (uint8_t)~bit;
        judge(embedding, node, embedding->review_layer, measure(embedding, node, embedding->review_layer));
    }
    if (state->skipped != 0)
        chain_append(embedding, CHAIN_SKIPPED, node);
}

void embedding_drain(struct embedding *embedding, size_t operations)
{
    uint64_t start = embedding->operations;
    for (;;) {
        uint64_t spent = embedding->operations - start;
        if (spent >= operations)
            return;
        if (embedding->flight.active)
            (void)hand_on(embedding, operations - (size_t)spent);
        else if (embedding->chains[CHAIN_WAITING].count > 0)
            begin(embedding);
        else if (embedding->level > 0)
            review(embedding);
        else
            return;
    }
}

void work(struct embedding *embedding)
{
    size_t budget = embedding->settings.budget;
    embedding_drain(embedding, budget == 0 ? SIZE_MAX : budget);
    uint32_t looking_level = embedding->level - embedding->reviewing;
    if (budget == 0 || embedding_backlog(embedding) >> looking_level <= (uint64_t)budget * BACKLOG_BUDGETS)
        return;
    if (embedding->reviewing)
        embedding->reviewing = false;
    else if (embedding->level < LEVELS_MOST)
        embedding->level++;
}

void forget_waiting(struct embedding *embedding, uint32_t node)
{
    struct node *state = &embedding->nodes[node];
    size_t n = embedding->settings.dimension;
    embedding->backlog -= (uint64_t)__builtin_popcount(state->waiting) * ((uint64_t)state->degree + 1);
    state->waiting = 0;
    state->skipped = 0;
    if (embedding->flight.active && embedding->flight.node == node)
        embedding->flight.active = false;
    publish_base(embedding, node);
    for (size_t k = 1; k < embedding->settings.layers; k++) {
        memset(published(embedding, node, k), 0, n * sizeof(int32_t));
        largest_set(&embedding->unpublished[k], node, 0.0f);
        embedding->looks[k][node] = 0.0f;
    }
}

void clear_waiting(struct embedding *embedding)
{
    for (uint32_t node = 0; node < embedding->node_count; node++) {
        struct node *state = &embedding->nodes[node];
        if (!state->free)
            publish_base(embedding, node);
        state->next[CHAIN_WAITING] = state->next[CHAIN_SKIPPED] = NOT_THERE;
        state->waiting = state->skipped = 0;
        for (size_t k = 1; k < embedding->settings.layers; k++)
            embedding->looks[k][node] = 0.0f;
    }
    for (size_t k = 0; k < embedding->settings.layers; k++)
        largest_clear(&embedding->unpublished[k]);
    embedding->chains[CHAIN_WAITING] = embedding->chains[CHAIN_SKIPPED] = (struct chain){0};
    embedding->backlog = 0;
    embedding->flight = (struct flight){0};
    embedding->level = 0;
    embedding->reviewing = false;
}

void embedding_set_epsilon(struct embedding *embedding, float epsilon)
{
    embedding->settings.epsilon = epsilon;
    embedding->level = 0;
    embedding->reviewing = false;
    for (uint32_t node = 0; node < embedding->node_count; node++) {
        embedding->nodes[node].skipped = 0;
        for (size_t k = 1; k < embedding->settings.layers && embedding->nodes[node].degree > 0; k++)
            judge(embedding, node, k, measure(embedding, node, k));
    }
}
