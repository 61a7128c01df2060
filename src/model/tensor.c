#include "model/tensor.h"

#include "model/block.h"

/* Indexed by the format's number; those without a reader are not supported. */
static const struct {
    const char *name;
    size_t values, bytes; /* of a block */
    void (*read)(const uint8_t *block, size_t count, float *out);
} formats[] = {
    [TENSOR_F32] = {"F32", 1, 4, blocks_f32},        [TENSOR_F16] = {"F16", 1, 2, blocks_f16},
    [TENSOR_Q4_0] = {"Q4_0", 32, 18, blocks_q4_0},   [TENSOR_Q4_1] = {"Q4_1", 32, 20, blocks_q4_1},
    [TENSOR_Q5_0] = {"Q5_0", 32, 22, blocks_q5_0},   [TENSOR_Q5_1] = {"Q5_1", 32, 24, blocks_q5_1},
    [TENSOR_Q8_0] = {"Q8_0", 32, 34, blocks_q8_0},   [TENSOR_Q4_K] = {"Q4_K", 256, 144, blocks_q4_k},
    [TENSOR_Q5_K] = {"Q5_K", 256, 176, blocks_q5_k}, [TENSOR_Q6_K] = {"Q6_K", 256, 210, blocks_q6_k},
    [TENSOR_BF16] = {"BF16", 1, 2, blocks_bf16},
};

const char *tensor_type_name(enum tensor_type type)
{
    return (size_t)type < sizeof formats / sizeof *formats ? formats[type].name : NULL;
}

const char *tensor_types_supported(void)
{
    return "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";
}

size_t tensor_row_bytes(enum tensor_type type, size_t columns)
{
    if (tensor_type_name(type) == NULL || columns > SIZE_MAX / 4 || columns % formats[type].values != 0)
        return 0;
    return columns / formats[type].values * formats[type].bytes;
}

size_t tensor_place(const struct tensor *tensor, size_t row)
{
    if (tensor->halves == 0)
        return row;
    size_t in_group = row % tensor->halves;
    return row - in_group + in_group / 2 + in_group % 2 * (tensor->halves / 2);
}

static void add_update(const struct low_rank *update, size_t row, size_t columns, float *out)
{
    for (size_t i = 0; i < update->rank; i++) {
        const float *a = update->a + i * columns;
        float factor = update->b[row * update->rank + i];
        for (size_t column = 0; column < columns; column++)
            out[column] += factor * a[column];
    }
}

void tensor_row(const struct tensor *tensor, size_t row, float *out)
{
    row = tensor_place(tensor, row);
    formats[tensor->type].read(tensor->data + row * tensor->row_bytes, tensor->columns / formats[tensor->type].values,
                               out);
    for (const struct low_rank *update = tensor->update; update != NULL; update = update->next)
        add_update(update, row, tensor->columns, out);
}
