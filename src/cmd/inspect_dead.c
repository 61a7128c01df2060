/* inspect_dead.c - the letters of the dead-letter topics: how many of what, and the newest ones */
#include "cmd/inspect.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "cmd/dead_topics.h"
#include "cmd/interrupt.h"
#include "cmd/terminal.h"

enum { POLL_MS = 200, SHOWN_KEY = 64, SHOWN_BYTES = 48, SHOWN_REASON = 320 };

struct shown {
    int64_t timestamp_ms; /* when it died */
    size_t topic;
    int32_t partition;
    int64_t offset;
    char from[DEAD_TOPIC_NAME_SIZE];
    int64_t from_partition, from_offset; /* -1: not told */
    int class;
    int64_t cut_from; /* -1: whole */
    bool waits;       /* produce --from-dead would take it */
    bool has_key, has_value;
    size_t key_size, value_size;
    char key[SHOWN_KEY], value[SHOWN_BYTES], reason[SHOWN_REASON]; /* as much as there is room for */
    size_t reason_size;
};

struct census {
    const struct inspection *inspection;
    bool chosen[DEAD_LETTER_CLASSES];
    struct dead_topics topics;
    uint64_t counts[DEAD_TOPICS_MOST][DEAD_LETTER_CLASSES];
    uint64_t waiting[DEAD_TOPICS_MOST];
    struct shown *letters;
    size_t letter_count, letter_capacity;
};

static int later_first(const void *a, const void *b)
{
    const struct shown *x = a, *y = b;
    if (x->timestamp_ms != y->timestamp_ms)
        return x->timestamp_ms < y->timestamp_ms ? 1 : -1;
    return (x->offset < y->offset) - (x->offset > y->offset);
}

/* Only the newest are kept, with room for as many again, so that they are sorted rarely. */
static void drop_older(struct census *census, size_t limit)
{
    if (census->letter_count > 0)
        qsort(census->letters, census->letter_count, sizeof *census->letters, later_first);
    if (census->letter_count > limit)
        census->letter_count = limit;
}

static size_t copy(char *out, size_t room, const void *bytes, size_t size)
{
    size_t copied = size < room ? size : room;
    if (copied > 0)
        memcpy(out, bytes, copied);
    return copied;
}

static void describe(struct shown *shown, const rd_kafka_message_t *message, const struct dead_partition *partition,
                     const struct dead_letter *letter)
{
    *shown = (struct shown){
        .timestamp_ms = rd_kafka_message_timestamp(message, NULL),
        .topic = partition->topic,
        .partition = message->partition,
        .offset = message->offset,
        .from_partition = letter->partition,
        .from_offset = letter->offset,
        .class = letter->class,
        .cut_from = letter->cut_from,
        .waits = message->offset >= partition->places[letter->class] && letter->cut_from < 0,
        .has_key = message->key != NULL,
        .has_value = message->payload != NULL,
        .key_size = message->key_len,
        .value_size = message->len,
    };
    copy(shown->from, sizeof shown->from - 1, letter->topic.data, letter->topic.size);
    copy(shown->key, sizeof shown->key, message->key, message->key_len);
    copy(shown->value, sizeof shown->value, message->payload, message->len);
    struct text reason = text_prefix(letter->reason, sizeof shown->reason);
    shown->reason_size = copy(shown->reason, sizeof shown->reason, reason.data, reason.size);
}

static int take(struct census *census, const rd_kafka_message_t *message, const struct dead_partition *partition,
                struct error *err)
{
    size_t limit = census->inspection->limit;
    rd_kafka_headers_t *headers = NULL;
    struct dead_letter letter;
    struct shown shown;
    rd_kafka_message_headers(message, &headers);
    dead_letter_read(headers, &letter);
    if (!census->chosen[letter.class])
        return 0;
    describe(&shown, message, partition, &letter);
    census->counts[partition->topic][letter.class]++;
    census->waiting[partition->topic] += shown.waits;
    if (limit == 0)
        return 0;
    if (census->letter_count == 2 * limit)
        drop_older(census, limit);
    if (array_reserve(&census->letters, &census->letter_capacity, census->letter_count + 1, sizeof *census->letters) !=
        0)
        return error_set(err, ERROR_FATAL, "out of memory: a smaller --limit takes less");
    census->letters[census->letter_count++] = shown;
    return 0;
}

