/* train_heads.c - `headrace train heads`: exit heads on the frozen model, from logged events */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/logged.h"
#include "cmd/train.h"
#include "cmd/train_heads.h"

struct asked {
    struct logged_flags logged;
    const char *out, *sets, *l2, *l2_evidence, *distill, *init;
    double from, to, rows_share, calibrate_share, lambda, beta, max_loss, learning_rate;
    int64_t epochs, patience;
};

struct job {
    const struct asked *asked;
    const struct config *config;
    struct heads_choices choices;
    bool wanted[HEADS_KINDS];
    char made_by[1024];
    struct answering answering;
    struct logged logged;
    struct heads_rows rows;
    struct pool *pool;
    struct heads_trainer *trainer;
    struct heads_exit0 exit0;
    struct heads_set sets[HEADS_KINDS];
};

static int load_rows(struct job *job, struct error *err)
{
    char cache[PATH_MAX], from[32], calibrate[32], to[32];
    int64_t start_ns = clock_monotonic_ns();
    const struct heads_source source = {
        .answering = &job->answering,
        .logged = &job->logged,
        .from = job->asked->from,
        .to = job->asked->to,
        .rows_share = job->asked->rows_share,
        .calibrate_share = job->asked->calibrate_share,
        .cache = setup_cache(job->config, cache),
    };
    if (heads_rows_load(&job->rows, &source, err) != 0)
        return -1;
    double seconds = clock_since_ms(start_ns) / 1000;
    size_t count = job->rows.count, train = job->rows.train;
    clock_format(job->rows.from_ms, from);
    clock_format(job->rows.calibrate_ms, calibrate);
    clock_format(job->rows.to_ms, to);
    printf("%zu rows train, %s to %s; %zu calibrate, up to %s\n", train, from, calibrate, count - train, to);
    if (job->rows.known)
        printf("hidden states as an earlier training kept them in %s\n", source.cache);
    else
        printf("hidden states of %zu rows after %zu layers in %.0f s, %.1f rows/s%s%s\n", count, job->rows.layers,
               seconds, (double)count / seconds, source.cache != NULL ? ", kept for the next training in " : "",
               source.cache != NULL ? source.cache : "");
    fflush(stdout);
    return 0;
}

static int train_sets(struct job *job, struct error *err)
{
    if (heads_trainer_create(&job->trainer, &job->rows, &job->choices, &job->answering.heads, job->pool, err) != 0 ||
        heads_train_exit0(job->trainer, &job->exit0, err) != 0)
        return -1;
    for (enum heads_kind kind = 0; kind < HEADS_KINDS; kind++) {
        if (interrupted)
            return error_set(err, ERROR_FATAL, "interrupted, nothing was written");
        if (job->wanted[kind] && heads_train_set(job->trainer, kind, &job->sets[kind], err) != 0)
            return -1;
    }
    return 0;
}

static void print_measure(const char *set, const struct heads_measure *measure, double l2, float leave, bool reference)
{
    char shown[32] = "";
    if (leave <= 0.5f)
        snprintf(shown, sizeof shown, "all");
    else if (leave <= 1.0f)
        snprintf(shown, sizeof shown, "from %.3f", (double)leave);
    printf("%-8s%5zu%8.4f%10.4f%9g%8.2f%8zu  %-10s%s\n", set, measure->layer, measure->auc, measure->log_loss, l2,
           measure->platt.slope, measure->epochs, shown, reference ? "reference" : "");
}

static void print_set(const struct job *job, enum heads_kind kind)
{
    const struct heads_set *set = &job->sets[kind];
    const struct calibrate_result *thresholds = &set->thresholds;
    if (kind == HEADS_HYBRID)
        print_measure("  after", &job->exit0.measure, job->exit0.l2, set->heads.exit0_leave, set->heads.reference == 0);
    for (size_t i = 0; i < set->heads.count; i++)
        print_measure(heads_kind_names[kind], &set->measures[i], set->l2, set->heads.exits[i].leave,
                      set->heads.exits[i].layer == set->heads.reference);
    if (set->distill > 0)
        printf("%-8slearned from exit 0's answers: %g of the target, labels the rest\n", "", set->distill);
    printf("%-8scalibrated: mean layer %.2f of %zu, log loss %+.4f above the reference's (at most %+.4f at 95 %%)\n",
           "", thresholds->cost, job->rows.layers, thresholds->increase, thresholds->bound);
}

