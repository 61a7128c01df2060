#include "stream/dead_letter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/kafka.h"

/*
 * A packed letter: "HRDL1", key, value, number of headers, how many of them are ours, then name and value of each.
 * Numbers are 4 bytes, little-endian; a piece is its size and its bytes, the size NULL_PIECE stands for null; a name
 * has its NUL inside the size, so that a header can point into the letter.
 */
static const char magic[] = "HRDL1";

enum {
    MAGIC_SIZE = sizeof magic - 1,
    HEADER_MAX = 160,   /* of a message, ours included: further ones are cut */
    RECORD_COST = 100,  /* bytes of a record batch around one record, at most */
    HEADER_COST = 10,   /* bytes of lengths around one header, at most */
    TRUNCATED_SIZE = 24 /* of a size in digits */
};
static const uint32_t NULL_PIECE = UINT32_MAX;
static const char truncated_name[] = "headrace.truncated";
static const char class_name[] = "headrace.error.class";

struct letter {
    struct text key, value; /* data == NULL: null */
    struct producer_header headers[HEADER_MAX];
    size_t header_count;
    size_t
        own_count; /* the last of them are ours: they come behind the message's, as readers take the last of a name */
    bool headers_cut; /* the message had more than HEADER_MAX */
    char truncated[TRUNCATED_SIZE];
};

static void add_own_header(struct letter *letter, const char *name, const char *value)
{
    letter->headers[letter->header_count++] = (struct producer_header){name, value, strlen(value)};
    letter->own_count++;
}

static size_t header_cost(const struct producer_header *header)
{
    return strlen(header->name) + header->size + HEADER_COST;
}

static size_t content_size(const struct letter *letter)
{
    size_t size = letter->key.size + letter->value.size;
    for (size_t i = 0; i + letter->own_count < letter->header_count; i++)
        size += strlen(letter->headers[i].name) + letter->headers[i].size;
    return size;
}

static bool is_truncated(const struct letter *letter)
{
    for (size_t i = letter->header_count - letter->own_count; i < letter->header_count; i++)
        if (strcmp(letter->headers[i].name, truncated_name) == 0)
            return true;
    return false;
}

static size_t take(size_t *budget, size_t wanted)
{
    size_t taken = wanted < *budget ? wanted : *budget;
    *budget -= taken;
    return taken;
}

/* Our headers stay in any case; the key comes next, then the message's headers in their order, then the value. */
static void cut_to(struct letter *letter, size_t limit)
{
    size_t before = content_size(letter);
    size_t foreign = letter->header_count - letter->own_count;
    size_t ours = RECORD_COST + sizeof truncated_name + TRUNCATED_SIZE + HEADER_COST;
    for (size_t i = foreign; i < letter->header_count; i++)
        ours += header_cost(&letter->headers[i]);
    size_t budget = limit > ours ? limit - ours : 0;

    letter->key.size = take(&budget, letter->key.size);
    size_t kept = 0;
    while (kept < foreign && header_cost(&letter->headers[kept]) <= budget)
        budget -= header_cost(&letter->headers[kept++]);
    memmove(&letter->headers[kept], &letter->headers[foreign], letter->own_count * sizeof *letter->headers);
    letter->header_count = kept + letter->own_count;
    letter->value.size = take(&budget, letter->value.size);

    if ((letter->headers_cut || content_size(letter) != before) && !is_truncated(letter)) {
        snprintf(letter->truncated, sizeof letter->truncated, "%zu", before);
        add_own_header(letter, truncated_name, letter->truncated);
    }
}

static void append_number(struct buffer *out, size_t number)
{
    const uint8_t bytes[] = {(uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16), (uint8_t)(number >> 24)};
    buffer_append(out, bytes, sizeof bytes);
}

static void append_piece(struct buffer *out, const void *data, size_t size)
{
    append_number(out, data ? size : NULL_PIECE);
    buffer_append(out, data, data ? size : 0);
}

static int append_letter(const struct letter *letter, struct buffer *out, struct error *err)
{
    buffer_append(out, magic, MAGIC_SIZE);
    append_piece(out, letter->key.data, letter->key.size);
    append_piece(out, letter->value.data, letter->value.size);
    append_number(out, letter->header_count);
    append_number(out, letter->own_count);
    for (size_t i = 0; i < letter->header_count; i++) {
        const struct producer_header *header = &letter->headers[i];
        append_piece(out, header->name, strlen(header->name) + 1);
        append_piece(out, header->value, header->size);
    }
    return buffer_check(out, "packing a dead letter", err);
}

/* The message's headers, as many as leave room for ours. */
static void take_headers(struct letter *letter, const rd_kafka_message_t *message)
{
    enum { OURS_AT_MOST = 10 };
    rd_kafka_headers_t *headers;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    struct producer_header *header = letter->headers;
    while (rd_kafka_header_get_all(headers, letter->header_count, &header->name, &header->value, &header->size) ==
           RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (letter->header_count == HEADER_MAX - OURS_AT_MOST) {
            letter->headers_cut = true;
            break;
        }
        header = &letter->headers[++letter->header_count];
    }
}

int dead_letter_pack(const rd_kafka_message_t *message, enum dead_letter_class class, const char *reason, size_t limit,
                     struct buffer *out, struct error *err)
{
    char partition[16], offset[24], exception[64];
    snprintf(partition, sizeof partition, "%d", (int)message->partition);
    snprintf(offset, sizeof offset, "%lld", (long long)message->offset);
    snprintf(exception, sizeof exception, "headrace.%s", dead_letter_class_name(class));

