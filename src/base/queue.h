/*
 * queue.h - a bounded queue of pointers between threads
 *
 * First in, first out. Who pushes hands the thing over; who pops owns it. Closing wakes everybody: nothing more goes
 * in, what is inside can still be taken out.
 *
 * Threads: all functions but create and destroy may be called from any thread.
 */
#ifndef HEADRACE_BASE_QUEUE_H
#define HEADRACE_BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct queue;

/* NULL without memory; capacity at least 1. */
struct queue *queue_create(size_t capacity);

/* The queue must be empty or its things owned elsewhere: they are not freed. NULL is fine. */
void queue_destroy(struct queue *queue);

/* False when full or closed: the caller keeps the thing. Never blocks longer than a lock. */
bool queue_try_push(struct queue *queue, void *thing);

/* The oldest thing; NULL after `timeout_ms` without one (0: at once, negative: wait for ever), or closed and empty. */
void *queue_pop(struct queue *queue, int timeout_ms);

void queue_close(struct queue *queue);
size_t queue_size(struct queue *queue);

#endif