static void print_result(const struct job *job)
{
    printf("\non the rows that calibrate:\n%-8s%5s%8s%10s%9s%8s%8s  %-10s\n", "set", "exit", "AUC", "log loss", "L2",
           "slope", "epochs", "leave");
    print_measure("exit0", &job->exit0.measure, job->exit0.l2, INFINITY, false);
    for (enum heads_kind kind = 0; kind < HEADS_KINDS; kind++)
        if (job->wanted[kind])
            print_set(job, kind);
}

static void put_measure(struct gguf_writer *writer, const char *set, const struct heads_measure *measure)
{
    heads_put_number(writer, set, measure->layer, "auc", measure->auc);
    heads_put_number(writer, set, measure->layer, "log_loss", measure->log_loss);
    heads_put_number(writer, set, measure->layer, "platt_slope", measure->platt.slope);
    heads_put_number(writer, set, measure->layer, "platt_intercept", measure->platt.intercept);
    heads_put_number(writer, set, measure->layer, "epochs", (double)measure->epochs);
}

static void put_set(struct gguf_writer *writer, const struct job *job, enum heads_kind kind)
{
    const struct heads_set *set = &job->sets[kind];
    const char *name = heads_kind_names[kind];
    heads_put(writer, name, &set->heads);
    for (size_t i = 0; i < set->heads.count; i++)
        put_measure(writer, name, &set->measures[i]);
    heads_put_number(writer, name, 0, "l2", set->l2);
    heads_put_number(writer, name, 0, "distill", set->distill);
    if (kind == HEADS_HYBRID)
        heads_put_number(writer, name, 0, "l2_evidence", set->l2_evidence);
    heads_put_number(writer, name, 0, "lambda", job->choices.lambda);
    heads_put_number(writer, name, 0, "beta", job->choices.beta);
    heads_put_number(writer, name, 0, "rows", (double)job->rows.train);
    heads_put_number(writer, name, 0, "calibrate_rows", (double)(job->rows.count - job->rows.train));
    heads_put_number(writer, name, 0, "max_loss", job->choices.max_loss);
    heads_put_number(writer, name, 0, "loss_increase", set->thresholds.increase);
    heads_put_number(writer, name, 0, "loss_increase_bound", set->thresholds.bound);
    heads_put_number(writer, name, 0, "mean_layer", set->thresholds.cost);
}

static struct heads_origin origin_of(const struct job *job)
{
    const struct answering *answering = &job->answering;
    struct heads_origin origin = {.yes = prompt_yes(answering->prompt),
                                  .no = prompt_no(answering->prompt),
                                  .seed = job->asked->logged.seed,
                                  .from_ms = job->rows.from_ms,
                                  .to_ms = job->rows.to_ms - 1};
    const char *arithmetic = engine_arithmetic(answering->engine);
    heads_model_hash(origin.model_hash, answering->gguf, &answering->model);
    snprintf(origin.template_hash, sizeof origin.template_hash, "%s", prompt_hash(answering->prompt));
    snprintf(origin.mode, sizeof origin.mode, "%.*s", (int)strcspn(arithmetic, " "), arithmetic);
    snprintf(origin.made_by, sizeof origin.made_by, "%s", job->made_by);
    return origin;
}

