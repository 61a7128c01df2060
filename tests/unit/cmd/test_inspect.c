#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "cmd/commands.h"
#include "cmd/flags.h"
#include "cmd/heads_file.h"
#include "cmd/printed.h"
#include "graph/graph.h"
#include "stream/broker.h"

enum { MOST_ARGUMENTS = 24 };

static char directory[256], state_option[300];
static char out[1 << 16], errors[1 << 16]; /* what the last command printed */

/* Arguments parted by single blanks; the store and the tiny model are set. Returns the exit code. */
static int run(int (*command)(int, char **), const char *line)
{
    static char words[2048];
    char *arguments[MOST_ARGUMENTS];
    snprintf(words, sizeof words,
             "command --set %s --set graph.edges=all --set model.path=" HEADRACE_GOLDEN "/tiny.gguf %s", state_option,
             line);
    int argc = printed_split(words, arguments);
    return printed_run(command, argc, arguments, out, errors, sizeof out);
}

static void expect(const char *text, const char *words)
{
    if (strstr(text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, words);
}

static void expect_not(const char *text, const char *words)
{
    if (strstr(text, words) != NULL)
        fail_msg("\"%s\" says \"%s\"", text, words);
}

static json_t *run_json(const char *line)
{
    int code = run(command_inspect, line);
    if (code != EXIT_FINE)
        fail_msg("%s: %s", line, errors);
    json_error_t problem;
    json_t *document = json_loads(out, 0, &problem);
    if (document == NULL)
        fail_msg("%s: %s", line, problem.text);
    return document;
}

static json_int_t number(const json_t *document, const char *name)
{
    const json_t *value = json_object_get(document, name);
    if (!json_is_integer(value))
        fail_msg("no number %s in %s", name, out);
    return json_integer_value(value);
}

static void check_result(int result, const struct error *err)
{
    if (result != 0)
        fail_msg("%s", err->message);
}

static void rate(struct graph *graph, const char *user, const char *item, int64_t timestamp_ms, double value)
{
    struct error err;
    struct interaction event = {.user_id = text_of(user),
                                .item_id = text_of(item),
                                .timestamp_ms = timestamp_ms,
                                .kind = INTERACTION_RATING,
                                .has_value = true,
                                .value = value};
    check_result(graph_put_interaction(graph, &event, &err), &err);
}

/* Three users, two films with titles (one of them hostile) and one item without. */
static int fill_store(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/inspect-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(state_option, sizeof state_option, "state.dir=%s/store", directory);
    char store[280];
    snprintf(store, sizeof store, "%s/store", directory);
    const struct graph_settings settings = {.directory = store,
                                            .like_threshold = 4,
                                            .like_inclusive = true,
                                            .layers = 3,
                                            .dimension = 64,
                                            .push_threshold = 0.1f,
                                            .seed = 1};
    struct graph *graph;
    struct error err;
    check_result(graph_open(&graph, &settings, &err), &err);
    struct attribute genre = {text_of("genre"), text_of("Drama")}, age = {text_of("age"), text_of("30")};
    struct item items[] = {
        {.item_id = text_of("i1"), .title = text_of("First Film"), .attributes = &genre, .attribute_count = 1},
        {.item_id = text_of("i2"), .title = text_of("\x1b[31mred\nline")}};
    struct user user = {.user_id = text_of("u1"), .profile = &age, .profile_count = 1};
    for (size_t i = 0; i < 2; i++)
        check_result(graph_put_item(graph, &items[i], &err), &err);
    check_result(graph_put_user(graph, &user, &err), &err);
    rate(graph, "u1", "i2", 1000, 5);
    rate(graph, "u1", "i3", 2000, 2);
    rate(graph, "u2", "i1", 3000, 4);
    rate(graph, "u2", "i2", 4000, 4);
    rate(graph, "u3", "i1", 5000, 1);
    check_result(graph_put_offset(graph, "interactions", 3, 77, &err), &err);
    check_result(graph_commit(graph, &err), &err);
    graph_close(graph);
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static int remove_store(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void graph_counts_what_the_store_holds(void **state)
{
    (void)state;
    json_t *document = run_json("graph --json");
    assert_int_equal(number(document, "events"), 5);
    assert_int_equal(number(document, "users"), 3);
    assert_int_equal(number(document, "items"), 3);
    assert_int_equal(number(document, "titles"), 2);
    assert_int_equal(number(document, "edges"), 5);
    assert_int_equal(number(document, "newest_event_ms"), 5000);
    const json_t *offsets = json_object_get(document, "offsets");
    assert_int_equal(json_array_size(offsets), 1); /* though partitions 0 to 2 were never read */
    assert_int_equal(number(json_array_get(offsets, 0), "partition"), 3);
    assert_int_equal(number(json_array_get(offsets, 0), "next_offset"), 77);
    json_decref(document);
    assert_int_equal(run(command_inspect, "graph"), EXIT_FINE);
    expect(out, "1970-01-01T00:00:05.000Z");
}

static void graph_tells_of_embeddings_memory_and_disk(void **state)
{
    (void)state;
    json_t *document = run_json("graph --json");
    const json_t *embeddings = json_object_get(document, "embeddings");
    assert_float_equal(json_real_value(json_object_get(embeddings, "bound")), 0, 0); /* just computed */
    assert_float_equal(json_real_value(json_object_get(embeddings, "epsilon")), 0.1, 1e-6);
    assert_float_equal(json_real_value(json_object_get(json_object_get(embeddings, "angle"), "largest")), 0, 0);
    assert_int_equal(number(embeddings, "backlog"), 0);
    assert_true(number(embeddings, "operations") > 0);
    const json_t *memory = json_object_get(document, "memory");
    static const char *const kinds[] = {"ids", "nodes", "edges", "embeddings", "descriptions", "store_buffers"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        assert_true(number(memory, kinds[i]) > 0);
    const json_t *families = json_object_get(document, "families");
    assert_int_equal(number(json_object_get(families, "pairs"), "keys"), 5);
    json_decref(document);
    assert_int_equal(run(command_inspect, "graph"), EXIT_FINE);
    expect(out, "epsilon in force         0.1");
    expect(out, "0.00 for all");
    expect(out, "in memory");
    expect(out, "pairs                   5");
}

static void a_user_shows_profile_history_and_similar_users(void **state)
{
    (void)state;
    assert_int_equal(run(command_inspect, "user u1"), EXIT_FINE);
    expect(out, "age             30");
    expect(out, "2: 1 likes, 1 dislikes, 0 neutral");
    expect(out, "0.5000"); /* 1 + 1 of 2 + 2 */
    expect(out, "(no title)");
    expect(out, "similar user");
    json_t *document = run_json("user u1 --json --limit 1 --set graph.edges=all");
    const json_t *events = json_object_get(document, "newest_events");
    assert_int_equal(json_array_size(events), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(events, 0), "item_id")), "i3");
    assert_int_equal(json_array_size(json_object_get(document, "similar_users")), 2);
    json_decref(document);
}

static void only_what_happened_before_counts(void **state)
{
    (void)state;
    json_t *document = run_json("user u1 --json --as-of 2000"); /* a tie is not earlier */
    assert_int_equal(number(document, "edges"), 1);
    assert_int_equal(number(document, "as_of"), 2000);
    assert_int_equal(json_array_size(json_object_get(document, "newest_edges_then")), 1);
    json_decref(document);
    document = run_json("item i1 --json --as-of 1970-01-01T00:00:05Z");
    assert_int_equal(number(document, "edges"), 1);
    assert_int_equal(number(document, "likes"), 1);
    assert_int_equal(number(document, "dislikes"), 0);
    json_decref(document);
}

/* i1 is rated again, i2 taken back. */
static int fill_past(char option[300], const char *name)
{
    char store[280];
    snprintf(store, sizeof store, "%s/%s", directory, name);
    snprintf(option, 300, "--set state.dir=%s", store);
    const struct graph_settings settings = {
        .directory = store, .like_threshold = 4, .like_inclusive = true, .layers = 3, .dimension = 64};
    struct graph *graph;
    struct error err;
    check_result(graph_open(&graph, &settings, &err), &err);
    struct interaction removal = {.user_id = text_of("u1"),
                                  .item_id = text_of("i2"),
                                  .timestamp_ms = 86400000 * INT64_C(5),
                                  .kind = INTERACTION_REMOVE};
    rate(graph, "u1", "i1", 86400000 * INT64_C(1), 5);
    rate(graph, "u1", "i2", 86400000 * INT64_C(2), 4);
    rate(graph, "u1", "i1", 86400000 * INT64_C(4), 1);
    check_result(graph_put_interaction(graph, &removal, &err), &err);
    check_result(graph_commit(graph, &err), &err);
    graph_close(graph);
    return 0;
}

static void a_user_of_the_past_has_the_edges_of_then(void **state)
{
    (void)state;
    static const struct {
        const char *flags;
        int edges, likes;
    } times[] = {
        {"--as-of 1970-01-02", 0, 0}, {"--as-of 1970-01-02T00:00:00.001Z", 1, 1},
        {"--as-of 1970-01-04", 2, 2}, {"--as-of 1970-01-06", 2, 1},
        {"--as-of 1970-01-07", 1, 0}, {"", 1, 0},
    };
    char option[300], line[500];
    fill_past(option, "past");
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        snprintf(line, sizeof line, "user u1 --json %s %s", times[i].flags, option);
        json_t *document = run_json(line);
        assert_int_equal(number(document, "edges"), times[i].edges);
        assert_int_equal(number(document, "likes"), times[i].likes);
        json_decref(document);
    }
    snprintf(line, sizeof line, "user u1 --as-of 1970-01-06 %s", option);
    assert_int_equal(run(command_inspect, line), EXIT_FINE);
    expect(out, "as of           1970-01-06T00:00:00.000Z");
    expect(out, "newest edges then");
    expect_not(out, "the window has taken");
    snprintf(line, sizeof line, "user u1 --as-of 1970-01-06 %s --set graph.window_days=2", option);
    assert_int_equal(run(command_inspect, line), EXIT_FINE);
    expect(out, "the window has taken away what is earlier than 1970-01-04T00:00:00.000Z");
    expect(out, "1: 0 likes, 1 dislikes");
    snprintf(line, sizeof line, "item i2 --as-of 1970-01-06 %s", option);
    assert_int_equal(run(command_inspect, line), EXIT_FINE);
    expect(out, "removed since are not known");
}

static void similar_users_are_of_all_or_of_those_who_know_an_item(void **state)
{
    (void)state;
    json_t *document = run_json("similar u1 --json --set graph.edges=all");
    const json_t *users = json_object_get(document, "similar_users");
    assert_int_equal(json_array_size(users), 2);
    const json_t *first = json_array_get(users, 0), *second = json_array_get(users, 1);
    assert_string_equal(json_string_value(json_object_get(first, "user_id")), "u2");
    assert_int_equal(number(first, "edges"), 2);
    assert_int_equal(number(first, "shared_items"), 1);
    assert_int_equal(number(first, "newest_edge_ms"), 4000);
    assert_true(json_real_value(json_object_get(first, "cosine")) >=
                json_real_value(json_object_get(second, "cosine")));
    json_decref(document);
    document = run_json("similar u1 --item i1 --json --limit 1 --set graph.edges=all --as-of 4000");
    users = json_object_get(document, "similar_users");
    assert_int_equal(json_array_size(users), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(users, 0), "verdict")), "like");
    json_decref(document);
    assert_int_equal(run(command_inspect, "similar u1 --item i1 --set graph.edges=all"), EXIT_FINE);
    expect(out, "the users of item i1");
    expect(out, "dislike");
    assert_int_equal(run(command_inspect, "similar u1 --item i3"), EXIT_FINE);
    expect(out, "nobody");
}

