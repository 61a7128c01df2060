/*
 * graph.h - the user-item graph: truth in RocksDB, working copy in memory
 *
 * One edge a (user, item): the newest event between the two. A newer event (by timestamp; on a tie the later in the
 * stream) replaces the edge, an older one only enters the user's history. The very same one (user, item, timestamp,
 * kind, value) changes nothing, so that a replay counts nothing twice. REMOVE takes the edge back unless the edge is
 * newer, and stays known: an event from before it that comes late brings nothing back. Impressions and unknown kinds
 * are counted as events but are never edges. Requests never create nodes.
 *
 * Limits, each off at 0, take edges out of the store's pairs, of memory and of the embeddings alike, event by event:
 * what is left depends on the order of the events only. "Now" is the newest accepted event's time. window_ms an edge
 * older than this leaves, and with it the history and removals of that age. An event that is as old when it comes
 * changes nothing; it is counted as late. max_edges_per_node  a node with more gives up its oldest edge, at both ends.
 * It stays in the user's history. max_nodes           of users and items with edges: the one whose newest edge is the
 * oldest leaves (on a tie the user, then the lower number). A user leaves altogether, as if erased; an item loses its
 * edges and stays known by its title. Users without edges are not counted and stay until they are erased.
 *
 * Everything of a batch - edges, pairs, items, users, counts and the stream offsets they came from - goes into one
 * RocksDB WriteBatch: after kill -9 the state is exactly that at the stored offsets.
 *
 * In memory: dense 32-bit numbers for users and items (each from 0), every current edge at both ends, titles and
 * attributes, embeddings. All of it is rebuilt from RocksDB at open. An erased user's number is given to the next new
 * user; the lowest free one goes first.
 *
 * Threads: one writer (graph_put_*, graph_commit); any number of readers, each between graph_read_lock() and
 * graph_read_unlock(). Nothing handed out by a reading call may be used after the unlock.
 */
#ifndef HEADRACE_GRAPH_GRAPH_H
#define HEADRACE_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/embedding.h"
#include "graph/storage.h"
#include "wire/messages.h"

enum { GRAPH_NONE = UINT32_MAX };
enum { GRAPH_DIMENSION_LIMIT = EMBEDDING_DIMENSION_LIMIT };

enum verdict { VERDICT_DISLIKE = -1, VERDICT_NEUTRAL = 0, VERDICT_LIKE = 1 };

enum graph_edges { GRAPH_EDGES_ALL, GRAPH_EDGES_LIKES };
enum graph_base { GRAPH_BASE_HASH, GRAPH_BASE_TITLE };

struct graph_vectors;

struct graph_settings {
    const char *directory; /* of the RocksDB store; created when missing, unless read_only */
    bool read_only;        /* no lock: beside a running worker, the state as of the open */
    double like_threshold; /* a rating at or above is a like (label.threshold) */
    bool like_inclusive;   /* false: only above (label.inclusive) */
    size_t layers;         /* K of the propagation, 1 to 4 */
    size_t dimension;      /* of an embedding: a multiple of 16, at most 256 */
    float push_threshold;  /* epsilon: a node publishes a change above this share of its norm */
    size_t push_budget;    /* vector operations on pushes that wait, after each change; 0: all that wait */
    uint64_t seed;         /* of the hashed base embeddings */
    enum embedding_result result;
    float weights[EMBEDDING_LAYERS_LIMIT]; /* EMBEDDING_WEIGHTED: of layers 1 to K */
    bool normalise;                        /* layers to unit length before they are averaged */
    enum graph_edges edges;                /* in the embeddings; memory has all */
    bool similar_table;                    /* for similar_global(): a scan instead of a look at every embedding */

    /*
     * Base vectors, better ones first: trained (NULL: none; must outlive the graph), with GRAPH_BASE_TITLE from an
     * item's title, hashed from the id. title_vector(), NULL or of use to similar_by_titles() too, fills in `dimension`
     * floats, of a length of about 1, or returns false: none; called by the writer.
     */
    enum graph_base base;
    const struct graph_vectors *vectors;
    bool (*title_vector)(void *context, struct text title, float *out);
    void *title_context;
    const char *title_version; /* another one gives other vectors; NULL: none */

    int64_t window_ms;
    size_t max_edges_per_node;
    size_t max_nodes;
    size_t store_memory; /* bytes that RocksDB may hold; 0: a default */
};

