/* Bytes from someone who means harm. Run under AddressSanitizer these tests say that nothing is read out of bounds. */
#include "wire/fixture.h"

#include <avro.h>

#include "base/random.h"
#include "wire/golden.h"
#include "wire/schema.h"

/* Avro C does not free what it read of a message that it then refuses (AVRO-4246). */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libavro\n";
}

union any_message {
    struct interaction interaction;
    struct item item;
    struct user user;
    struct score_request request;
    struct score_response response;
};

static const struct valid {
    const struct message_type *type;
    const uint8_t *frame;
    size_t size;
} valid[] = {
    {&interaction_type, rating_frame, sizeof rating_frame},
    {&interaction_type, click_frame, sizeof click_frame},
    {&item_type, item_frame, sizeof item_frame},
    {&user_type, user_frame, sizeof user_frame},
    {&score_request_type, request_frame, sizeof request_frame},
    {&score_response_type, response_frame, sizeof response_frame},
};
enum { VALID_COUNT = sizeof valid / sizeof valid[0], HEADER = 10 };

/*
 * Decodes from memory of exactly `size` bytes. What is taken must be writable again, which looks at every part of it;
 * what is refused must be a bad input with a class of the codec's.
 */
static bool takes(struct fixture *fixture, const struct message_type *type, const uint8_t *bytes, size_t size)
{
    union any_message message;
    uint8_t *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, bytes, size);
    arena_reset(&fixture->arena);
    buffer_clear(&fixture->out);
    fixture->class = DEAD_SEMANTIC;
    bool taken =
        codec_decode(fixture->codec, type, copy, size, &message, &fixture->arena, &fixture->class, &fixture->err) == 0;
    if (taken) {
        assert_ok(fixture, codec_encode(fixture->codec, type, &message, &fixture->out, &fixture->err));
    } else {
        assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
        assert_int_not_equal(fixture->class, DEAD_SEMANTIC);
    }
    free(copy);
    return taken;
}

static void no_part_of_a_message_passes_for_the_whole(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < VALID_COUNT; i++) {
        for (size_t size = 0; size < valid[i].size; size++) {
            assert_false(takes(fixture, valid[i].type, valid[i].frame, size));
            assert_int_equal(fixture->class, size < HEADER ? DEAD_FRAMING : DEAD_DECODE);
        }
        assert_true(takes(fixture, valid[i].type, valid[i].frame, valid[i].size));
    }
}

static void nothing_may_follow_a_message(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < VALID_COUNT; i++) {
        uint8_t longer[1024] = {0};
        memcpy(longer, valid[i].frame, valid[i].size);
        assert_false(takes(fixture, valid[i].type, longer, valid[i].size + 1));
        assert_says(fixture, "1 bytes too many");
    }
}

static size_t mutate(struct random *random, const struct valid *from, uint8_t out[1024])
{
    size_t size = from->size;
    memcpy(out, from->frame, size);
    for (uint64_t n = random_below(random, 3); n < 3; n++) {
        size_t at = HEADER + random_below(random, size - HEADER);
        if (random_below(random, 4) > 0)
            out[at] = (uint8_t)random_next(random);
        else if (random_below(random, 2) > 0)
            memset(out + at, 0xff, size - at < 9 ? size - at : 9);
        else
            memmove(out + at, out + HEADER, size - at < 8 ? size - at : 8);
    }
    return size - (random_below(random, 8) == 0 ? random_below(random, size - HEADER) : 0);
}

static void no_mutation_of_a_message_does_harm(void **state)
{
    struct fixture *fixture = *state;
    struct random random = {1};
    size_t taken = 0;
    for (int i = 0; i < 200000; i++) {
        const struct valid *from = &valid[i % VALID_COUNT];
        uint8_t bytes[1024];
        size_t size = mutate(&random, from, bytes);
        taken += takes(fixture, from->type, bytes, size);
    }
    assert_in_range(taken, 2000, 190000); /* else most of the program would not be reached */
}

static void random_bytes_do_no_harm(void **state)
{
    struct fixture *fixture = *state;
    struct random random = {2};
    for (int i = 0; i < 50000; i++) {
        uint8_t bytes[128];
        const struct valid *from = &valid[i % VALID_COUNT];
        memcpy(bytes, from->frame, HEADER);
        for (size_t j = HEADER; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)(random_next(&random) & (i % 2 ? 0xff : 0x07));
        takes(fixture, from->type, bytes, random_below(&random, sizeof bytes));
    }
}

/* A message of a schema of ours, made byte by byte. */
struct forged {
    uint8_t bytes[4096];
    size_t size;
};

