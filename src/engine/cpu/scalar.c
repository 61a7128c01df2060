/* The kernels in plain C: vectors of 4 floats, which compilers map to what every processor of a family has. */
#include "engine/cpu/kernels.h"

#define TARGET
#define LANES 4
#define VECTORS 2
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#include "engine/cpu/lanes.h"
#include "engine/cpu/slices.h"

#define MULTIPLY_PAIRS(a, b) (((a) << 16 >> 16) * ((b) << 16 >> 16) + ((a) >> 16) * ((b) >> 16))
#include "engine/cpu/pairs.h"

const struct kernels kernels_scalar = {
    .name = "scalar",
    .panel = PANEL,
    .fastest = ENGINE_F32,
    .floats = &floats,
    .bfloats = &bfloats,
    .integers = &whole,
    .attention = &bfloats,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};
