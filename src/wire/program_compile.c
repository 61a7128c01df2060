#include "wire/program.h"

#include <stdlib.h>
#include <string.h>

#include "wire/json.h"

/*
 * Types that are named again and again can make the paths through a schema exponentially many: a bound for the work,
 * far above any honest schema.
 */
enum { VISITS_LIMIT = 100000 };

struct compiler {
    struct program *program;
    size_t visits;
    struct error *err;
};

/* Where a value goes, seen from the base address of the steps that put it there. */
struct slot {
    const struct field *field;
    enum field_kind kind;
    size_t offset;
    size_t base; /* of the struct that the field is in */
};

static int compile_value(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                         const struct slot *slot, const char *name);
static int compile_record(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                          const struct message_type *type, size_t base);

/* The index of the new step, or SIZE_MAX with the error set. */
static size_t emit(struct compiler *compiler, struct op op)
{
    struct program *program = compiler->program;
    if (array_reserve(&program->ops, &program->capacity, program->count + 1, sizeof *program->ops) != 0) {
        error_set(compiler->err, ERROR_FATAL, "out of memory while compiling a schema");
        return SIZE_MAX;
    }
    program->ops[program->count] = op;
    return program->count++;
}

static int emit_one(struct compiler *compiler, struct op op)
{
    return emit(compiler, op) == SIZE_MAX ? -1 : 0;
}

static uint32_t here(const struct compiler *compiler)
{
    return (uint32_t)compiler->program->count;
}

static int mismatch(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader)
{
    return error_set(compiler->err, ERROR_BAD_INPUT, "the writer has %s, wanted is %s",
                     writer->name != NULL ? writer->name : schema_kind_name(writer->kind),
                     reader->name != NULL ? reader->name : schema_kind_name(reader->kind));
}

/* Skipping: the writer has a value that we do not want. */

static int compile_skip_list(struct compiler *compiler, const struct schema_type *writer, const char *name)
{
    size_t list = emit(compiler, (struct op){.code = OP_SKIP_LIST, .name = name});
    if (list == SIZE_MAX)
        return -1;
    if (writer->kind == SCHEMA_MAP && emit_one(compiler, (struct op){.code = OP_SKIP_BYTES, .name = name}) != 0)
        return -1;
    if (compile_value(compiler, writer->element, NULL, NULL, name) != 0)
        return -1;
    compiler->program->ops[list].target = here(compiler);
    return 0;
}

static int compile_skip(struct compiler *compiler, const struct schema_type *writer, const char *name)
{
    struct op op = {.name = name};
    switch (writer->kind) {
    case SCHEMA_NULL:
    case SCHEMA_UNION: /* not here */
        return 0;
    case SCHEMA_BOOLEAN:
        op.code = OP_SKIP_BOOL;
        break;
    case SCHEMA_INT:
        op.code = OP_SKIP_INT;
        break;
    case SCHEMA_LONG:
        op.code = OP_SKIP_LONG;
        break;
    case SCHEMA_FLOAT:
    case SCHEMA_DOUBLE:
        op.code = OP_SKIP_FIXED;
        op.limit = writer->kind == SCHEMA_FLOAT ? 4 : 8;
        break;
    case SCHEMA_FIXED:
        op.code = OP_SKIP_FIXED;
        op.limit = (uint32_t)writer->size;
        break;
    case SCHEMA_BYTES:
    case SCHEMA_STRING:
        op.code = OP_SKIP_BYTES;
        break;
    case SCHEMA_ENUM:
        op.code = OP_SKIP_ENUM;
        op.limit = (uint32_t)writer->count;
        break;
    case SCHEMA_ARRAY:
    case SCHEMA_MAP:
        return compile_skip_list(compiler, writer, name);
    case SCHEMA_RECORD:
        for (size_t i = 0; i < writer->count; i++)
            if (compile_value(compiler, writer->fields[i].type, NULL, NULL, writer->fields[i].name) != 0)
                return -1;
        return 0;
    }
    return emit_one(compiler, op);
}

/* Single values */

