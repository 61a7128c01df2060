#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "graph/embedding_state.h"

enum { IMAGE_FORMAT = 2, IMAGE_BLOCK = 1 << 16 };

/* The first bytes, followed by their own hash: no count is believed before. */
struct opening {
    uint32_t format;
    uint32_t layers, dimension;
    float epsilon;
    uint64_t seed;
    uint64_t node_count, link_count, base_change_count;
    uint64_t backlog, operations;
    struct chain chains[CHAINS];
    uint32_t first_free;
    uint32_t flight_active, flight_node, flight_layer, flight_cursor, flight_end;
    float flight_length;
    uint32_t level, reviewing, review_layer, review_left;
    uint32_t padding; /* 0: every byte is hashed */
};

_Static_assert(sizeof(struct opening) % sizeof(uint64_t) == 0, "an opening has no holes");

/* A node without its pointers. */
struct node_record {
    uint32_t degree;
    uint32_t next[CHAINS];
    uint32_t base_change_or_next_free;
    uint8_t waiting, skipped, free, hub;
};

/* A stream in one direction: pieces are gathered into blocks, and all of it is hashed. */
struct stream {
    embedding_write *write; /* one of the two */
    embedding_fill *read;
    void *context;
    struct error *err;
    XXH3_state_t *hash;
};

static int open_stream(struct stream *stream)
{
    stream->hash = XXH3_createState();
    if (stream->hash == NULL)
        return error_set(stream->err, ERROR_FATAL, "out of memory for the image of the embeddings");
    XXH3_64bits_reset(stream->hash);
    return 0;
}

/* Writes what is at `bytes`, or fills it. */
static int move_bytes(struct stream *stream, void *bytes, size_t size)
{
    if (size == 0)
        return 0;
    int result = stream->write != NULL ? stream->write(stream->context, bytes, size, stream->err)
                                       : stream->read(stream->context, bytes, size, stream->err);
    if (result == 0)
        XXH3_64bits_update(stream->hash, bytes, size);
    return result;
}

static int damaged(struct stream *stream)
{
    return error_set(stream->err, ERROR_FATAL,
                     "the image of the embeddings is damaged: delete it, they are computed from the edges then");
}

/* The hash of all that went before. */
static int move_hash(struct stream *stream)
{
    uint64_t computed = XXH3_64bits_digest(stream->hash), stored = computed;
    if (move_bytes(stream, &stored, sizeof stored) != 0)
        return -1;
    return stored == computed ? 0 : damaged(stream);
}

/* A node's record, and back. */

static struct node_record record_of(const struct node *node)
{
    return (struct node_record){.degree = node->degree,
                                .next = {node->next[0], node->next[1]},
                                .base_change_or_next_free = node->base_change,
                                .waiting = node->waiting,
                                .skipped = node->skipped,
                                .free = node->free,
                                .hub = node->high != NULL};
}

static int take_record(struct stream *stream, struct embedding *embedding, uint32_t number,
                       const struct node_record *record)
{
    struct node *node = &embedding->nodes[number];
    node->next[0] = record->next[0];
    node->next[1] = record->next[1];
    node->base_change = record->base_change_or_next_free;
    node->waiting = record->waiting;
    node->skipped = record->skipped;
    node->free = record->free != 0;
    if (record->degree >= embedding->node_count)
        return damaged(stream);
    if (embedding_reserve_links(embedding, number, record->degree, record->hub != 0) != 0)
        return error_set(stream->err, ERROR_FATAL, "out of memory for the %u edges of node %u", record->degree, number);
    node->degree = record->degree;
    return 0;
}

enum { RECORDS_A_BLOCK = IMAGE_BLOCK / sizeof(struct node_record) };

static int move_records(struct stream *stream, struct embedding *embedding)
{
    struct node_record *records = malloc(RECORDS_A_BLOCK * sizeof *records);
    if (records == NULL)
        return error_set(stream->err, ERROR_FATAL, "out of memory for the image of the embeddings");
    int result = 0;
    for (size_t first = 0; first < embedding->node_count && result == 0; first += RECORDS_A_BLOCK) {
        size_t left = embedding->node_count - first;
        size_t count = left < RECORDS_A_BLOCK ? left : RECORDS_A_BLOCK;
        for (size_t i = 0; i < count && stream->write != NULL; i++)
            records[i] = record_of(&embedding->nodes[first + i]);
        result = move_bytes(stream, records, count * sizeof *records);
        for (size_t i = 0; i < count && stream->read != NULL && result == 0; i++)
            result = take_record(stream, embedding, (uint32_t)(first + i), &records[i]);
    }
    free(records);
    return result;
}

