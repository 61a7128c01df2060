/*
 * Vector operations an event of ml-100k, and recall@4 of the users of the next thousand events against an exact
 * recomputation, at every thousandth event. Beside it what else could be done with as many operations an event:
 *
 *   periodic  everything is recomputed as often as that pays for; in between nothing changes
 *   hybrid    each edge enters the sums of its two ends, nothing is pushed; everything is recomputed with what is left
 *   cascade   each change is passed on in full to whom it concerns (epsilon = 0), as far as the operations go
 *
 * A returned user counts as right whose exact cosine is not below the exact fourth one: ties are no errors. Users of
 * whom nothing is known do not count; those that only a method does not know are its errors.
 *
 * Flags: --ratings; --events: no more than so many
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph_bench.h"

enum { CHECK_EVERY = 1000, ACTIVE = 1000, TOP = 4, CASCADE_SAMPLE = 10000 };

static const double TIE = 1e-9;

struct directions {
    double *rows; /* (users, DIMENSION) of unit length */
    bool *known;
};

struct method {
    const char *name;
    float epsilon;
    size_t budget;
    double pays;   /* operations an event that recomputation may take; 0: none */
    bool periodic; /* reads what the last recomputation gave */
};

struct run {
    const struct stream *stream;
    struct method method;
    struct embedding *embedding, *exact;
    uint32_t *users, *items; /* numbers in both embeddings, plus one, by name */
    uint32_t *seen;          /* names of users in the order in which they came */
    size_t seen_count;
    struct directions is, exactly;
    double recalls;
    size_t queries;
    double *operations; /* (events), recomputation apart */
    double spent;       /* on recomputation */
};

static int add_end(struct run *run, uint32_t *given, char kind, uint32_t name, struct error *err)
{
    char key[16];
    uint32_t number;
    if (*given > 0)
        return 0;
    snprintf(key, sizeof key, "%c:%c%u", kind, kind, name);
    if (embedding_add_node(run->embedding, text_of(key), &number, err) != 0 ||
        embedding_add_node(run->exact, text_of(key), &number, err) != 0)
        return -1;
    *given = number + 1;
    if (kind == 'u')
        run->seen[run->seen_count++] = name;
    return 0;
}

static void read_directions(const struct run *run, const struct embedding *embedding, struct directions *out)
{
    for (size_t i = 0; i < run->seen_count; i++) {
        uint32_t name = run->seen[i];
        float f[DIMENSION];
        double square = 0, *row = out->rows + (size_t)name * DIMENSION;
        embedding_read(embedding, run->users[name] - 1, f);
        for (size_t j = 0; j < DIMENSION; j++)
            square += (double)f[j] * (double)f[j];
        out->known[name] = square > 0;
        for (size_t j = 0; j < DIMENSION; j++)
            row[j] = square > 0 ? (double)f[j] / sqrt(square) : 0;
    }
}

static double cosine(const struct directions *directions, uint32_t a, uint32_t b)
{
    double product = 0;
    for (size_t j = 0; j < DIMENSION; j++)
        product += directions->rows[(size_t)a * DIMENSION + j] * directions->rows[(size_t)b * DIMENSION + j];
    return product;
}

/* Names of the most similar users, best first. */
static size_t find_top(const struct run *run, const struct directions *directions, uint32_t user, uint32_t top[TOP])
{
    double cosines[TOP];
    size_t count = 0;
    for (size_t i = 0; i < run->seen_count; i++) {
        uint32_t other = run->seen[i];
        if (other == user || !directions->known[other])
            continue;
        double value = cosine(directions, user, other);
        size_t at = count;
        while (at > 0 && value > cosines[at - 1])
            at--;
        if (at == TOP)
            continue;
        count += count < TOP;
        memmove(top + at + 1, top + at, (count - at - 1) * sizeof *top);
        memmove(cosines + at + 1, cosines + at, (count - at - 1) * sizeof *cosines);
        top[at] = other;
        cosines[at] = value;
    }
    return count;
}

static void query(struct run *run, uint32_t user)
{
    uint32_t exact[TOP], found[TOP];
    size_t count = find_top(run, &run->exactly, user, exact), right = 0;
    if (count < TOP)
        return;
    double least = cosine(&run->exactly, user, exact[TOP - 1]) - TIE;
    size_t found_count = run->is.known[user] ? find_top(run, &run->is, user, found) : 0;
    for (size_t i = 0; i < found_count; i++)
        right += cosine(&run->exactly, user, found[i]) >= least;
    run->recalls += (double)right / TOP;
    run->queries++;
}

static void check(struct run *run, size_t event)
{
    embedding_recompute(run->exact, NULL);
    read_directions(run, run->exact, &run->exactly);
    if (!run->method.periodic)
        read_directions(run, run->embedding, &run->is);
    for (size_t i = event; i < event + ACTIVE && i < run->stream->count; i++) {
        uint32_t user = run->stream->ratings[i].user;
        bool again = false;
        for (size_t j = event; j < i && !again; j++)
            again = run->stream->ratings[j].user == user;
        if (!again && run->users[user] > 0)
            query(run, user);
    }
}