static void an_item_shows_title_attributes_and_newest_edges(void **state)
{
    (void)state;
    assert_int_equal(run(command_inspect, "item i1"), EXIT_FINE);
    expect(out, "First Film");
    expect(out, "genre           Drama");
    const char *newer = strstr(out, "1970-01-01T00:00:05.000Z"), *older = strstr(out, "1970-01-01T00:00:03.000Z");
    assert_true(newer != NULL && older != NULL && newer < older);
}

static void a_title_cannot_act_on_the_terminal(void **state)
{
    (void)state;
    assert_int_equal(run(command_inspect, "item i2"), EXIT_FINE);
    expect(out, "?[31mred?line");
    expect_not(out, "\x1b");
    assert_int_equal(run(command_inspect, "user u2"), EXIT_FINE);
    expect_not(out, "\x1b");
    assert_int_equal(run(command_score, "--set engine.weights_cache=none --user u2 --items i2,i1 --explain"),
                     EXIT_FINE);
    expect(out, "?[31mred?line");
    expect(out, "First Film");
    expect(out, "prompt:");
    expect_not(out, "\x1b");
}

static void the_prompt_is_shown_part_by_part_with_its_tokens(void **state)
{
    (void)state;
    json_t *document = run_json("prompt --user u1 --item i1 --json");
    const json_t *parts = json_object_get(document, "parts");
    assert_int_equal(json_array_size(parts), 3);
    assert_true(json_is_true(json_object_get(document, "cold_user")));
    const json_t *candidate = json_array_get(parts, 2);
    expect(json_string_value(json_object_get(candidate, "text")), "First Film");
    size_t tokens = json_array_size(json_object_get(candidate, "tokens"));
    assert_true(tokens > 0);

    assert_int_equal(run(command_inspect, "prompt --user u1 --item i1 --tokens"), EXIT_FINE);
    char words[64];
    snprintf(words, sizeof words, "candidate: %zu tokens", tokens);
    expect(out, words);
    snprintf(words, sizeof words, "\n  %5zu %7lld  \"", tokens - 1,
             (long long)json_integer_value(json_array_get(json_object_get(candidate, "tokens"), tokens - 1)));
    expect(out, words);
    expect(out, "COLD_USER");
    json_decref(document);
}

