/*
 * order.h - who comes next, with whom, how deep, and who cannot be answered in time
 *
 * Pure decisions over an array of waiting requests; the batcher (batcher.h) asks whenever the engine is free.
 *
 * Each request has its turn, a moment; the earliest goes first. Without a deadline it is the arrival plus a few times
 * what the request costs: small ones overtake large ones, and as time passes newcomers have later turns, so that nobody
 * starves. With a deadline it is, at the latest, when the request must begin to be done in time. Costs are seconds:
 * tokens that must be computed (of a prefix those that are not kept) times the layers that a token is expected to go
 * through, as measured.
 *
 * A batch is filled in order of turns; with a request come the others of its user, whose prefix is then there. What
 * does not fit is passed over for what does, but it only waits for the next batch, where it is first. A request that is
 * larger than a whole batch is cut.
 *
 * Under overload - what waits takes longer than `patience_s` - by policy:
 *   DEPTH  all leave at the deepest exit at which what waits is done in that time. Where even the first exit is too
 *          deep for all, those whose turn comes too late are answered by exit 0; so are those that would miss their
 *          deadline otherwise
 *   SHED   those whose turn comes too late are refused
 *   WAIT   nothing: the queue fills and Kafka keeps the rest
 * While nothing has been measured nothing is overload.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_SCORE_ORDER_H
#define HEADRACE_SCORE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct order_entry {
    int64_t arrived_ns;
    int64_t deadline_ns;   /* INT64_MAX: none */
    uint64_t user;         /* the same for requests that share a prefix */
    size_t prefix_tokens;  /* not kept */
    const size_t *offsets; /* row r has offsets[r + 1] - offsets[r] tokens */
    size_t next, rows;     /* rows next .. rows - 1 are to be computed, at least one */
    bool deep;             /* explains itself: no exit spares it a layer */
};

/* What has been measured. */
struct order_speed {
    double token_layer_s; /* seconds a token takes in a layer; 0: not known yet */
    double layers;        /* that a token goes through, on average, where the rule decides */
};

enum order_overload { ORDER_DEPTH, ORDER_SHED, ORDER_WAIT };

struct order_settings {
    enum order_overload overload;
    double patience_s;
    const size_t *exits; /* layers, ascending; the last is where all leave. At least one */
    size_t exit_count;
};

/* Seconds that the entry takes when nobody goes above `max_layer`. */
double order_cost(const struct order_entry *entry, const struct order_speed *speed, size_t max_layer);

struct order_turn {
    int64_t at_ns;
    double cost; /* without a limit: between equal turns the cheaper goes first */
    size_t entry;
};

/* A turn for each entry, the earliest first. */
void order_sort(const struct order_entry *entries, size_t count, const struct order_speed *speed,
                const struct order_settings *settings, struct order_turn *order);

enum order_verdict {
    ORDER_COMPUTE,
    ORDER_EXPIRED, /* its deadline has passed */
    ORDER_SHALLOW, /* exit 0 answers */
    ORDER_REFUSE,
    ORDER_TAKEN, /* into a batch */
};

/* One for each entry; returns the layer above which nobody goes: the last exit's, but under overload. */
size_t order_judge(const struct order_entry *entries, const struct order_turn *order, size_t count, int64_t now_ns,
                   const struct order_speed *speed, const struct order_settings *settings,
                   enum order_verdict *verdicts);

/* Rows from .. to - 1 of an entry. */
struct order_piece {
    size_t entry;
    size_t from, to;
};

/*
 * The batch out of the entries that are to be computed, which become TAKEN: at most `max_tokens` to be computed, unless
 * a single row has more; at most one piece of an entry, those of a user beside each other. `pieces` has room for
 * `count`; returns how many there are.
 */
size_t order_batch(const struct order_entry *entries, const struct order_turn *order, size_t count, size_t max_tokens,
                   enum order_verdict *verdicts, struct order_piece *pieces);

/* To be computed: of an entry, of a batch. */
size_t order_tokens(const struct order_entry *entry);
size_t order_batch_tokens(const struct order_entry *entries, const struct order_piece *pieces, size_t count);

#endif
