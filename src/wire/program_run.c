#include "wire/program.h"

#include <inttypes.h>
#include <string.h>

struct run {
    const struct program *program;
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    struct arena *arena;
    enum dead_letter_class *class;
    struct error *err;
};

static int run_steps(struct run *run, uint32_t step, uint32_t end, char *base);

/* So that a failing branch is one line: sets the class and the error, says where, and is -1. */
#define REFUSE(run, dead, op, ...)                                                                                     \
    (*(run)->class = (dead), error_set((run)->err, ERROR_BAD_INPUT, __VA_ARGS__), locate((run), (op)), -1)

static void locate(struct run *run, const struct op *op)
{
    error_wrap(run->err, "%s: field %s, before byte %td", run->program->type->name, op->name, run->at - run->start);
}

static size_t remaining(const struct run *run)
{
    return (size_t)(run->end - run->at);
}

static int refuse_end(struct run *run, const struct op *op)
{
    return REFUSE(run, DEAD_DECODE, op, "the message ends inside a value");
}

static int refuse_varint(struct run *run, const struct op *op)
{
    if (remaining(run) < 10)
        return refuse_end(run, op);
    return REFUSE(run, DEAD_DECODE, op, "a number of more than 64 bits");
}

/* Variable-length zig-zag (specification, "Primitive Types"): at most 10 bytes, the last at most 1. */
static int read_long_bytes(struct run *run, const struct op *op, int64_t *value)
{
    const uint8_t *at = run->at;
    uint64_t bits = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (at == run->end)
            return refuse_varint(run, op);
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return refuse_varint(run, op);
        bits |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            run->at = at;
            *value = (int64_t)(bits >> 1 ^ -(bits & 1));
            return 0;
        }
    }
    return refuse_varint(run, op);
}

/* Lengths, branches, symbols and small numbers take a single byte. */
static inline int read_long(struct run *run, const struct op *op, int64_t *value)
{
    if (run->at == run->end || *run->at >= 0x80)
        return read_long_bytes(run, op, value);
    uint8_t byte = *run->at++;
    *value = (byte >> 1) ^ -(byte & 1);
    return 0;
}

static int read_int(struct run *run, const struct op *op, int32_t *value)
{
    int64_t wide;
    if (read_long(run, op, &wide) != 0)
        return -1;
    if (wide < INT32_MIN || wide > INT32_MAX)
        return REFUSE(run, DEAD_DECODE, op, "%" PRId64 " is no int of 32 bits", wide);
    *value = (int32_t)wide;
    return 0;
}

/* A number from 0 to limit - 1: of an enum's symbol, of a union's branch. */
static int read_index(struct run *run, const struct op *op, const char *what, uint32_t *index)
{
    int64_t wide;
    if (read_long(run, op, &wide) != 0)
        return -1;
    if (wide < 0 || wide >= op->limit)
        return REFUSE(run, DEAD_DECODE, op, "%s %" PRId64 " of %" PRIu32, what, wide, op->limit);
    *index = (uint32_t)wide;
    return 0;
}

static int read_bool(struct run *run, const struct op *op, bool *value)
{
    if (run->at == run->end)
        return refuse_end(run, op);
    if (*run->at > 1)
        return REFUSE(run, DEAD_DECODE, op, "a boolean of 0x%02x", *run->at);
    *value = *run->at++ == 1;
    return 0;
}

/* `size` bytes, least significant first, as a number. */
static int read_bits(struct run *run, const struct op *op, size_t size, uint64_t *bits)
{
    if (remaining(run) < size)
        return refuse_end(run, op);
    *bits = 0;
    for (size_t i = 0; i < size; i++)
        *bits |= (uint64_t)run->at[i] << 8 * i;
    run->at += size;
    return 0;
}

static int read_double(struct run *run, const struct op *op, double *value)
{
    uint64_t bits;
    if (read_bits(run, op, 8, &bits) != 0)
        return -1;
    memcpy(value, &bits, sizeof *value);
    return 0;
}

static int read_float(struct run *run, const struct op *op, double *value)
{
    uint64_t wide;
    if (read_bits(run, op, 4, &wide) != 0)
        return -1;
    uint32_t bits = (uint32_t)wide;
    float narrow;
    memcpy(&narrow, &bits, sizeof narrow);
    *value = (double)narrow;
    return 0;
}

/* The bytes of a string or bytes, inside the message. */
static int read_bytes(struct run *run, const struct op *op, struct text *text)
{
    int64_t size;
    if (read_long(run, op, &size) != 0)
        return -1;
    if (size < 0 || (uint64_t)size > remaining(run))
        return REFUSE(run, DEAD_DECODE, op, "a text of %" PRId64 " bytes where %zu are left", size, remaining(run));
    *text = (struct text){(const char *)run->at, (size_t)size};
    run->at += size;
    return 0;
}