static void refresh(struct run *run, size_t event)
{
    double cost = 2.0 * LAYERS * (double)(event + 1);
    if (run->method.pays <= 0 || run->method.pays * (double)(event + 1) - run->spent < cost)
        return;
    embedding_recompute(run->embedding, NULL);
    if (run->method.periodic)
        read_directions(run, run->embedding, &run->is);
    run->spent += cost;
}

static int take_event(struct run *run, size_t event, struct error *err)
{
    const struct rating *rating = &run->stream->ratings[event];
    uint32_t *user = &run->users[rating->user], *item = &run->items[rating->item];
    if (add_end(run, user, 'u', rating->user, err) != 0 || add_end(run, item, 'i', rating->item, err) != 0 ||
        embedding_load_edge(run->exact, *user - 1, *item - 1, err) != 0)
        return -1;
    uint64_t before = embedding_operations(run->embedding);
    if ((run->method.periodic ? embedding_load_edge : embedding_add_edge)(run->embedding, *user - 1, *item - 1, err) !=
        0)
        return -1;
    run->operations[event] = (double)(embedding_operations(run->embedding) - before);
    refresh(run, event);
    return 0;
}

static int prepare(struct run *run, struct error *err)
{
    struct embedding_settings settings = {.layers = LAYERS,
                                          .dimension = DIMENSION,
                                          .epsilon = run->method.epsilon,
                                          .budget = run->method.budget,
                                          .result = EMBEDDING_MEAN};
    size_t names = run->stream->names, size = names * DIMENSION * sizeof(double);
    run->embedding = embedding_create(&settings, err);
    run->exact = run->embedding == NULL ? NULL : embedding_create(&settings, err);
    if (run->exact == NULL)
        return -1;
    run->users = calloc(names, sizeof *run->users);
    run->items = calloc(names, sizeof *run->items);
    run->seen = calloc(names, sizeof *run->seen);
    run->operations = calloc(run->stream->count, sizeof *run->operations);
    run->is = (struct directions){calloc(1, size), calloc(names, 1)};
    run->exactly = (struct directions){calloc(1, size), calloc(names, 1)};
    bool all = run->users != NULL && run->items != NULL && run->seen != NULL && run->operations != NULL &&
               run->is.rows != NULL && run->is.known != NULL && run->exactly.rows != NULL && run->exactly.known != NULL;
    return all ? 0 : error_set(err, ERROR_FATAL, "out of memory");
}

static void finish(struct run *run)
{
    embedding_destroy(run->embedding);
    embedding_destroy(run->exact);
    free(run->users);
    free(run->items);
    free(run->seen);
    free(run->operations);
    free(run->is.rows);
    free(run->is.known);
    free(run->exactly.rows);
    free(run->exactly.known);
}

/* Figures of a run; `mean` is recomputation included. */
static double tell(struct run *run)
{
    double sum = run->spent;
    size_t count = run->stream->count;
    for (size_t i = 0; i < count; i++)
        sum += run->operations[i];
    double mean = sum / (double)count, recall = run->recalls / (double)run->queries;
    (void)median(run->operations, count);
    printf("%s_ops_mean %.2f\n%s_ops_p99 %.0f\n%s_ops_max %.0f\n%s_recall_at_4 %.4f\n", run->method.name, mean,
           run->method.name, quantile(run->operations, count, 0.99), run->method.name, run->operations[count - 1],
           run->method.name, recall);
    fprintf(stderr, "  %-9s %7.1f operations an event, recall@4 %.4f of %zu queries\n", run->method.name, mean, recall,
            run->queries);
    return mean;
}

static int run_method(const struct stream *stream, struct method method, double *mean, struct error *err)
{
    struct run run = {.stream = stream, .method = method};
    int result = prepare(&run, err);
    for (size_t event = 0; event < stream->count && result == 0; event++) {
        result = take_event(&run, event, err);
        if (result == 0 && event % CHECK_EVERY == CHECK_EVERY - 1 && event + 1 < stream->count)
            check(&run, event + 1);
    }
    if (result == 0)
        *mean = tell(&run);
    finish(&run);
    return result;
}

int bench_freshness(const struct flags *flags, struct error *err)
{
    struct stream stream;
    double mean = 0, ignored;
    int result = stream_open(&stream, flags, err);
    if (stream.count > flags->events)
        stream.count = flags->events;
    if (result == 0)
        result = run_method(&stream, (struct method){.name = "push", .epsilon = 0.1f, .budget = BUDGET}, &mean, err);
    struct method others[] = {
        {.name = "periodic", .pays = mean, .periodic = true},
        {.name = "hybrid", .epsilon = INFINITY, .budget = 1, .pays = mean - 2 * LAYERS},
        {.name = "cascade", .budget = mean > 2 * LAYERS ? (size_t)mean - 2 * LAYERS : 1},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others && result == 0; i++)
        result = run_method(&stream, others[i], &ignored, err);
    if (stream.count > CASCADE_SAMPLE)
        stream.count = CASCADE_SAMPLE;
    if (result == 0)
        result = run_method(&stream, (struct method){.name = "cascade_in_full"}, &ignored, err);
    stream_close(&stream);
    return result;
}
