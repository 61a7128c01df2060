#include "replay/logged.h"

#include "replay/join.h"

static const struct graph_settings likes = {.like_threshold = 4, .like_inclusive = true};

static void join(struct joined *joined, struct replay_log *log, int64_t window_ms)
{
    struct join_settings settings = {
        .graph = &likes, .label_window_ms = window_ms, .untimed = replay_log_untimed(log), .seed = 3};
    struct error err;
    size_t count;
    must(replay_log_order(log, &err), &err);
    const struct source_message *messages = replay_log_messages(log, &count);
    must(join_requests(joined, messages, count, &settings, &err), &err);
}

static void assert_row(const struct joined *joined, size_t row, int64_t timestamp_ms, const char *item, int label,
                       int64_t known_ms)
{
    assert_true(row < joined->row_count);
    assert_int_equal(joined->rows[row].timestamp_ms, timestamp_ms);
    assert_true(text_equal(joined->item_ids[row], text_of(item)));
    assert_int_equal(joined->rows[row].label, label);
    assert_int_equal(joined->rows[row].known_ms, known_ms);
}

enum { NONE = TRAJECTORY_UNLABELLED };

static void ratings_of_one_time_are_a_request_before_themselves(void **state)
{
    (void)state;
    struct replay_log *log = replay_log_create();
    struct joined joined;
    logged_ratings(log, "ann,alien,5,200\nbob,alien,3,200\nann,brazil,2,200\nann,casablanca,4,100\nann,brazil,5,200\n");
    join(&joined, log, 0);
    assert_int_equal(joined.request_count, 3);
    assert_int_equal(joined.row_count, 4); /* brazil once */
    assert_row(&joined, 0, 100, "casablanca", 1, 100);
    assert_row(&joined, 1, 200, "alien", 1, 200);
    assert_row(&joined, 2, 200, "brazil", 0, 200);
    assert_row(&joined, 3, 200, "alien", 0, 200);
    assert_true(text_equal(joined.requests[1].user_id, text_of("ann")) && joined.requests[1].row_count == 2);
    assert_true(text_equal(joined.requests[2].user_id, text_of("bob")) && joined.requests[2].row_count == 1);
    assert_int_equal(joined.rows[1].user, joined.rows[0].user);
    assert_int_equal(joined.rows[1].item, joined.rows[3].item);
    joined_free(&joined);
    replay_log_destroy(log);
}

static void a_click_within_the_window_is_yes_and_its_end_is_no(void **state)
{
    (void)state;
    struct replay_log *log = replay_log_create();
    struct joined joined;
    logged_add(log, &interaction_type, ".jsonl",
               "{\"user_id\":\"ann\",\"item_id\":\"a\",\"timestamp\":100,\"kind\":\"impression\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"b\",\"timestamp\":100,\"kind\":\"impression\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"c\",\"timestamp\":100,\"kind\":\"impression\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"a\",\"timestamp\":150,\"kind\":\"click\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"b\",\"timestamp\":151,\"kind\":\"click\"}\n"
               "{\"user_id\":\"bob\",\"item_id\":\"c\",\"timestamp\":120,\"kind\":\"click\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"d\",\"timestamp\":180,\"kind\":\"impression\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"e\",\"timestamp\":230,\"kind\":\"like\"}\n",
               false);
    join(&joined, log, 50);
    assert_int_equal(joined.request_count, 2);
    assert_row(&joined, 0, 100, "a", 1, 150);
    assert_row(&joined, 1, 100, "b", 0, 150);          /* a moment too late */
    assert_row(&joined, 2, 100, "c", 0, 150);          /* somebody else's click */
    assert_row(&joined, 3, 180, "d", NONE, INT64_MIN); /* the log ends with the window: it may still come */
    joined_free(&joined);
    replay_log_destroy(log);
}

static void requests_are_joined_by_id_then_by_user_and_item(void **state)
{
    (void)state;
    struct replay_log *log = replay_log_create();
    struct joined joined;
    logged_add(log, &score_request_type, ".jsonl",
               "{\"request_id\":\"r1\",\"user_id\":\"ann\",\"timestamp\":100,"
               "\"candidates\":[{\"item_id\":\"a\"},{\"item_id\":\"b\"}]}\n"
               "{\"request_id\":\"r2\",\"user_id\":\"ann\",\"timestamp\":110,"
               "\"candidates\":[{\"item_id\":\"a\"},{\"item_id\":\"b\"}]}\n",
               false);
    logged_add(log, &interaction_type, ".jsonl",
               "{\"user_id\":\"ann\",\"item_id\":\"a\",\"timestamp\":120,\"kind\":\"click\",\"request_id\":\"r1\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"b\",\"timestamp\":121,\"kind\":\"dislike\"}\n"
               "{\"user_id\":\"ann\",\"item_id\":\"b\",\"timestamp\":122,\"kind\":\"like\"}\n"
               "{\"user_id\":\"eve\",\"item_id\":\"z\",\"timestamp\":900,\"kind\":\"like\"}\n",
               false);
    join(&joined, log, 60);
    assert_int_equal(joined.request_count, 2);
    assert_non_null(joined.requests[0].logged);
    assert_row(&joined, 0, 100, "a", 1, 120);
    assert_row(&joined, 1, 100, "b", 0, 160);
    assert_row(&joined, 2, 110, "a", 0, 170);
    assert_row(&joined, 3, 110, "b", 0, 121); /* the first verdict */
    joined_free(&joined);
    replay_log_destroy(log);
}

