#include "replay/logged.h"

#include <dirent.h>
#include <ftw.h>
#include <math.h>

#include "base/random.h"
#include "model/heads.h"
#include "replay/loop.h"
#include "replay/memo.h"

enum { USERS = 9, ITEMS = 14, RATINGS = 120, MOST_ROWS = 2 * RATINGS };

struct scene {
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    struct prompt_template *prompt;
    struct heads heads, other; /* the LM head's rows; the same with weights for the evidence, and an exit 0 */
    struct engine *engine;
    struct replay_log *log;
};

static struct replay_settings settings_of(const struct scene *scene)
{
    return (struct replay_settings){
        .graph = {.like_threshold = 4,
                  .like_inclusive = true,
                  .layers = 3,
                  .dimension = 16,
                  .push_threshold = 0.1f,
                  .push_budget = 4,
                  .seed = 1},
        .plan = {.similar_mode = SIMILAR_CANDIDATE, .similar_users = 4, .history_max = 5, .history_min = 3},
        .prompt = scene->prompt,
        .to_ms = INT64_MAX,
        .sample = 1,
        .split = {.shares = {8, 1, 1}},
        .vectors_ms = INT64_MIN,
        .heads_ms = INT64_MIN,
    };
}

static struct replay_model model_of(const struct scene *scene, const struct replay_heads *sets)
{
    return (struct replay_model){.engine = scene->engine,
                                 .model = &scene->model,
                                 .heads = &scene->heads,
                                 .sets = sets,
                                 .set_count = 2,
                                 .model_id = "tiny",
                                 .heads_id = "lm"};
}

/* Times in steps of 10 ms, about two ratings each; item 13 has no title. */
static void log_ratings(struct replay_log *log)
{
    struct random random = {11};
    struct buffer lines = {0}, titles = {0};
    for (int i = 0; i < ITEMS - 1; i++)
        buffer_printf(&titles, "i%d,film %d\n", i, i);
    for (int i = 0; i < RATINGS; i++)
        buffer_printf(&lines, "u%d,i%d,%d,%d\n", (int)random_below(&random, USERS), (int)random_below(&random, ITEMS),
                      1 + (int)random_below(&random, 5), 1000 + 10 * (int)random_below(&random, RATINGS / 2));
    logged_titles(log, buffer_string(&titles));
    logged_ratings(log, buffer_string(&lines));
    buffer_free(&lines);
    buffer_free(&titles);
}

static void weigh_evidence(struct heads *heads)
{
    struct random random = {5};
    heads->evidence_count = EVIDENCE_FEATURES;
    heads->exit0 = calloc(EVIDENCE_FEATURES, sizeof *heads->exit0);
    for (size_t e = 0; e < heads->count; e++)
        heads->exits[e].evidence = calloc(EVIDENCE_FEATURES, sizeof *heads->exits[e].evidence);
    for (size_t i = 0; i < EVIDENCE_FEATURES; i++) {
        heads->exit0[i] = (float)random_uniform(&random) - 0.5f;
        for (size_t e = 0; e < heads->count; e++)
            heads->exits[e].evidence[i] = (float)random_uniform(&random) - 0.5f;
    }
    heads->exit0_bias = 0.25f;
}

static int set_up(void **state)
{
    static struct scene scene;
    static const size_t layers[] = {2, 4};
    struct error err;
    must(gguf_open(&scene.gguf, HEADRACE_GOLDEN "/tiny.gguf", &err), &err);
    must(model_load(&scene.model, scene.gguf, &err), &err);
    must(tokenizer_create(&scene.tokenizer, scene.gguf, &err), &err);
    must(prompt_load(&scene.prompt, NULL, scene.tokenizer, &err), &err);
    for (int i = 0; i < 2; i++)
        must(heads_from_output(i == 0 ? &scene.heads : &scene.other, &scene.model, layers, 2, prompt_yes(scene.prompt),
                               prompt_no(scene.prompt), &err),
             &err);
    weigh_evidence(&scene.other);
    const struct engine_settings settings = {.threads = 1, .mode = ENGINE_F32, .prefix_cache_bytes = 1 << 20};
    must(engine_create(&scene.engine, &scene.model, &scene.heads, &settings, &err), &err);
    scene.log = replay_log_create();
    log_ratings(scene.log);
    *state = &scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    replay_log_destroy(scene->log);
    engine_destroy(scene->engine);
    heads_free(&scene->heads);
    heads_free(&scene->other);
    prompt_destroy(scene->prompt);
    tokenizer_destroy(scene->tokenizer);
    model_free(&scene->model);
    gguf_close(scene->gguf);
    return 0;
}

