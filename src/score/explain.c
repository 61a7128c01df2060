#include "score/explain.h"

#include <string.h>

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while explaining a score");
}

int explain_text(struct arena *arena, const struct buffer *system, const struct buffer *user,
                 const struct buffer *candidate, struct text *prompt, struct error *err)
{
    const struct buffer *const parts[] = {system, user, candidate};
    size_t size = 0;
    for (size_t i = 0; i < 3; i++) {
        if (buffer_check(parts[i], "explaining a score", err) != 0)
            return -1;
        size += parts[i]->size;
    }
    char *text = arena_allocate(arena, size);
    if (text == NULL)
        return out_of_memory(err);
    *prompt = (struct text){text, size};
    for (size_t i = 0; i < 3; i++) {
        if (parts[i]->size > 0)
            memcpy(text, parts[i]->data, parts[i]->size);
        text += parts[i]->size;
    }
    return 0;
}

static int explain_evidence(struct arena *arena, const struct evidence *evidence, struct explanation *explanation,
                            struct error *err)
{
    double values[EVIDENCE_COUNT];
    evidence_values(evidence, values);
    explanation->evidence = arena_allocate_array(arena, EVIDENCE_COUNT, sizeof *explanation->evidence);
    if (explanation->evidence == NULL)
        return out_of_memory(err);
    explanation->evidence_count = EVIDENCE_COUNT;
    for (size_t i = 0; i < EVIDENCE_COUNT; i++)
        explanation->evidence[i] = (struct explained_value){text_of(evidence_names[i]), values[i]};
    return 0;
}

static int explain_exit(struct arena *arena, size_t layer, bool fired, const float *from, size_t count,
                        struct explained_exit *exit, struct error *err)
{
    double *probabilities = arena_allocate_array(arena, count, sizeof *probabilities);
    if (probabilities == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++)
        probabilities[i] = (double)from[i];
    *exit = (struct explained_exit){
        .layer = (int32_t)layer, .fired = fired, .probabilities = probabilities, .probability_count = count};
    return 0;
}

static int explain_exits(struct arena *arena, const struct exit0 *exit0, const struct engine_score *score,
                         struct explanation *explanation, struct error *err)
{
    size_t count = score == NULL ? 0 : score->exit_count;
    const float alone = (float)exit0->probability;
    explanation->exits = arena_allocate_array(arena, count + 1, sizeof *explanation->exits);
    if (explanation->exits == NULL)
        return out_of_memory(err);
    if (explain_exit(arena, 0, exit0->settled, &alone, 1, &explanation->exits[0], err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct engine_exit *visited = &score->exits[i];
        if (explain_exit(arena, visited->layer, visited->fired, visited->probabilities, visited->count,
                         &explanation->exits[i + 1], err) != 0)
            return -1;
    }
    explanation->exit_count = count + 1;
    return 0;
}

int explain_candidate(struct arena *arena, const struct plan_candidate *candidate, const struct exit0 *exit0,
                      const struct engine_score *score, struct text prompt, struct scored_candidate *answer,
                      struct error *err)
{
    struct explanation *explanation = arena_allocate(arena, sizeof *explanation);
    if (explanation == NULL)
        return out_of_memory(err);
    explanation->prompt = prompt;
    explanation->similar_users = candidate->similar;
    explanation->similar_user_count = candidate->similar_count;
    if (explain_evidence(arena, &candidate->evidence, explanation, err) != 0)
        return -1;
    if (explain_exits(arena, exit0, score, explanation, err) != 0)
        return -1;
    answer->has_explanation = true;
    answer->explanation = explanation;
    return 0;
}