/* Which step turns one number into another; -1: none does. */
static int number_code(enum schema_kind writer, enum field_kind kind)
{
    if (kind == FIELD_LONG)
        return writer == SCHEMA_LONG ? OP_LONG : writer == SCHEMA_INT ? OP_LONG_FROM_INT : -1;
    if (kind == FIELD_INT)
        return writer == SCHEMA_INT ? OP_INT : -1;
    switch (writer) {
    case SCHEMA_DOUBLE:
        return OP_DOUBLE;
    case SCHEMA_FLOAT:
        return OP_DOUBLE_FROM_FLOAT;
    case SCHEMA_LONG:
        return OP_DOUBLE_FROM_LONG;
    case SCHEMA_INT:
        return OP_DOUBLE_FROM_INT;
    default:
        return -1;
    }
}

static const char *logical_type(const struct schema_type *type)
{
    return json_string_value(json_object_get(type->json, "logicalType"));
}

/*
 * Avro leaves logical types out of resolution. Microseconds taken for milliseconds would be wrong without a sound, so
 * that a writer who names another logical type than ours is refused; one who names none is believed.
 */
static int check_logical_type(struct compiler *compiler, const struct schema_type *writer,
                              const struct schema_type *reader)
{
    const char *theirs = logical_type(writer);
    const char *ours = logical_type(reader);
    bool number_as_text = theirs != NULL && strcmp(theirs, "decimal") == 0;
    if (number_as_text || (theirs != NULL && ours != NULL && strcmp(theirs, ours) != 0))
        return error_set(compiler->err, ERROR_BAD_INPUT, "the writer has logical type %.64s, wanted is %s", theirs,
                         ours != NULL ? ours : "none");
    return 0;
}

static int compile_plain(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                         const struct slot *slot)
{
    int code = -1;
    if (slot->kind == FIELD_TEXT)
        code = writer->kind == SCHEMA_STRING || writer->kind == SCHEMA_BYTES ? OP_TEXT : -1;
    else if (slot->kind == FIELD_BOOL)
        code = writer->kind == SCHEMA_BOOLEAN ? OP_BOOL : -1;
    else
        code = number_code(writer->kind, slot->kind);
    if (code < 0)
        return mismatch(compiler, writer, reader);
    if (check_logical_type(compiler, writer, reader) != 0)
        return -1;
    return emit_one(compiler, (struct op){.code = (enum op_code)code,
                                          .offset = (uint32_t)slot->offset,
                                          .limit = (uint32_t)slot->field->limit,
                                          .name = slot->field->name});
}

/* Names */

static bool is_alias(const json_t *reader, const char *name)
{
    const json_t *aliases = json_object_get(reader, "aliases");
    for (size_t i = 0; i < json_array_size(aliases); i++) {
        const char *alias = json_string_value(json_array_get(aliases, i));
        if (alias != NULL && strcmp(schema_short_name(alias), name) == 0)
            return true;
    }
    return false;
}

/* Records and enums match by their names without namespace (specification, "Schema Resolution"), or by an alias. */
static bool named_alike(const struct schema_type *writer, const struct schema_type *reader)
{
    const char *name = schema_short_name(writer->name);
    return strcmp(name, schema_short_name(reader->name)) == 0 || is_alias(reader->json, name);
}

static int32_t find_symbol(const struct symbols *symbols, const char *name)
{
    for (size_t i = 0; name != NULL && i < symbols->count; i++)
        if (strcmp(symbols->names[i], name) == 0)
            return (int32_t)i;
    return -1;
}

static int compile_enum(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                        const struct slot *slot)
{
    if (writer->kind != SCHEMA_ENUM || !named_alike(writer, reader))
        return mismatch(compiler, writer, reader);
    int32_t *map = arena_allocate_array(&compiler->program->writer.arena, writer->count, sizeof *map);
    if (map == NULL)
        return error_set(compiler->err, ERROR_FATAL, "out of memory while compiling a schema");
    int32_t unknown = find_symbol(slot->field->symbols, reader->default_symbol);
    for (size_t i = 0; i < writer->count; i++) {
        int32_t symbol = find_symbol(slot->field->symbols, writer->symbols[i]);
        map[i] = symbol >= 0 ? symbol : unknown;
    }
    return emit_one(compiler, (struct op){.code = OP_ENUM,
                                          .offset = (uint32_t)slot->offset,
                                          .limit = (uint32_t)writer->count,
                                          .name = slot->field->name,
                                          .data = map});
}

