#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "graph/grow.h"
#include "graph/image.h"
#include "graph/sort.h"
#include "graph/state.h"

/* Edges are read in ranges of users; where one stands is told by its range's number and by its place in that range. */
enum {
    AHEAD = 8, /* nodes asked for before their edges are placed */
    RANGE_BITS = 4,
    RANGES = 1 << RANGE_BITS,
    PLACE_BITS = 32 - RANGE_BITS,
    TELL_EVERY = 1 << 16, /* edges of a range, until others hear of them */
};

struct loaded_edge {
    uint64_t sequence;
    uint32_t user;
    struct edge edge;
};

struct range {
    struct loading *loading;
    uint32_t first_user, end_user;
    struct loaded_edge *edges; /* as they are read, to be put in order */
    size_t count, capacity;
    int result;
    struct error err;
};

struct loading {
    struct graph *graph;
    struct range ranges[RANGES];
    size_t count; /* edges of all ranges */
    atomic_size_t read;
    atomic_llong told_ns;
};

static const int64_t progress_interval_ns = 5000000000;

static void tell_progress(struct loading *loading, const char *what, size_t count)
{
    long long now_ns = clock_monotonic_ns(), told_ns = atomic_load(&loading->told_ns);
    if (now_ns - told_ns < progress_interval_ns || !atomic_compare_exchange_strong(&loading->told_ns, &told_ns, now_ns))
        return;
    log_info("graph", "loading %s: %zu %s so far", loading->graph->settings.directory, count, what);
}

static int damaged(const struct graph *graph, const char *what, struct error *err)
{
    return error_set(err, ERROR_FATAL,
                     "the store %s is damaged: %s. Move it away and let the worker read the topics anew, or restore a "
                     "snapshot",
                     graph->settings.directory, what);
}

static void note_newest(struct graph *graph, uint32_t user, int64_t timestamp_ms)
{
    struct user_node *node = &graph->nodes.users[user];
    if (timestamp_ms > node->newest_ms)
        node->newest_ms = timestamp_ms;
}

static int load_hidden(struct graph *graph, uint32_t user, struct text value, struct error *err)
{
    if (value.size != 8 || user >= graph->nodes.user_ids.count)
        return damaged(graph, "counts of a user that is not there", err);
    note_newest(graph, user, (int64_t)bytes_get_64(value.data));
    graph->nodes.users[user].hidden = true;
    return SCAN_GO_ON;
}

static int load_counts(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (key.size == HIDDEN_KEY_SIZE && key.data[0] == 'h')
        return load_hidden(graph, bytes_get_32(key.data + 1), value, err);
    if (value.size != COUNTS_SIZE && value.size != COUNTS_SIZE - 8) /* those of before had no late events */
        return damaged(graph, "counts of a wrong size", err);
    graph->events = bytes_get_64(value.data);
    graph->newest_event_ms = (int64_t)bytes_get_64(value.data + 8);
    graph->late_events = value.size == COUNTS_SIZE ? bytes_get_64(value.data + 16) : 0;
    return SCAN_GO_ON;
}

static int load_id(void *context, struct text key, struct text id, struct error *err)
{
    struct loading *loading = context;
    struct graph *graph = loading->graph;
    bool user = key.data[0] == 'u';
    uint32_t *count = user ? &graph->user_count : &graph->item_count;
    if (key.size != 5 || bytes_get_32(key.data + 1) != *count)
        return damaged(graph, "a gap in the node numbers", err);
    uint32_t number = (*count)++;
    tell_progress(loading, user ? "users" : "items", number);
    if (!user)
        return nodes_add_item(&graph->nodes, number, id, err);
    if (id.size > 0)
        return nodes_add_user(&graph->nodes, number, id, err);
    if (order_push(&graph->free_users, (struct order_entry){.number = number}) != 0)
        return error_set(err, ERROR_FATAL, "out of memory while loading users");
    return nodes_add_free_user(&graph->nodes, number, err);
}

static int load_item(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (key.size != 4 || bytes_get_32(key.data) >= graph->nodes.item_ids.count)
        return damaged(graph, "a title without its item", err);
    struct description *description = description_decode(value, err);
    if (description == NULL)
        return -1;
    return nodes_describe_item(&graph->nodes, bytes_get_32(key.data), description, err);
}

static int load_user(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (key.size != 4 || bytes_get_32(key.data) >= graph->nodes.user_ids.count)
        return damaged(graph, "a profile without its user", err);
    struct description *profile = description_decode(value, err);
    if (profile == NULL)
        return -1;
    nodes_describe_user(&graph->nodes, bytes_get_32(key.data), profile);
    return SCAN_GO_ON;
}

static int load_offset(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (value.size != PLACE_SIZE && value.size != PLACE_SIZE - 8) /* of before there were marks */
        return damaged(graph, "an offset of a wrong size", err);
    uint32_t partition = graph_number_partition(graph, key);
    if (partition == GRAPH_NONE)
        return error_set(err, ERROR_FATAL, "out of memory while loading offsets");
    graph->places[partition] = (struct place){
        .next_offset = (int64_t)bytes_get_64(value.data),
        .mark = value.size == PLACE_SIZE ? bytes_get_64(value.data + 8) : 0,
    };
    return SCAN_GO_ON;
}

