/* consume.c - a topic as decoded JSON lines */
#include <stdio.h>

#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/setup.h"
#include "stream/kafka.h"
#include "wire/codec.h"

enum { MESSAGE_MEMORY = 64 << 20, METADATA_MS = 10000, POLL_MS = 200, REGISTRY_MS = 60000 };

struct reader {
    const char *topic;
    bool follow, envelope;
    int64_t limit;
    struct codec *codec;
    rd_kafka_t *client;
    struct arena arena;
    struct buffer value, line;
    int32_t partitions, ended; /* partitions whose end has been seen */
    uint64_t printed, unreadable;
};

/*
 * Fingerprints or ids tell the schema: each type is tried. 1: none can be read of it, and the error says why; -1: no
 * telling, the registry cannot be asked.
 */
static int decode(struct reader *reader, const rd_kafka_message_t *message, struct error *err)
{
    static const struct message_type *const types[] = {&interaction_type, &item_type, &user_type, &score_request_type,
                                                       &score_response_type};
    union {
        struct interaction interaction;
        struct item item;
        struct user user;
        struct score_request request;
        struct score_response response;
    } decoded;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        enum dead_letter_class class;
        arena_reset(&reader->arena);
        if (codec_decode_waiting(reader->codec, types[i], message->payload, message->len, &decoded, &reader->arena,
                                 REGISTRY_MS, &interrupted, &class, err) == 0)
            return message_to_json(types[i], &decoded, &reader->value, err) == 0 ? 0 : 1;
        if (err->kind != ERROR_BAD_INPUT)
            return -1;
        if (class != DEAD_UNKNOWN_SCHEMA)
            return 1;
    }
    return 1;
}

/* As a JSON string; what is no UTF-8 as {"hex": "…"}. */
static void append_bytes(struct buffer *json, const void *bytes, size_t size)
{
    if (text_is_utf8((struct text){bytes, size})) {
        buffer_append_json(json, (struct text){bytes, size});
        return;
    }
    buffer_append_string(json, "{\"hex\":\"");
    for (size_t i = 0; i < size; i++)
        buffer_printf(json, "%02x", ((const unsigned char *)bytes)[i]);
    buffer_append_string(json, "\"}");
}

static void append_headers(struct buffer *json, const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    buffer_append_string(json, ",\"headers\":{");
    for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        if (i > 0)
            buffer_append_byte(json, ',');
        buffer_append_json(json, text_of(name));
        buffer_append_byte(json, ':');
        if (value == NULL)
            buffer_append_string(json, "null");
        else
            append_bytes(json, value, size);
    }
    buffer_append_byte(json, '}');
}

static void append_envelope(struct reader *reader, const rd_kafka_message_t *message)
{
    struct buffer *line = &reader->line;
    buffer_append_string(line, "{\"topic\":");
    buffer_append_json(line, text_of(reader->topic));
    buffer_printf(line, ",\"partition\":%d,\"offset\":%lld,\"timestamp\":%lld,\"key\":", (int)message->partition,
                  (long long)message->offset, (long long)rd_kafka_message_timestamp(message, NULL));
    if (message->key == NULL)
        buffer_append_string(line, "null");
    else
        append_bytes(line, message->key, message->key_len);
    append_headers(line, message);
    buffer_append_string(line, ",\"value\":");
}

