/*
 * heads.h - exit heads: what makes a probability of a hidden state, or of the evidence alone
 *
 * A head sits on the output of one layer and has a row of weights for that layer and for some layers before it: an exit
 * rule looks at its answers there. After layer l
 *
 *   logit = rows[l - first] . (h / rms(h)) + biases[l - first] + evidence . features,   p = sigmoid(logit)
 *
 * Norm gains, each layer's own means and scales, those of the features, and Platt's calibration are folded into rows,
 * biases and evidence. Exit 0 is a head on the evidence alone, before any layer.
 *
 * A file of heads is GGUF, general.type "exit-heads", with one or several sets of them ("text", "hybrid", "single"):
 *
 *   headrace.heads.format          1; a newer one is refused
 *   headrace.heads.width           of the hidden states
 *   headrace.heads.norm_epsilon    of the norm
 *   headrace.heads.features        names of the evidence's features, in order; none when missing
 *   headrace.heads.SET.exits       layers with an exit, ascending
 *   headrace.heads.SET.first       an exit's first layer with a row, each
 *   headrace.heads.SET.leave       threshold of the rule `calibrated`, each; infinity: nobody leaves there
 *   headrace.heads.SET.reference   layer of the best single exit, 0: exit 0; missing: unknown
 *   headrace.heads.SET.exit0_leave threshold of exit 0
 *   headrace.heads.exit0_bias      with the tensor "exit0.weights" (features)
 *   headrace.heads.origin.*        where they come from: struct heads_origin
 *   headrace.heads.number.*        measures and choices of the training, for people: SET.EXIT.NAME or SET.NAME
 *   tensors SET.EXIT.rows (layers, width), SET.EXIT.biases (layers), SET.EXIT.evidence (features; a text head has none)
 *
 * Threads: read-only once made.
 */
#ifndef HEADRACE_MODEL_HEADS_H
#define HEADRACE_MODEL_HEADS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/model.h"

enum { HEADS_MAX_EXITS = 64, HEADS_MAX_FEATURES = 256, HEADS_SET_SIZE = 16 /* bytes, NUL included */ };

struct head {
    size_t layer;    /* the exit: sits on the output of this layer, 1 .. N */
    size_t first;    /* rows are for hidden states after layers first .. layer; 1 <= first <= layer */
    float *rows;     /* (layer - first + 1, width) */
    float *biases;   /* (layer - first + 1) */
    float *evidence; /* (evidence_count) weights of the raw features; NULL: a text head */
    float leave;     /* threshold of the rule `calibrated` at this exit; INFINITY: nobody leaves here */
};

struct heads {
    struct head *exits; /* by layer, ascending; the last is where everybody leaves: its layer is N or less */
    size_t count;
    size_t width;
    float norm_epsilon;
    char id[64];           /* says in responses which heads answered */
    size_t evidence_count; /* features that weights are for; 0: neither exit 0 nor hybrid heads */
    float *exit0;          /* (evidence_count): logit of exit 0 = exit0 . features + exit0_bias; NULL: none */
    float exit0_bias;
    float exit0_leave; /* as `leave`, for candidates that exit 0 answers before any layer */
    size_t reference;  /* layer of the best single exit on held-out rows; 0: exit 0 itself; SIZE_MAX: unknown */
};

/*
 * Heads copied from the LM head: its two label rows behind the final norm's gain, for every layer alike, at every exit
 * of `layers` and after the last layer. `layers` ascending, each 1 to N - 1; `yes` and `no` are token ids.
 */
int heads_from_output(struct heads *heads, const struct model *model, const size_t *layers, size_t count, int32_t yes,
                      int32_t no, struct error *err);
void heads_free(struct heads *heads);

/*
 * Takes out the exits that are not among `layers`. The last one stays where everybody leaves; with `max_layer` above 0
 * that is the one on this layer, and what lies above goes. ERROR_FATAL: there is none.
 */
int heads_keep(struct heads *heads, const size_t *layers, size_t count, size_t max_layer, struct error *err);

/* Exit 0's logit, where heads->exit0 is not NULL. */
float heads_exit0_logit(const struct heads *heads, const float *features);

/* What the evidence adds to a head's logits: 0 for a text head. */
float head_evidence_logit(const struct heads *heads, const struct head *head, const float *features);

/* The same at every exit: logits[0..count). */
void heads_weigh_evidence(const struct heads *heads, const float *features, float *logits);

/* Not finite where the logit is not a number. */
double heads_probability(double logit);

/* Where a file's heads come from. What is not known is 0 or "". */
struct heads_origin {
    char model_hash[36];    /* heads_model_hash() */
    char template_hash[17]; /* of the prompt's template */
    char mode[16];          /* the arithmetic of the hidden states: "bf16" */
    int32_t yes, no;        /* the label tokens */
    int64_t seed;
    int64_t from_ms, to_ms; /* oldest and newest event trained on */
    char made_by[1024];     /* command line */
};

/* gguf_hash() of the model's file, "+" and the adapters' hash behind it where some are merged in. */
void heads_model_hash(char hash[36], struct gguf *gguf, const struct model *model);

/*
 * The set of that name, all its exits, and exit 0 where the file has it. `model` must have their width and layers;
 * NULL: the file is checked by itself. `origin` may be NULL. Whether hash, template and mode fit is for the caller to
 * say. ERROR_FATAL names file, key or tensor; for an unknown set also those that the file has.
 */
int heads_load(struct heads *heads, struct heads_origin *origin, const struct gguf *file, const char *set,
               const struct model *model, struct error *err);

/* ERROR_FATAL unless the file's features, if it has any, are these in this order. */
int heads_check_features(const struct gguf *file, const char *const *names, size_t count, struct error *err);

/* Names of the file's sets, in its order; returns how many. */
size_t heads_sets(const struct gguf *file, char sets[][HEADS_SET_SIZE], size_t most);

/*
 * A file, for who trains: heads_put_file() once, heads_put_exit0() where there is one, heads_put() for each set (rows,
 * biases, evidence, leave, exit0_leave, reference), heads_put_number() for each measure.
 */
void heads_put_file(struct gguf_writer *writer, const struct heads *heads, const struct heads_origin *origin,
                    const struct text *feature_names, size_t feature_count);
void heads_put_exit0(struct gguf_writer *writer, const struct heads *heads);
void heads_put(struct gguf_writer *writer, const char *set, const struct heads *heads);

/* `exit` 0: of the set as a whole. */
void heads_put_number(struct gguf_writer *writer, const char *set, size_t exit, const char *name, double value);

/*
 * Writes new thresholds into a file: leave[0] is exit 0's, which counts where the file has one, leave[1 + i] that of
 * the exit at layers[i]; the set's other exits let nobody leave, the last one excepted. Nothing else of the file
 * changes, and it is replaced whole. ERROR_FATAL where the file has no such set or exit.
 */
int heads_write_leave(const char *path, const char *set, const size_t *layers, const float *leave, size_t count,
                      struct error *err);

#endif
