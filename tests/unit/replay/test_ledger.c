#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "replay/ledger.h"

static struct ledger *ledger;
static struct ledger_finding finding;
static struct error err;

static int begin(void **state)
{
    (void)state;
    ledger = ledger_create();
    return ledger == NULL;
}

static int end(void **state)
{
    (void)state;
    ledger_destroy(ledger);
    return 0;
}

static enum ledger_verdict produce(const char *user, const char *item)
{
    assert_int_equal(ledger_event(ledger, text_of(user), text_of(item), &finding, &err), 0);
    return finding.verdict;
}

/* A request for items i1 and i2. */
static enum ledger_verdict ask(const char *request, const char *user, int64_t timestamp_ms)
{
    const struct text items[] = {text_of("i1"), text_of("i2")};
    assert_int_equal(ledger_request(ledger, text_of(request), text_of(user), timestamp_ms, items, 2, &finding, &err),
                     0);
    return finding.verdict;
}

static enum ledger_verdict answer(const char *request, int64_t events_applied, int64_t newest_event_ms)
{
    ledger_response(ledger, text_of(request), events_applied, newest_event_ms, &finding);
    return finding.verdict;
}

static void honest_traffic_is_clean(void **state)
{
    (void)state;
    assert_int_equal(ask("r0", "u1", 50), LEDGER_CLEAN);
    assert_int_equal(answer("r0", 0, 0), LEDGER_CLEAN);
    assert_int_equal(produce("u1", "i9"), LEDGER_CLEAN);
    assert_int_equal(produce("u2", "i1"), LEDGER_CLEAN); /* another user's rating of the candidate */
    assert_int_equal(ask("r1", "u1", 100), LEDGER_CLEAN);
    assert_int_equal(produce("u3", "i1"), LEDGER_CLEAN);
    assert_int_equal(answer("r1", 2, 100), LEDGER_CLEAN);
    assert_int_equal(produce("u1", "i1"), LEDGER_CLEAN);
    assert_string_equal(finding.message, "");
    assert_int_equal(ledger_events(ledger), 4);
    assert_int_equal(ledger_open_requests(ledger), 0);
}

static void an_answer_produced_before_the_request_is_caught(void **state)
{
    (void)state;
    produce("u1", "i2");
    assert_int_equal(ask("r1", "u1", 100), LEDGER_ANSWER_KNOWN);
    assert_non_null(strstr(finding.message, "r1"));
    assert_non_null(strstr(finding.message, "i2"));
    assert_int_equal(answer("r1", 1, 100), LEDGER_CLEAN); /* the request was wrong, its state was not */
}

static void an_answer_produced_before_the_response_is_caught_when_it_is_produced(void **state)
{
    (void)state;
    ask("r1", "u1", 100);
    ask("r2", "u1", 100);
    assert_int_equal(produce("u1", "i1"), LEDGER_ANSWER_EARLY);
    assert_non_null(strstr(finding.message, "i1"));
    answer("r1", 0, 0);
    assert_int_equal(produce("u1", "i2"), LEDGER_ANSWER_EARLY); /* r2 still asks */
    answer("r2", 0, 0);
    assert_int_equal(produce("u1", "i2"), LEDGER_CLEAN);
}

static void an_event_let_in_early_is_caught_in_the_state(void **state)
{
    (void)state;
    produce("u2", "i1");
    ask("r1", "u1", 100);
    produce("u3", "i1");
    assert_int_equal(answer("r1", 2, 90), LEDGER_AHEAD);
    assert_non_null(strstr(finding.message, "2 events where only 1"));
}

static void an_event_that_the_ledger_never_saw_is_caught_in_the_state(void **state)
{
    (void)state;
    ask("r1", "u1", 100);
    assert_int_equal(answer("r1", 1, 90), LEDGER_AHEAD);
}