/* What a visitor has seen. */
struct seen {
    const struct scene *scene;
    const struct source_message *messages;
    size_t message_count;
    size_t requests, rows;
    float features[MOST_ROWS][EVIDENCE_FEATURES];
    struct trajectory_row row[MOST_ROWS];
    char user[MOST_ROWS][8], item[MOST_ROWS][8];
    double probability[MOST_ROWS]; /* by an engine call of its own; NaN: not rendered */
    bool ask;
};

/* Events of a user, or of an item, before a time: each pair counts once. */
static size_t pairs_before(const struct seen *seen, struct text user, struct text item, int64_t before_ms)
{
    bool met[USERS][ITEMS] = {{false}};
    size_t count = 0;
    for (size_t i = 0; i < seen->message_count; i++) {
        const struct interaction *event = seen->messages[i].message;
        if (seen->messages[i].topic != SOURCE_INTERACTIONS || event->timestamp_ms >= before_ms)
            continue;
        if ((user.data != NULL && !text_equal(event->user_id, user)) ||
            (item.data != NULL && !text_equal(event->item_id, item)))
            continue;
        bool *pair = &met[atoi(event->user_id.data + 1)][atoi(event->item_id.data + 1)];
        count += !*pair;
        *pair = true;
    }
    return count;
}

static double ask_engine(const struct seen *seen, const struct replay_request *request, size_t candidate)
{
    const size_t offsets[] = {request->offsets[candidate], request->offsets[candidate + 1]};
    const size_t from_0[] = {0, offsets[1] - offsets[0]};
    const struct engine_prompt prompt = {.prefix = request->prefix,
                                         .prefix_length = request->prefix_length,
                                         .tokens = request->tokens + offsets[0],
                                         .offsets = from_0,
                                         .candidate_count = 1};
    struct engine_score score;
    struct error err;
    must(engine_score(seen->scene->engine, &prompt, 1, &score, &err), &err);
    return (double)score.probability;
}

static int see(void *context, const struct replay_request *request, struct error *err)
{
    struct seen *seen = context;
    (void)err;
    assert_int_equal(request->number, seen->requests);
    assert_int_equal(request->first_row, seen->rows);
    for (size_t c = 0; c < request->request->candidate_count; c++, seen->rows++) {
        assert_true(seen->rows < MOST_ROWS);
        seen->row[seen->rows] = request->rows[c];
        memcpy(seen->features[seen->rows], &request->features[c * EVIDENCE_FEATURES], sizeof seen->features[0]);
        snprintf(seen->user[seen->rows], 8, TEXT_FORMAT, TEXT_ARGS(request->request->user_id));
        snprintf(seen->item[seen->rows], 8, TEXT_FORMAT, TEXT_ARGS(request->request->candidates[c].item_id));
        bool has_text = request->rendered && request->offsets[c + 1] > request->offsets[c];
        seen->probability[seen->rows] = has_text && seen->ask ? ask_engine(seen, request, c) : NAN;
    }
    seen->requests++;
    return 0;
}

static struct seen *run(const struct scene *scene, const struct replay_settings *settings, bool ask)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct replay_totals totals;
    struct error err;
    seen->scene = scene;
    seen->ask = ask;
    must(replay_log_order(scene->log, &err), &err);
    seen->messages = replay_log_messages(scene->log, &seen->message_count);
    const struct replay_visitor visitor = {seen, see};
    must(replay_run(scene->log, settings, &visitor, &totals, &err), &err);
    assert_int_equal(totals.rows, seen->rows);
    assert_int_equal(totals.requests, seen->requests);
    return seen;
}

