/* embedding_clear.c - room for the nodes of a bulk load, its memory cleared by a thread of its own */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/queue.h"
#include "graph/embedding_state.h"

enum { CHUNKS_WAITING = 1 << 12 };

struct clearing {
    struct queue *chunks;
    size_t chunk_size;
    pthread_t thread;
};

/*
 * The first touch of a page has the system clear it: a second for a gigabyte, and often more. Here nothing is written,
 * so it may be in use already; a system that does not know the call clears it when it is used.
 */
static void *clear_chunks(void *context)
{
    struct clearing *clearing = context;
    for (void *chunk; (chunk = queue_pop(clearing->chunks, -1)) != NULL;)
        (void)madvise(chunk, clearing->chunk_size, MADV_POPULATE_WRITE);
    return NULL;
}

static struct clearing *begin(size_t chunk_size)
{
    struct clearing *clearing = malloc(sizeof *clearing);
    if (clearing == NULL)
        return NULL;
    *clearing = (struct clearing){.chunks = queue_create(CHUNKS_WAITING), .chunk_size = chunk_size};
    if (clearing->chunks != NULL && pthread_create(&clearing->thread, NULL, clear_chunks, clearing) == 0)
        return clearing;
    queue_destroy(clearing->chunks);
    free(clearing);
    return NULL;
}

void clearing_end(struct clearing *clearing)
{
    if (clearing == NULL)
        return;
    while (queue_pop(clearing->chunks, 0) != NULL) {
    }
    queue_close(clearing->chunks);
    pthread_join(clearing->thread, NULL);
    queue_destroy(clearing->chunks);
    free(clearing);
}

int embedding_reserve(struct embedding *embedding, size_t nodes, struct error *err)
{
    size_t before = embedding->chunk_count;
    if (embedding->node_count > 0)
        return error_set(err, ERROR_FATAL, "embeddings: room for %zu nodes is reserved too late", nodes);
    if (embedding_reserve_nodes(embedding, nodes) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for the embeddings of %zu nodes", nodes);
    if (embedding->clearing == NULL && embedding->chunk_count > 1)
        embedding->clearing = begin(chunk_size(embedding));
    for (size_t i = before; i < embedding->chunk_count && embedding->clearing != NULL; i++)
        (void)queue_try_push(embedding->clearing->chunks, embedding->chunks[i]);
    return 0;
}