/* Most texts are ASCII, and that is quickly seen. */
static bool is_ascii(struct text text)
{
    bool other = false;
    for (size_t i = 0; i < text.size; i++)
        other |= (uint8_t)(text.data[i] - 1) >= 0x7f;
    return !other;
}

static int read_text(struct run *run, const struct op *op, struct text *text)
{
    if (read_bytes(run, op, text) != 0)
        return -1;
    if (text->size > op->limit)
        return REFUSE(run, DEAD_TOO_LARGE, op, "a text of %zu bytes, at most %" PRIu32 " are taken", text->size,
                      op->limit);
    if (!is_ascii(*text) && !text_is_utf8(*text))
        return REFUSE(run, DEAD_DECODE, op, "a text that is not UTF-8, or has a NUL byte");
    return 0;
}

static int read_enum(struct run *run, const struct op *op, int32_t *value)
{
    uint32_t index;
    if (read_index(run, op, "symbol", &index) != 0)
        return -1;
    *value = ((const int32_t *)op->data)[index];
    if (*value < 0)
        return REFUSE(run, DEAD_DECODE, op, "symbol %" PRIu32 " of the writer's is none of ours", index);
    return 0;
}

static void *allocate(struct run *run, const struct op *op, size_t count, size_t size)
{
    void *memory = arena_allocate_array(run->arena, count, size);
    if (memory != NULL)
        return memory;
    size_t limit = run->arena->limit;
    if (limit != 0 && count * size + 15 > limit - run->arena->used) /* the arena rounds up to 16 */
        (void)REFUSE(run, DEAD_TOO_LARGE, op, "the message takes more than %zu bytes of memory", limit);
    else
        error_set(run->err, ERROR_FATAL, "out of memory while decoding a message");
    return NULL;
}

/* Lists come in blocks: a count, from below zero followed by the block's size in bytes; a count of 0 ends them. */
struct block {
    uint64_t count;
    int64_t size; /* -1: not given */
    const uint8_t *start;
};

static int read_block(struct run *run, const struct op *op, struct block *block)
{
    int64_t count;
    if (read_long(run, op, &count) != 0)
        return -1;
    *block = (struct block){.count = (uint64_t)count, .size = -1};
    if (count < 0) {
        block->count = -(uint64_t)count;
        if (read_long(run, op, &block->size) != 0)
            return -1;
        if (block->size < 0 || (uint64_t)block->size > remaining(run))
            return REFUSE(run, DEAD_DECODE, op, "a block of %" PRId64 " bytes where %zu are left", block->size,
                          remaining(run));
    }
    block->start = run->at;
    return 0;
}

static int end_block(struct run *run, const struct op *op, const struct block *block)
{
    if (block->size >= 0 && run->at - block->start != block->size)
        return REFUSE(run, DEAD_DECODE, op, "a block of %td bytes says it has %" PRId64, run->at - block->start,
                      block->size);
    return 0;
}

struct list {
    char *elements;
    size_t count;
    size_t capacity;
};

static int list_reserve(struct run *run, const struct op *op, struct list *list, uint64_t more)
{
    if (more > op->limit - list->count)
        return REFUSE(run, DEAD_TOO_LARGE, op, "more than %" PRIu32 " elements", op->limit);
    size_t count = list->count + (size_t)more;
    if (count <= list->capacity)
        return 0;
    size_t capacity = count > 2 * list->capacity ? count : 2 * list->capacity;
    char *elements = allocate(run, op, capacity, op->size);
    if (elements == NULL)
        return -1;
    if (list->count > 0)
        memcpy(elements, list->elements, list->count * op->size);
    list->elements = elements;
    list->capacity = capacity;
    return 0;
}

static int check_distinct(struct run *run, const struct op *op, const struct list *list)
{
    const struct attribute *attributes = (const struct attribute *)(const void *)list->elements;
    for (size_t i = 1; i < list->count; i++)
        for (size_t j = 0; j < i; j++)
            if (text_equal(attributes[i].name, attributes[j].name))
                return REFUSE(run, DEAD_DECODE, op, "key %zu of the map is there twice", i);
    return 0;
}

/* Every element takes a byte at least, or the limit of the list holds: no count can make this loop long. */
static int run_list(struct run *run, const struct op *op, uint32_t body, char *base)
{
    struct list list = {0};
    struct block block;
    for (;;) {
        if (read_block(run, op, &block) != 0)
            return -1;
        if (block.count == 0)
            break;
        if (list_reserve(run, op, &list, block.count) != 0)
            return -1;
        for (uint64_t i = 0; i < block.count; i++)
            if (run_steps(run, body, op->target, list.elements + list.count++ * op->size) != 0)
                return -1;
        if (end_block(run, op, &block) != 0)
            return -1;
    }
    if (op->code == OP_MAP && check_distinct(run, op, &list) != 0)
        return -1;
    memcpy(base + op->offset, &list.elements, sizeof list.elements);
    memcpy(base + op->count_offset, &list.count, sizeof list.count);
    return 0;
}

