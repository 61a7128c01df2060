/*
 * engine.h - what the model says of prompts' candidates, and how deep it had to go
 *
 * One forward pass, no decoding. A prompt's prefix (system and user part) is computed once; the candidates are packed
 * behind it: each one's positions start where the prefix ends, it sees the prefix and itself, never another candidate.
 * Layers run in blocks between exits. At an exit the head of that exit is put on the last token's hidden state of the
 * last layers, and the rule (exits/exit_rule.h) decides; rows that are sure leave the batch, and a prefix runs only as
 * deep as its deepest survivor. All that are left leave at the last head; it may sit below the model's last layer. In
 * the last layer only last tokens are computed past keys and values. Candidates of
 * several prompts run as one batch, and what is left of each goes on together.
 *
 * A candidate's numbers are the same bit for bit alone, packed with others of its own and of other prompts, in another
 * order, and for any number of threads: no sum is split over the inner dimension, and every row's sums run in the same
 * order whatever tile it falls in.
 *
 * Numbers: sums in float, operands as the mode says; the instruction set is picked by the processor at start. Between
 * instruction sets the numbers agree within rounding.
 *
 * Memory: the weights without the embedding, 4 bytes each in F32, 2 in BF16, 1 in INT8; per prefix token 2 * key_heads
 * * head_size numbers a layer (4 bytes each in F32, else 2); candidates run in groups of about 2048 tokens, so that a
 * call of any number of them needs no more than that. Prefixes are kept in chunks of 64 tokens, the least recently used
 * given back first. Those of a group's prompts share the chunks that they begin with alike, and fit
 * settings.prefix_cache_bytes together at full depth, or else the group is one prompt's: only a single prefix may take
 * more than these bytes, while it runs. With 0 prompts run one by one and share nothing.
 *
 * Threads: one engine_score() at a time; it uses a pool of its own. engine_check() beside it, from any.
 */
#ifndef HEADRACE_ENGINE_ENGINE_H
#define HEADRACE_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "exits/exit_rule.h"
#include "model/heads.h"
#include "model/model.h"

enum { ENGINE_MAX_EXITS = 16, ENGINE_MAX_WINDOW = 16 };

struct engine;

/* AUTO: the fastest mode on this instruction set that keeps the heads' accuracy. */
enum engine_mode { ENGINE_MODE_AUTO, ENGINE_F32, ENGINE_BF16, ENGINE_INT8 };

/* AUTO: the best that the processor has. SCALAR is plain C, on every processor. */
enum engine_cpu { ENGINE_CPU_AUTO, ENGINE_SCALAR, ENGINE_AVX2, ENGINE_AVX512 };

struct engine_settings {
    struct exit_rule rule;
    size_t threads; /* at least 1 */
    enum engine_mode mode;
    enum engine_cpu cpu;
    size_t prefix_cache_bytes; /* prefixes kept for the requests to come; 0: none */
    const char *weights_cache; /* directory where packed weights are kept for the next start; NULL: they are not */
    const char *model_hash;    /* with it: gguf_hash() of the model's file */
};

/*
 * Packs the weights, or maps what an earlier start has kept of them. `model` and `heads` must outlive the engine.
 * Layers above the last head's are neither packed nor run. A rule that can fire at none of the exits is an error, and
 * so is an instruction set that the processor lacks; exits with fewer rows than the rule looks at layers are logged
 * once and passed over. A rule CALIBRATED whose exits all have a `leave` of infinity is right where exit 0 has another
 * one.
 */
int engine_create(struct engine **engine, const struct model *model, const struct heads *heads,
                  const struct engine_settings *settings, struct error *err);
void engine_destroy(struct engine *engine);

struct engine_prompt {
    const int32_t *prefix; /* token ids, at least 1 */
    size_t prefix_length;
    const int32_t *tokens; /* the candidates' token ids, one candidate after the other */
    const size_t *offsets; /* candidate c is tokens[offsets[c] .. offsets[c + 1]), at least 1 token each */
    size_t candidate_count;
    bool explain;  /* rows do not leave: every exit is visited and reported, also those that the rule passes over or,
                      being FULL, never asks; the answer stays the rule's */
    float *states; /* NULL, or with `explain`: gets (candidate_count, N, width), each candidate's last token's residual
                      stream after each layer 1 .. N in the model's own basis, N being the last head's layer; heads are
                      trained on it */
    const float *evidence; /* NULL, or (candidate_count, heads->count): added to the logits of each exit */
    size_t max_layer; /* 0: none. Else all leave, at last, at the deepest exit up to this layer, or at the first exit
                         where that is deeper, whatever the rule says: less depth when there is too much to do. Who
                         leaves before leaves as without; no hidden state above is made */
};

struct engine_exit {
    size_t layer;
    bool fired;                             /* the rule was satisfied here */
    size_t count;                           /* of the probabilities below: exit_rule_layers(), 1 under FULL; fewer at
                                               an exit that has fewer rows */
    float probabilities[ENGINE_MAX_WINDOW]; /* this exit's head on the last `count` layers, oldest first */
};

struct engine_score {
    float probability; /* of "yes"; NaN never: a broken hidden state is an error of the call, ERROR_BAD_INPUT */
    size_t exit_layer; /* layer of the head that answered */
    size_t exit_count; /* exits visited, in order */
    struct engine_exit exits[ENGINE_MAX_EXITS];
};

/*
 * ERROR_BAD_INPUT, naming the candidate: a token id outside the vocabulary, an empty prefix or candidate, a prefix plus
 * candidate longer than the model's context. For who puts strangers' prompts into one call: check each alone first.
 */
int engine_check(const struct engine *engine, const struct engine_prompt *prompt, struct error *err);

/*
 * Fills scores, one array: the first prompt's candidates, then the second's, and so on. ERROR_BAD_INPUT as from
 * engine_check(), naming the prompt where there are several, and for a hidden state or an answer that is not finite:
 * the same tokens will give it again, but in a call of several prompts the others are not at fault. After an error no
 * score of the call counts.
 */
int engine_score(struct engine *engine, const struct engine_prompt *prompts, size_t count, struct engine_score *scores,
                 struct error *err);

/* For tests against other implementations: hidden states (residual stream) of every token of one plain sequence after
 * `layer` layers (0: the embeddings), `length * width` floats. */
int engine_hidden_states(struct engine *engine, const int32_t *tokens, size_t length, size_t layer, float *out,
                         struct error *err);

/*
 * Token positions times layers computed since the start: what the exits saved shows against tokens * N. A position
 * counts in a layer when it is computed to the layer's end; where only its keys and values are needed (in the layer at
 * which its candidate leaves, unless it is the last token) it does not.
 */
uint64_t engine_token_layers(const struct engine *engine);

/*
 * Prefixes in chunks, since the start. A chunk that a prompt begins with is found, as it was kept or in use by a prompt
 * of the same group (hit), or computed from its tokens (miss); one that was found and had to be run through more layers
 * counts as a deepening as well.
 */
struct engine_prefix_counters {
    uint64_t hits, misses, deepenings;
    uint64_t evictions; /* given back to make room */
    size_t bytes;       /* kept now */
    size_t entries;     /* chunks kept now */
};

struct engine_prefix_counters engine_prefix_counters(const struct engine *engine);

/* So many of a prefix's tokens, its first, are kept in the cache: they need not be computed. Not beside engine_score().
 */
size_t engine_kept(const struct engine *engine, const int32_t *prefix, size_t length);

/* "bf16 on avx512": what AUTO came to. Holds as long as the engine. */
const char *engine_arithmetic(const struct engine *engine);

#endif
