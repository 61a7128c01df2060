/*
 * exactly_once.h - the way of answers through transactions (delivery.h tells what is promised)
 *
 * Parcels are kept until the transaction that holds them and their requests' offsets is committed. A thread of its own
 * opens one when it is due, with all whose requests are ready (requests_standing()); after a failure the parcels wait
 * for the next, but for those whose partitions have been taken away.
 *
 * Threads: one caller; exactly_once_totals() from any.
 */
#ifndef HEADRACE_STREAM_EXACTLY_ONCE_H
#define HEADRACE_STREAM_EXACTLY_ONCE_H

#include "base/error.h"
#include "stream/delivery.h"
#include "stream/parcel.h"
#include "stream/requests.h"

struct exactly_once;

int exactly_once_create(struct exactly_once **exactly_once, const struct delivery_settings *settings,
                        struct requests *requests, struct error *err);

/* Waits for a transaction under way; gives requests back unanswered. NULL is fine. */
void exactly_once_destroy(struct exactly_once *exactly_once);

/* Owns the parcel; on -1 its request stays the caller's. */
int exactly_once_take(struct exactly_once *exactly_once, struct parcel *parcel, struct error *err);

int exactly_once_wait(struct exactly_once *exactly_once, int timeout_ms, struct error *err);
int exactly_once_flush(struct exactly_once *exactly_once, int timeout_ms, struct error *err);
struct delivery_totals exactly_once_totals(struct exactly_once *exactly_once);

#endif
