#include "wire/fixture.h"

#include "base/clock.h"
#include "wire/fake_registry.h"
#include "wire/registry.h"

#define NEVER_FORGET INT64_C(3600000)
enum { PATIENCE_MS = 30000, SHORT_MS = 300 };

struct asking {
    struct fake_registry fake;
    struct registry_settings settings;
    struct registry *registry;
    struct buffer schema;
    struct error err;
};

static int begin(void **state)
{
    struct asking *asking = calloc(1, sizeof *asking);
    unsetenv("http_proxy");
    pthread_mutex_init(&asking->fake.lock, NULL);
    fake_registry_start(&asking->fake, 0);
    asking->settings = (struct registry_settings){.url = asking->fake.url,
                                                  .connect_timeout_ms = PATIENCE_MS,
                                                  .timeout_ms = PATIENCE_MS,
                                                  .unknown_ms = NEVER_FORGET,
                                                  .may_register = true};
    *state = asking;
    return 0;
}

static int end(void **state)
{
    struct asking *asking = *state;
    registry_destroy(asking->registry);
    fake_registry_stop(&asking->fake);
    buffer_free(&asking->fake.posted);
    buffer_free(&asking->schema);
    free(asking);
    return 0;
}

static void open_registry(struct asking *asking)
{
    assert_ok(asking, registry_create(&asking->registry, &asking->settings, &asking->err));
}

static int ask(struct asking *asking, uint32_t id)
{
    buffer_clear(&asking->schema);
    return registry_schema(asking->registry, id, PATIENCE_MS, &asking->schema, &asking->err);
}

/* Asks, as a worker does, until it is told something else than to come back. */
static int ask_on(struct asking *asking, uint32_t id)
{
    int64_t start_ns = clock_monotonic_ns();
    int result;
    while ((result = ask(asking, id)) != 0 && asking->err.kind == ERROR_RETRY && clock_since_ms(start_ns) < PATIENCE_MS)
        usleep(5000);
    return result;
}

static unsigned calls(struct asking *asking)
{
    return atomic_load(&asking->fake.calls);
}

static void a_schema_is_asked_for_once(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    for (int i = 0; i < 100; i++) {
        assert_ok(asking, ask(asking, 7));
        assert_text(buffer_text(&asking->schema), message_schema(&interaction_type));
    }
    assert_int_equal(calls(asking), 1);
    assert_true(fake_registry_heard(&asking->fake, "GET /schemas/ids/7"));
}

static void an_unknown_id_is_not_asked_for_again_at_once(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ask(asking, 4294967295), -1);
        assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
        assert_says(asking, "schema 4294967295 of http://127.0.0.1:");
        assert_says(asking, "Schema not found"); /* one line, whatever the registry writes */
    }
    assert_int_equal(calls(asking), 1);
}

static void an_unknown_id_may_be_there_later(void **state)
{
    struct asking *asking = *state;
    asking->settings.unknown_ms = 50;
    open_registry(asking);
    assert_int_equal(ask(asking, 5), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    usleep(60000);
    assert_int_equal(ask(asking, 5), -1);
    assert_int_equal(calls(asking), 2);
}

static void ids_beyond_the_limit_push_out_the_oldest(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    for (uint32_t id = 100000; id <= 100000 + REGISTRY_CACHE_LIMIT; id++)
        assert_int_equal(ask(asking, id), -1);
    assert_int_equal(calls(asking), REGISTRY_CACHE_LIMIT + 1);
    assert_int_equal(ask(asking, 100000 + REGISTRY_CACHE_LIMIT), -1);
    assert_int_equal(calls(asking), REGISTRY_CACHE_LIMIT + 1);
    assert_int_equal(ask(asking, 100000), -1);
    assert_int_equal(calls(asking), REGISTRY_CACHE_LIMIT + 2);
}

static void what_is_no_answer_of_a_registry_refuses_nothing(void **state)
{
    static const struct {
        enum trouble trouble;
        const char *words;
    } cases[] = {
        {SERVER_ERROR, "HTTP 500: the store is gone"},
        {HUGE_HTML, "HTTP 200 without a registry's answer"},
        {LOOP, "redirected more than 3 times"},
        {NO_JSON, "HTTP 200 without a registry's answer"},
        {OTHER_JSON, "HTTP 200 without a registry's answer"},
        {BARE_404, "does registry.url lead to a Confluent API"},
        {DENIED, "registry.user and registry.password"},
        {BROKEN_OFF, "bytes remaining"},
    };
    struct asking *asking = *state;
    open_registry(asking);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t id = (uint32_t)(2000 + i);
        atomic_store(&asking->fake.trouble, (int)cases[i].trouble);
        while (ask(asking, id) != -1 || strcmp(asking->err.message, "the schema registry is still being asked") == 0)
            usleep(1000);
        assert_int_equal(asking->err.kind, ERROR_RETRY);
        assert_says(asking, cases[i].words);
        atomic_store(&asking->fake.trouble, FINE);
        assert_ok(asking, ask_on(asking, id));
    }
}

