#include "model/vocabulary.h"

#include <stdlib.h>

#include "model/gguf_file.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char types_key[] = "tokenizer.ggml.token_type";

int vocabulary_read(struct vocabulary *vocabulary, const struct gguf *gguf, struct error *err)
{
    size_t count, type_count;
    if (gguf_text_array(gguf, tokens_key, &count, err) != 0 || gguf_int_array(gguf, types_key, &type_count, err) != 0)
        return -1;
    if (count == 0 || count > INT32_MAX || type_count != count)
        return gguf_fail(gguf, err, "key %s has %zu tokens, key %s %zu types: must be as many, at least one",
                         tokens_key, count, types_key, type_count);
    vocabulary->types = malloc(count);
    if (vocabulary->types == NULL)
        return gguf_fail(gguf, err, "out of memory for %zu tokens", count);
    for (size_t id = 0; id < count; id++) {
        struct text spelling = gguf_text_at(gguf, tokens_key, id);
        int64_t type = gguf_int_at(gguf, types_key, id);
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
            return gguf_fail(gguf, err, "token %zu is of type %lld; supported: %d to %d", id, (long long)type,
                             TOKEN_NORMAL, TOKEN_BYTE);
        if (spelling.size == 0)
            return gguf_fail(gguf, err, "token %zu is an empty text", id);
        uint32_t added = table_add(&vocabulary->spellings, spelling);
        if (added == TABLE_NONE)
            return gguf_fail(gguf, err, "out of memory for %zu tokens", count);
        if (added != id)
            return gguf_fail(gguf, err, "tokens %u and %zu are spelt alike", (unsigned)added, id);
        vocabulary->types[id] = (uint8_t)type;
    }
    return 0;
}

void vocabulary_free(struct vocabulary *vocabulary)
{
    table_free(&vocabulary->spellings);
    free(vocabulary->types);
    *vocabulary = (struct vocabulary){0};
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, struct text spelling, enum token_type type)
{
    uint32_t id = table_find(&vocabulary->spellings, spelling);
    return id == TABLE_NONE || vocabulary->types[id] != type ? -1 : (int32_t)id;
}

static bool is_special(const struct vocabulary *vocabulary, size_t id)
{
    uint8_t type = vocabulary->types[id];
    return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED || type == TOKEN_UNKNOWN;
}

int32_t vocabulary_special(const struct vocabulary *vocabulary, struct text spelling)
{
    uint32_t id = table_find(&vocabulary->spellings, spelling);
    return id == TABLE_NONE || !is_special(vocabulary, id) ? -1 : (int32_t)id;
}

bool vocabulary_find_special(const struct vocabulary *vocabulary, struct text text, size_t *start, size_t *length,
                             int32_t *id)
{
    bool found = false;
    for (size_t i = 0; i < vocabulary->spellings.count; i++) {
        if (!is_special(vocabulary, i) || text.size == 0)
            continue;
        struct text special = vocabulary_spelling(vocabulary, i);
        const char *place = memmem(text.data, text.size, special.data, special.size);
        if (place == NULL)
            continue;
        size_t at = (size_t)(place - text.data);
        if (found && (at > *start || (at == *start && special.size < *length)))
            continue;
        found = true;
        *start = at;
        *length = special.size;
        *id = (int32_t)i;
    }
    return found;
}
