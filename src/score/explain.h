/* explain.h - what a candidate's answer rests on, for the response's `explanation` */
#ifndef HEADRACE_SCORE_EXPLAIN_H
#define HEADRACE_SCORE_EXPLAIN_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "engine/engine.h"
#include "score/exit0.h"
#include "score/plan.h"
#include "wire/messages.h"

/* The whole prompt of a candidate, copied into the arena. */
int explain_text(struct arena *arena, const struct buffer *system, const struct buffer *user,
                 const struct buffer *candidate, struct text *prompt, struct error *err);

/* Exit 0 is the first of the exits. `score` is NULL where no layer ran. */
int explain_candidate(struct arena *arena, const struct plan_candidate *candidate, const struct exit0 *exit0,
                      const struct engine_score *score, struct text prompt, struct scored_candidate *answer,
                      struct error *err);

#endif
