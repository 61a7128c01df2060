#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct pool {
    size_t threads;
    size_t started; /* threads that must be joined */
    pthread_t *handles;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    unsigned long generation; /* of the job; a sleeper wakes when it changes */
    size_t busy;              /* helpers still on the current job */
    bool closing;

    void (*task)(void *job, size_t index, size_t worker);
    void *job;
    size_t count;
    atomic_size_t next; /* task to hand out */
};

struct helper {
    struct pool *pool;
    size_t worker;
};

static void work_off(struct pool *pool, size_t worker)
{
    for (;;) {
        size_t index = atomic_fetch_add(&pool->next, 1);
        if (index >= pool->count)
            return;
        pool->task(pool->job, index, worker);
    }
}

static void *help(void *argument)
{
    struct helper self = *(struct helper *)argument;
    free(argument);
    struct pool *pool = self.pool;
    unsigned long seen = 0;

    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->generation == seen && !pool->closing)
            pthread_cond_wait(&pool->work, &pool->mutex);
        if (pool->closing)
            break;
        seen = pool->generation;
        pthread_mutex_unlock(&pool->mutex);
        work_off(pool, self.worker);
        pthread_mutex_lock(&pool->mutex);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static int start_helper(struct pool *pool)
{
    struct helper *helper = malloc(sizeof *helper);
    if (helper == NULL)
        return -1;
    *helper = (struct helper){pool, pool->started + 1};
    if (pthread_create(&pool->handles[pool->started], NULL, help, helper) != 0) {
        free(helper);
        return -1;
    }
    pool->started++;
    return 0;
}

struct pool *pool_create(size_t threads)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->threads = threads == 0 ? 1 : threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->handles = calloc(pool->threads, sizeof *pool->handles);
    if (pool->handles == NULL)
        goto fail;
    while (pool->started + 1 < pool->threads)
        if (start_helper(pool) != 0)
            goto fail;
    return pool;

fail:
    pool_destroy(pool);
    return NULL;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->started; i++)
        pthread_join(pool->handles[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->handles);
    free(pool);
}

size_t pool_threads(const struct pool *pool)
{
    return pool->threads;
}

void pool_run(struct pool *pool, size_t count, void (*task)(void *job, size_t index, size_t worker), void *job)
{
    pthread_mutex_lock(&pool->mutex);
    pool->task = task;
    pool->job = job;
    pool->count = count;
    atomic_store(&pool->next, 0);
    pool->busy = pool->started;
    pool->generation++;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);

    work_off(pool, 0);

    pthread_mutex_lock(&pool->mutex);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}