static struct forged forge(const struct valid *header)
{
    struct forged forged = {.size = HEADER};
    memcpy(forged.bytes, header->frame, HEADER);
    return forged;
}

static void put(struct forged *forged, const void *bytes, size_t size)
{
    memcpy(forged->bytes + forged->size, bytes, size);
    forged->size += size;
}

static void put_long(struct forged *forged, int64_t value)
{
    uint64_t bits = (uint64_t)value << 1 ^ -((uint64_t)value >> 63);
    for (; bits > 0x7f; bits >>= 7)
        forged->bytes[forged->size++] = (uint8_t)(bits | 0x80);
    forged->bytes[forged->size++] = (uint8_t)bits;
}

static void put_text(struct forged *forged, const char *text)
{
    put_long(forged, (int64_t)strlen(text));
    put(forged, text, strlen(text));
}

static void assert_refused(struct fixture *fixture, const struct valid *like, const struct forged *forged,
                           enum dead_letter_class class, const char *words)
{
    assert_false(takes(fixture, like->type, forged->bytes, forged->size));
    assert_int_equal(fixture->class, class);
    assert_says(fixture, words);
}

static void the_length_of_a_text_is_checked(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t lengths[] = {-1, 3, INT64_MIN, INT64_MAX, 1LL << 31, 1LL << 33};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct forged user = forge(&valid[3]);
        put_long(&user, lengths[i]);
        put(&user, "u", 2);
        assert_refused(fixture, &valid[3], &user, DEAD_DECODE, "field user_id, before byte");
    }
    struct forged user = forge(&valid[3]);
    put_long(&user, 257);
    user.size += 258;
    memset(user.bytes + user.size - 258, 'x', 257);
    assert_refused(fixture, &valid[3], &user, DEAD_TOO_LARGE, "257 bytes, at most 256");
}

static void a_text_must_be_utf8_without_nul(void **state)
{
    struct fixture *fixture = *state;
    static const struct text bad[] = {{"\0", 1},       {"a\0b", 3},         {"\xff", 1},
                                      {"\xc0\x80", 2}, {"\xed\xa0\x80", 3}, {"\xf4\x90\x80\x80", 4},
                                      {"\xc3", 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct forged user = forge(&valid[3]);
        put_long(&user, (int64_t)bad[i].size);
        put(&user, bad[i].data, bad[i].size);
        put_long(&user, 0);
        assert_refused(fixture, &valid[3], &user, DEAD_DECODE, "not UTF-8");
    }
}

static void numbers_and_indices_are_checked(void **state)
{
    struct fixture *fixture = *state;
    const char *words[] = {"more than 64 bits", "more than 64 bits", "symbol 8 of 8",    "symbol -1 of 8",
                           "branch 2 of 2",     "branch -1 of 2",    "a boolean of 0x02"};
    for (int i = 0; i < 7; i++) {
        struct forged event = forge(&valid[0]);
        put_text(&event, "u");
        put_text(&event, "i");
        if (i == 0)
            put(&event, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);
        else if (i == 1)
            put(&event, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11);
        else
            put(&event, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10); /* the longest that is right */
        put_long(&event, i == 2 ? 8 : i == 3 ? -1 : 3);
        put_long(&event, i == 4 ? 2 : i == 5 ? -1 : 0);
        put(&event, "\x02\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 12); /* the label, and room to read on */
        assert_refused(fixture, &valid[0], &event, DEAD_DECODE, words[i]);
    }
}

static void an_int_has_32_bits(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t layers[] = {INT32_MAX + 1LL, INT32_MIN - 1LL, INT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct forged response = forge(&valid[5]);
        put_text(&response, "r");
        put_text(&response, "u");
        put(&response, "\x02\x00\x02", 3); /* OK, no error, one candidate */
        put_text(&response, "c");
        put_long(&response, 0);
        put_long(&response, layers[i]);
        assert_refused(fixture, &valid[5], &response, DEAD_DECODE, "is no int of 32 bits");
    }
}

/* A request up to its candidates. */
static struct forged forge_request(void)
{
    struct forged request = forge(&valid[4]);
    put_text(&request, "r");
    put_text(&request, "u");
    put_long(&request, 5);
    return request;
}

static void put_candidate(struct forged *request)
{
    put_text(request, "c");
    put_long(request, 0);
}

static void end_request(struct forged *request)
{
    put(request, "\x00\x00\x00\x00", 4); /* no more candidates, no deadline, no history, explain: false */
}

static void the_counts_of_lists_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t counts[] = {10001, 1LL << 40, INT64_MAX, INT64_MIN, -10001};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct forged request = forge_request();
        put_long(&request, counts[i]);
        if (counts[i] < 0)
            put_long(&request, 7);
        put_candidate(&request);
        end_request(&request);
        assert_refused(fixture, &valid[4], &request, DEAD_TOO_LARGE, "field candidates, before byte");
        assert_says(fixture, "more than 10000 elements");
    }
}

