/*
 * The graph's figures, a part at a time; ./dev bench graph runs them all (graph.py).
 *
 *   bench_graph ingest    bytes to graph against the same keys written raw, by turns
 *               iterate   a store's pairs read, and one recomputation of their embeddings
 *               open      graph_open() of a store
 *               memory    what the graph, or with --raw RocksDB alone, holds after a stream
 *               freshness operations an event and recall on ml-100k, beside other ways at the same cost
 *               scan      similar users among all, against a plain read of the table
 *               evidence  of 100 candidates
 *
 * Flags: --directory DIR --ratings FILE --items FILE --users N --item-count N --events N --rounds N --slices N
 * --no-push --verify --raw --keep --save; which of them a part heeds is said in its file.
 */
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "graph_bench.h"

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double wall_seconds(void)
{
    return seconds(CLOCK_MONOTONIC);
}

double thread_seconds(void)
{
    return seconds(CLOCK_THREAD_CPUTIME_ID);
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(double *values, size_t count, double q)
{
    size_t at = (size_t)(q * (double)count);
    return values[at < count ? at : count - 1];
}

double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_values);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

size_t anonymous_bytes(void)
{
    char line[256];
    size_t kibibytes = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "RssAnon:", 8) == 0)
            kibibytes = strtoul(line + 8, NULL, 10);
    if (status != NULL)
        fclose(status);
    return kibibytes << 10;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void remove_directory(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

size_t processors(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 1 ? (size_t)count : 1;
}

static int refuse(const char *what)
{
    fprintf(stderr, "bench_graph: unknown: %s\n", what);
    return -1;
}

static int parse(int argc, char **argv, struct flags *flags)
{
    *flags = (struct flags){
        .directory = "bench-graph", .users = 500000, .item_count = 50000, .events = 5000000, .rounds = 1, .slices = 1};
    const struct {
        const char *name;
        bool *flag;
        size_t *number;
        const char **text;
    } known[] = {
        {"--no-push", &flags->no_push, NULL, NULL}, {"--verify", &flags->verify, NULL, NULL},
        {"--raw", &flags->raw, NULL, NULL},         {"--keep", &flags->keep, NULL, NULL},
        {"--save", &flags->save, NULL, NULL},       {"--directory", NULL, NULL, &flags->directory},
        {"--ratings", NULL, NULL, &flags->ratings}, {"--items", NULL, NULL, &flags->items},
        {"--users", NULL, &flags->users, NULL},     {"--item-count", NULL, &flags->item_count, NULL},
        {"--events", NULL, &flags->events, NULL},   {"--rounds", NULL, &flags->rounds, NULL},
        {"--slices", NULL, &flags->slices, NULL},
    };
    for (int i = 2; i < argc; i++) {
        size_t at = 0, count = sizeof known / sizeof *known;
        while (at < count && strcmp(argv[i], known[at].name) != 0)
            at++;
        if (at == count || (known[at].flag == NULL && i + 1 == argc))
            return refuse(argv[i]);
        if (known[at].flag != NULL)
            *known[at].flag = true;
        else if (known[at].number != NULL)
            *known[at].number = strtoul(argv[++i], NULL, 10);
        else
            *known[at].text = argv[++i];
    }
    return flags->users > 0 && flags->item_count > 0 && flags->rounds > 0 && flags->slices > 0 ? 0 : refuse("0");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct flags *flags, struct error *err);
    } parts[] = {{"ingest", bench_ingest},    {"iterate", bench_iterate},     {"open", bench_open},
                 {"memory", bench_memory},    {"freshness", bench_freshness}, {"scan", bench_scan},
                 {"evidence", bench_evidence}};
    struct flags flags;
    struct error err;
    if (argc < 2 || parse(argc, argv, &flags) != 0)
        return 2;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(argv[1], parts[i].name) != 0)
            continue;
        if (parts[i].run(&flags, &err) == 0)
            return 0;
        fprintf(stderr, "bench_graph %s: %s\n", argv[1], err.message);
        return 1;
    }
    refuse(argv[1]);
    return 2;
}
