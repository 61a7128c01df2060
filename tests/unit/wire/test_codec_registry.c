/* The codec on a registry: Confluent framing in and out. */
#include "wire/fixture.h"

#include <pthread.h>

#include "base/clock.h"
#include "wire/fake_registry.h"
#include "wire/registry.h"

enum { PATIENCE_MS = 30000, HEADER = 5, THREADS = 4 };

struct framing {
    struct fake_registry fake;
    struct fixture *plain; /* without a registry */
    struct codec *codec;
    struct arena arena;
    struct buffer out;
    enum dead_letter_class class;
    struct error err;
};

static const struct interaction liked = {
    .user_id = {"u", 1}, .item_id = {"i", 1}, .timestamp_ms = 5, .kind = INTERACTION_LIKE};

static int begin(void **state)
{
    struct framing *framing = calloc(1, sizeof *framing);
    struct registry *registry;
    unsetenv("http_proxy");
    void *plain;
    if (set_up(&plain) != 0)
        return -1;
    framing->plain = plain;
    pthread_mutex_init(&framing->fake.lock, NULL);
    fake_registry_start(&framing->fake, 0);
    const struct registry_settings settings = {.url = framing->fake.url,
                                               .connect_timeout_ms = PATIENCE_MS,
                                               .timeout_ms = PATIENCE_MS,
                                               .unknown_ms = 60000,
                                               .may_register = true};
    arena_init(&framing->arena, 1u << 20);
    assert_ok(framing, codec_create(&framing->codec, &framing->err));
    assert_ok(framing, registry_create(&registry, &settings, &framing->err));
    codec_use_registry(framing->codec, registry);
    *state = framing;
    return 0;
}

static int end(void **state)
{
    struct framing *framing = *state;
    void *plain = framing->plain;
    codec_destroy(framing->codec);
    fake_registry_stop(&framing->fake);
    buffer_free(&framing->fake.posted);
    buffer_free(&framing->out);
    arena_free(&framing->arena);
    tear_down(&plain);
    free(framing);
    return 0;
}

/* `liked` in Confluent framing, by the schema of an id: from 1000 on it has one more field, in front. */
static void frame_liked(struct framing *framing, uint32_t id, struct buffer *frame)
{
    struct fixture *plain = framing->plain;
    buffer_clear(frame);
    buffer_append_byte(frame, 0);
    for (int shift = 24; shift >= 0; shift -= 8)
        buffer_append_byte(frame, (uint8_t)(id >> shift));
    if (id >= 1000)
        buffer_append_byte(frame, 0x54);
    buffer_clear(&plain->out);
    assert_ok(plain, codec_encode(plain->codec, &interaction_type, &liked, &plain->out, &plain->err));
    buffer_append(frame, plain->out.data + 10, plain->out.size - 10);
}

/* As a worker does: the very same message again until it is told something else than to come back. */
static int decode_on(const struct codec *codec, const struct buffer *frame, struct interaction *event,
                     struct arena *arena, enum dead_letter_class *class, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    int result;
    while ((result = codec_decode(codec, &interaction_type, frame->data, frame->size, event, arena, class, err)) != 0 &&
           err->kind == ERROR_RETRY && clock_since_ms(start_ns) < PATIENCE_MS)
        usleep(2000);
    return result;
}

static int decode(struct framing *framing, uint32_t id, struct interaction *event)
{
    struct buffer frame = {0};
    frame_liked(framing, id, &frame);
    uint8_t *bytes = arena_allocate(&framing->arena, frame.size); /* texts point into it */
    memcpy(bytes, frame.data, frame.size);
    struct buffer kept = {.data = bytes, .size = frame.size};
    int result = decode_on(framing->codec, &kept, event, &framing->arena, &framing->class, &framing->err);
    buffer_free(&frame);
    return result;
}

static void a_message_is_read_by_the_schema_of_its_id(void **state)
{
    struct framing *framing = *state;
    struct interaction event;
    for (uint32_t i = 0; i < 20; i++) {
        const uint32_t id = i % 2 == 0 ? 7 : 1000 + i;
        assert_ok(framing, decode(framing, id, &event));
        assert_text(event.user_id, "u");
        assert_int_equal(event.kind, INTERACTION_LIKE);
    }
    assert_int_equal(atomic_load(&framing->fake.calls), 11); /* one a schema */
}