/* The elements get the base of what is around them: nothing is written. */
static int skip_list(struct run *run, const struct op *op, uint32_t body, char *base)
{
    struct block block;
    do {
        if (read_block(run, op, &block) != 0)
            return -1;
        bool empty = body == op->target; /* then any number of elements is passed over at once */
        for (uint64_t i = 0; !empty && i < block.count; i++)
            if (run_steps(run, body, op->target, base) != 0)
                return -1;
        if (end_block(run, op, &block) != 0)
            return -1;
    } while (block.count != 0);
    return 0;
}

static int run_pointer(struct run *run, const struct op *op, uint32_t body, char *base)
{
    void *record = allocate(run, op, 1, op->size);
    if (record == NULL)
        return -1;
    memcpy(base + op->offset, &record, sizeof record);
    return run_steps(run, body, op->target, record);
}

static int skip(struct run *run, const struct op *op)
{
    struct text text;
    int64_t wide;
    int32_t narrow;
    uint32_t index;
    bool boolean;
    switch (op->code) {
    case OP_SKIP_INT:
        return read_int(run, op, &narrow);
    case OP_SKIP_LONG:
        return read_long(run, op, &wide);
    case OP_SKIP_BOOL:
        return read_bool(run, op, &boolean);
    case OP_SKIP_ENUM:
        return read_index(run, op, "symbol", &index);
    case OP_SKIP_FIXED:
        if (remaining(run) < op->limit)
            return refuse_end(run, op);
        run->at += op->limit;
        return 0;
    default: /* OP_SKIP_BYTES */
        return read_bytes(run, op, &text);
    }
}

static int read_number(struct run *run, const struct op *op, char *to)
{
    int64_t wide = 0;
    int32_t narrow = 0;
    int rc;
    if (op->code == OP_LONG || op->code == OP_DOUBLE_FROM_LONG) {
        rc = read_long(run, op, &wide);
    } else {
        rc = read_int(run, op, &narrow);
        wide = narrow;
    }
    if (op->code == OP_INT)
        *(int32_t *)(void *)to = narrow;
    else if (op->code == OP_LONG || op->code == OP_LONG_FROM_INT)
        *(int64_t *)(void *)to = wide;
    else
        *(double *)(void *)to = (double)wide;
    return rc;
}

static int run_step(struct run *run, uint32_t *step, char *base)
{
    const struct op *op = &run->program->ops[*step];
    void *to = base + op->offset;
    uint32_t index;
    uint32_t body = *step + 1;
    *step = body;
    switch (op->code) {
    case OP_TEXT:
        return read_text(run, op, to);
    case OP_LONG:
    case OP_LONG_FROM_INT:
    case OP_INT:
    case OP_DOUBLE_FROM_LONG:
    case OP_DOUBLE_FROM_INT:
        return read_number(run, op, to);
    case OP_DOUBLE:
        return read_double(run, op, to);
    case OP_DOUBLE_FROM_FLOAT:
        return read_float(run, op, to);
    case OP_BOOL:
        return read_bool(run, op, to);
    case OP_ENUM:
        return read_enum(run, op, to);
    case OP_SET_TRUE:
        *(bool *)to = true;
        return 0;
    case OP_COPY:
        memcpy(to, op->data, op->limit);
        return 0;
    case OP_POINTER:
        *step = op->target;
        return run_pointer(run, op, body, base);
    case OP_ARRAY:
    case OP_MAP:
        *step = op->target;
        return run_list(run, op, body, base);
    case OP_UNION:
        if (read_index(run, op, "branch", &index) != 0)
            return -1;
        *step = op[1 + index].target;
        return 0;
    case OP_BRANCH:
    case OP_JUMP:
        *step = op->target;
        return 0;
    case OP_REFUSE:
        return REFUSE(run, DEAD_DECODE, op, "a %s, which this field cannot hold", (const char *)op->data);
    case OP_SKIP_LIST:
        *step = op->target;
        return skip_list(run, op, body, base);
    default:
        return skip(run, op);
    }
}

static int run_steps(struct run *run, uint32_t step, uint32_t end, char *base)
{
    while (step != end)
        if (run_step(run, &step, base) != 0)
            return -1;
    return 0;
}

int program_run(const struct program *program, const uint8_t *bytes, size_t size, void *message, struct arena *arena,
                enum dead_letter_class *class, struct error *err)
{
    struct run run = {.program = program,
                      .start = bytes,
                      .at = bytes,
                      .end = bytes + size,
                      .arena = arena,
                      .class = class,
                      .err = err};
    memset(message, 0, program->type->size);
    if (run_steps(&run, 0, (uint32_t)program->count, message) != 0)
        return -1;
    if (run.at != run.end) {
        *class = DEAD_DECODE;
        return error_set(err, ERROR_BAD_INPUT, "%s: %zu bytes too many behind the message", program->type->name,
                         remaining(&run));
    }
    return 0;
}
