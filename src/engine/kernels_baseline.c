/* The kernels in what every processor of the family has: 16 registers of 4 floats, no fused multiply-add. */
#define TARGET
#define LANES 4
#define VECTORS 2
#define ROWS 4
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define KERNELS kernels_baseline
#define KERNELS_NAME "baseline"
#include "engine/kernels_body.h"