static void what_is_not_there_is_an_error(void **state)
{
    (void)state;
    static const char *const unknown[][2] = {
        {"user u9", "user \"u9\" is unknown"},
        {"item i9", "item \"i9\" is unknown"},
        {"similar u9", "user \"u9\" is unknown"},
        {"similar u1 --item i9", "item \"i9\" is unknown"},
        {"prompt --user u9 --item i1", "user \"u9\" is unknown"},
        {"prompt --user u1 --item i9", "item \"i9\" is unknown"},
        {"prompt --user u1 --item i3", "COLD_ITEM"},
        {"graph --set state.dir=/nonexistent", "/nonexistent"},
        {"model /nonexistent.gguf", "/nonexistent.gguf"},
    };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_int_equal(run(command_inspect, unknown[i][0]), EXIT_FAILED);
        expect(errors, unknown[i][1]);
    }
}

static void what_a_sub_word_does_not_take_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "grap",
                                        "user",
                                        "item",
                                        "graph x",
                                        "user u1 x",
                                        "user u1 --tokens",
                                        "prompt --user u1",
                                        "prompt u1",
                                        "graph --item i1",
                                        "graph --as-of 5",
                                        "edges --limit 5",
                                        "similar",
                                        "similar u1 --user u2",
                                        "model --as-of 5",
                                        "user u1 --as-of yesterday"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (run(command_inspect, wrong[i]) != EXIT_USAGE)
            fail_msg("\"%s\" was taken", wrong[i]);
}