static int read_letters(struct census *census, struct error *err)
{
    struct dead_topics *topics = &census->topics;
    for (size_t i = 0; i < topics->partition_count; i++)
        topics->partitions[i].next = topics->partitions[i].low;
    if (dead_topics_assign(topics, err) != 0)
        return -1;
    while (!dead_topics_ended(topics)) {
        rd_kafka_message_t *message;
        struct dead_partition *partition;
        if (interrupted)
            return error_set(err, ERROR_RETRY, "interrupted");
        if (dead_topics_next(topics, POLL_MS, &message, &partition, err) != 0)
            return -1;
        if (message == NULL)
            continue;
        int result = take(census, message, partition, err);
        rd_kafka_message_destroy(message);
        if (result != 0)
            return -1;
    }
    drop_older(census, census->inspection->limit);
    return 0;
}

static uint64_t letters_of(const struct census *census, size_t topic)
{
    uint64_t sum = 0;
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
        sum += census->counts[topic][class];
    return sum;
}

/* Tables. */

static void print_counts(const struct census *census)
{
    printf("%-28s %9s %11s", "topic", "letters", "to put back");
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
        printf(" %14s", dead_letter_class_text(class));
    putchar('\n');
    for (size_t i = 0; i < census->topics.count; i++) {
        terminal_print(text_of(census->topics.names[i]), 28);
        printf(" %9llu %11llu", (unsigned long long)letters_of(census, i), (unsigned long long)census->waiting[i]);
        for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
            printf(" %14llu", (unsigned long long)census->counts[i][class]);
        putchar('\n');
    }
}

static void print_age(int64_t since_ms)
{
    double seconds = (double)(clock_wall_ms() - since_ms) / 1000;
    if (seconds < 120)
        printf("%.0f s ago", seconds > 0 ? seconds : 0);
    else if (seconds < 7200)
        printf("%.0f min ago", seconds / 60);
    else if (seconds < 172800)
        printf("%.0f h ago", seconds / 3600);
    else
        printf("%.0f days ago", seconds / 86400);
}

/* Bytes as hexadecimal numbers, and as the characters that they may be. */
static void print_bytes(const char *bytes, size_t size)
{
    enum { ROW = 16 };
    for (size_t row = 0; row < size; row += ROW) {
        size_t count = size - row < ROW ? size - row : ROW;
        printf("    ");
        for (size_t i = 0; i < ROW; i++)
            if (i < count)
                printf("%02x ", (unsigned char)bytes[row + i]);
            else
                printf("   ");
        putchar(' ');
        for (size_t i = 0; i < count; i++)
            putchar(bytes[row + i] >= 0x20 && bytes[row + i] < 0x7f ? bytes[row + i] : '.');
        putchar('\n');
    }
}

static void print_letter(const struct census *census, const struct shown *shown)
{
    char time[32];
    clock_format(shown->timestamp_ms, time);
    printf("\n%s, ", time);
    print_age(shown->timestamp_ms);
    printf("  %s", dead_letter_class_text(shown->class));
    if (shown->cut_from >= 0)
        printf(", cut from %lld bytes", (long long)shown->cut_from);
    else
        printf(", %s", shown->waits ? "to put back" : "put back");
    printf("\n    in ");
    terminal_print(text_of(census->topics.names[shown->topic]), 0);
    printf(" partition %d offset %lld, from ", (int)shown->partition, (long long)shown->offset);
    terminal_print(text_of(shown->from[0] != '\0' ? shown->from : "an unknown topic"), 0);
    if (shown->from_partition >= 0 && shown->from_offset >= 0)
        printf(" partition %lld offset %lld", (long long)shown->from_partition, (long long)shown->from_offset);
    printf("\n    ");
    terminal_print((struct text){shown->reason, shown->reason_size}, 0);
    printf("%s\n    key ", shown->reason_size == 0 ? "it does not say why" : "");
    size_t key = shown->key_size < SHOWN_KEY ? shown->key_size : SHOWN_KEY;
    terminal_print(shown->has_key ? (struct text){shown->key, key} : text_of("none"), 0);
    printf("%s, value %s", shown->key_size > SHOWN_KEY ? "…" : "", shown->has_value ? "" : "null");
    if (shown->has_value)
        printf("%zu bytes", shown->value_size);
    putchar('\n');
    print_bytes(shown->value, shown->value_size < SHOWN_BYTES ? shown->value_size : SHOWN_BYTES);
}

