#include "replay/memo.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "base/table.h"

struct said {
    float probability;
    uint32_t exit_layer;
};

struct replay_memo {
    struct table keys;
    double *logits; /* (keys, readings) */
    struct said *said;
    size_t readings, logit_capacity, said_capacity;
};

struct replay_memo *replay_memo_create(void)
{
    return calloc(1, sizeof(struct replay_memo));
}

void replay_memo_destroy(struct replay_memo *memo)
{
    if (memo == NULL)
        return;
    table_free(&memo->keys);
    free(memo->logits);
    free(memo->said);
    free(memo);
}

struct memo_key memo_key_of(const int32_t *prefix, size_t prefix_length, const int32_t *tail, size_t tail_length)
{
    struct memo_key key;
    XXH128_hash_t hash = XXH3_128bits(prefix, prefix_length * sizeof *prefix);
    hash = XXH3_128bits_withSeed(tail, tail_length * sizeof *tail, hash.low64 ^ hash.high64 ^ prefix_length);
    memcpy(key.bytes, &hash, sizeof key.bytes);
    return key;
}

bool memo_find(const struct replay_memo *memo, const struct memo_key *key, struct memo_entry *entry)
{
    uint32_t at = table_find(&memo->keys, (struct text){(const char *)key->bytes, sizeof key->bytes});
    if (at == TABLE_NONE)
        return false;
    *entry = (struct memo_entry){.logits = memo->logits + at * memo->readings,
                                 .probability = memo->said[at].probability,
                                 .exit_layer = memo->said[at].exit_layer};
    return true;
}

int memo_put(struct replay_memo *memo, const struct memo_key *key, const double *logits, size_t readings,
             const struct engine_score *score, struct error *err)
{
    size_t count = memo->keys.count;
    memo->readings = readings;
    if (array_reserve(&memo->logits, &memo->logit_capacity, (count + 1) * readings + 1, sizeof *memo->logits) != 0 ||
        array_reserve(&memo->said, &memo->said_capacity, count + 1, sizeof *memo->said) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for the answers to %zu prompts", count);
    uint32_t at = table_add(&memo->keys, (struct text){(const char *)key->bytes, sizeof key->bytes});
    if (at == TABLE_NONE)
        return error_set(err, ERROR_FATAL, "out of memory for the answers to %zu prompts", count);
    if (readings > 0)
        memcpy(memo->logits + at * readings, logits, readings * sizeof *logits);
    memo->said[at] = (struct said){score->probability, (uint32_t)score->exit_layer};
    return 0;
}
