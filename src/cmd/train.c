/* train.c - what is learned from logged events: base vectors of the graph */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/progress.h"
#include "cmd/setup.h"
#include "cmd/train.h"

enum { MOST_THREADS = 1024, FROM_CONFIG = -1 };

struct asked {
    const char *model;
    const char *edges;
    const char *out;
    const char *ratings;
    const char *format;
    const char *kind;
    const char *time_unit;
    struct flag_list maps;
    int64_t before_ms;
    int64_t layers, dimension, epochs, batch, negatives, patience, seed, threads;
    double learning_rate, l2, held_share;
};

struct job {
    const struct asked *asked;
    struct trainer_settings settings;
    struct training_data data;
    struct pool *pool;
    struct trainer *trainer;
    struct training_result result;
    struct progress progress;
    char doing[96]; /* what the progress says */
};

static int run_epoch(struct job *job, size_t epoch, double *loss, struct error *err)
{
    size_t batches = trainer_batches(job->trainer), all = batches * (size_t)job->asked->epochs;
    *loss = 0;
    for (size_t i = 0; i < batches; i++) {
        if (interrupted)
            return error_set(err, ERROR_FATAL, "interrupted in epoch %zu, nothing was written", epoch);
        *loss += trainer_step(job->trainer) / (double)batches;
        if (!isfinite(*loss))
            return error_set(err, ERROR_BAD_INPUT,
                             "the loss is not finite in epoch %zu: the learning rate %g is too high", epoch,
                             job->settings.learning_rate);
        size_t done = (epoch - 1) * batches + i + 1;
        progress_show(&job->progress, done, (double)done / (double)all);
    }
    return 0;
}

/* Whether the epoch is the best so far; without anything held out the last one is. */
static int measure(struct job *job, size_t epoch, double loss, bool *best, struct error *err)
{
    double recall = -1;
    if (job->data.held_out_count > 0) {
        recall = trainer_recall(job->trainer, job->data.held_out, job->data.held_out_count, TRAINING_RECALL_AT);
        if (recall < 0)
            return error_set(err, ERROR_FATAL, "out of memory while ranking");
        snprintf(job->doing, sizeof job->doing, "training, epoch %zu: loss %.4f, recall@%d %.4f", epoch, loss,
                 TRAINING_RECALL_AT, recall);
    } else {
        snprintf(job->doing, sizeof job->doing, "training, epoch %zu: loss %.4f", epoch, loss);
    }
    *best = job->data.held_out_count == 0 || recall > job->result.recall;
    if (*best) {
        job->result.recall = recall;
        job->result.epochs = epoch;
        job->result.loss = loss;
        trainer_keep(job->trainer);
    }
    return 0;
}

static int train(struct job *job, struct error *err)
{
    size_t since_best = 0, epoch = 0;
    snprintf(job->doing, sizeof job->doing, "training");
    progress_begin(&job->progress, job->doing, "batches");
    while (epoch < (size_t)job->asked->epochs && since_best <= (size_t)job->asked->patience) {
        double loss;
        bool best;
        if (run_epoch(job, ++epoch, &loss, err) != 0 || measure(job, epoch, loss, &best, err) != 0)
            return -1;
        since_best = best ? 0 : since_best + 1;
    }
    progress_end(&job->progress, epoch * trainer_batches(job->trainer));
    trainer_restore(job->trainer);
    return 0;
}

static void print_data(const struct job *job)
{
    char first[32], last[32];
    clock_format(job->data.first_ms, first);
    clock_format(job->data.last_ms, last);
    printf("%zu edges of %zu users and %zu items train, %s to %s\n", job->data.pair_count, job->data.users.count,
           job->data.items.count, first, last);
    if (job->data.held_out_edges > 0)
        printf("%zu later ones are held out; %zu of them, between users and items that train, tell when to stop\n",
               job->data.held_out_edges, job->data.held_out_count);
    if (job->data.wrong_rows > 0)
        printf("%llu rows could not be read and are left out\n", (unsigned long long)job->data.wrong_rows);
    fflush(stdout);
}

static void print_result(const struct job *job)
{
    if (job->result.recall >= 0)
        printf("best epoch %zu: recall@%d %.4f, loss %.4f\n", job->result.epochs, TRAINING_RECALL_AT,
               job->result.recall, job->result.loss);
    else
        printf("epoch %zu: loss %.4f\n", job->result.epochs, job->result.loss);
    printf("%s: %zu users, %zu items, %zu dimensions, version %s\n", job->asked->out, job->data.users.count,
           job->data.items.count, job->settings.dimension, job->result.version);
}

int training_check_out(const char *path, struct error *err)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    snprintf(directory, sizeof directory, "%.*s", slash == NULL ? 1 : (int)size, slash == NULL ? "." : path);
    if (size >= sizeof directory || access(directory, W_OK | X_OK) != 0)
        return error_set(err, ERROR_FATAL, "--out %s: its directory cannot be written: %s", path, strerror(errno));
    return 0;
}

