/*
 * random.h - numbers that repeat: SplitMix64 (Steele, Lea, Flood 2014)
 *
 * The same seed gives the same numbers on every machine. Not for secrets.
 */
#ifndef HEADRACE_BASE_RANDOM_H
#define HEADRACE_BASE_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state; /* the seed, any value */
};

static inline uint64_t random_next(struct random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Uniform in [0, 1), 53 bits. */
static inline double random_uniform(struct random *random)
{
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

/* Uniform in [0, n), 0 < n <= 2^53. */
static inline uint64_t random_below(struct random *random, uint64_t n)
{
    return (uint64_t)(random_uniform(random) * (double)n);
}

#endif