/* Values that hold others */

static int compile_pointer(struct compiler *compiler, const struct schema_type *writer,
                           const struct schema_type *reader, const struct slot *slot)
{
    const struct message_type *type = slot->field->record;
    size_t pointer = emit(compiler, (struct op){.code = OP_POINTER,
                                                .offset = (uint32_t)slot->offset,
                                                .size = (uint32_t)type->size,
                                                .name = slot->field->name});
    if (pointer == SIZE_MAX || compile_record(compiler, writer, reader, type, 0) != 0)
        return -1;
    compiler->program->ops[pointer].target = here(compiler);
    return 0;
}

static int compile_map_element(struct compiler *compiler, const struct schema_type *writer,
                               const struct schema_type *reader, const struct slot *slot)
{
    const struct field value = {.name = slot->field->name, .kind = FIELD_TEXT, .limit = ATTRIBUTE_VALUE_LIMIT};
    const struct slot inner = {&value, FIELD_TEXT, offsetof(struct attribute, value), 0};
    if (emit_one(compiler, (struct op){.code = OP_TEXT,
                                       .offset = offsetof(struct attribute, name),
                                       .limit = ATTRIBUTE_NAME_LIMIT,
                                       .name = slot->field->name}) != 0)
        return -1;
    return compile_value(compiler, writer->element, reader->element, &inner, slot->field->name);
}

static int compile_list(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                        const struct slot *slot)
{
    if (writer->kind != reader->kind)
        return mismatch(compiler, writer, reader);
    const struct field *field = slot->field;
    bool map = slot->kind == FIELD_MAP;
    size_t size = map ? sizeof(struct attribute) : field_kind_size(field->element, field->record);
    size_t list = emit(compiler, (struct op){.code = map ? OP_MAP : OP_ARRAY,
                                             .offset = (uint32_t)slot->offset,
                                             .count_offset = (uint32_t)(slot->base + field->count_offset),
                                             .limit = (uint32_t)field->limit,
                                             .size = (uint32_t)size,
                                             .name = field->name});
    if (list == SIZE_MAX)
        return -1;
    const struct slot element = {field, field->element, 0, 0};
    int rc = map ? compile_map_element(compiler, writer, reader, slot)
                 : compile_value(compiler, writer->element, reader->element, &element, field->name);
    if (rc != 0)
        return -1;
    compiler->program->ops[list].target = here(compiler);
    return 0;
}

/* The steps of one branch; where none can read it, a step that refuses the messages that have it. */
static int compile_branch(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                          const struct slot *slot, const char *name, size_t *readable)
{
    size_t start = compiler->program->count;
    struct error refused;
    struct compiler attempt = *compiler;
    attempt.err = &refused;
    int rc = compile_value(&attempt, writer, reader, slot, name);
    compiler->visits = attempt.visits;
    if (rc == 0) {
        (*readable)++;
        return 0;
    }
    if (refused.kind != ERROR_BAD_INPUT || compiler->visits > VISITS_LIMIT) {
        *compiler->err = refused;
        return -1;
    }
    compiler->program->count = start;
    const char *branch = writer->name != NULL ? writer->name : schema_kind_name(writer->kind);
    return emit_one(compiler, (struct op){.code = OP_REFUSE, .name = name, .data = branch});
}

