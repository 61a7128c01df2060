#include "score/totals.h"

#include <string.h>

void totals_init(struct score_totals *totals)
{
    static const double differences[] = {0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
                                         0.02,   0.05,   0.1,    0.2,   0.5,   1};
    memset(totals, 0, sizeof *totals);
    buckets_init_seconds(&totals->queue);
    buckets_init_seconds(&totals->plan);
    buckets_init_seconds(&totals->render);
    buckets_init_seconds(&totals->wait);
    buckets_init_seconds(&totals->compute);
    buckets_init_seconds(&totals->send);
    buckets_init_sizes(&totals->batch_requests);
    buckets_init_sizes(&totals->batch_candidates);
    buckets_init_sizes(&totals->batch_tokens);
    buckets_init(&totals->shadow, differences, sizeof differences / sizeof *differences);
}