struct graph;

/*
 * ERROR_FATAL: the store cannot be opened, is of a newer format, or is locked by another process (the message says what
 * to do). Progress of a long load is logged. Verdicts are worked out anew from what is stored, by these settings.
 */
int graph_open(struct graph **graph, const struct graph_settings *settings, struct error *err);

/*
 * At a clean stop, by the writer, with nothing staged: leaves edges and embeddings in a file in the directory, from
 * which the next graph_open() goes on bit for bit, and fast. Without it nothing is lost. ERROR_RETRY: disk full, or a
 * batch is not written.
 */
int graph_save(struct graph *graph, struct error *err);

/*
 * Takes everything out of the store in `directory` - dead letters on their way as well - at one stroke: the next
 * graph_open() begins with nothing. Nobody may have it open. ERROR_RETRY: disk full.
 */
int graph_drop(const char *directory, struct error *err);

/* Writes what is staged no more: an uncommitted batch is dropped. NULL is fine. */
void graph_close(struct graph *graph);

/*
 * Writer: staged until graph_commit(). After a commit that failed nothing more can be staged (ERROR_RETRY) until it has
 * succeeded.
 */

/*
 * What an interaction means: RATING against the threshold, LIKE/PURCHASE/CLICK like, DISLIKE dislike; an explicit label
 * overrules. A rating without value is neutral.
 */
enum verdict graph_verdict(const struct graph_settings *settings, int32_t kind, bool has_value, double value,
                           bool has_label, bool label);

/* ERROR_BAD_INPUT when it means nothing (id empty or not UTF-8, negative time, value that is not finite): nothing was
 * staged. */
int graph_put_interaction(struct graph *graph, const struct interaction *interaction, struct error *err);
int graph_put_item(struct graph *graph, const struct item *item, struct error *err);
int graph_delete_item(struct graph *graph, struct text item_id, struct error *err);
int graph_put_user(struct graph *graph, const struct user *user, struct error *err);

/* Erases the user: profile, edges, history, embedding, id. The number is free for another user. */
int graph_erase_user(struct graph *graph, struct text user_id, struct error *err);

/* The next offset to read of a partition goes into the same batch. */
int graph_put_offset(struct graph *graph, const char *topic, int32_t partition, int64_t next_offset, struct error *err);
/* The same with a mark of the message before it, by which it is known again; 0: none. */
int graph_put_marked_offset(struct graph *graph, const char *topic, int32_t partition, int64_t next_offset,
                            uint64_t mark, struct error *err);

/* A dead letter kept until a producer has delivered it: opaque bytes keyed by where the message came from. */
int graph_put_outbox(struct graph *graph, const char *topic, int32_t partition, int64_t offset, struct text letter,
                     struct error *err);
int graph_delete_outbox(struct graph *graph, const char *topic, int32_t partition, int64_t offset, struct error *err);
/* Visits the committed letters in key order; `visit` returns false to stop. */
int graph_each_outbox(struct graph *graph,
                      bool (*visit)(void *context, const char *topic, int32_t partition, int64_t offset,
                                    struct text letter),
                      void *context, struct error *err);

/* Staged interactions, items, users, offsets and outbox changes since the last commit. */
size_t graph_staged(const struct graph *graph);

/*
 * One WriteBatch to RocksDB, then the memory, embeddings included. ERROR_RETRY (disk full, I/O): nothing was applied
 * and the batch is still staged; call again. Readers see all of the batch or nothing.
 */
int graph_commit(struct graph *graph, struct error *err);

/* The committed next offset; -1 when the partition was never read. Writer's thread only. */
int64_t graph_offset(const struct graph *graph, const char *topic, int32_t partition);
uint64_t graph_offset_mark(const struct graph *graph, const char *topic, int32_t partition);

/* Readers. */

void graph_read_lock(struct graph *graph);
void graph_read_unlock(struct graph *graph);

struct graph_counts {
    uint64_t events;         /* interactions accepted, repeats not counted */
    uint64_t late_events;    /* refused by the window */
    int64_t newest_event_ms; /* 0: none */
    uint64_t users, items;   /* nodes: numbers 0 to users - 1 and 0 to items - 1 are in use */
    uint64_t erased_users;   /* of the users: free numbers, without edges, that no id leads to */
    uint64_t edges;          /* current ones, each counted once */
    uint64_t titles;         /* items with a title */
    float embedding_bound;   /* these: see embedding.h */
    float embedding_epsilon;
    uint64_t embedding_backlog, embedding_operations;
};

