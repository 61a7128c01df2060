#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    void **things; /* ring of `capacity` */
    size_t capacity;
    size_t first;
    size_t size;
    bool closed;
};

struct queue *queue_create(size_t capacity)
{
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return NULL;
    queue->things = calloc(capacity, sizeof *queue->things);
    if (queue->things == NULL) {
        free(queue);
        return NULL;
    }
    queue->capacity = capacity;
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->filled, &attributes);
    pthread_condattr_destroy(&attributes);
    return queue;
}

void queue_destroy(struct queue *queue)
{
    if (queue == NULL)
        return;
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->things);
    free(queue);
}

bool queue_try_push(struct queue *queue, void *thing)
{
    pthread_mutex_lock(&queue->mutex);
    bool fits = !queue->closed && queue->size < queue->capacity;
    if (fits) {
        queue->things[(queue->first + queue->size++) % queue->capacity] = thing;
        pthread_cond_signal(&queue->filled);
    }
    pthread_mutex_unlock(&queue->mutex);
    return fits;
}

static struct timespec deadline_in(int timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_ms / 1000;
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

void *queue_pop(struct queue *queue, int timeout_ms)
{
    struct timespec deadline = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
    pthread_mutex_lock(&queue->mutex);
    int waited = timeout_ms == 0 ? ETIMEDOUT : 0;
    while (queue->size == 0 && !queue->closed && waited != ETIMEDOUT)
        waited = timeout_ms < 0 ? pthread_cond_wait(&queue->filled, &queue->mutex)
                                : pthread_cond_timedwait(&queue->filled, &queue->mutex, &deadline);
    void *thing = NULL;
    if (queue->size > 0) {
        thing = queue->things[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->size--;
    }
    pthread_mutex_unlock(&queue->mutex);
    return thing;
}

void queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->mutex);
}

size_t queue_size(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    size_t size = queue->size;
    pthread_mutex_unlock(&queue->mutex);
    return size;
}