static int load_pair(void *context, struct text key, struct text value, struct error *err)
{
    struct range *range = context;
    struct graph *graph = range->loading->graph;
    struct event event;
    if (pair_decode(key, value, &event, err) != 0)
        return -1;
    if (event.user >= range->end_user && range->end_user < graph->nodes.user_ids.count)
        return SCAN_STOP;
    if (event.user >= graph->nodes.user_ids.count || event.item >= graph->nodes.item_ids.count)
        return damaged(graph, "an edge without its node", err);
    note_newest(graph, event.user, event.timestamp_ms);
    if (!event_is_edge(event.kind)) {
        graph->nodes.users[event.user].hidden = true;
        return SCAN_GO_ON;
    }
    if (range->count >> PLACE_BITS > 0 ||
        grow(&range->edges, &range->capacity, range->count + 1, sizeof *range->edges) != 0)
        return error_set(err, ERROR_FATAL, "out of memory while loading %zu edges", range->count);
    range->edges[range->count++] =
        (struct loaded_edge){event.sequence, event.user, graph_edge_of(graph, &event, event.item)};
    if (range->count % TELL_EVERY == 0)
        tell_progress(range->loading, "edges read", atomic_fetch_add(&range->loading->read, TELL_EVERY) + TELL_EVERY);
    return SCAN_GO_ON;
}

static void read_range(void *job, size_t index, size_t worker)
{
    static const struct text all = {"", 0};
    struct loading *loading = job;
    struct range *range = &loading->ranges[index];
    uint8_t start[PAIR_KEY_SIZE];
    (void)worker;
    pair_key(start, range->first_user, 0);
    range->result = store_scan(&loading->graph->store, FAMILY_PAIRS, all,
                               (struct text){(const char *)start, sizeof start}, load_pair, range, &range->err);
}

static int read_edges(struct loading *loading, struct pool *pool, struct error *err)
{
    uint64_t users = loading->graph->nodes.user_ids.count;
    for (size_t i = 0; i < RANGES; i++)
        loading->ranges[i] = (struct range){.loading = loading,
                                            .first_user = (uint32_t)(users * i / RANGES),
                                            .end_user = (uint32_t)(users * (i + 1) / RANGES)};
    pool_run(pool, RANGES, read_range, loading);
    for (size_t i = 0; i < RANGES; i++) {
        if (loading->ranges[i].result != 0) {
            *err = loading->ranges[i].err;
            return -1;
        }
        loading->count += loading->ranges[i].count;
    }
    return 0;
}

static const struct loaded_edge *edge_at(const struct loading *loading, uint32_t at)
{
    return &loading->ranges[at >> PLACE_BITS].edges[at & ((1u << PLACE_BITS) - 1)];
}

/* Whether the edges are in order of time as they came: they nearly always are. */
static bool came_in_time(const struct loading *loading, const struct sort_entry *sorted)
{
    int64_t newest_ms = INT64_MIN;
    for (size_t i = 0; i < loading->count; i++) {
        int64_t timestamp_ms = edge_at(loading, sorted[i].at)->edge.timestamp_ms;
        if (timestamp_ms < newest_ms)
            return false;
        newest_ms = timestamp_ms;
    }
    return true;
}

/* Oldest first, those of one time as they came. */
static struct sort_entry *order_edges(const struct loading *loading, struct sort_entry *places,
                                      struct sort_entry *other)
{
    struct sort_entry *place = places;
    for (size_t r = 0; r < RANGES; r++)
        for (size_t i = 0; i < loading->ranges[r].count; i++)
            *place++ = (struct sort_entry){loading->ranges[r].edges[i].sequence, (uint32_t)(r << PLACE_BITS | i)};
    struct sort_entry *sorted = sort_entries(places, other, loading->count);
    if (came_in_time(loading, sorted))
        return sorted;
    for (size_t i = 0; i < loading->count; i++)
        sorted[i].key = (uint64_t)edge_at(loading, sorted[i].at)->edge.timestamp_ms;
    return sort_entries(sorted, sorted == places ? other : places, loading->count);
}

static int reserve_edges(struct loading *loading, struct error *err)
{
    struct nodes *nodes = &loading->graph->nodes;
    uint32_t *of_users = calloc(nodes->user_ids.count + 1, sizeof *of_users);
    uint32_t *of_items = calloc(nodes->item_ids.count + 1, sizeof *of_items);
    int result = of_users == NULL || of_items == NULL ? error_set(err, ERROR_FATAL, "out of memory while loading") : 0;
    for (size_t r = 0; r < RANGES && result == 0; r++)
        for (size_t i = 0; i < loading->ranges[r].count; i++) {
            of_users[loading->ranges[r].edges[i].user]++;
            of_items[loading->ranges[r].edges[i].edge.other]++;
        }
    if (result == 0)
        result = nodes_reserve_edges(nodes, of_users, of_items, err);
    free(of_users);
    free(of_items);
    return result;
}