static void the_limit_of_a_list_holds_over_all_its_blocks(void **state)
{
    struct fixture *fixture = *state;
    for (int last = 24; last <= 25; last++) {
        struct forged item = forge(&valid[2]);
        put_text(&item, "i");
        put_text(&item, "t");
        for (int i = 0; i < 40 + last; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            if (i == 0 || i == 40)
                put_long(&item, i == 0 ? 40 : last);
            put_text(&item, key);
            put_text(&item, "");
        }
        put_long(&item, 0);
        if (last == 24)
            assert_true(takes(fixture, &item_type, item.bytes, item.size));
        else
            assert_refused(fixture, &valid[2], &item, DEAD_TOO_LARGE, "more than 64 elements");
    }
}

static void lists_may_come_in_many_blocks(void **state)
{
    struct fixture *fixture = *state;
    struct forged request = forge_request();
    for (int i = 0; i < 300; i++) {
        bool sized = i % 2;
        put_long(&request, sized ? -2 : 1);
        if (sized)
            put_long(&request, 6);
        for (int j = 0; j <= sized; j++)
            put_candidate(&request);
    }
    end_request(&request);
    struct score_request message;
    assert_ok(fixture, codec_decode(fixture->codec, &score_request_type, request.bytes, request.size, &message,
                                    &fixture->arena, &fixture->class, &fixture->err));
    assert_int_equal(message.candidate_count, 450);
    for (size_t i = 0; i < 450; i++)
        assert_text(message.candidates[i].item_id, "c");
    assert_true(fixture->arena.used < 450 * sizeof(struct request_candidate) * 5); /* blocks do not cost a copy each */
}

static void the_size_of_a_block_must_be_true(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t sizes[] = {2, 4, -1, 1000, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct forged request = forge_request();
        put_long(&request, -1);
        put_long(&request, sizes[i]);
        put_candidate(&request);
        end_request(&request);
        assert_refused(fixture, &valid[4], &request, DEAD_DECODE, "a block of");
    }
}

static void a_key_stands_once_in_a_map(void **state)
{
    struct fixture *fixture = *state;
    struct forged item = forge(&valid[2]);
    put_text(&item, "i");
    put_text(&item, "t");
    for (int i = 0; i < 2; i++) { /* in two blocks */
        put_long(&item, 1);
        put_text(&item, "year");
        put_text(&item, "1996");
    }
    put_long(&item, 0);
    assert_refused(fixture, &valid[2], &item, DEAD_DECODE, "field attributes");
    assert_says(fixture, "key 1 of the map is there twice");
}

/* {user_id, nulls: array of null} and the like: elements without bytes, which a few bytes claim by the billion. */
static void elements_without_bytes_cost_nothing(void **state)
{
    struct fixture *fixture = *state;
    const char *schema =
        "{\"type\":\"record\",\"name\":\"User\",\"fields\":[{\"name\":\"user_id\",\"type\":\"string\"},"
        "{\"name\":\"nulls\",\"type\":{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":"
        "\"Empty\",\"fields\":[{\"name\":\"a\",\"type\":\"null\"}]}}}]}";
    assert_ok(fixture, codec_add_schema(fixture->codec, &user_type, text_of(schema), &fixture->err));
    struct forged user = {.bytes = {0xc3, 0x01}, .size = HEADER};
    const char *canonical =
        "{\"name\":\"User\",\"type\":\"record\",\"fields\":[{\"name\":\"user_id\",\"type\":\"string\"},{\"name\":"
        "\"nulls\",\"type\":{\"type\":\"array\",\"items\":{\"name\":\"Empty\",\"type\":\"record\",\"fields\":"
        "[{\"name\":\"a\",\"type\":\"null\"}]}}}]}";
    uint64_t fingerprint = schema_fingerprint(canonical, strlen(canonical));
    for (size_t i = 0; i < 8; i++)
        user.bytes[2 + i] = (uint8_t)(fingerprint >> 8 * i);
    put_text(&user, "u");
    for (int i = 0; i < 100; i++)
        put_long(&user, i % 2 ? INT64_MAX : 1LL << 40);
    put_long(&user, 0);
    assert_true(takes(fixture, &user_type, user.bytes, user.size));
}