/* What cannot be decoded is printed as {"error": …, "bytes": …}: a line of output stands for each message. */
static int print_message(struct reader *reader, const rd_kafka_message_t *message, struct error *err)
{
    buffer_clear(&reader->value);
    buffer_clear(&reader->line);
    int decoded = message->payload == NULL ? 0 : decode(reader, message, err);
    if (decoded < 0)
        return interrupted ? 0 : -1;
    if (message->payload == NULL) {
        buffer_append_string(&reader->value, "null");
    } else if (decoded > 0) {
        reader->unreadable++;
        buffer_clear(&reader->value);
        buffer_append_string(&reader->value, "{\"error\":");
        buffer_append_json(&reader->value, text_of(err->message));
        buffer_append_string(&reader->value, ",\"bytes\":");
        append_bytes(&reader->value, message->payload, message->len);
        buffer_append_byte(&reader->value, '}');
    }
    if (reader->envelope)
        append_envelope(reader, message);
    buffer_append_text(&reader->line, buffer_text(&reader->value));
    buffer_append_string(&reader->line, reader->envelope ? "}\n" : "\n");
    if (buffer_check(&reader->line, "printing a message", err) != 0)
        return -1;
    if (fwrite(reader->line.data, 1, reader->line.size, stdout) != reader->line.size)
        return error_set(err, ERROR_FATAL, "standard output cannot be written");
    reader->printed++;
    return 0;
}

static int take(struct reader *reader, const rd_kafka_message_t *message, struct error *err)
{
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        reader->ended++;
        return 0;
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return print_message(reader, message, err);
    return error_set(err, ERROR_RETRY, "reading %s: %s", reader->topic, rd_kafka_message_errstr(message));
}

static int assign_all(struct reader *reader, struct error *err)
{
    if (kafka_partition_count(reader->client, reader->topic, METADATA_MS, &reader->partitions, err) != 0)
        return -1;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(reader->partitions);
    for (int32_t i = 0; i < reader->partitions; i++)
        rd_kafka_topic_partition_list_add(list, reader->topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t failed = rd_kafka_assign(reader->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    return failed ? error_set(err, ERROR_FATAL, "assigning %s: %s", reader->topic, rd_kafka_err2str(failed)) : 0;
}

static int read_topic(struct reader *reader, struct error *err)
{
    if (assign_all(reader, err) != 0)
        return -1;
    while (!interrupted && (reader->follow || reader->ended < reader->partitions) &&
           (reader->limit == 0 || (int64_t)reader->printed < reader->limit)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(reader->client, POLL_MS);
        if (message == NULL) {
            fflush(stdout);
            continue;
        }
        int taken = take(reader, message, err);
        rd_kafka_message_destroy(message);
        if (taken != 0)
            return -1;
    }
    return fflush(stdout) == 0 ? 0 : error_set(err, ERROR_FATAL, "standard output cannot be written");
}

static int run_reader(struct reader *reader, const struct config *config, struct error *err)
{
    const struct property forced[] = {{"group.id", "headrace-consume"},
                                      {"enable.auto.commit", "false"},
                                      {"enable.partition.eof", "true"},
                                      {"auto.offset.reset", "earliest"}};
    arena_init(&reader->arena, MESSAGE_MEMORY);
    int result = -1;
    if (setup_codec(config, &reader->codec, err) == 0 &&
        setup_reader(config, forced, sizeof forced / sizeof *forced, &reader->client, err) == 0)
        result = read_topic(reader, err);

    kafka_destroy_consumer(reader->client);
    codec_destroy(reader->codec);
    buffer_free(&reader->value);
    buffer_free(&reader->line);
    arena_free(&reader->arena);
    return result;
}

int command_consume(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct reader reader = {0};
    const struct flag flags[] = {
        {"follow", NULL, FLAG_SWITCH, &reader.follow, "go on waiting at the end (default: stop there)"},
        {"limit", "N", FLAG_NUMBER, &reader.limit, "stop after so many messages"},
        {"envelope", NULL, FLAG_SWITCH, &reader.envelope, "partition, offset, timestamp, key and headers, too"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "consume",
        .operands = "TOPIC",
        .summary = "A topic from its beginning as JSON lines, decoded by the schema that each message "
                   "names.",
        .example = "headrace consume --set kafka.bootstrap.servers=localhost:9092 scores --follow",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .least_operands = 1,
        .most_operands = 1};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    struct config *config;
    int code = setup_config("consume", &config_flags, &config);
    if (code != EXIT_FINE)
        return code;
    interrupt_watch();
    reader.topic = argv[operand];
    struct error err;
    int result = run_reader(&reader, config, &err);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : setup_failed("consume", &err);
}