static void a_model_shows_keys_tensors_shape_and_labels(void **state)
{
    (void)state;
    json_t *document = run_json("model --json");
    assert_int_equal(number(json_object_get(document, "model"), "layers"), 6);
    assert_int_equal(strlen(json_string_value(json_object_get(document, "hash"))), 16);
    assert_string_equal(json_string_value(json_object_get(json_object_get(document, "yes"), "piece")), "Yes");
    json_int_t bytes = 0;
    size_t index;
    const json_t *share;
    json_array_foreach(json_object_get(document, "tensors"), index, share) bytes += number(share, "bytes");
    assert_true(bytes > 0 && bytes < number(document, "bytes"));
    assert_null(json_object_get(document, "error"));
    json_decref(document);
}

static void a_file_of_heads_shows_sets_exits_origin_and_measures(void **state)
{
    (void)state;
    char path[300], line[400];
    snprintf(path, sizeof path, "%s/tiny.heads.gguf", directory);
    heads_file_write(&sound_heads, path);
    snprintf(line, sizeof line, "heads %s", path);
    assert_int_equal(run(command_inspect, line), EXIT_FINE);
    expect(out, "set text, best at layer 4");
    expect(out, "set hybrid");
    expect(out, "     0            -      alone     0.9000");
    expect(out, "     4     1 to   4         no     0.8000");
    expect(out, "     4     1 to   4        yes     0.8000");
    expect(out, "     2     1 to   2         no      never");
    expect(out, "text.4.auc                           0.743");
    expect(out, "item_like_rate, ");

    snprintf(line, sizeof line, "heads %s --json", path);
    json_t *document = run_json(line), *text = json_object_get(json_object_get(document, "sets"), "text");
    assert_int_equal(json_array_size(json_object_get(text, "exits")), 3);
    assert_int_equal(number(text, "reference"), 4);
    assert_true(json_number_value(json_object_get(json_object_get(document, "numbers"), "text.4.auc")) == 0.743);
    assert_int_equal(json_array_size(json_object_get(document, "features")), EVIDENCE_FEATURES);
    assert_int_equal(number(document, "seed"), 5);
    json_decref(document);

    snprintf(line, sizeof line, "--set heads.path=%s", path);
    assert_int_equal(run(command_check, line), EXIT_FINE);
    expect(out, "\u2713 heads      tiny:text: layers 6, exit 0 on");
    expect(out, "\u2713 exits      calibrated can fire on the evidence alone, of 6 layers");
    snprintf(line, sizeof line, "--set heads.path=%s --set exit.layers=2,4", path);
    assert_int_equal(run(command_check, line), EXIT_FINE);
    expect(out, "calibrated can fire on the evidence alone and after layers 4, of 6 layers");
    assert_int_equal(run(command_inspect, "heads " HEADRACE_GOLDEN "/tiny.gguf"), EXIT_FAILED);
    expect(errors, "is no file of exit heads");
    unlink(path);
}