static void a_registry_that_is_too_slow_cannot_be_asked(void **state)
{
    struct asking *asking = *state;
    asking->settings.timeout_ms = SHORT_MS;
    open_registry(asking);
    atomic_store(&asking->fake.trouble, SLOW);
    assert_int_equal(ask(asking, 7), -1);
    assert_int_equal(asking->err.kind, ERROR_RETRY);
    assert_says(asking, "imed out");
    atomic_store(&asking->fake.trouble, FINE);
    assert_ok(asking, ask_on(asking, 7));
}

static void while_it_cannot_be_asked_nobody_waits(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    uint16_t port = asking->fake.port;
    fake_registry_stop(&asking->fake);
    assert_int_equal(ask(asking, 7), -1);
    assert_int_equal(asking->err.kind, ERROR_RETRY);
    assert_says(asking, "onnect");
    int64_t start_ns = clock_monotonic_ns();
    for (uint32_t id = 7; id < 100; id++) {
        assert_int_equal(ask(asking, id), -1);
        assert_int_equal(asking->err.kind, ERROR_RETRY);
    }
    assert_true(clock_since_ms(start_ns) < PATIENCE_MS / 10);
    fake_registry_start(&asking->fake, port);
    assert_ok(asking, ask_on(asking, 7));
    assert_text(buffer_text(&asking->schema), message_schema(&interaction_type));
}

static void a_registry_that_is_down_is_not_stormed(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    atomic_store(&asking->fake.trouble, SERVER_ERROR);
    int64_t start_ns = clock_monotonic_ns();
    while (clock_since_ms(start_ns) < 1000) {
        ask(asking, 7);
        usleep(500);
    }
    assert_in_range(calls(asking), 2, 6); /* after 0, 0.1, 0.2, 0.4, 0.8 s, or half of that */
}