struct graph_counts graph_counts(const struct graph *graph);

/* Bytes in memory by what they are for, with the room that arrays keep for growth. */
struct graph_memory {
    size_t ids, nodes, edges, embeddings, descriptions;
    size_t limits; /* what the limits need to know who is next */
    size_t staged; /* the writer's batch */
};

/* No reader's: the writer's thread alone, or where nobody writes. */
struct graph_memory graph_memory(const struct graph *graph);

/* For readers: without limits and staged, which are the writer's own. */
struct graph_memory graph_shared_memory(const struct graph *graph);

/* What RocksDB takes and how it copes, all of it and by column family. */
struct store_memory graph_store_memory(const struct graph *graph);
struct store_size graph_store_size(const struct graph *graph, size_t family); /* name NULL: one above the last */

/* GRAPH_NONE when unknown. An item can be known by its title alone, a user by the profile alone. */
uint32_t graph_find_user(const struct graph *graph, struct text user_id);
uint32_t graph_find_item(const struct graph *graph, struct text item_id);
struct text graph_user_id(const struct graph *graph, uint32_t user);
struct text graph_item_id(const struct graph *graph, uint32_t item);

/* title.data == NULL when the item has none; an empty one counts as none. */
void graph_item(const struct graph *graph, uint32_t item, struct text *title, const struct attribute **attributes,
                size_t *attribute_count);
/*
 * The item's attribute values as numbers, ascending, each once: equal numbers are equal (name, value) pairs. A value
 * that holds several, separated by '|', counts as each of them.
 */
const uint32_t *graph_item_values(const struct graph *graph, uint32_t item, size_t *count);

void graph_user(const struct graph *graph, uint32_t user, const struct attribute **profile, size_t *profile_count);

/* A current edge as seen from one end. */
struct edge {
    int64_t timestamp_ms;
    uint32_t other; /* the item of a user, the user of an item */
    int8_t verdict; /* enum verdict */
    uint8_t kind;   /* enum interaction_kind */
    float value;    /* NaN: none */
};

/* All current edges of a node, oldest first (ties by the order in which they came). */
const struct edge *graph_user_edges(const struct graph *graph, uint32_t user, size_t *count);
const struct edge *graph_item_edges(const struct graph *graph, uint32_t item, size_t *count);

/* How many of `edges[0..count)` are earlier than `before_ms`: point in time, a tie is not earlier. */
size_t graph_edges_before(const struct edge *edges, size_t count, int64_t before_ms);

/*
 * The newest `limit` events of a user earlier than `before_ms`, from the history in RocksDB, replaced ones included,
 * impressions and removals not; out[0] is the newest. Returns how many; none, with a line in the log, when the store
 * cannot be read. (The history of a user being erased is gone a moment before the rest.)
 */
size_t graph_history(struct graph *graph, uint32_t user, int64_t before_ms, size_t limit, struct edge *out);

/*
 * A user's edges as they stood just before `before_ms`, by the times of events: of each pair the newest one earlier
 * than that, unless it is a removal. Oldest first; *edges is the caller's to free(). What the window has taken out
 * since is not there (graph_history_start()); what graph.max_edges_per_node took out is, as its time is not known.
 */
int graph_user_edges_at(struct graph *graph, uint32_t user, int64_t before_ms, struct edge **edges, size_t *count,
                        struct error *err);

/* The window has taken away what is earlier than this; 0: nothing. */
int64_t graph_history_start(const struct graph *graph);

/* The embedding f of a node, `dimension` floats; all 0 for a node without edges there. */
void graph_user_embedding(const struct graph *graph, uint32_t user, float *out);
void graph_item_embedding(const struct graph *graph, uint32_t item, float *out);

/*
 * The embedding that a user who is not there would have with edges to these items (cold start from an inline history);
 * each once, GRAPH_NONE and items without an embedding are passed over. Zeros when none is left. ERROR_FATAL: no
 * memory.
 */
int graph_embed_history(const struct graph *graph, const uint32_t *items, size_t count, float *out, struct error *err);

/* Largest angle between a user's embedding and an exact recomputation, radians; see embedding_angle(). 0 for zeros. */
float graph_user_angle(const struct graph *graph, uint32_t user);

const struct graph_settings *graph_settings(const struct graph *graph);

#endif