static void single_object_encoding_is_read_beside_it(void **state)
{
    struct framing *framing = *state;
    struct fixture *plain = framing->plain;
    struct interaction event;
    assert_ok(plain, codec_encode(plain->codec, &interaction_type, &liked, &plain->out, &plain->err));
    assert_ok(framing, codec_decode(framing->codec, &interaction_type, plain->out.data, plain->out.size, &event,
                                    &framing->arena, &framing->class, &framing->err));
    assert_text(event.item_id, "i");
    assert_int_equal(atomic_load(&framing->fake.calls), 0);
}

static void an_id_that_gives_no_schema_for_the_type_is_unknown(void **state)
{
    static const struct {
        uint32_t id;
        const char *words;
    } cases[] = {
        {4294967295, "Schema not found"},
        {8, "PROTOBUF"},
        {9, "references"},
        {10, "the writer has headrace.Item, wanted is headrace.Interaction"},
        {12, "schema id 12 cannot be read"},
    };
    struct framing *framing = *state;
    struct interaction event;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            assert_int_equal(decode(framing, cases[i].id, &event), -1);
            assert_int_equal(framing->err.kind, ERROR_BAD_INPUT);
            assert_int_equal(framing->class, DEAD_UNKNOWN_SCHEMA);
            assert_says(framing, "headrace.Interaction: ");
            assert_says(framing, cases[i].words);
        }
    assert_int_equal(atomic_load(&framing->fake.calls), 5);
}

static void an_outage_makes_no_dead_letter(void **state)
{
    struct framing *framing = *state;
    struct interaction event;
    struct buffer frame = {0};
    atomic_store(&framing->fake.trouble, SERVER_ERROR);
    frame_liked(framing, 7, &frame);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(codec_decode(framing->codec, &interaction_type, frame.data, frame.size, &event,
                                      &framing->arena, &framing->class, &framing->err),
                         -1);
        assert_int_equal(framing->err.kind, ERROR_RETRY);
        usleep(1000);
    }
    struct registry_totals totals;
    assert_true(codec_registry_totals(framing->codec, &totals));
    assert_true(totals.failing_s > 0 && totals.failures > 0 && totals.failures == totals.calls);
    assert_non_null(strstr(totals.failure, "HTTP 500"));
    assert_false(codec_registry_totals(framing->plain->codec, &totals));
    atomic_store(&framing->fake.trouble, FINE);
    assert_ok(framing, codec_decode_waiting(framing->codec, &interaction_type, frame.data, frame.size, &event,
                                            &framing->arena, PATIENCE_MS, NULL, &framing->class, &framing->err));
    assert_true(codec_registry_totals(framing->codec, &totals));
    assert_true(totals.failing_s == 0 && totals.calls == totals.failures + 1);
    assert_text(event.user_id, "u");
    /* What is known goes on without it. */
    atomic_store(&framing->fake.trouble, SERVER_ERROR);
    assert_ok(framing, codec_decode(framing->codec, &interaction_type, frame.data, frame.size, &event, &framing->arena,
                                    &framing->class, &framing->err));
    buffer_free(&frame);
}

static void what_is_written_has_the_id_of_our_schema_before_it(void **state)
{
    struct framing *framing = *state;
    struct fixture *plain = framing->plain;
    assert_ok(framing, codec_write_to(framing->codec, &interaction_type, "events", &framing->err));
    assert_ok(framing, codec_ready(framing->codec, PATIENCE_MS, &framing->err));
    assert_true(fake_registry_heard(&framing->fake, "POST /subjects/events-value/versions?normalize=true"));
    assert_ok(framing, codec_encode(framing->codec, &interaction_type, &liked, &framing->out, &framing->err));
    assert_ok(plain, codec_encode(plain->codec, &interaction_type, &liked, &plain->out, &plain->err));
    assert_int_equal(framing->out.size, plain->out.size - 10 + HEADER);
    assert_memory_equal(framing->out.data, "\0\0\0\0\x0b", HEADER);
    assert_memory_equal(framing->out.data + HEADER, plain->out.data + 10, plain->out.size - 10);
}

