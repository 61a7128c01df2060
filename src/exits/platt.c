#include <math.h>

#include "exits/train.h"

enum { NEWTON_STEPS = 100 };

/* What Newton's method needs at (slope, intercept): loss, gradient, curvature. */
struct point {
    double loss, by_slope, by_intercept;
    double slope_slope, slope_intercept, intercept_intercept;
};

static struct point look(const struct platt *platt, const double *logits, const uint8_t *labels, size_t count,
                         const double targets[2])
{
    struct point point = {.slope_slope = 1e-12, .intercept_intercept = 1e-12}; /* rows all alike: still invertible */
    for (size_t i = 0; i < count; i++) {
        double logit = platt->slope * logits[i] + platt->intercept, target = targets[labels[i]];
        double p = 1 / (1 + exp(-logit)), off = p - target, curve = p * (1 - p);
        point.loss += target * train_log_loss(logit, 1) + (1 - target) * train_log_loss(logit, 0);
        point.by_slope += off * logits[i];
        point.by_intercept += off;
        point.slope_slope += curve * logits[i] * logits[i];
        point.slope_intercept += curve * logits[i];
        point.intercept_intercept += curve;
    }
    return point;
}

/* Newton's step, shortened until the loss falls. false: no step makes it fall, this is the minimum. */
static bool advance(struct platt *platt, struct point *at, const double *logits, const uint8_t *labels, size_t count,
                    const double targets[2])
{
    double determinant = at->slope_slope * at->intercept_intercept - at->slope_intercept * at->slope_intercept;
    double slope = (at->intercept_intercept * at->by_slope - at->slope_intercept * at->by_intercept) / determinant;
    double intercept = (at->slope_slope * at->by_intercept - at->slope_intercept * at->by_slope) / determinant;

    for (double length = 1; length > 1e-10; length /= 2) {
        struct platt tried = {platt->slope - length * slope, platt->intercept - length * intercept};
        struct point there = look(&tried, logits, labels, count, targets);
        if (there.loss < at->loss) {
            *platt = tried;
            *at = there;
            return true;
        }
    }
    return false;
}

int platt_fit(struct platt *platt, const double *logits, const uint8_t *labels, size_t count, struct error *err)
{
    size_t yes = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(logits[i]))
            return error_set(err, ERROR_BAD_INPUT, "the logit of row %zu is not finite", i);
        yes += labels[i];
    }
    if (yes == 0 || yes == count)
        return error_set(err, ERROR_BAD_INPUT, "%zu rows to calibrate on, %zu of them yes: both labels are needed",
                         count, yes);

    const double targets[2] = {1 / ((double)(count - yes) + 2), ((double)yes + 1) / ((double)yes + 2)};
    struct platt found = {.slope = 0, .intercept = log(((double)yes + 1) / ((double)(count - yes) + 1))};
    struct point at = look(&found, logits, labels, count, targets);
    for (int i = 0; i < NEWTON_STEPS && advance(&found, &at, logits, labels, count, targets); i++)
        continue;
    if (!(found.slope > 0))
        found = (struct platt){.slope = 0, .intercept = log(((double)yes + 1) / ((double)(count - yes) + 1))};
    *platt = found;
    return 0;
}