/* All links, node by node. Short lists are gathered, as each call and each piece hashed has its price. */
static int move_links(struct stream *stream, struct embedding *embedding, uint64_t link_count)
{
    enum { LINKS_A_BLOCK = IMAGE_BLOCK / sizeof(struct link) };
    struct link *block = malloc(LINKS_A_BLOCK * sizeof *block);
    if (block == NULL)
        return error_set(stream->err, ERROR_FATAL, "out of memory for the image of the embeddings");
    bool writing = stream->write != NULL;
    int result = 0;
    size_t filled = 0, at = 0; /* of the block: links in it, and those that are done with */
    for (uint32_t node = 0; node < embedding->node_count && result == 0; node++) {
        struct node *state = &embedding->nodes[node];
        for (uint32_t done = 0; done < state->degree && result == 0;) {
            if (at == filled) {
                filled = link_count < LINKS_A_BLOCK ? (size_t)link_count : LINKS_A_BLOCK;
                link_count -= filled;
                at = 0;
                if (!writing)
                    result = filled == 0 ? damaged(stream) : move_bytes(stream, block, filled * sizeof *block);
                if (result != 0)
                    break;
            }
            size_t left = state->degree - done;
            size_t count = left < filled - at ? left : filled - at;
            memcpy(writing ? block + at : state->links + done, writing ? state->links + done : block + at,
                   count * sizeof *block);
            at += count;
            done += (uint32_t)count;
            if (writing && at == filled)
                result = move_bytes(stream, block, filled * sizeof *block);
        }
    }
    free(block);
    return result;
}

/* Rows, the upper parts of hubs, what is unpublished, base vectors to be pushed, the push in flight. */
static int move_rows(struct stream *stream, struct embedding *embedding)
{
    size_t layers = embedding->settings.layers, n = embedding->settings.dimension;
    size_t row_bytes = n * sizeof(int32_t), count = embedding->node_count;
    for (size_t first = 0, chunk = 0; first < count; first += (size_t)1 << embedding->chunk_bits, chunk++) {
        size_t left = count - first, most = (size_t)1 << embedding->chunk_bits;
        if (move_bytes(stream, embedding->chunks[chunk], (left < most ? left : most) * 2 * layers * row_bytes) != 0)
            return -1;
    }
    for (size_t i = 0; i < count; i++)
        if (embedding->nodes[i].high != NULL && move_bytes(stream, embedding->nodes[i].high, layers * row_bytes) != 0)
            return -1;
    for (size_t k = 0; k < layers; k++)
        if (move_bytes(stream, embedding->unpublished[k].levels[0], count * sizeof(float)) != 0 ||
            (k > 0 && move_bytes(stream, embedding->looks[k], count * sizeof(float)) != 0))
            return -1;
    struct base_changes *changes = &embedding->base_changes;
    if (move_bytes(stream, changes->nodes, changes->count * sizeof *changes->nodes) != 0 ||
        move_bytes(stream, changes->rows, changes->count * row_bytes) != 0 ||
        move_bytes(stream, embedding->delta, row_bytes) != 0)
        return -1;
    return move_bytes(stream, embedding->before, row_bytes);
}