/* The tiny model with its architecture renamed in place. */
static void a_file_of_another_architecture_still_shows_its_keys(void **state)
{
    (void)state;
    char path[300], line[320];
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(HEADRACE_GOLDEN "/tiny.gguf", "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    static const char key[] = "general.architecture";
    uint8_t *found = memmem(bytes, size, key, sizeof key - 1);
    assert_non_null(found);
    memcpy(found + sizeof key - 1 + 4 + 8, "camel", 5); /* behind the value's type and length */
    snprintf(path, sizeof path, "%s/camel.gguf", directory);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);

    snprintf(line, sizeof line, "model %s", path);
    assert_int_equal(run(command_inspect, line), EXIT_FAILED);
    expect(out, "general.architecture");
    expect(out, "camel");
    expect(errors, "camel");
    snprintf(line, sizeof line, "model %s --json", path);
    assert_int_equal(run(command_inspect, line), EXIT_FAILED);
    expect(out, "\"error\": ");
}

static void check_explains_values_and_hides_secrets(void **state)
{
    (void)state;
    assert_int_equal(run(command_check, "--set kafka.sasl.password=geheim --set exit.rule=ratio --set exit.layers=5"),
                     EXIT_FINE);
    expect(out, "kafka.sasl.password");
    expect_not(out, "geheim");
    expect(out, "\u2713 state");
    expect(out, "5 events, 3 users, 3 items, 5 edges");
    expect(out, "\u2713 model");
    expect(out, "\u2713 exits      ratio can fire after layers 5 of 6");
    expect(out, "\u2713 prompt");
    expect(out, "\u2713 heads      lm-head:5: layers 5, 6");
    expect(out, "- kafka");
    expect_not(out, "\u2717");
}