static void what_was_not_shown_is_not_no(void **state)
{
    (void)state;
    struct replay_log *log = replay_log_create();
    struct joined joined;
    logged_add(log, &score_request_type, ".jsonl",
               "{\"request_id\":\"r1\",\"user_id\":\"ann\",\"timestamp\":100,"
               "\"candidates\":[{\"item_id\":\"a\"},{\"item_id\":\"b\"}]}\n",
               false);
    logged_add(log, &interaction_type, ".jsonl",
               "{\"user_id\":\"ann\",\"item_id\":\"a\",\"timestamp\":101,\"kind\":\"impression\"}\n"
               "{\"user_id\":\"eve\",\"item_id\":\"z\",\"timestamp\":900,\"kind\":\"like\"}\n",
               false);
    join(&joined, log, 60);
    assert_row(&joined, 0, 100, "a", 0, 160);
    assert_row(&joined, 1, 100, "b", NONE, INT64_MIN);
    joined_free(&joined);
    replay_log_destroy(log);
}

static void without_times_one_event_of_each_user_is_asked(void **state)
{
    (void)state;
    struct replay_log *log = replay_log_create();
    struct joined joined;
    logged_add(log, &interaction_type, ".csv",
               "user_id,item_id,rating\nann,a,5\nann,b,1\nann,c,5\nbob,a,4\nbob,b,2\neve,c,3\n", true);
    assert_true(replay_log_untimed(log));
    join(&joined, log, 0);
    assert_int_equal(joined.request_count, 3);
    assert_int_equal(joined.row_count, 3);
    size_t count, targets = 0;
    const struct source_message *messages = replay_log_messages(log, &count);
    for (size_t i = 0; i < count; i++) {
        const struct interaction *event = messages[i].message;
        if (!joined.targets[i])
            continue;
        size_t row = 0;
        while (!text_equal(joined.requests[row].user_id, event->user_id))
            row++;
        assert_row(&joined, row, 1,
                   event->item_id.data[0] == 'a'   ? "a"
                   : event->item_id.data[0] == 'b' ? "b"
                                                   : "c",
                   event->value >= 4, 1);
        targets++;
    }
    assert_int_equal(targets, 3);
    joined_free(&joined);
    replay_log_destroy(log);
}

static bool not_bob(void *context, const struct joined_request *request)
{
    (void)context;
    return !text_equal(request->user_id, text_of("bob"));
}

static void what_is_kept_is_numbered_anew(void **state)
{
    (void)state;
    struct replay_log *log = replay_log_create();
    struct joined joined;
    struct error err;
    logged_ratings(log, "bob,a,5,100\nann,b,5,110\nbob,c,5,120\neve,c,1,130\nann,b,5,130\n");
    join(&joined, log, 0);
    must(joined_keep(&joined, not_bob, NULL, &err), &err);
    assert_int_equal(joined.request_count, 3);
    assert_true(joined.users == 2 && joined.items == 2);
    const uint32_t expected[3][3] = {{0, 0, 0}, {1, 0, 0}, {2, 1, 1}}; /* request, user, item: ann comes before eve */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(joined.requests[i].first_row, i);
        assert_int_equal(joined.rows[i].request, expected[i][0]);
        assert_int_equal(joined.rows[i].user, expected[i][1]);
        assert_int_equal(joined.rows[i].item, expected[i][2]);
    }
    joined_free(&joined);
    replay_log_destroy(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ratings_of_one_time_are_a_request_before_themselves),
        cmocka_unit_test(a_click_within_the_window_is_yes_and_its_end_is_no),
        cmocka_unit_test(requests_are_joined_by_id_then_by_user_and_item),
        cmocka_unit_test(what_was_not_shown_is_not_no),
        cmocka_unit_test(without_times_one_event_of_each_user_is_asked),
        cmocka_unit_test(what_is_kept_is_numbered_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