static int compile_union(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                         const struct slot *slot, const char *name)
{
    struct program *program = compiler->program;
    size_t start = emit(compiler, (struct op){.code = OP_UNION, .limit = (uint32_t)writer->count, .name = name});
    for (size_t i = 0; start != SIZE_MAX && i < writer->count; i++)
        if (emit_one(compiler, (struct op){.code = OP_BRANCH}) != 0)
            return -1;
    if (start == SIZE_MAX)
        return -1;

    size_t readable = 0;
    for (size_t i = 0; i < writer->count; i++) {
        program->ops[start + 1 + i].target = here(compiler);
        if (compile_branch(compiler, writer->branches[i], reader, slot, name, &readable) != 0)
            return -1;
        if (i + 1 < writer->count) {
            program->ops[start + 1 + i].offset = here(compiler); /* where its jump is, until the end is known */
            if (emit_one(compiler, (struct op){.code = OP_JUMP}) != 0)
                return -1;
        }
    }
    for (size_t i = 0; i + 1 < writer->count; i++) {
        struct op *branch = &program->ops[start + 1 + i];
        program->ops[branch->offset].target = here(compiler);
        if (branch->target == branch->offset)
            branch->target = here(compiler);
    }
    return readable > 0 ? 0 : mismatch(compiler, writer, reader);
}

/* Records */

static bool has_field(const struct schema_type *record, const char *name)
{
    for (size_t i = 0; i < record->count; i++)
        if (strcmp(record->fields[i].name, name) == 0)
            return true;
    return false;
}

/*
 * The writer's field that a field of ours reads: that of its name, else the first one of an alias, unless that is the
 * name of another field of ours. SIZE_MAX: none.
 */
static size_t find_source(const struct schema_type *writer, const struct schema_type *reader,
                          const struct schema_field *field)
{
    size_t source = SIZE_MAX;
    for (size_t i = 0; i < writer->count; i++) {
        const char *name = writer->fields[i].name;
        if (strcmp(name, field->name) == 0)
            return i;
        if (source == SIZE_MAX && is_alias(field->json, name) && !has_field(reader, name))
            source = i;
    }
    return source;
}

static int emit_copy(struct compiler *compiler, const struct field *field, const char *from, size_t base, size_t offset,
                     size_t size)
{
    static const char zeroes[64];
    if (size <= sizeof zeroes && memcmp(from + offset, zeroes, size) == 0)
        return 0; /* structs start out as zeroes */
    return emit_one(compiler, (struct op){.code = OP_COPY,
                                          .offset = (uint32_t)(base + offset),
                                          .limit = (uint32_t)size,
                                          .name = field->name,
                                          .data = from + offset});
}

static int compile_fallback(struct compiler *compiler, const struct message_type *type, const struct field *field,
                            size_t base)
{
    if (field->fallback == NULL)
        return error_set(compiler->err, ERROR_BAD_INPUT, "the writer does not have it, and it has no default");
    struct arena *arena = &compiler->program->writer.arena;
    char *from = arena_allocate(arena, type->size);
    if (from == NULL)
        return error_set(compiler->err, ERROR_FATAL, "out of memory while compiling a schema");
    if (field_set_fallback(field, from, arena, compiler->err) != 0)
        return -1;
    if (emit_copy(compiler, field, from, base, field->offset, field_kind_size(field->kind, field->record)) != 0)
        return -1;
    bool list = field->kind == FIELD_ARRAY || field->kind == FIELD_MAP;
    if (list && emit_copy(compiler, field, from, base, field->count_offset, sizeof(size_t)) != 0)
        return -1;
    bool has = field->nullable && field->kind != FIELD_TEXT;
    return has ? emit_copy(compiler, field, from, base, field->has_offset, sizeof(bool)) : 0;
}

/* Field `index` of the writer goes into the field of ours that it is the source of, or nowhere. */
static int compile_field(struct compiler *compiler, const struct schema_type *writer, size_t index,
                         const struct schema_type *reader, const size_t *sources, const struct message_type *type,
                         size_t base)
{
    const struct schema_field *source = &writer->fields[index];
    for (size_t i = 0; i < reader->count; i++) {
        if (sources[i] != index)
            continue;
        const struct field *field = &type->fields[i];
        const struct slot slot = {field, field->kind, base + field->offset, base};
        if (compile_value(compiler, source->type, reader->fields[i].type, &slot, field->name) != 0)
            return error_wrap(compiler->err, "field %s", field->name);
        return 0;
    }
    return compile_value(compiler, source->type, NULL, NULL, source->name);
}

