#include "wire/registry_answer.h"

#include <jansson.h>
#include <string.h>

#include "base/text.h"

enum { WORDS_SIZE = 240 };

/* The registry's own words in one of our one-line messages. */
static void quote_words(const char *message, char words[WORDS_SIZE])
{
    struct text text = text_prefix(text_of(message), WORDS_SIZE - 1);
    for (size_t i = 0; i < text.size; i++)
        words[i] = (unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f ? ' ' : text.data[i];
    words[text.size] = '\0';
}

/* The body as a JSON object; NULL: it is none. */
static json_t *read_object(const struct registry_answer *answer)
{
    json_error_t at;
    json_t *json =
        answer->too_large || answer->body.size == 0 ? NULL : json_loadb(answer->body.data, answer->body.size, 0, &at);
    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

static int say_status(const struct registry_answer *answer, const char *words, struct error *err)
{
    const char *space = *words != '\0' ? ": " : "";
    switch (answer->status) {
    case 401:
    case 403:
        return error_set(err, ERROR_RETRY,
                         "the registry does not let us in (HTTP %ld%s%s): see registry.user and registry.password",
                         answer->status, space, words);
    case 404:
        return error_set(err, ERROR_RETRY,
                         "HTTP 404 that is not a registry's own%s%s: does registry.url lead to a Confluent API "
                         "(of Apicurio it ends in /apis/ccompat/v7)?",
                         space, words);
    default:
        return error_set(err, ERROR_RETRY, "the registry answers with HTTP %ld%s%s", answer->status, space, words);
    }
}

/* An answer other than 200, an error. Returns -1, or 1 when the registry itself says that it does not have it. */
static int read_refusal(const struct registry_answer *answer, struct error *err)
{
    json_t *json = read_object(answer);
    json_int_t code = json_integer_value(json_object_get(json, "error_code"));
    const char *message = json_string_value(json_object_get(json, "message"));
    char words[WORDS_SIZE];
    quote_words(message != NULL ? message : "", words);
    json_decref(json);
    if (answer->status == 404 && code >= 40400 && code <= 40499) {
        error_set(err, ERROR_BAD_INPUT, "the registry does not have it: %s", words);
        return 1;
    }
    if ((answer->status == 409 && code >= 409 && code < 41000) ||
        (answer->status == 422 && code >= 42200 && code <= 42299))
        return error_set(err, ERROR_BAD_INPUT, "the registry does not take it: %s", words);
    return say_status(answer, words, err);
}

static int say_shape(const struct registry_answer *answer, struct error *err)
{
    return error_set(err, ERROR_RETRY,
                     "HTTP 200 without a registry's answer in it (%zu bytes): does registry.url lead "
                     "to a Confluent API?",
                     answer->body.size);
}

static int take_schema(const json_t *json, const struct registry_answer *answer, struct buffer *schema,
                       struct error *err)
{
    const json_t *text = json_object_get(json, "schema"), *type = json_object_get(json, "schemaType");
    const json_t *references = json_object_get(json, "references");
    if (json_string_length(text) == 0 || (type != NULL && !json_is_string(type) && !json_is_null(type)))
        return say_shape(answer, err);
    if (json_is_string(type) && strcmp(json_string_value(type), "AVRO") != 0)
        return error_set(err, ERROR_BAD_INPUT, "its type is %.40s: only AVRO is read", json_string_value(type));
    if (json_array_size(references) > 0)
        return error_set(err, ERROR_BAD_INPUT,
                         "it has references to other schemas, which are not followed: register it in one piece");
    buffer_append(schema, json_string_value(text), json_string_length(text));
    return buffer_check(schema, "reading a registry's answer", err);
}

int registry_answer_schema(const struct registry_answer *answer, struct buffer *schema, struct error *err)
{
    if (answer->status != 200) {
        read_refusal(answer, err);
        return -1;
    }
    if (answer->too_large && answer->is_json)
        return error_set(err, ERROR_BAD_INPUT, "it is larger than any that we take");
    json_t *json = read_object(answer);
    int result = json == NULL ? say_shape(answer, err) : take_schema(json, answer, schema, err);
    json_decref(json);
    return result;
}

int registry_answer_id(const struct registry_answer *answer, uint32_t *id, struct error *err)
{
    if (answer->status != 200)
        return read_refusal(answer, err);
    json_t *json = read_object(answer);
    const json_t *number = json_object_get(json, "id");
    json_int_t value = json_integer_value(number);
    bool fine = json_is_integer(number) && value >= 0 && value <= UINT32_MAX;
    json_decref(json);
    if (!fine)
        return say_shape(answer, err);
    *id = (uint32_t)value;
    return 0;
}
