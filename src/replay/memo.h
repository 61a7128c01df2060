/*
 * memo.h - what the model said of a prompt, for the next replay that makes the same one
 *
 * Settings that differ in how prompts are made still make many of the same: without retrieval, embeddings change
 * nothing. Kept are each head's logits without their evidence, which is the row's own. Prompts are told apart by 128
 * bits of hash over their tokens.
 *
 * Threads: one at a time.
 */
#ifndef HEADRACE_REPLAY_MEMO_H
#define HEADRACE_REPLAY_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"

struct replay_memo;

struct memo_key {
    uint8_t bytes[16];
};

struct memo_entry {
    const double *logits; /* (readings) */
    float probability;    /* the engine's own answer, for progress lines */
    size_t exit_layer;
};

/* For one model with one list of sets. NULL without memory. */
struct replay_memo *replay_memo_create(void);
void replay_memo_destroy(struct replay_memo *memo);

struct memo_key memo_key_of(const int32_t *prefix, size_t prefix_length, const int32_t *tail, size_t tail_length);

/* False: not known. What `entry` points to holds until the next memo_put(). */
bool memo_find(const struct replay_memo *memo, const struct memo_key *key, struct memo_entry *entry);

/* `readings` as before, the first time any. */
int memo_put(struct replay_memo *memo, const struct memo_key *key, const double *logits, size_t readings,
             const struct engine_score *score, struct error *err);

#endif
