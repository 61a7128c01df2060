/* Two readers and the writer at full rate, over all that a scorer reads: never half a batch, and no data race. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "fixture.h"
#include "base/arena.h"
#include "graph/evidence.h"
#include "graph/similar.h"

enum { BATCHES = 2400 / HEADRACE_SLOWDOWN, READERS = 2, SIMILAR = 30, STAY = 3, MOST = BATCHES };

struct reader {
    struct graph *graph;
    const atomic_bool *stop;
    struct arena arena;
    size_t reads, torn;
    size_t seen_away, seen_back; /* of the user who comes and goes */
};

/* The twins have rated the same, in the same order. */
static bool twins_differ(const struct graph *graph)
{
    uint32_t ann = graph_find_user(graph, text_of("ann")), bob = graph_find_user(graph, text_of("bob"));
    if (ann == GRAPH_NONE || bob == GRAPH_NONE)
        return ann != bob;
    size_t count, others;
    const struct edge *mine = graph_user_edges(graph, ann, &count), *theirs = graph_user_edges(graph, bob, &others);
    for (size_t i = 0; i < count && i < others; i++)
        if (mine[i].other != theirs[i].other || mine[i].timestamp_ms != theirs[i].timestamp_ms)
            return true;
    return count != others;
}

/* An item comes with its title, and with both of the twins. */
static bool item_is_torn(const struct graph *graph, uint32_t item)
{
    struct text title;
    const struct attribute *attributes;
    size_t attribute_count, edges, values;
    graph_item(graph, item, &title, &attributes, &attribute_count);
    graph_item_edges(graph, item, &edges);
    graph_item_values(graph, item, &values);
    return title.data == NULL || title.size != strlen("Title 0000") || attribute_count != 1 || values != 1 ||
           edges < 2 || edges > 3;
}

static bool history_is_torn(struct graph *graph)
{
    struct edge history[MOST];
    size_t count = 0;
    uint32_t ann = graph_find_user(graph, text_of("ann"));
    if (ann == GRAPH_NONE)
        return false;
    graph_user_edges(graph, ann, &count);
    return graph_history(graph, ann, INT64_MAX, MOST, history) != count;
}

/* As the scorer goes through a candidate. */
static bool evidence_is_broken(struct reader *reader, uint32_t item, int64_t now_ms)
{
    const struct graph *graph = reader->graph;
    uint32_t ann = graph_find_user(graph, text_of("ann"));
    float query[16];
    struct similar_user similar[SIMILAR], voters[EVIDENCE_VOTERS];
    struct evidence evidence;
    struct evidence_request *request;
    struct error err;
    if (ann == GRAPH_NONE)
        return false;
    graph_user_embedding(graph, ann, query);
    arena_reset(&reader->arena);
    if (evidence_begin(&request, graph, &(struct evidence_user){.number = ann}, now_ms, &reader->arena, &err) != 0)
        return true;
    size_t count = evidence_gather(request, item, &evidence, voters);
    size_t everybody = similar_global(graph, query, ann, SIMILAR, similar);
    size_t edges = (size_t)evidence.item_count;
    return count < 1 || count > 2 || everybody < 1 || everybody > 2 || edges != count + 1;
}

static void read_once(struct reader *reader)
{
    struct graph *graph = reader->graph;
    struct graph_counts counts = graph_counts(graph);
    bool torn = twins_differ(graph) || history_is_torn(graph);
    if (counts.items > 0) {
        uint32_t newest = (uint32_t)counts.items - 1;
        torn = torn || item_is_torn(graph, newest) || item_is_torn(graph, newest / 2) ||
               evidence_is_broken(reader, newest, counts.newest_event_ms + 1);
    }
    uint32_t guest = graph_find_user(graph, text_of("guest"));
    size_t stays = 0;
    if (guest != GRAPH_NONE)
        graph_user_edges(graph, guest, &stays);
    torn = torn || (stays != 0 && stays != STAY) || counts.edges % 2 != stays % 2;
    reader->seen_away += stays == 0;
    reader->seen_back += stays == STAY;
    reader->torn += torn;
    reader->reads++;
}

static void *read_on(void *context)
{
    struct reader *reader = context;
    while (!atomic_load(reader->stop)) {
        graph_read_lock(reader->graph);
        read_once(reader);
        graph_read_unlock(reader->graph);
    }
    return NULL;
}

static void put_item(struct fixture *fixture, const char *name, int number)
{
    char title[32];
    struct attribute genre = {text_of("genre"), text_of(number % 2 == 0 ? "Drama" : "War")};
    struct error err;
    snprintf(title, sizeof title, "Title %04d", number);
    struct item item = {.item_id = text_of(name), .title = text_of(title), .attributes = &genre, .attribute_count = 1};
    check(graph_put_item(fixture->graph, &item, &err), &err);
}

/* An item with its title and what the twins make of it; every third time the guest goes, or comes back. */
static void write_batch(struct fixture *fixture, int number)
{
    char name[32];
    struct error err;
    snprintf(name, sizeof name, "item %d", number);
    put_item(fixture, name, number);
    rate(fixture, "ann", name, number, 1.0 + number % 5);
    rate(fixture, "bob", name, number, 5.0 - number % 5);
    if (number > STAY && number % 6 == 0)
        for (int n = 0; n < STAY; n++) {
            snprintf(name, sizeof name, "item %d", number - n);
            rate(fixture, "guest", name, number, 4.0);
        }
    else if (number > STAY && number % 6 == 3)
        check(graph_erase_user(fixture->graph, text_of("guest"), &err), &err);
    commit(fixture);
}

static void two_readers_see_whole_batches_while_the_writer_writes(void **state)
{
    struct fixture *fixture = *state;
    atomic_bool stop = false;
    struct reader readers[READERS];
    pthread_t threads[READERS];
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.graph = fixture->graph, .stop = &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    for (int number = 0; number < BATCHES; number++)
        write_batch(fixture, number);
    atomic_store(&stop, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < READERS; i++) {
        arena_free(&readers[i].arena);
        print_message("reader %zu: %zu reads, the guest away in %zu\n", i, readers[i].reads, readers[i].seen_away);
        assert_int_equal(readers[i].torn, 0);
        assert_true(readers[i].seen_away > 0 && readers[i].seen_back > 0);
    }
    assert_int_equal(graph_counts(fixture->graph).titles, BATCHES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_readers_see_whole_batches_while_the_writer_writes, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