int embedding_save(const struct embedding *embedding, embedding_write *write, void *context, struct error *err)
{
    struct opening opening = {.format = IMAGE_FORMAT,
                              .layers = (uint32_t)embedding->settings.layers,
                              .dimension = (uint32_t)embedding->settings.dimension,
                              .epsilon = embedding->settings.epsilon,
                              .seed = embedding->settings.seed,
                              .node_count = embedding->node_count,
                              .base_change_count = embedding->base_changes.count,
                              .backlog = embedding->backlog,
                              .operations = embedding->operations,
                              .chains = {embedding->chains[0], embedding->chains[1]},
                              .first_free = embedding->first_free,
                              .flight_active = embedding->flight.active,
                              .flight_node = embedding->flight.node,
                              .flight_layer = embedding->flight.layer,
                              .flight_cursor = embedding->flight.cursor,
                              .flight_end = embedding->flight.end,
                              .flight_length = embedding->flight.length,
                              .level = embedding->level,
                              .reviewing = embedding->reviewing,
                              .review_layer = embedding->review_layer,
                              .review_left = embedding->review_left};
    for (size_t i = 0; i < embedding->node_count; i++)
        opening.link_count += embedding->nodes[i].degree;
    struct stream stream = {.write = write, .context = context, .err = err};
    if (open_stream(&stream) != 0)
        return -1;
    struct embedding *state = (struct embedding *)embedding; /* a stream that writes only reads it */
    int result = -1;
    if (move_bytes(&stream, &opening, sizeof opening) == 0 && move_hash(&stream) == 0 &&
        move_records(&stream, state) == 0 && move_links(&stream, state, opening.link_count) == 0 &&
        move_rows(&stream, state) == 0)
        result = move_hash(&stream);
    XXH3_freeState(stream.hash);
    return result;
}

static int check_opening(struct stream *stream, const struct embedding *embedding, const struct opening *opening)
{
    const struct embedding_settings *settings = &embedding->settings;
    if (opening->format != IMAGE_FORMAT)
        return error_set(stream->err, ERROR_FATAL, "the image of the embeddings has format %u, this program reads %d",
                         opening->format, IMAGE_FORMAT);
    if (opening->layers != settings->layers || opening->dimension != settings->dimension ||
        opening->epsilon < settings->epsilon || opening->epsilon > settings->epsilon || opening->seed != settings->seed)
        return error_set(stream->err, ERROR_FATAL,
                         "the image of the embeddings is of other settings: %u layers, dimension %u, epsilon %g, "
                         "seed %llu",
                         opening->layers, opening->dimension, (double)opening->epsilon,
                         (unsigned long long)opening->seed);
    if (embedding->node_count != 0)
        return error_set(stream->err, ERROR_FATAL, "an image is to be loaded into embeddings that have %zu nodes",
                         embedding->node_count);
    return opening->node_count >= NODES_LIMIT || opening->flight_layer >= settings->layers ? damaged(stream) : 0;
}

static int take_opening(struct stream *stream, struct embedding *embedding, const struct opening *opening)
{
    embedding->backlog = opening->backlog;
    embedding->operations = opening->operations;
    memcpy(embedding->chains, opening->chains, sizeof embedding->chains);
    embedding->first_free = opening->first_free;
    embedding->flight = (struct flight){.active = opening->flight_active != 0,
                                        .node = opening->flight_node,
                                        .layer = opening->flight_layer,
                                        .cursor = opening->flight_cursor,
                                        .end = opening->flight_end,
                                        .length = opening->flight_length};
    embedding->level = opening->level;
    embedding->reviewing = opening->reviewing != 0;
    embedding->review_layer = opening->review_layer;
    embedding->review_left = opening->review_left;
    if (embedding_reserve_nodes(embedding, opening->node_count) != 0 ||
        embedding_reserve_base_changes(embedding, opening->base_change_count) != 0)
        return error_set(stream->err, ERROR_FATAL, "out of memory for the embeddings of %llu nodes",
                         (unsigned long long)opening->node_count);
    if (opening->node_count > 0)
        memset(embedding->nodes, 0, opening->node_count * sizeof *embedding->nodes);
    embedding->node_count = opening->node_count;
    embedding->base_changes.count = opening->base_change_count;
    return 0;
}

int embedding_load(struct embedding *embedding, embedding_fill *read, void *context, struct error *err)
{
    struct stream stream = {.read = read, .context = context, .err = err};
    if (open_stream(&stream) != 0)
        return -1;
    struct opening opening;
    int result = -1;
    if (move_bytes(&stream, &opening, sizeof opening) == 0 && move_hash(&stream) == 0 &&
        check_opening(&stream, embedding, &opening) == 0 && take_opening(&stream, embedding, &opening) == 0 &&
        move_records(&stream, embedding) == 0 && move_links(&stream, embedding, opening.link_count) == 0 &&
        move_rows(&stream, embedding) == 0)
        result = move_hash(&stream);
    XXH3_freeState(stream.hash);
    for (size_t k = 0; k < embedding->settings.layers && result == 0; k++)
        largest_rebuild(&embedding->unpublished[k]);
    return result;
}