static int save(const struct job *job, struct error *err)
{
    struct gguf_writer writer = {0};
    struct heads_origin origin = origin_of(job);
    struct text names[EVIDENCE_FEATURES];
    const struct heads *any = NULL;
    for (size_t i = 0; i < EVIDENCE_FEATURES; i++)
        names[i] = text_of(evidence_names[i]);
    for (enum heads_kind kind = HEADS_KINDS; kind-- > 0;)
        if (job->wanted[kind])
            any = &job->sets[kind].heads;
    heads_put_file(&writer, any, &origin, names, EVIDENCE_FEATURES);
    heads_put_exit0(&writer, any);
    put_measure(&writer, "exit0", &job->exit0.measure);
    heads_put_number(&writer, "exit0", 0, "l2", job->exit0.l2);
    for (enum heads_kind kind = 0; kind < HEADS_KINDS; kind++)
        if (job->wanted[kind])
            put_set(&writer, job, kind);
    int result = gguf_writer_save(&writer, job->asked->out, err);
    gguf_writer_free(&writer);
    return result;
}

static int run_job(struct job *job, struct error *err)
{
    int result = -1;
    if (training_check_out(job->asked->out, err) != 0 ||
        logged_open(&job->logged, &job->asked->logged, job->config, &interrupted, err) != 0 ||
        setup_answering(job->config, &job->answering, err) != 0)
        goto out;
    if (job->answering.engine == NULL) {
        error_set(err, ERROR_BAD_INPUT, "heads are trained on hidden states: engine.backend must not be none");
        goto out;
    }
    job->pool = pool_create(setup_threads(job->config));
    if (job->pool == NULL) {
        error_set(err, ERROR_FATAL, "threads cannot be started");
        goto out;
    }
    if (load_rows(job, err) != 0 || train_sets(job, err) != 0 || save(job, err) != 0)
        goto out;
    print_result(job);
    printf("\n%s\n", job->asked->out);
    result = 0;
out:
    for (enum heads_kind kind = 0; kind < HEADS_KINDS; kind++)
        heads_free(&job->sets[kind].heads);
    heads_trainer_destroy(job->trainer);
    pool_destroy(job->pool);
    heads_rows_free(&job->rows);
    setup_answering_close(&job->answering);
    logged_close(&job->logged);
    return result;
}

