/* replay_matrix.c - settings of the prompts crossed, a trajectory each */
#include <stdio.h>

#include "base/log.h"
#include "cmd/replay.h"

enum { MOST_SIMILAR = 6 };

static const char *const modes[] = {
    [SIMILAR_NONE] = "none", [SIMILAR_CANDIDATE] = "candidate", [SIMILAR_GLOBAL] = "global",
    [SIMILAR_FM] = "fm",     [SIMILAR_TEXT] = "text",
};
static const char *const results[] = {
    [EMBEDDING_MEAN] = "mean", [EMBEDDING_FINAL] = "final", [EMBEDDING_WEIGHTED] = "weighted"};

/* Of the settings as they are now. */
static int add_run(struct replay_making *making, struct replay_runs *runs, struct error *err)
{
    const struct replay_settings *settings = &making->logged->settings;
    size_t at = runs->count;
    if (settings->plan.similar_mode == SIMILAR_NONE)
        snprintf(runs->names[at], sizeof runs->names[at], "none, %s", results[settings->graph.result]);
    else
        snprintf(runs->names[at], sizeof runs->names[at], "%s %zu, %s", modes[settings->plan.similar_mode],
                 settings->plan.similar_users, results[settings->graph.result]);
    log_info("cmd", "run %zu: %s", at + 1, runs->names[at]);
    if (replay_make(making, &runs->trajectories[at], err) != 0)
        return error_wrap(err, "%s", runs->names[at]);
    runs->runs[at] = (struct report_run){.name = runs->names[at],
                                         .retrieves = settings->plan.similar_mode != SIMILAR_NONE,
                                         .trajectory = &runs->trajectories[at]};
    runs->count++;
    return 0;
}

static bool same_prompts(const struct replay_settings *one, const struct replay_settings *other)
{
    return one->plan.similar_mode == other->plan.similar_mode && one->graph.result == other->graph.result &&
           (one->plan.similar_mode == SIMILAR_NONE || one->plan.similar_users == other->plan.similar_users);
}

static int cross(struct replay_making *making, struct replay_runs *runs, struct error *err)
{
    static const enum similar_mode retrievals[] = {SIMILAR_NONE, SIMILAR_CANDIDATE, SIMILAR_GLOBAL};
    struct replay_settings *settings = &making->logged->settings;
    const struct replay_settings first = *settings;
    int result = 0;
    for (size_t r = 0; r < 3; r++)
        for (int layers = EMBEDDING_MEAN; layers <= EMBEDDING_WEIGHTED; layers++)
            for (size_t similar = 1; result == 0 && similar <= MOST_SIMILAR; similar++) {
                settings->plan.similar_mode = retrievals[r];
                settings->plan.similar_users = similar;
                settings->graph.result = (enum embedding_result)layers;
                if (same_prompts(settings, &first) || (retrievals[r] == SIMILAR_NONE && similar > 1))
                    continue;
                result = add_run(making, runs, err);
            }
    *settings = first;
    return result;
}

int replay_make_runs(struct replay_making *making, bool matrix, struct replay_runs *runs, struct error *err)
{
    runs->count = 0;
    if (matrix && (making->answerer->memo = replay_memo_create()) == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (add_run(making, runs, err) != 0)
        return -1;
    making->checkpoint = NULL; /* is the first run's */
    return matrix ? cross(making, runs, err) : 0;
}

void replay_runs_free(struct replay_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++)
        trajectory_free(&runs->trajectories[i]);
    runs->count = 0;
}