static void a_request_knows_all_that_was_earlier_and_nothing_else(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    struct seen *seen = run(scene, &settings, false);
    size_t likes = 0;
    assert_true(seen->rows > RATINGS / 2);
    for (size_t i = 0; i < seen->rows; i++) {
        const struct trajectory_row *row = &seen->row[i];
        struct text user = text_of(seen->user[i]), item = text_of(seen->item[i]);
        assert_int_equal(row->user_events, pairs_before(seen, user, (struct text){0}, row->timestamp_ms));
        assert_int_equal(row->item_events, pairs_before(seen, (struct text){0}, item, row->timestamp_ms));
        assert_true(i == 0 || row->timestamp_ms >= seen->row[i - 1].timestamp_ms);
        assert_int_equal(row->known_ms, row->timestamp_ms);
        bool cold_item = strcmp(seen->item[i], "i13") == 0;
        assert_int_equal(row->status == CANDIDATE_COLD_ITEM, cold_item);
        assert_int_equal(row->tail_tokens == 0, cold_item);
        likes += row->label == 1;
    }
    assert_true(likes > seen->rows / 5 && likes < seen->rows / 2); /* two of five */
    free(seen);
}

static void sampling_changes_nothing_for_those_that_stay(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    struct seen *all = run(scene, &settings, false);
    for (int by_request = 0; by_request < 2; by_request++) {
        settings.sample = 0.5;
        settings.sample_requests = by_request;
        struct seen *some = run(scene, &settings, false);
        assert_true(some->rows > all->rows / 5 && some->rows < all->rows);
        size_t at = 0;
        for (size_t i = 0; i < some->rows; i++, at++) {
            while (at < all->rows &&
                   (all->row[at].timestamp_ms != some->row[i].timestamp_ms ||
                    strcmp(all->user[at], some->user[i]) != 0 || strcmp(all->item[at], some->item[i]) != 0))
                at++;
            assert_true(at < all->rows);
            assert_memory_equal(all->features[at], some->features[i], sizeof all->features[0]);
            assert_int_equal(all->row[at].part, some->row[i].part); /* the cuts are those of all */
        }
        free(some);
    }
    free(all);
}

static void a_limit_and_a_range_end_the_rows(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    struct seen *all = run(scene, &settings, false);
    settings.limit = 20;
    struct seen *some = run(scene, &settings, false);
    assert_in_range(some->rows, 20, 25);
    assert_memory_equal(some->features, all->features, some->rows * sizeof all->features[0]);
    free(some);
    settings.limit = 0;
    settings.from_ms = 1250;
    settings.to_ms = 1500;
    some = run(scene, &settings, false);
    size_t first = 0;
    while (all->row[first].timestamp_ms < 1250)
        first++;
    assert_memory_equal(some->features, all->features[first], some->rows * sizeof all->features[0]);
    assert_true(some->rows > 0 && some->row[some->rows - 1].timestamp_ms < 1500);
    free(some);
    settings = settings_of(scene);
    settings.warm = 0.5;
    some = run(scene, &settings, false);
    assert_in_range(some->rows, all->rows / 2 - 5, all->rows / 2 + 5);
    free(some);
    free(all);
}

static double sigmoid(double logit)
{
    return 1 / (1 + exp(-logit));
}

static void collect(const struct scene *scene, const struct replay_settings *settings, const struct replay_model *model,
                    struct trajectory *trajectory)
{
    struct replay_totals totals;
    struct error err;
    must(replay_collect(scene->log, settings, model, trajectory, &totals, &err), &err);
    assert_int_equal(trajectory->count, totals.rows);
    assert_int_equal(trajectory->users, totals.users);
    assert_int_equal(trajectory->items, totals.items);
}