static void print_census(const struct census *census)
{
    if (census->topics.count == 0) {
        printf("there are no dead-letter topics: nothing was ever refused, or nobody writes them "
               "(state.dead_letters)\n");
        return;
    }
    print_counts(census);
    for (size_t i = 0; i < census->letter_count; i++)
        print_letter(census, &census->letters[i]);
}

/* JSON. */

static json_t *hexadecimal(const char *bytes, size_t size)
{
    struct buffer digits = {0};
    for (size_t i = 0; i < size; i++)
        buffer_printf(&digits, "%02x", (unsigned char)bytes[i]);
    json_t *json = digits.failed ? NULL : json_stringn((const char *)digits.data, digits.size);
    buffer_free(&digits);
    return json;
}

static json_t *number_or_null(int64_t number)
{
    return number >= 0 ? json_integer(number) : json_null();
}

static json_t *letter_json(const struct census *census, const struct shown *shown)
{
    char time[32];
    clock_format(shown->timestamp_ms, time);
    size_t key = shown->key_size < SHOWN_KEY ? shown->key_size : SHOWN_KEY;
    size_t value = shown->value_size < SHOWN_BYTES ? shown->value_size : SHOWN_BYTES;
    struct text from = {shown->from[0] != '\0' ? shown->from : NULL, strlen(shown->from)};
    struct text reason = {shown->reason_size > 0 ? shown->reason : NULL, shown->reason_size};
    return json_pack(
        "{s:s, s:i, s:I, s:s, s:f, s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "topic",
        census->topics.names[shown->topic], "partition", (int)shown->partition, "offset", (json_int_t)shown->offset,
        "time", time, "age_seconds", (double)(clock_wall_ms() - shown->timestamp_ms) / 1000, "class",
        dead_letter_class_text(shown->class), "from_topic", inspect_json_text(from), "from_partition",
        number_or_null(shown->from_partition), "from_offset", number_or_null(shown->from_offset), "reason",
        inspect_json_text(reason), "cut_from_bytes", number_or_null(shown->cut_from), "to_put_back", shown->waits,
        "key", shown->has_key ? inspect_json_text((struct text){shown->key, key}) : json_null(), "key_hex",
        shown->has_key ? hexadecimal(shown->key, key) : json_null(), "size",
        shown->has_value ? json_integer((json_int_t)shown->value_size) : json_null(), "first_bytes_hex",
        shown->has_value ? hexadecimal(shown->value, value) : json_null());
}

static json_t *topic_json(const struct census *census, size_t topic)
{
    json_t *classes = json_object();
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
        json_object_set_new(classes, dead_letter_class_text(class),
                            json_integer((json_int_t)census->counts[topic][class]));
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "topic", census->topics.names[topic], "of",
                     census->topics.origins[topic], "letters", (json_int_t)letters_of(census, topic), "to_put_back",
                     (json_int_t)census->waiting[topic], "classes", classes);
}

static json_t *census_json(const struct census *census)
{
    json_t *topics = json_array(), *letters = json_array();
    bool whole = true;
    for (size_t i = 0; i < census->topics.count; i++)
        whole &= json_array_append_new(topics, topic_json(census, i)) == 0;
    for (size_t i = 0; i < census->letter_count; i++)
        whole &= json_array_append_new(letters, letter_json(census, &census->letters[i])) == 0;
    json_t *document = json_pack("{s:o, s:o}", "topics", topics, "letters", letters);
    if (whole)
        return document;
    json_decref(document);
    return NULL;
}

int inspect_dead(const struct inspection *inspection, struct error *err)
{
    struct census census = {.inspection = inspection};
    int class = inspection->class != NULL ? dead_letter_class_find(text_of(inspection->class)) : -1;
    if (inspection->class != NULL && class < 0)
        return error_set(err, ERROR_BAD_INPUT,
                         "--class: \"%s\" is none of framing, unknown_schema, decode, semantic, too_large, other",
                         inspection->class);
    for (int i = 0; i < DEAD_LETTER_CLASSES; i++)
        census.chosen[i] = class < 0 || class == i;
    interrupt_watch();
    int result = dead_topics_open(&census.topics, inspection->config, inspection->operand, NULL, NULL, err);
    if (result == 0)
        result = dead_topics_find_places(&census.topics, census.chosen, err);
    if (result == 0)
        result = read_letters(&census, err);
    if (result == 0 && inspection->json)
        result = inspect_print_json(census_json(&census), err);
    else if (result == 0)
        print_census(&census);
    dead_topics_close(&census.topics);
    free(census.letters);
    return result;
}