static int run_job(struct job *job, const struct training_source *source, struct error *err)
{
    int64_t threads = job->asked->threads > 0 ? job->asked->threads : sysconf(_SC_NPROCESSORS_ONLN);
    int result = -1;
    if (training_check_out(job->asked->out, err) != 0 || training_data_load(&job->data, source, err) != 0)
        return -1;
    print_data(job);
    job->pool = pool_create((size_t)threads);
    if (job->pool == NULL) {
        error_set(err, ERROR_FATAL, "%lld threads cannot be started", (long long)threads);
        goto out;
    }
    if (trainer_create(&job->trainer, &job->settings, job->pool, job->data.users.count, job->data.items.count,
                       job->data.pairs, job->data.pair_count, err) != 0 ||
        train(job, err) != 0 ||
        training_result_save(&job->result, &job->settings, &job->data, job->trainer, job->asked->out, err) != 0)
        goto out;
    print_result(job);
    result = 0;
out:
    trainer_destroy(job->trainer);
    pool_destroy(job->pool);
    training_data_free(&job->data);
    return result;
}

static int choose(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static const char *const formats[] = {"", "csv", "tsv", "json", "recbole"}; /* in the order of enum event_format */
static const char *const units[] = {"ms", "s"};
static const char *const models[] = {"lightgcn", "fm"};
static const char *const edge_kinds[] = {"all", "likes"};

static int check_usage(const struct usage *usage, const struct asked *asked, const char *what, int32_t *kind)
{
    if (strcmp(what, "graph") != 0)
        return flags_wrong(usage, "\"%s\" cannot be trained: graph and heads can", what);
    if (asked->out == NULL)
        return flags_wrong(usage, "--out is missing: the file to write");
    if (choose(models, 2, asked->model) < 0)
        return flags_wrong(usage, "--model: \"%s\" is neither lightgcn nor fm", asked->model);
    if (asked->edges != NULL && choose(edge_kinds, 2, asked->edges) < 0)
        return flags_wrong(usage, "--edges: \"%s\" is neither all nor likes", asked->edges);
    if (choose(formats, 5, asked->format) < 0)
        return flags_wrong(usage, "--format: \"%s\" is none of csv, tsv, json, recbole", asked->format);
    if (!interaction_kind_parse(text_of(asked->kind), kind))
        return flags_wrong(usage, "--kind: \"%s\" is no kind of interaction", asked->kind);
    if (asked->time_unit != NULL && choose(units, 2, asked->time_unit) < 0)
        return flags_wrong(usage, "--time-unit: \"%s\" is neither s nor ms", asked->time_unit);
    if (asked->held_share >= 1)
        return flags_wrong(usage, "--validate: %g is not a share below 1", asked->held_share);
    if (asked->epochs < 1)
        return flags_wrong(usage, "--epochs: at least 1");
    if (strcmp(asked->model, "fm") == 0 ? asked->layers > 0 : asked->layers == 0)
        return flags_wrong(usage, "--layers: fm has none, lightgcn 1 to %d", TRAINER_LAYER_LIMIT);
    if (asked->threads > MOST_THREADS)
        return flags_wrong(usage, "--threads: at most %d", MOST_THREADS);
    return EXIT_FINE;
}

static struct job make_job(const struct asked *asked, const struct config *config)
{
    bool is_fm = strcmp(asked->model, "fm") == 0;
    bool likes = asked->edges != NULL ? strcmp(asked->edges, "likes") == 0 : config_choice(config, "graph.edges") == 1;
    return (struct job){
        .asked = asked,
        .settings = {.layers = is_fm                          ? 0
                               : asked->layers == FROM_CONFIG ? (size_t)config_integer(config, "graph.layers")
                                                              : (size_t)asked->layers,
                     .dimension = asked->dimension == FROM_CONFIG ? (size_t)config_integer(config, "graph.dimension")
                                                                  : (size_t)asked->dimension,
                     .item_bias = is_fm,
                     .learning_rate = asked->learning_rate,
                     .l2 = asked->l2,
                     .batch = (size_t)asked->batch,
                     .negatives = (size_t)asked->negatives,
                     .seed = (uint64_t)asked->seed},
        .result = {.source = asked->model, .likes = likes, .recall = -1},
    };
}

static int run_asked(const struct asked *asked, int32_t kind, const struct config *config, struct error *err)
{
    struct job job = make_job(asked, config);
    const struct event_file_settings file = {
        .path = asked->ratings,
        .format = (enum event_format)choose(formats, 5, asked->format),
        .type = &interaction_type,
        .maps = asked->maps.values,
        .map_count = asked->maps.count,
        .kind = kind,
        .timestamp_ms = asked->time_unit == NULL             ? 0
                        : strcmp(asked->time_unit, "s") == 0 ? 1000
                                                             : 1,
    };
    const struct training_source source = {
        .config = config,
        .file = asked->ratings != NULL ? &file : NULL,
        .likes = job.result.likes,
        .before_ms = asked->before_ms,
        .held_share = asked->held_share,
        .seed = (uint64_t)asked->seed,
        .interrupted = &interrupted,
    };
    interrupt_watch();
    return run_job(&job, &source, err);
}

int command_train(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "heads") == 0)
        return command_train_heads(argc, argv);
    struct config_flags config_flags = {0};
    struct asked asked = {.model = "lightgcn",
                          .format = "",
                          .kind = "rating",
                          .before_ms = INT64_MAX,
                          .layers = FROM_CONFIG,
                          .dimension = FROM_CONFIG,
                          .epochs = 300,
                          .batch = 2048,
                          .negatives = 1,
                          .patience = 20,
                          .seed = 1,
                          .learning_rate = 0.002,
                          .l2 = 1e-4,
                          .held_share = 0.1};
    const struct flag flags[] = {
        {"out", "FILE", FLAG_TEXT, &asked.out, "GGUF file to write; replaced only by a whole new one"},
        {"ratings", "FILE", FLAG_TEXT, &asked.ratings, "events, as produce reads them (default: the store's edges)"},
        {"format", "FORMAT", FLAG_TEXT, &asked.format, "of it: csv, tsv, json, recbole (default: by its name)"},
        {"map", "FIELD=RULE", FLAG_LIST, &asked.maps, "a column of it, as for produce; again for more"},
        {"kind", "KIND", FLAG_TEXT, &asked.kind, "of its events without a kind column (default rating)"},
        {"time-unit", "s|ms", FLAG_TEXT, &asked.time_unit, "of its timestamps (default: s for RecBole, else ms)"},
        {"to", "MS", FLAG_NUMBER, &asked.before_ms, "only events earlier than this, ms since 1970 (default: all)"},
        {"edges", "all|likes", FLAG_TEXT, &asked.edges, "which edges train (default: graph.edges)"},
        {"model", "NAME", FLAG_TEXT, &asked.model, "lightgcn (default), or fm: no layers, a bias an item"},
        {"layers", "K", FLAG_NUMBER, &asked.layers, "of the propagation (default: graph.layers)"},
        {"dimension", "N", FLAG_NUMBER, &asked.dimension, "of a vector (default: graph.dimension)"},
        {"epochs", "N", FLAG_NUMBER, &asked.epochs, "at most so many (default 300)"},
        {"batch", "N", FLAG_NUMBER, &asked.batch, "edges a step; each step costs the whole graph (default 2048)"},
        {"negatives", "N", FLAG_NUMBER, &asked.negatives, "items the user does not have, an edge (default 1)"},
        {"learning-rate", "X", FLAG_DECIMAL, &asked.learning_rate, "Adam's (default 0.002)"},
        {"l2", "X", FLAG_DECIMAL, &asked.l2, "penalty on the vectors (default 0.0001)"},
        {"validate", "SHARE", FLAG_DECIMAL, &asked.held_share,
         "the latest edges, held out to tell when to stop (default 0.1; 0: none)"},
        {"patience", "N", FLAG_NUMBER, &asked.patience,
         "epochs without a better recall@20 before the end (default 20)"},
        {"seed", "N", FLAG_NUMBER, &asked.seed, "the same seed and edges give the same file (default 1)"},
        {"threads", "N", FLAG_NUMBER, &asked.threads, "that compute (default: one a processor)"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "train",
        .operands = "graph",
        .summary =
            "Base vectors of users and items: LightGCN on the graph, by BPR and Adam with uniform negatives.\n"
            "The epoch that ranks the held-out edges best is written; those edges train nothing. Rows of the\n"
            "file that cannot be read are shown, counted and left out. For exit heads: headrace train heads --help",
        .example = "headrace train graph --ratings ml-100k.inter --out vectors.gguf\n"
                   "  headrace train graph --config headrace.yaml --to 886000000000 --edges likes --out vectors.gguf\n"
                   "  headrace train graph --ratings ratings.csv --map item_id=movie --time-unit s --model fm --out "
                   "fm.gguf",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .least_operands = 1,
        .most_operands = 1};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    int32_t kind;
    struct config *config = NULL;
    int code = check_usage(&usage, &asked, argv[operand], &kind);
    if (code == EXIT_FINE)
        code = setup_config("train", &config_flags, &config);
    else
        flag_list_free(&config_flags.sets);
    if (code == EXIT_FINE) {
        struct error err;
        if (run_asked(&asked, kind, config, &err) != 0)
            code = setup_failed("train", &err);
    }
    flag_list_free(&asked.maps);
    config_destroy(config);
    return code;
}