    if (class == DEAD_FRAMING && kafka_has_header(message, CODEC_SCHEMA_HEADER))
        reason = "framing by a schema GUID in the header __value_schema_id is not supported";

    struct letter letter = {
        .key = {message->key, message->key_len},
        .value = {message->payload, message->len},
    };
    take_headers(&letter, message);
    add_own_header(&letter, "__connect.errors.topic", rd_kafka_topic_name(message->rkt));
    add_own_header(&letter, "__connect.errors.partition", partition);
    add_own_header(&letter, "__connect.errors.offset", offset);
    add_own_header(&letter, "__connect.errors.stage", class == DEAD_SEMANTIC ? "TASK_PUT" : "VALUE_CONVERTER");
    add_own_header(&letter, "__connect.errors.exception.class.name", exception);
    add_own_header(&letter, "__connect.errors.exception.message", reason);
    add_own_header(&letter, class_name, dead_letter_class_name(class));
    cut_to(&letter, limit);
    return append_letter(&letter, out, err);
}

struct reader {
    const char *at;
    size_t left;
    bool failed;
};

static size_t read_number(struct reader *reader)
{
    if (reader->failed || reader->left < 4) {
        reader->failed = true;
        return 0;
    }
    const uint8_t *bytes = (const uint8_t *)reader->at;
    reader->at += 4;
    reader->left -= 4;
    return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

static struct text read_piece(struct reader *reader)
{
    size_t size = read_number(reader);
    if (reader->failed || size == NULL_PIECE)
        return (struct text){NULL, 0};
    if (size > reader->left) {
        reader->failed = true;
        return (struct text){NULL, 0};
    }
    struct text piece = {reader->at, size};
    reader->at += size;
    reader->left -= size;
    return piece;
}

/* What *letter points to lives as long as the bytes. */
static int read_letter(struct text bytes, struct letter *letter, struct error *err)
{
    *letter = (struct letter){.header_count = 0};
    struct reader reader = {bytes.data, bytes.size, bytes.size < MAGIC_SIZE};
    if (reader.failed || memcmp(bytes.data, magic, MAGIC_SIZE) != 0)
        return error_set(err, ERROR_BAD_INPUT, "not a packed dead letter: it does not begin with %s", magic);
    reader.at += MAGIC_SIZE;
    reader.left -= MAGIC_SIZE;
    letter->key = read_piece(&reader);
    letter->value = read_piece(&reader);
    letter->header_count = read_number(&reader);
    letter->own_count = read_number(&reader);
    if (letter->header_count > HEADER_MAX || letter->own_count > letter->header_count)
        return error_set(err, ERROR_BAD_INPUT, "packed dead letter with %zu headers, %zu of them ours",
                         letter->header_count, letter->own_count);
    for (size_t i = 0; i < letter->header_count && !reader.failed; i++) {
        struct text name = read_piece(&reader);
        struct text value = read_piece(&reader);
        reader.failed |= name.size == 0 || name.data[name.size - 1] != '\0';
        letter->headers[i] = (struct producer_header){name.data, value.data, value.size};
    }
    if (reader.failed || reader.left != 0)
        return error_set(err, ERROR_BAD_INPUT, "packed dead letter of %zu bytes is damaged", bytes.size);
    return 0;
}

int dead_letter_class_of(struct text packed, enum dead_letter_class *class, struct error *err)
{
    struct letter letter;
    if (read_letter(packed, &letter, err) != 0)
        return -1;
    for (size_t i = letter.header_count - letter.own_count; i < letter.header_count; i++) {
        const struct producer_header *header = &letter.headers[i];
        if (strcmp(header->name, class_name) != 0)
            continue;
        for (int known = DEAD_FRAMING; known <= DEAD_TOO_LARGE; known++) {
            const char *name = dead_letter_class_name((enum dead_letter_class)known);
            if (header->size == strlen(name) && memcmp(header->value, name, header->size) == 0) {
                *class = (enum dead_letter_class)known;
                return 0;
            }
        }
    }
    return error_set(err, ERROR_BAD_INPUT, "packed dead letter without its class");
}

int dead_letter_cut(struct text letter, size_t limit, struct buffer *out, struct error *err)
{
    struct letter shorter;
    if (read_letter(letter, &shorter, err) != 0)
        return -1;
    if (shorter.header_count == HEADER_MAX)
        return error_set(err, ERROR_BAD_INPUT, "packed dead letter with %d headers", HEADER_MAX);
    cut_to(&shorter, limit);
    return append_letter(&shorter, out, err);
}

int dead_letter_send(struct producer *producer, const char *topic, struct text letter, void *opaque, struct error *err)
{
    struct letter content;
    if (read_letter(letter, &content, err) != 0)
        return -1;
    /* The record's time is now: with the old one the topic's retention could take the letter at once. */
    return producer_send(producer,
                         &(struct producer_message){
                             .topic = topic,
                             .key = content.key.data,
                             .key_size = content.key.size,
                             .value = content.value.data,
                             .value_size = content.value.size,
                             .headers = content.headers,
                             .header_count = content.header_count,
                             .opaque = opaque,
                         },
                         err);
}
