/* The kernels in plain C: vectors of 4 floats, which compilers map to what every processor of a family has. */
#include "engine/cpu/kernels.h"

#define TARGET
#define LANES 4
#define VECTORS 2
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#include "engine/cpu/lanes.h"

const struct kernels kernels_scalar = {
    .name = "scalar",
    .panel = PANEL,
    .floats = &floats,
    .bfloats = &bfloats,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};