static void a_trajectory_has_what_the_engine_answers(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    const struct replay_heads sets[] = {{"text", &scene->heads}, {"hybrid", &scene->other}};
    struct replay_model model = model_of(scene, sets);
    struct trajectory trajectory;
    struct seen *seen = run(scene, &settings, true);
    collect(scene, &settings, &model, &trajectory);
    size_t n = scene->model.layer_count;
    size_t text = trajectory_find(&trajectory, "text", n, n), hybrid = trajectory_find(&trajectory, "hybrid", n, n);
    assert_int_equal(trajectory.layers, n);
    assert_int_equal(trajectory_find(&trajectory, "exit0", 0, 0), 0);
    assert_true(text != SIZE_MAX && hybrid != SIZE_MAX);
    assert_int_equal(trajectory.reading_count, 1 + 2 * (2 + 4 + n)); /* a row of the LM head for every layer */
    assert_int_equal(trajectory.count, seen->rows);
    for (size_t i = 0; i < trajectory.count; i++) {
        const float *logits = &trajectory.logits[i * trajectory.reading_count];
        const float *features = &trajectory.features[i * EVIDENCE_FEATURES];
        assert_memory_equal(features, seen->features[i], sizeof seen->features[i]);
        assert_true(fabs((double)(logits[0] - heads_exit0_logit(&scene->other, features))) < 1e-4);
        if (isnan(seen->probability[i])) {
            assert_int_equal(trajectory.rows[i].status, CANDIDATE_COLD_ITEM);
            assert_true(isnan(logits[text]) && isnan(logits[hybrid]));
            continue;
        }
        const struct head *head = &scene->other.exits[scene->other.count - 1];
        double added = (double)head_evidence_logit(&scene->other, head, features);
        assert_true(fabs(sigmoid((double)logits[text]) - seen->probability[i]) < 1e-4);
        assert_true(fabs((double)logits[hybrid] - (double)logits[text] - added) < 1e-3);
    }
    trajectory_free(&trajectory);
    free(seen);
}

static void prompts_that_are_known_do_not_run_again(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    const struct replay_heads sets[] = {{"text", &scene->heads}, {"hybrid", &scene->other}};
    struct replay_model model = model_of(scene, sets);
    struct trajectory plain, with_memo;
    settings.plan.similar_mode = SIMILAR_NONE;
    settings.graph.result = EMBEDDING_FINAL;
    collect(scene, &settings, &model, &plain);
    model.memo = replay_memo_create();
    settings.graph.result = EMBEDDING_MEAN; /* another cosine, the same prompts */
    collect(scene, &settings, &model, &with_memo);
    assert_memory_not_equal(with_memo.features, plain.features, plain.count * EVIDENCE_FEATURES * sizeof(float));
    trajectory_free(&with_memo);

    uint64_t before = engine_token_layers(scene->engine);
    settings.graph.result = EMBEDDING_FINAL;
    collect(scene, &settings, &model, &with_memo);
    assert_int_equal(engine_token_layers(scene->engine), before);
    assert_int_equal(with_memo.count, plain.count);
    assert_memory_equal(with_memo.features, plain.features, plain.count * EVIDENCE_FEATURES * sizeof(float));
    assert_memory_equal(with_memo.logits, plain.logits, plain.count * plain.reading_count * sizeof(float));
    replay_memo_destroy(model.memo);
    trajectory_free(&with_memo);
    trajectory_free(&plain);
}

static void only_parts_that_are_asked_for_meet_the_model(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    const struct replay_heads sets[] = {{"text", &scene->heads}, {"hybrid", &scene->other}};
    struct replay_model model = model_of(scene, sets);
    struct trajectory all, some;
    collect(scene, &settings, &model, &all);
    settings.parts = 1u << TRAJECTORY_CALIBRATE | 1u << TRAJECTORY_TEST;
    collect(scene, &settings, &model, &some);
    size_t parts[TRAJECTORY_PARTS] = {0};
    assert_int_equal(some.count, all.count);
    for (size_t i = 0; i < all.count; i++) {
        size_t readings = all.reading_count;
        parts[all.rows[i].part]++;
        assert_int_equal(some.rows[i].part, all.rows[i].part);
        assert_memory_equal(&some.features[i * EVIDENCE_FEATURES], &all.features[i * EVIDENCE_FEATURES],
                            EVIDENCE_FEATURES * sizeof(float));
        if (all.rows[i].part != TRAJECTORY_TRAIN)
            assert_memory_equal(&some.logits[i * readings], &all.logits[i * readings], readings * sizeof(float));
        else
            assert_true(isnan(some.logits[i * readings + 1]) && !isnan(some.logits[i * readings]));
    }
    for (int part = 0; part < TRAJECTORY_PARTS; part++)
        assert_true(parts[part] > 0);
    trajectory_free(&all);
    trajectory_free(&some);
}

