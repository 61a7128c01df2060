/*
 * Evidence of 100 candidates, among items with titles and genres, for a user of the stream.
 *
 * Flags: --directory --ratings --items
 */
#include "base/arena.h"
#include "base/random.h"
#include "graph/evidence.h"
#include "graph_bench.h"
#include "replay/event_file.h"

enum { CANDIDATES = 100, REQUESTS = 500, REQUESTS_FIRST = 50 /* that do not count */ };

/* The ratings' items have an "i" before their number, see stream_encode(). */
static int put_item(struct graph *graph, struct item *item, struct error *err)
{
    char id[24];
    snprintf(id, sizeof id, "i" TEXT_FORMAT, TEXT_ARGS(item->item_id));
    item->item_id = text_of(id);
    return graph_put_item(graph, item, err);
}

static int read_items(struct graph *graph, const char *path, struct error *err)
{
    static const char *const maps[] = {"title={movie_title} ({release_year})", "attributes.genres=class:list"};
    struct event_file_settings settings = {.path = path, .type = &item_type, .maps = maps, .map_count = 2};
    struct event_file *file;
    struct arena arena;
    struct item item;
    int more;
    if (event_file_open(&file, &settings, err) != 0)
        return -1;
    arena_init(&arena, 0);
    while ((more = event_file_next(file, &arena, &item, err)) == 1) {
        if (put_item(graph, &item, err) != 0) {
            more = -1;
            break;
        }
        arena_reset(&arena);
    }
    arena_free(&arena);
    event_file_close(file);
    return more;
}

static int gather(const struct graph *graph, struct random *random, struct arena *arena, struct error *err)
{
    struct graph_counts counts = graph_counts(graph);
    struct evidence_user user = {.number = (uint32_t)random_below(random, counts.users)};
    struct evidence_request *request;
    if (evidence_begin(&request, graph, &user, counts.newest_event_ms + 1, arena, err) != 0)
        return -1;
    for (size_t i = 0; i < CANDIDATES; i++) {
        struct evidence evidence;
        struct similar_user voters[EVIDENCE_VOTERS];
        evidence_gather(request, (uint32_t)random_below(random, counts.items), &evidence, voters);
    }
    return 0;
}

static int time_requests(struct graph *graph, struct error *err)
{
    double times[REQUESTS];
    struct random random = {1};
    struct arena arena;
    int result = 0;
    arena_init(&arena, 0);
    for (size_t i = 0; i < REQUESTS_FIRST + REQUESTS && result == 0; i++) {
        double start = wall_seconds();
        graph_read_lock(graph);
        result = gather(graph, &random, &arena, err);
        graph_read_unlock(graph);
        if (i >= REQUESTS_FIRST)
            times[i - REQUESTS_FIRST] = (wall_seconds() - start) * 1e3;
        arena_reset(&arena);
    }
    arena_free(&arena);
    if (result == 0)
        printf("ms %.4f\n", median(times, REQUESTS));
    if (result == 0)
        printf("ms_p99 %.4f\n", quantile(times, REQUESTS, 0.99));
    return result;
}

int bench_evidence(const struct flags *flags, struct error *err)
{
    struct graph_settings settings = bench_settings(flags->directory);
    struct stream stream;
    struct codec *codec;
    struct graph *graph = NULL;
    if (codec_create(&codec, err) != 0)
        return -1;
    remove_directory(flags->directory);
    int result = stream_open(&stream, flags, err);
    if (result == 0)
        result = stream_encode(&stream, codec, err);
    if (result == 0)
        result = graph_open(&graph, &settings, err);
    if (result == 0)
        result = graph_writes(graph, codec, &stream, 0, stream.count, err);
    if (result == 0)
        result = read_items(graph, flags->items, err);
    if (result == 0)
        result = graph_commit(graph, err);
    if (result == 0)
        result = time_requests(graph, err);
    graph_close(graph);
    remove_directory(flags->directory);
    stream_close(&stream);
    codec_destroy(codec);
    return result;
}