static int compile_record(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                          const struct message_type *type, size_t base)
{
    if (writer->kind != SCHEMA_RECORD || !named_alike(writer, reader))
        return mismatch(compiler, writer, reader);
    size_t *sources = arena_allocate_array(&compiler->program->writer.arena, reader->count, sizeof *sources);
    if (sources == NULL)
        return error_set(compiler->err, ERROR_FATAL, "out of memory while compiling a schema");
    for (size_t i = 0; i < reader->count; i++)
        sources[i] = find_source(writer, reader, &reader->fields[i]);
    for (size_t i = 0; i < writer->count; i++)
        if (compile_field(compiler, writer, i, reader, sources, type, base) != 0)
            return -1;
    for (size_t i = 0; i < reader->count; i++)
        if (sources[i] == SIZE_MAX && compile_fallback(compiler, type, &type->fields[i], base) != 0)
            return error_wrap(compiler->err, "field %s", type->fields[i].name);
    return 0;
}

static int compile_nullable(struct compiler *compiler, const struct schema_type *writer,
                            const struct schema_type *reader, const struct slot *slot, const char *name)
{
    if (writer->kind == SCHEMA_NULL)
        return 0;
    if (compile_value(compiler, writer, reader->branches[1], slot, name) != 0)
        return -1;
    if (slot->kind == FIELD_TEXT)
        return 0;
    return emit_one(compiler, (struct op){.code = OP_SET_TRUE,
                                          .offset = (uint32_t)(slot->base + slot->field->has_offset),
                                          .name = slot->field->name});
}

/* Steps for one value of the writer's; without `reader` and `slot` it is skipped. */
static int compile_value(struct compiler *compiler, const struct schema_type *writer, const struct schema_type *reader,
                         const struct slot *slot, const char *name)
{
    if (++compiler->visits > VISITS_LIMIT)
        return error_set(compiler->err, ERROR_BAD_INPUT, "the schema unfolds to more than %d types", VISITS_LIMIT);
    if (reader == NULL && writer->empty)
        return 0;
    if (writer->kind == SCHEMA_UNION)
        return compile_union(compiler, writer, reader, slot, name);
    if (reader == NULL)
        return compile_skip(compiler, writer, name);
    if (reader->kind == SCHEMA_UNION)
        return compile_nullable(compiler, writer, reader, slot, name);
    switch (slot->kind) {
    case FIELD_ENUM:
        return compile_enum(compiler, writer, reader, slot);
    case FIELD_RECORD:
        return compile_record(compiler, writer, reader, slot->field->record, slot->offset);
    case FIELD_POINTER:
        return compile_pointer(compiler, writer, reader, slot);
    case FIELD_ARRAY:
    case FIELD_MAP:
        return compile_list(compiler, writer, reader, slot);
    default:
        return compile_plain(compiler, writer, reader, slot);
    }
}

static int compile_message(struct compiler *compiler, const struct schema *reader)
{
    const struct schema_type *writer = compiler->program->writer.root;
    const struct message_type *type = compiler->program->type;
    if (descriptor_check(type, reader->root, compiler->err) != 0)
        return -1;
    const struct field whole = {.name = type->name, .kind = FIELD_RECORD, .record = type};
    const struct slot slot = {&whole, FIELD_RECORD, 0, 0};
    if (compile_value(compiler, writer, reader->root, &slot, type->name) != 0)
        return error_wrap(compiler->err, "cannot be read as %s", type->name);
    return 0;
}

int program_compile(struct program *program, struct schema *writer, const struct schema *reader,
                    const struct message_type *type, struct error *err)
{
    *program = (struct program){.type = type, .writer = *writer};
    *writer = (struct schema){0};
    struct compiler compiler = {.program = program, .err = err};
    if (compile_message(&compiler, reader) == 0)
        return 0;
    program_free(program);
    return -1;
}

void program_free(struct program *program)
{
    free(program->ops);
    schema_free(&program->writer);
    *program = (struct program){0};
}