static int ascending(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

/* "300,1000"; "auto": the defaults stay. */
static bool read_grid(const char *text, double least, double most, struct heads_grid *grid)
{
    if (strcmp(text, "auto") == 0)
        return true;
    grid->count = 0;
    for (const char *at = text;; at++) {
        char *end;
        double value = strtod(at, &end);
        if (end == at || grid->count == HEADS_GRID || !(value >= least && value <= most))
            return false;
        grid->values[grid->count++] = value;
        if (*end == '\0')
            break;
        if (*end != ',')
            return false;
        at = end;
    }
    qsort(grid->values, grid->count, sizeof *grid->values, ascending);
    return true;
}

static bool read_sets(const char *text, bool wanted[HEADS_KINDS])
{
    struct text rest = text_of(text);
    while (rest.size > 0) {
        struct text name = text_cut(&rest, ',');
        enum heads_kind kind = 0;
        while (kind < HEADS_KINDS && !text_equal(name, text_of(heads_kind_names[kind])))
            kind++;
        if (kind == HEADS_KINDS)
            return false;
        wanted[kind] = true;
    }
    return *text != '\0';
}

/* Directories are of no use to who makes it again elsewhere. */
static void write_command(char *out, size_t size, int argc, char **argv)
{
    struct buffer line = {0};
    buffer_append_string(&line, "headrace");
    for (int i = 0; i < argc; i++) {
        const char *equals = strchr(argv[i], '='), *slash = strrchr(argv[i], '/');
        bool names = equals != NULL && slash != NULL && equals < slash;
        struct buffer word = {0};
        if (names)
            buffer_append(&word, argv[i], (size_t)(equals + 1 - argv[i]));
        buffer_append_string(&word, slash != NULL ? slash + 1 : argv[i]);
        const char *quote = strpbrk(buffer_string(&word), " {}()*?$\"") != NULL ? "'" : "";
        buffer_printf(&line, " %s%s%s", quote, buffer_string(&word), quote);
        buffer_free(&word);
    }
    snprintf(out, size, "%s", buffer_string(&line));
    buffer_free(&line);
}

static int check_usage(const struct usage *usage, struct job *job)
{
    const struct asked *asked = job->asked;
    if (asked->out == NULL)
        return flags_wrong(usage, "--out is missing: the file to write");
    if (!(asked->from < asked->to) || asked->to > 1)
        return flags_wrong(usage, "--from %g --to %g: shares of the events, 0 <= from < to <= 1", asked->from,
                           asked->to);
    if (!(asked->rows_share > 0) || asked->rows_share > 1 || !(asked->calibrate_share > 0) ||
        asked->calibrate_share > 1)
        return flags_wrong(usage, "--rows-share and --calibrate-share: above 0, at most 1");
    if (!read_sets(asked->sets, job->wanted))
        return flags_wrong(usage, "--sets: \"%s\" is no list of text, hybrid, single", asked->sets);
    if (!read_grid(asked->l2, DBL_MIN, DBL_MAX, &job->choices.l2))
        return flags_wrong(usage, "--l2: \"%s\" is neither auto nor a list of numbers above 0", asked->l2);
    if (!read_grid(asked->l2_evidence, DBL_MIN, DBL_MAX, &job->choices.l2_evidence))
        return flags_wrong(usage, "--l2-evidence: \"%s\" is neither auto nor a list of numbers above 0",
                           asked->l2_evidence);
    if (!read_grid(asked->distill, 0, 1, &job->choices.distill))
        return flags_wrong(usage, "--distill: \"%s\" is neither auto nor a list of numbers from 0 to 1",
                           asked->distill);
    if (strcmp(asked->init, "lm_head") != 0 && strcmp(asked->init, "random") != 0)
        return flags_wrong(usage, "--init: \"%s\" is neither lm_head nor random", asked->init);
    if (!(asked->lambda > 0) || !(asked->learning_rate > 0) || asked->epochs < 1)
        return flags_wrong(usage, "--lambda, --learning-rate and --epochs must be above 0");
    return EXIT_FINE;
}

/* Whatever heads the configuration serves with: hidden states are wanted of all layers. */
static int force_settings(struct flag_list *sets, struct error *err)
{
    static const char *const forced[] = {"heads.path=", "exit.rule=full"};
    const char **values = realloc(sets->values, (sets->count + 2) * sizeof *values);
    if (values == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    sets->values = values;
    memcpy(values + sets->count, forced, sizeof forced);
    sets->count += 2;
    return 0;
}

static int run_asked(struct job *job, struct config_flags *config_flags, struct config **config)
{
    const struct asked *asked = job->asked;
    struct error err;
    job->choices.lambda = asked->lambda;
    job->choices.beta = asked->beta;
    job->choices.max_loss = asked->max_loss;
    job->choices.from_output = strcmp(asked->init, "lm_head") == 0;
    job->choices.seed = (uint64_t)asked->logged.seed;
    job->choices.adam = (struct train_settings){
        .learning_rate = asked->learning_rate, .epochs = (size_t)asked->epochs, .patience = (size_t)asked->patience};
    if (force_settings(&config_flags->sets, &err) != 0)
        return setup_failed("train", &err);
    int code = setup_config("train", config_flags, config);
    if (code != EXIT_FINE)
        return code;
    job->config = *config;
    interrupt_watch();
    return run_job(job, &err) == 0 ? EXIT_FINE : setup_failed("train", &err);
}

int command_train_heads(int argc, char **argv)
{
    const struct train_settings adam = train_defaults();
    struct config_flags config_flags = {0};
    struct asked asked = {.logged = LOGGED_DEFAULTS,
                          .sets = "text,hybrid",
                          .l2 = "auto",
                          .l2_evidence = "auto",
                          .distill = "auto",
                          .init = "random",
                          .from = 0.5,
                          .to = 0.75,
                          .rows_share = 0.1,
                          .calibrate_share = 0.9,
                          .lambda = 1,
                          .max_loss = 0.002,
                          .learning_rate = adam.learning_rate,
                          .epochs = (int64_t)adam.epochs,
                          .patience = (int64_t)adam.patience};
    struct job *job = calloc(1, sizeof *job);
    const struct flag flags[] = {
        LOGGED_FILE_FLAGS(asked.logged),
        {"out", "FILE", FLAG_TEXT, &asked.out, "*.heads.gguf to write; replaced only by a whole new one"},
        {"sets", "LIST", FLAG_TEXT, &asked.sets,
         "of text, hybrid, single (default text,hybrid); exit 0 is always there"},
        {"from", "SHARE", FLAG_DECIMAL, &asked.from, "of the events by time: where rows begin (default 0.5)"},
        {"to", "SHARE", FLAG_DECIMAL, &asked.to, "and end (default 0.75); the last tenth of them calibrates"},
        {"rows-share", "SHARE", FLAG_DECIMAL, &asked.rows_share, "of the rows that trains (default 0.1)"},
        {"calibrate-share", "SHARE", FLAG_DECIMAL, &asked.calibrate_share,
         "of the last tenth's rows (default 0.9: as many as train)"},
        {"l2", "LIST", FLAG_TEXT, &asked.l2, "penalties on hidden weights to choose from, on the sum of losses"},
        {"l2-evidence", "LIST", FLAG_TEXT, &asked.l2_evidence, "the same for evidence weights"},
        {"distill", "LIST", FLAG_TEXT, &asked.distill,
         "shares of exit 0's answers in what text heads learn, to choose from (default 0,0.5,1)"},
        {"lambda", "X", FLAG_DECIMAL, &asked.lambda, "weight of an exit's loss: lambda e^(-beta d), d exits from"},
        {"beta", "X", FLAG_DECIMAL, &asked.beta, "the last one (default 1 and 0)"},
        {"init", "NAME", FLAG_TEXT, &asked.init, "random (default) or lm_head: where training begins"},
        {"epochs", "N", FLAG_NUMBER, &asked.epochs, "of Adam, at most (default 3000)"},
        {"learning-rate", "X", FLAG_DECIMAL, &asked.learning_rate, "Adam's (default 0.003)"},
        {"patience", "N", FLAG_NUMBER, &asked.patience,
         "epochs without a better loss where it calibrates (default 100)"},
        {"max-loss", "X", FLAG_DECIMAL, &asked.max_loss,
         "that exits may cost over the reference depth (default 0.002)"},
        {"seed", "N", FLAG_NUMBER, &asked.logged.seed, "the same seed and events give the same heads (default 1)"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "train",
        .operands = "heads",
        .summary =
            "Exit heads on the frozen model: events are replayed, each a request just before itself, and heads\n"
            "learn from the hidden states. Penalties, Platt's scaling, thresholds of the rule `calibrated` and\n"
            "the reference depth come from the last tenth of the range. Hidden states are kept beside the packed\n"
            "weights (engine.weights_cache), so that the next training on the same rows takes seconds.",
        .example = "headrace train heads --events ml-100k.inter --items ml-100k.item --item-map 'title={movie_title} "
                   "({release_year})' --item-map attributes.genres=class:list --set model.path=model.gguf --out "
                   "ml-100k.heads.gguf",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .least_operands = 1,
        .most_operands = 1};
    struct config *config = NULL;
    struct error err;
    if (job == NULL) {
        error_set(&err, ERROR_FATAL, "out of memory");
        return setup_failed("train", &err);
    }
    job->asked = &asked;
    job->choices.l2 = (struct heads_grid){{1, 10, 100, 1000, 10000, 100000}, 6};
    job->choices.distill = (struct heads_grid){{0, 0.5, 1}, 3};
    job->choices.l2_evidence = (struct heads_grid){{1, 3, 10, 30, 100, 300}, 6};
    write_command(job->made_by, sizeof job->made_by, argc, argv);
    int operand = flags_parse(&usage, argc, argv), code = EXIT_USAGE;
    if (operand >= 0) {
        code = logged_check(&usage, &asked.logged);
        if (code == EXIT_FINE)
            code = check_usage(&usage, job);
        if (code == EXIT_FINE)
            code = run_asked(job, &config_flags, &config);
        else
            flag_list_free(&config_flags.sets);
        logged_flags_free(&asked.logged);
    } else if (operand == FLAGS_DONE) {
        code = EXIT_FINE;
    }
    config_destroy(config);
    free(job);
    return code;
}