static void schemas_of_another_kind_are_refused_by_name(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    assert_int_equal(ask(asking, 8), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    assert_says(asking, "its type is PROTOBUF: only AVRO");
    assert_int_equal(ask(asking, 9), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    assert_says(asking, "references");
    assert_ok(asking, ask(asking, 10));
    atomic_store(&asking->fake.trouble, HUGE_JSON);
    assert_int_equal(ask(asking, 1001), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    assert_says(asking, "larger than any");
}

static void credentials_open_the_registry_and_are_never_shown(void **state)
{
    struct asking *asking = *state;
    asking->fake.user = "worker";
    asking->fake.password = "open: sesame";
    atomic_store(&asking->fake.trouble, FINE); /* which its thread looks at before the names */
    asking->settings.user = "worker";
    asking->settings.password = "close sesame";
    open_registry(asking);
    while (ask(asking, 7) != -1 || strstr(asking->err.message, "registry.password") == NULL)
        usleep(1000);
    assert_int_equal(asking->err.kind, ERROR_RETRY);
    assert_null(strstr(asking->err.message, "sesame"));
    registry_destroy(asking->registry);
    asking->settings.password = "open: sesame";
    open_registry(asking);
    assert_ok(asking, ask(asking, 7));
}

static void redirects_are_followed_on_the_same_host_only(void **state)
{
    struct asking *asking = *state;
    struct fake_registry other = {.lock = PTHREAD_MUTEX_INITIALIZER};
    fake_registry_start(&other, 0);
    open_registry(asking);
    atomic_store(&asking->fake.trouble, MOVED);
    assert_ok(asking, ask(asking, 7));
    assert_true(fake_registry_heard(&asking->fake, "GET /moved/schemas/ids/7"));
    uint32_t id = 0;
    assert_ok(asking, registry_schema_id(asking->registry, &item_type, "items", PATIENCE_MS, &id, &asking->err));
    assert_true(fake_registry_heard(&asking->fake, "POST /moved/subjects/items-value/versions?normalize=true"));
    strcpy(asking->fake.elsewhere, other.url);
    atomic_store(&asking->fake.trouble, ELSEWHERE);
    assert_int_equal(ask(asking, 10), -1);
    assert_int_equal(asking->err.kind, ERROR_RETRY);
    assert_says(asking, "another scheme, host or port");
    assert_int_equal(atomic_load(&other.calls), 0);
    fake_registry_stop(&other);
    buffer_free(&other.posted);
}

static void what_we_write_is_found_or_registered(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    uint32_t id = 0;
    assert_ok(asking,
              registry_schema_id(asking->registry, &score_response_type, "scores", PATIENCE_MS, &id, &asking->err));
    assert_int_equal(id, 11);
    assert_true(fake_registry_heard(&asking->fake, "POST /subjects/scores-value/versions?normalize=true"));
    assert_int_equal(calls(asking), 2);
    struct buffer body = {0};
    buffer_append_string(&body, "{\"schema\":");
    buffer_append_json(&body, text_of(message_schema(&score_response_type)));
    buffer_append_byte(&body, '}');
    pthread_mutex_lock(&asking->fake.lock);
    assert_text(buffer_text(&asking->fake.posted), buffer_string(&body));
    pthread_mutex_unlock(&asking->fake.lock);
    buffer_free(&body);
    assert_ok(asking,
              registry_schema_id(asking->registry, &score_response_type, "scores", PATIENCE_MS, &id, &asking->err));
    assert_int_equal(calls(asking), 2);
}

static void nothing_is_registered_where_that_is_off(void **state)
{
    struct asking *asking = *state;
    asking->settings.may_register = false;
    asking->settings.name = REGISTRY_RECORD_NAME;
    open_registry(asking);
    uint32_t id = 0;
    assert_int_equal(registry_schema_id(asking->registry, &item_type, "items", PATIENCE_MS, &id, &asking->err), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    assert_says(asking, "registry.register is off");
    assert_says(asking, "headrace.Item");
    assert_true(fake_registry_heard(&asking->fake, "POST /subjects/headrace.Item?normalize=true"));
    assert_false(atomic_load(&asking->fake.registered));
}

static void an_incompatible_schema_is_refused_with_the_registrys_words(void **state)
{
    struct asking *asking = *state;
    open_registry(asking);
    atomic_store(&asking->fake.trouble, INCOMPATIBLE);
    uint32_t id = 0;
    assert_int_equal(registry_schema_id(asking->registry, &item_type, "items", PATIENCE_MS, &id, &asking->err), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    assert_says(asking, "READER_FIELD_MISSING_DEFAULT_VALUE");
}

static void check_asks_without_registering(void **state)
{
    struct asking *asking = *state;
    uint32_t id = 0;
    assert_ok(asking, registry_probe(&asking->settings, &asking->err));
    assert_int_equal(registry_look_up(&asking->settings, &item_type, "items", &id, &asking->err), -1);
    assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
    atomic_store(&asking->fake.registered, true);
    assert_ok(asking, registry_look_up(&asking->settings, &item_type, "items", &id, &asking->err));
    assert_int_equal(id, 11);
    atomic_store(&asking->fake.trouble, NO_JSON);
    assert_int_equal(registry_probe(&asking->settings, &asking->err), -1);
    assert_int_equal(asking->err.kind, ERROR_RETRY);
}

static void settings_that_cannot_work_are_refused(void **state)
{
    static const struct {
        const char *url, *user, *ca_file, *words;
    } cases[] = {
        {"127.0.0.1:8081", "", "", "registry.url is no URL"},
        {"ftp://127.0.0.1/", "", "", "registry.url is no URL"},
        {"file:///etc/passwd", "", "", "registry.url is no URL"},
        {"http://me:secret@127.0.0.1/", "", "", "registry.user and registry.password instead"},
        {"http://127.0.0.1/?a=b", "", "", "question mark"},
        {"http://127.0.0.1/", "a:b", "", "colon"},
        {"https://127.0.0.1/", "", "/there/is/no/such.pem", "registry.ca_file: /there/is/no/such.pem: No such file"},
    };
    struct asking *asking = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        asking->settings.url = cases[i].url;
        asking->settings.user = cases[i].user;
        asking->settings.ca_file = cases[i].ca_file;
        assert_int_equal(registry_create(&asking->registry, &asking->settings, &asking->err), -1);
        assert_int_equal(asking->err.kind, ERROR_BAD_INPUT);
        assert_says(asking, cases[i].words);
        assert_null(strstr(asking->err.message, "secret"));
    }
}

static void it_stops_while_a_call_is_under_way(void **state)
{
    struct asking *asking = *state;
    asking->settings.timeout_ms = 60000;
    open_registry(asking);
    atomic_store(&asking->fake.trouble, SLOW);
    registry_schema(asking->registry, 7, 0, &asking->schema, &asking->err);
    while (calls(asking) == 0)
        usleep(1000);
    int64_t start_ns = clock_monotonic_ns();
    registry_destroy(asking->registry);
    asking->registry = NULL;
    assert_true(clock_since_ms(start_ns) < 5000);
}

#define WITH_REGISTRY(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REGISTRY(a_schema_is_asked_for_once),
        WITH_REGISTRY(an_unknown_id_is_not_asked_for_again_at_once),
        WITH_REGISTRY(an_unknown_id_may_be_there_later),
        WITH_REGISTRY(ids_beyond_the_limit_push_out_the_oldest),
        WITH_REGISTRY(what_is_no_answer_of_a_registry_refuses_nothing),
        WITH_REGISTRY(a_registry_that_is_too_slow_cannot_be_asked),
        WITH_REGISTRY(while_it_cannot_be_asked_nobody_waits),
        WITH_REGISTRY(a_registry_that_is_down_is_not_stormed),
        WITH_REGISTRY(schemas_of_another_kind_are_refused_by_name),
        WITH_REGISTRY(credentials_open_the_registry_and_are_never_shown),
        WITH_REGISTRY(redirects_are_followed_on_the_same_host_only),
        WITH_REGISTRY(what_we_write_is_found_or_registered),
        WITH_REGISTRY(nothing_is_registered_where_that_is_off),
        WITH_REGISTRY(an_incompatible_schema_is_refused_with_the_registrys_words),
        WITH_REGISTRY(check_asks_without_registering),
        WITH_REGISTRY(settings_that_cannot_work_are_refused),
        WITH_REGISTRY(it_stops_while_a_call_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