static void nothing_is_written_without_an_id(void **state)
{
    struct framing *framing = *state;
    assert_int_equal(codec_encode(framing->codec, &interaction_type, &liked, &framing->out, &framing->err), -1);
    assert_int_equal(framing->err.kind, ERROR_FATAL);
    assert_says(framing, "no topic was named");
    atomic_store(&framing->fake.trouble, SERVER_ERROR);
    assert_ok(framing, codec_write_to(framing->codec, &interaction_type, "events", &framing->err));
    assert_int_equal(codec_ready(framing->codec, 0, &framing->err), -1);
    assert_int_equal(framing->err.kind, ERROR_RETRY);
    assert_int_equal(codec_encode(framing->codec, &interaction_type, &liked, &framing->out, &framing->err), -1);
    assert_int_equal(framing->err.kind, ERROR_RETRY);
    assert_int_equal(framing->out.size, 0);
    atomic_store(&framing->fake.trouble, FINE);
    int64_t start_ns = clock_monotonic_ns();
    while (codec_ready(framing->codec, 100, &framing->err) != 0 && clock_since_ms(start_ns) < PATIENCE_MS)
        assert_int_equal(framing->err.kind, ERROR_RETRY);
    assert_ok(framing, codec_encode(framing->codec, &interaction_type, &liked, &framing->out, &framing->err));
}

static void schemas_beyond_the_limit_are_unknown_and_the_others_go_on(void **state)
{
    struct framing *framing = *state;
    struct interaction event;
    /* Ours is known by its fingerprint. */
    for (uint32_t id = 1000; id < 1000 + CODEC_WRITERS_LIMIT - 1; id++)
        assert_ok(framing, decode(framing, id, &event));
    assert_int_equal(decode(framing, 1000 + CODEC_WRITERS_LIMIT, &event), -1);
    assert_int_equal(framing->err.kind, ERROR_BAD_INPUT);
    assert_int_equal(framing->class, DEAD_UNKNOWN_SCHEMA);
    assert_says(framing, "512 schemas have been met");
    assert_ok(framing, decode(framing, 1000, &event));
    assert_ok(framing, decode(framing, 1000 + CODEC_WRITERS_LIMIT - 2, &event));
}

struct reader {
    struct framing *framing;
    struct buffer frames[50];
    unsigned read;
};

static void *read_many(void *context)
{
    struct reader *reader = context;
    struct arena arena;
    arena_init(&arena, 1u << 20);
    for (size_t i = 0; i < 500; i++) {
        struct interaction event;
        enum dead_letter_class class;
        struct error err;
        arena_reset(&arena);
        const struct buffer *frame = &reader->frames[i % 50];
        if (decode_on(reader->framing->codec, frame, &event, &arena, &class, &err) == 0 && event.timestamp_ms == 5)
            reader->read++;
    }
    arena_free(&arena);
    return NULL;
}

static void threads_share_a_codec(void **state)
{
    struct framing *framing = *state;
    struct reader readers[THREADS] = {0};
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        readers[i].framing = framing;
        for (uint32_t j = 0; j < 50; j++)
            frame_liked(framing, 1000 + (j + (uint32_t)i * 7) % 50, &readers[i].frames[j]);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, &readers[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].read, 500);
        for (size_t j = 0; j < 50; j++)
            buffer_free(&readers[i].frames[j]);
    }
    assert_int_equal(atomic_load(&framing->fake.calls), 50);
}

static void a_schema_in_the_headers_is_refused_by_name(void **state)
{
    struct framing *framing = *state;
    assert_int_equal(codec_refuse_header(&item_type, &framing->class, &framing->err), -1);
    assert_int_equal(framing->err.kind, ERROR_BAD_INPUT);
    assert_int_equal(framing->class, DEAD_FRAMING);
    assert_says(framing, "headrace.Item: ");
    assert_says(framing, CODEC_SCHEMA_HEADER);
}

#define WITH_REGISTRY(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REGISTRY(a_message_is_read_by_the_schema_of_its_id),
        WITH_REGISTRY(single_object_encoding_is_read_beside_it),
        WITH_REGISTRY(an_id_that_gives_no_schema_for_the_type_is_unknown),
        WITH_REGISTRY(an_outage_makes_no_dead_letter),
        WITH_REGISTRY(what_is_written_has_the_id_of_our_schema_before_it),
        WITH_REGISTRY(nothing_is_written_without_an_id),
        WITH_REGISTRY(schemas_beyond_the_limit_are_unknown_and_the_others_go_on),
        WITH_REGISTRY(threads_share_a_codec),
        WITH_REGISTRY(a_schema_in_the_headers_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