static void check_fails_with_each_thing_that_is_wrong(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"--set exit.rule=ratio --set exit.layers=1,2", "\u2717 exits"},
        {"--set exit.rule=ratio --set exit.layers=6", "\u2717 exits"},
        {"--set exit.rule=calibrated", "\u2717 exits"},
        {"--set exit.max_layer=7", "\u2717 heads"},
        {"--set heads.path=/nonexistent", "\u2717 heads"},
        {"--set model.path=/nonexistent", "\u2717 model"},
        {"--set model.path=", "\u2717 model"},
        {"--set prompt.template=/nonexistent", "\u2717 prompt"},
        {"--set state.dir=/dev/null", "\u2717 state"},
        {"--set state.dir=/nonexistent --set roles=score", "\u2717 state"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(run(command_check, wrong[i][0]), EXIT_FAILED);
        expect(out, wrong[i][1]);
    }
    assert_int_equal(run(command_check, "--set model.path= --set engine.backend=none"), EXIT_FINE);
    expect(out, "- model");
    expect(out, "- heads");
}

static void check_tries_broker_and_topics_and_creates_none(void **state)
{
    (void)state;
    struct broker *broker;
    struct error err;
    check_result(broker_start(&broker, &err), &err);
    static const char *const topics[] = {"score-requests", "scores", "score-requests.dead"};
    for (size_t i = 0; i < 3; i++)
        check_result(broker_create_topic(broker, topics[i], 2, &err), &err);
    char line[300];
    snprintf(line, sizeof line,
             "--connect --set roles=score --set exit.layers=5 --set kafka.bootstrap.servers=%s --set topics.scores=%s",
             broker_address(broker), "scores");
    assert_int_equal(run(command_check, line), EXIT_FINE);
    expect(out, "1 broker");
    expect(out, "\u2713 topic      scores: 2 partitions");
    strcpy(line + strlen(line) - strlen("scores"), "missing");
    for (int again = 0; again < 2; again++) { /* the first look must not have made it */
        assert_int_equal(run(command_check, line), EXIT_FAILED);
        expect(out, "\u2717 topic      missing does not exist");
        expect(out, "--create --topic missing");
    }
    broker_stop(broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_counts_what_the_store_holds),
        cmocka_unit_test(graph_tells_of_embeddings_memory_and_disk),
        cmocka_unit_test(a_user_shows_profile_history_and_similar_users),
        cmocka_unit_test(only_what_happened_before_counts),
        cmocka_unit_test(a_user_of_the_past_has_the_edges_of_then),
        cmocka_unit_test(similar_users_are_of_all_or_of_those_who_know_an_item),
        cmocka_unit_test(an_item_shows_title_attributes_and_newest_edges),
        cmocka_unit_test(a_title_cannot_act_on_the_terminal),
        cmocka_unit_test(the_prompt_is_shown_part_by_part_with_its_tokens),
        cmocka_unit_test(what_is_not_there_is_an_error),
        cmocka_unit_test(what_a_sub_word_does_not_take_is_refused),
        cmocka_unit_test(a_model_shows_keys_tensors_shape_and_labels),
        cmocka_unit_test(a_file_of_heads_shows_sets_exits_origin_and_measures),
        cmocka_unit_test(a_file_of_another_architecture_still_shows_its_keys),
        cmocka_unit_test(check_explains_values_and_hides_secrets),
        cmocka_unit_test(check_fails_with_each_thing_that_is_wrong),
        cmocka_unit_test(check_tries_broker_and_topics_and_creates_none),
    };
    return cmocka_run_group_tests(tests, fill_store, remove_store);
}