static volatile sig_atomic_t stop;

struct stopping {
    size_t left; /* rows until the stop */
    size_t rows, stride;
    size_t last;
};

static int stop_after(void *context, size_t row, const float *states, struct error *err)
{
    struct stopping *stopping = context;
    (void)err;
    for (size_t i = 0; i < stopping->stride; i++)
        assert_true(isfinite(states[i]));
    assert_true(stopping->rows == 0 || row > stopping->last);
    stopping->last = row;
    if (++stopping->rows == stopping->left)
        stop = 1;
    return 0;
}

static void a_stopped_run_goes_on_to_the_same_trajectory(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    const struct replay_heads sets[] = {{"text", &scene->heads}, {"hybrid", &scene->other}};
    struct stopping stopping = {.left = 40, .stride = scene->model.layer_count * scene->model.width};
    struct replay_model model = model_of(scene, sets);
    struct trajectory whole, resumed;
    struct replay_totals totals;
    struct error err;
    char path[256];
    collect(scene, &settings, &model, &whole);

    temporary_write(path, ".checkpoint", "", 0);
    unlink(path);
    model.states = stop_after;
    model.context = &stopping;
    model.checkpoint = path;
    settings.interrupted = &stop;
    assert_int_equal(replay_collect(scene->log, &settings, &model, &resumed, &totals, &err), -1);
    assert_int_equal(err.kind, ERROR_RETRY);
    size_t first = stopping.rows;
    assert_true(first >= 40 && first < whole.count / 2);

    stop = 0;
    stopping.left = 0;
    collect(scene, &settings, &model, &resumed);
    size_t cold = 0;
    for (size_t i = 0; i < whole.count; i++)
        cold += whole.rows[i].status == CANDIDATE_COLD_ITEM;
    assert_int_equal(stopping.rows, whole.count - cold); /* none twice */
    assert_int_equal(resumed.count, whole.count);
    for (size_t i = 0; i < whole.count; i++)
        assert_int_equal(resumed.rows[i].request, whole.rows[i].request);
    assert_memory_equal(resumed.features, whole.features, whole.count * EVIDENCE_FEATURES * sizeof(float));
    assert_memory_equal(resumed.logits, whole.logits, whole.count * whole.reading_count * sizeof(float));
    trajectory_free(&resumed);

    settings.seed = 99; /* another replay */
    assert_int_equal(replay_collect(scene->log, &settings, &model, &resumed, &totals, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    unlink(path);
    trajectory_free(&whole);
}

static int see_nothing(void *context, const struct replay_request *request, struct error *err)
{
    (void)context;
    (void)request;
    (void)err;
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void assert_fails(const struct scene *scene, const struct replay_settings *settings, const char *why)
{
    const struct replay_visitor visitor = {NULL, see_nothing};
    struct replay_totals totals;
    struct error err;
    assert_int_equal(replay_run(scene->log, settings, &visitor, &totals, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    if (strstr(err.message, why) == NULL)
        fail_msg("\"%s\" is not in: %s", why, err.message);
}

static void a_store_that_knows_the_future_fails_the_run(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    char directory[256];
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/replay-store-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(directory));
    settings.graph.directory = directory;
    free(run(scene, &settings, false)); /* leaves all events in the store */
    assert_fails(scene, &settings, "leak: row 0, ");
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void what_was_trained_on_the_future_fails_the_run(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    settings.vectors_ms = 1300;
    assert_fails(scene, &settings, "leak: row 0, ");
    settings.from_ms = 1301; /* from there on they are fine */
    free(run(scene, &settings, false));

    settings = settings_of(scene);
    settings.heads_ms = 1300; /* of the first half of the time: long before the test part */
    free(run(scene, &settings, false));
    settings.heads_ms = 100000;
    assert_fails(scene, &settings, "the heads were trained");
    settings.split.protocol = SPLIT_PAPER; /* where that is how things are */
    free(run(scene, &settings, false));
}

static size_t entries_of(const char *directory)
{
    DIR *open = opendir(directory);
    size_t count = 0;
    assert_non_null(open);
    for (struct dirent *entry; (entry = readdir(open)) != NULL;)
        count += strncmp(entry->d_name, "headrace-replay-", 16) == 0;
    closedir(open);
    return count;
}

static void nothing_is_left_behind(void **state)
{
    const struct scene *scene = *state;
    char directory[256], *before = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/replay-empty-XXXXXX", before ? before : "/tmp");
    assert_non_null(mkdtemp(directory));
    before = before == NULL ? NULL : strdup(before);
    setenv("TMPDIR", directory, 1);
    struct replay_settings settings = settings_of(scene);
    free(run(scene, &settings, false));
    settings.vectors_ms = INT64_MAX - 1;
    assert_fails(scene, &settings, "leak");
    assert_int_equal(entries_of(directory), 0);
    if (before != NULL)
        setenv("TMPDIR", before, 1);
    else
        unsetenv("TMPDIR");
    free(before);
    assert_int_equal(rmdir(directory), 0);
}

static void an_empty_log_and_an_empty_sample_say_so(void **state)
{
    const struct scene *scene = *state;
    struct replay_settings settings = settings_of(scene);
    const struct replay_visitor visitor = {NULL, see_nothing};
    struct replay_totals totals;
    struct error err;
    struct replay_log *empty = replay_log_create();
    assert_int_equal(replay_run(empty, &settings, &visitor, &totals, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    replay_log_destroy(empty);
    settings.sample = 0;
    assert_int_equal(replay_run(scene->log, &settings, &visitor, &totals, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
}

static void without_times_no_target_is_learned(void **state)
{
    const struct scene *scene = *state;
    struct scene untimed = *scene;
    struct replay_settings settings = settings_of(scene);
    struct replay_totals totals;
    struct error err;
    untimed.log = replay_log_create();
    logged_add(untimed.log, &interaction_type, ".csv",
               "user_id,item_id,rating\nu1,i1,5\nu1,i2,1\nu1,i3,5\nu2,i1,4\nu2,i2,2\nu3,i3,3\n", true);
    const struct replay_visitor visitor = {NULL, see_nothing};
    assert_int_equal(replay_run(untimed.log, &settings, &visitor, &totals, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    settings.split.protocol = SPLIT_PAPER;
    struct seen *seen = run(&untimed, &settings, false);
    assert_int_equal(seen->rows, 3);
    for (size_t i = 0; i < 3; i++) /* all but the target */
        assert_int_equal(seen->row[i].user_events, strcmp(seen->user[i], "u1") == 0   ? 2
                                                   : strcmp(seen->user[i], "u2") == 0 ? 1
                                                                                      : 0);
    free(seen);
    replay_log_destroy(untimed.log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_knows_all_that_was_earlier_and_nothing_else),
        cmocka_unit_test(sampling_changes_nothing_for_those_that_stay),
        cmocka_unit_test(a_limit_and_a_range_end_the_rows),
        cmocka_unit_test(a_trajectory_has_what_the_engine_answers),
        cmocka_unit_test(prompts_that_are_known_do_not_run_again),
        cmocka_unit_test(only_parts_that_are_asked_for_meet_the_model),
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_trajectory),
        cmocka_unit_test(a_store_that_knows_the_future_fails_the_run),
        cmocka_unit_test(what_was_trained_on_the_future_fails_the_run),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(an_empty_log_and_an_empty_sample_say_so),
        cmocka_unit_test(without_times_no_target_is_learned),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
