/*
 * Any bytes as a registry's answer: a verdict in one line, or a schema, which is read as each of our types or refused;
 * and what was compiled of it never reads beyond a message.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/program.h"
#include "wire/registry_answer.h"

enum { TYPES = 5 };

static const struct message_type *const types[TYPES] = {&interaction_type, &item_type, &user_type, &score_request_type,
                                                        &score_response_type};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool fine(int result, const struct error *err)
{
    must(result == 0 ||
         ((err->kind == ERROR_BAD_INPUT || err->kind == ERROR_RETRY) &&
          memchr(err->message, '\0', sizeof err->message) != NULL && strchr(err->message, '\n') == NULL));
    return result == 0;
}

static void use_schema(struct text json, const struct message_type *type, const uint8_t *bytes, size_t size)
{
    static struct arena arena;
    static struct schema readers[TYPES];
    struct schema writer;
    struct program program;
    struct error err;
    union {
        struct interaction interaction;
        struct item item;
        struct user user;
        struct score_request request;
        struct score_response response;
    } message;
    enum dead_letter_class class;
    if (arena.limit == 0) {
        arena_init(&arena, 4u << 20);
        for (size_t i = 0; i < TYPES; i++)
            must(schema_parse(&readers[i], text_of(message_schema(types[i])), &err) == 0);
    }
    size_t place = 0;
    while (types[place] != type)
        place++;
    if (!fine(schema_parse(&writer, json, &err), &err) ||
        !fine(program_compile(&program, &writer, &readers[place], type, &err), &err))
        return;
    arena_reset(&arena);
    fine(program_run(&program, bytes, size, &message, &arena, &class, &err), &err);
    program_free(&program);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const long statuses[] = {200, 200, 404, 409, 422, 401, 500, 301};
    struct buffer schema = {0};
    struct error err;
    uint32_t id;
    if (size == 0)
        return 0;
    struct registry_answer answer = {.status = statuses[bytes[0] & 7],
                                     .is_json = (bytes[0] & 8) != 0,
                                     .too_large = (bytes[0] & 48) == 48,
                                     .body = {(const char *)bytes + 1, size - 1}};
    fine(registry_answer_id(&answer, &id, &err) == 0 ? 0 : -1, &err);
    if (fine(registry_answer_schema(&answer, &schema, &err), &err))
        for (size_t i = 0; i < TYPES; i++)
            use_schema(buffer_text(&schema), types[i], bytes, size);
    for (size_t i = 0; i < TYPES; i++) /* the same bytes as the schema itself, which need not be escaped then */
        use_schema(answer.body, types[i], bytes, size);
    buffer_free(&schema);
    return 0;
}
