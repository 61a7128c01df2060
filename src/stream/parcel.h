/*
 * parcel.h - an answer or a dead letter on its way, with the request that it is for
 *
 * It keeps its own copy of the message, so that it can be sent again: after an aborted transaction, or cut to what its
 * topic takes.
 *
 * Threads: one at a time.
 */
#ifndef HEADRACE_STREAM_PARCEL_H
#define HEADRACE_STREAM_PARCEL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "stream/producer.h"
#include "stream/requests.h"

enum { PARCEL_ANSWER = -1 }; /* in place of a dead letter's class */

struct parcel {
    struct parcel *next; /* in a list of its owner */
    struct request *request;
    int dead_class; /* enum dead_letter_class, or PARCEL_ANSWER */
    bool refused;   /* the broker found it too large, or the batch that it was in */
    bool suspect;   /* has been refused in company: is to be sent in a batch of its own */
    bool lost;      /* it could not be made small enough: its request is done without */
    char *topic;
    struct buffer bytes;             /* a packed dead letter, or what `message` points to */
    struct producer_message message; /* of an answer */
    size_t limit;                    /* of a letter: what it was last cut to; 0: not yet */
};

/* The headers of the request that go with its answer are added (see delivery.h). */
int parcel_answer(struct parcel **parcel, struct request *request, const struct producer_message *message,
                  struct error *err);

/* `packed` of dead_letter_pack(). */
int parcel_letter(struct parcel **parcel, struct request *request, const char *topic, struct text packed,
                  struct error *err);

/* The parcel is the producer's report's opaque. As producer_send(). */
int parcel_send(struct parcel *parcel, struct producer *producer, struct error *err);

/*
 * After the broker has refused it for `reason`: a batch is refused as a whole, so it is to be sent alone first. If that
 * is refused, too, an answer becomes a dead letter of its request, for `dead_topic`, of at most `limit` bytes; a letter
 * is cut to half of what it was, and marked lost when it cannot be.
 */
int parcel_shrink(struct parcel *parcel, const char *dead_topic, size_t limit, const char *reason, struct error *err);

/* The request stays. NULL is fine. */
void parcel_free(struct parcel *parcel);

#endif
