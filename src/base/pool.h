/*
 * pool.h - threads that share out one job at a time
 *
 * pool_run() cuts a job into `count` tasks, numbered from 0, and returns when all are done; the calling thread works,
 * too. Tasks are handed out one by one in order, so uneven ones balance. Idle threads sleep.
 *
 * Threads: one pool_run() at a time.
 */
#ifndef HEADRACE_BASE_POOL_H
#define HEADRACE_BASE_POOL_H

#include <stddef.h>

struct pool;

/* `threads` counts the caller: 1 starts no thread. NULL when a thread cannot be started or memory is short. */
struct pool *pool_create(size_t threads);

/* NULL is fine. */
void pool_destroy(struct pool *pool);

size_t pool_threads(const struct pool *pool);

/* `worker` is 0 .. threads - 1 and tells which scratch memory the task may use. */
void pool_run(struct pool *pool, size_t count, void (*task)(void *job, size_t index, size_t worker), void *job);

#endif
