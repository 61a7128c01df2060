#include "replay/split.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"

int split_parse(const char *text, double shares[TRAJECTORY_PARTS], struct error *err)
{
    const char *at = text;
    for (int part = 0; part < TRAJECTORY_PARTS; part++) {
        char *end;
        shares[part] = strtod(at, &end);
        if (end == at || !isfinite(shares[part]) || shares[part] < 0 ||
            *end != (part + 1 < TRAJECTORY_PARTS ? ':' : '\0'))
            return error_set(err, ERROR_BAD_INPUT, "\"%s\" is not train:calibrate:test, as 8:1:1", text);
        at = end + 1;
    }
    if (shares[TRAJECTORY_TEST] <= 0)
        return error_set(err, ERROR_BAD_INPUT, "\"%s\" leaves nothing to test", text);
    return 0;
}

enum trajectory_part split_draw(const struct split *split, uint64_t request)
{
    const double *shares = split->shares;
    struct random random = {split->seed + request * 0x9e3779b97f4a7c15u};
    double drawn = random_uniform(&random) * (shares[0] + shares[1] + shares[2]);
    return drawn < shares[0]               ? TRAJECTORY_TRAIN
           : drawn < shares[0] + shares[1] ? TRAJECTORY_CALIBRATE
                                           : TRAJECTORY_TEST;
}

/* The first time of the part behind so large a share of the rows. */
static int64_t cut_at(const struct trajectory_row *rows, size_t count, double share)
{
    size_t at = (size_t)((double)count * share);
    return at < count ? rows[at].timestamp_ms : INT64_MAX;
}

static void cut_by_time(struct trajectory_row *rows, size_t count, const double shares[TRAJECTORY_PARTS])
{
    double all = shares[0] + shares[1] + shares[2];
    int64_t calibrate = cut_at(rows, count, shares[0] / all);
    int64_t test = cut_at(rows, count, (shares[0] + shares[1]) / all);
    for (size_t i = 0; i < count; i++) {
        struct trajectory_row *row = &rows[i];
        row->part = row->timestamp_ms >= test        ? TRAJECTORY_TEST
                    : row->timestamp_ms >= calibrate ? TRAJECTORY_CALIBRATE
                                                     : TRAJECTORY_TRAIN;
        int64_t end = row->part == TRAJECTORY_TRAIN ? calibrate : test;
        if (row->part != TRAJECTORY_TEST && row->label != TRAJECTORY_UNLABELLED && row->known_ms >= end) {
            row->label = TRAJECTORY_UNLABELLED;
            row->known_ms = INT64_MIN;
        }
    }
}

int split_rows(struct trajectory_row *rows, size_t count, const struct split *split, struct error *err)
{
    for (size_t i = 1; i < count; i++)
        if (rows[i].timestamp_ms < rows[i - 1].timestamp_ms)
            return error_set(err, ERROR_BAD_INPUT, "row %zu is earlier than the one before it", i);
    if (split->protocol == SPLIT_CHRONOLOGICAL)
        cut_by_time(rows, count, split->shares);
    else
        for (size_t i = 0; i < count; i++)
            rows[i].part = (uint8_t)split_draw(split, rows[i].request);
    return 0;
}