static void a_message_may_not_take_more_memory_than_the_arena_gives(void **state)
{
    struct fixture *fixture = *state;
    size_t limit = fixture->arena.limit;
    fixture->arena.limit = 1024;
    struct forged request = forge_request();
    put_long(&request, 100);
    for (int i = 0; i < 100; i++)
        put_candidate(&request);
    end_request(&request);
    assert_refused(fixture, &valid[4], &request, DEAD_TOO_LARGE, "more than 1024 bytes of memory");
    fixture->arena.limit = limit;
    assert_true(takes(fixture, valid[4].type, request.bytes, request.size));
}

/* Avro C as the judge */

/* It takes lengths at their word and would ask for as many bytes. */
static void *bounded_allocator(void *data, void *memory, size_t old_size, size_t size)
{
    (void)data;
    (void)old_size;
    if (size == 0) {
        free(memory);
        return NULL;
    }
    return size <= 1u << 20 ? realloc(memory, size) : NULL;
}

struct judge {
    avro_schema_t schema;
    avro_value_iface_t *class;
};

static struct judge judge_create(const struct message_type *type)
{
    struct judge judge;
    const char *json = message_schema(type);
    assert_int_equal(avro_schema_from_json_length(json, strlen(json), &judge.schema), 0);
    judge.class = avro_generic_class_from_schema(judge.schema);
    assert_non_null(judge.class);
    return judge;
}

/* Whether Avro C reads all of the bytes; what it read is then written to `out` again. */
static bool judge_takes(const struct judge *judge, const uint8_t *bytes, size_t size, char out[4096], int64_t *written)
{
    avro_value_t value;
    assert_int_equal(avro_generic_value_new(judge->class, &value), 0);
    avro_reader_t reader = avro_reader_memory((const char *)bytes, (int64_t)size);
    avro_writer_t writer = avro_writer_memory(out, 4096);
    bool taken = avro_value_read(reader, &value) == 0;
    if (taken) {
        assert_int_equal(avro_value_write(writer, &value), 0);
        *written = avro_writer_tell(writer);
    }
    avro_writer_free(writer);
    avro_reader_free(reader);
    avro_value_decref(&value);
    return taken;
}

static void what_avro_c_refuses_is_refused_and_what_both_take_means_the_same(void **state)
{
    struct fixture *fixture = *state;
    struct random random = {3};
    size_t both = 0, refused = 0;
    avro_set_allocator(bounded_allocator, NULL);
    for (size_t i = 0; i < VALID_COUNT; i++) {
        struct judge judge = judge_create(valid[i].type);
        for (int j = 0; j < 3000; j++) {
            uint8_t bytes[1024];
            char out[4096];
            int64_t written = 0;
            size_t size = mutate(&random, &valid[i], bytes);
            bool theirs = judge_takes(&judge, bytes + HEADER, size - HEADER, out, &written);
            bool ours = takes(fixture, valid[i].type, bytes, size);
            assert_true(theirs || !ours);
            refused += !theirs;
            both += ours;
            if (ours) {
                assert_int_equal(fixture->out.size - HEADER, written);
                assert_memory_equal(fixture->out.data + HEADER, out, (size_t)written);
            }
        }
        avro_value_iface_decref(judge.class);
        avro_schema_decref(judge.schema);
    }
    assert_true(both > 500 && refused > 500);
}

#define WITH_CODEC(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CODEC(no_part_of_a_message_passes_for_the_whole),
        WITH_CODEC(nothing_may_follow_a_message),
        WITH_CODEC(no_mutation_of_a_message_does_harm),
        WITH_CODEC(random_bytes_do_no_harm),
        WITH_CODEC(the_length_of_a_text_is_checked),
        WITH_CODEC(a_text_must_be_utf8_without_nul),
        WITH_CODEC(numbers_and_indices_are_checked),
        WITH_CODEC(an_int_has_32_bits),
        WITH_CODEC(the_limit_of_a_list_holds_over_all_its_blocks),
        WITH_CODEC(the_counts_of_lists_are_bounded),
        WITH_CODEC(lists_may_come_in_many_blocks),
        WITH_CODEC(the_size_of_a_block_must_be_true),
        WITH_CODEC(a_key_stands_once_in_a_map),
        WITH_CODEC(elements_without_bytes_cost_nothing),
        WITH_CODEC(a_message_may_not_take_more_memory_than_the_arena_gives),
        WITH_CODEC(what_avro_c_refuses_is_refused_and_what_both_take_means_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