static int place_edges(struct loading *loading, struct error *err)
{
    size_t size = (loading->count + 1) * sizeof(struct sort_entry);
    struct sort_entry *places = malloc(size), *other = malloc(size);
    int result = -1;
    if (places == NULL || other == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while placing %zu edges", loading->count);
        goto out;
    }
    if (reserve_edges(loading, err) != 0)
        goto out;
    const struct sort_entry *sorted = order_edges(loading, places, other);
    for (size_t i = 0; i < loading->count; i++) {
        if (i + AHEAD < loading->count) {
            const struct loaded_edge *ahead = edge_at(loading, sorted[i + AHEAD].at);
            nodes_prefetch(&loading->graph->nodes, ahead->user, ahead->edge.other);
        }
        const struct loaded_edge *edge = edge_at(loading, sorted[i].at);
        nodes_load_edge(&loading->graph->nodes, edge->user, edge->edge);
    }
    result = 0;
out:
    free(places);
    free(other);
    return result;
}

static int for_all_edges(struct loading *loading,
                         int (*act)(struct nodes *nodes, uint32_t user, const struct edge *edge, struct error *err),
                         struct error *err)
{
    for (size_t r = 0; r < RANGES; r++)
        for (size_t i = 0; i < loading->ranges[r].count; i++) {
            const struct loaded_edge *edge = &loading->ranges[r].edges[i];
            if (act(&loading->graph->nodes, edge->user, &edge->edge, err) != 0)
                return -1;
        }
    return 0;
}

static int embed_edges(struct loading *loading, struct error *err)
{
    return for_all_edges(loading, nodes_expect_edge, err) != 0 ? -1 : for_all_edges(loading, nodes_embed_edge, err);
}

/* What is done with the edges that were read: two parts that know nothing of each other. */
struct parts {
    struct loading *loading;
    int results[2];
    struct error errors[2];
};

static void do_part(void *job, size_t index, size_t worker)
{
    static int (*const parts[2])(struct loading * loading, struct error * err) = {place_edges, embed_edges};
    (void)worker;
    struct parts *all = job;
    all->results[index] = parts[index](all->loading, &all->errors[index]);
}

static int load_edges(struct loading *loading, struct error *err)
{
    struct parts parts = {.loading = loading};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct pool *pool = pool_create(processors > 1 ? (size_t)processors : 1);
    if (pool == NULL)
        return error_set(err, ERROR_FATAL, "no threads or no memory to load %s with",
                         loading->graph->settings.directory);
    int result = read_edges(loading, pool, err);
    if (result == 0)
        pool_run(pool, 2, do_part, &parts);
    for (size_t i = 0; i < 2 && result == 0; i++)
        if (parts.results[i] != 0) {
            *err = parts.errors[i];
            result = -1;
        }
    if (result == 0)
        nodes_finish_load(&loading->graph->nodes, pool);
    for (size_t r = 0; r < RANGES; r++)
        free(loading->ranges[r].edges);
    pool_destroy(pool);
    return result;
}

/* All but edges and embeddings. */
static int load_small_parts(struct loading *loading, struct error *err)
{
    static const struct {
        enum family family;
        int (*visit)(void *context, struct text key, struct text value, struct error *err);
    } parts[] = {
        {FAMILY_IDS, load_id},     {FAMILY_COUNTS, load_counts},  {FAMILY_ITEMS, load_item},
        {FAMILY_USERS, load_user}, {FAMILY_OFFSETS, load_offset},
    };
    static const struct text all = {"", 0};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (store_scan(&loading->graph->store, parts[i].family, all, all, parts[i].visit, loading, err) != 0)
            return -1;
    return 0;
}

/* The nodes as they were before anything was loaded; what else was loaded is loaded over. */
static int begin_anew(struct graph *graph, struct error *err)
{
    nodes_destroy(&graph->nodes);
    order_free(&graph->free_users);
    graph->user_count = graph->item_count = 0;
    return nodes_create(&graph->nodes, &graph->settings, err);
}

int graph_load(struct graph *graph, struct error *err)
{
    struct loading loading = {.graph = graph};
    atomic_init(&loading.told_ns, clock_monotonic_ns());
    if (!graph->settings.read_only)
        image_delete_rest(graph);
    graph->has_image = !graph->settings.read_only && image_exists(graph);
    struct image *image = image_open(graph);
    if (load_small_parts(&loading, err) != 0) {
        image_abandon(image);
        return -1;
    }
    if (image == NULL)
        return load_edges(&loading, err);

    struct error why;
    if (image_finish(image, graph, &why) == 0)
        return 0;
    log_warn("graph", "%s: everything is read from the store", why.message);
    if (begin_anew(graph, err) != 0 || load_small_parts(&loading, err) != 0)
        return -1;
    return load_edges(&loading, err);
}