static void an_event_later_than_the_request_is_caught_whatever_the_count(void **state)
{
    (void)state;
    produce("u2", "i1");
    produce("u2", "i2");
    ask("r1", "u1", 100);
    ask("r2", "u1", 100);
    ask("r3", "u1", 100);
    assert_int_equal(answer("r1", 2, 101), LEDGER_FUTURE);
    assert_int_equal(answer("r2", 1, 101), LEDGER_FUTURE); /* a leak comes before a lag */
    assert_int_equal(answer("r3", 2, 100), LEDGER_CLEAN);
}

static void a_state_that_lags_is_told_from_a_leak(void **state)
{
    (void)state;
    produce("u2", "i1");
    produce("u2", "i2");
    ask("r1", "u1", 100);
    assert_int_equal(answer("r1", 1, 90), LEDGER_BEHIND);
    assert_non_null(strstr(finding.message, "not caught up"));
}

static void a_response_counts_once_and_only_if_asked_for(void **state)
{
    (void)state;
    assert_int_equal(answer("r1", 0, 0), LEDGER_UNASKED);
    ask("r1", "u1", 100);
    assert_int_equal(answer("r2", 0, 0), LEDGER_UNASKED);
    assert_int_equal(answer("r1", 0, 0), LEDGER_CLEAN);
    assert_int_equal(answer("r1", 0, 0), LEDGER_UNASKED);
}

static void a_request_id_used_twice_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    const struct text item = text_of("i5");
    ask("r1", "u1", 100);
    assert_int_equal(ledger_request(ledger, text_of("r1"), text_of("u1"), 100, &item, 1, &finding, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_non_null(strstr(err.message, "r1"));
    assert_int_equal(ledger_open_requests(ledger), 1);
    assert_int_equal(produce("u1", "i5"), LEDGER_CLEAN);
}

static void pairs_are_told_apart_whatever_their_ids(void **state)
{
    (void)state;
    assert_int_equal(produce("u", "1i1"), LEDGER_CLEAN);
    assert_int_equal(ask("r1", "u1", 100), LEDGER_CLEAN); /* asks for u1, i1 */
    assert_int_equal(produce("u1i", "1"), LEDGER_CLEAN);
}

static void long_traffic_keeps_its_books(void **state)
{
    (void)state;
    char user[16], item[16], request[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(user, sizeof user, "u%d", i % 70);
        snprintf(item, sizeof item, "i%d", i);
        snprintf(request, sizeof request, "r%d", i);
        const struct text items[] = {text_of(item), text_of(item)};
        assert_int_equal(ledger_request(ledger, text_of(request), text_of(user), i, items, 2, &finding, &err), 0);
        assert_int_equal(finding.verdict, LEDGER_CLEAN);
        if (i % 100 == 99)
            assert_int_equal(produce(user, item), LEDGER_ANSWER_EARLY);
        assert_int_equal(answer(request, i + (i % 100 == 99), i - 1), i % 100 == 99 ? LEDGER_AHEAD : LEDGER_CLEAN);
        if (i % 100 != 99)
            assert_int_equal(produce(user, item), LEDGER_CLEAN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(honest_traffic_is_clean, begin, end),
        cmocka_unit_test_setup_teardown(an_answer_produced_before_the_request_is_caught, begin, end),
        cmocka_unit_test_setup_teardown(an_answer_produced_before_the_response_is_caught_when_it_is_produced, begin,
                                        end),
        cmocka_unit_test_setup_teardown(an_event_let_in_early_is_caught_in_the_state, begin, end),
        cmocka_unit_test_setup_teardown(an_event_that_the_ledger_never_saw_is_caught_in_the_state, begin, end),
        cmocka_unit_test_setup_teardown(an_event_later_than_the_request_is_caught_whatever_the_count, begin, end),
        cmocka_unit_test_setup_teardown(a_state_that_lags_is_told_from_a_leak, begin, end),
        cmocka_unit_test_setup_teardown(a_response_counts_once_and_only_if_asked_for, begin, end),
        cmocka_unit_test_setup_teardown(a_request_id_used_twice_is_refused_and_changes_nothing, begin, end),
        cmocka_unit_test_setup_teardown(pairs_are_told_apart_whatever_their_ids, begin, end),
        cmocka_unit_test_setup_teardown(long_traffic_keeps_its_books, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
