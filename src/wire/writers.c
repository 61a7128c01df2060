#include "wire/writers.h"

#include <stdlib.h>
#include <string.h>

/* Ids come one after another, fingerprints at random: both spread over the slots as they are. */
static size_t slot_of(uint64_t key, size_t step)
{
    return (size_t)(key + step) % WRITERS_SLOTS;
}

const struct writer *writers_find(const struct writers *writers, uint64_t key)
{
    for (size_t step = 0;; step++) { /* half of the slots stay empty: it ends */
        const struct writer *writer = atomic_load_explicit(&writers->slots[slot_of(key, step)], memory_order_acquire);
        if (writer == NULL || writer->key == key)
            return writer;
    }
}

const struct writer *writers_add(struct writers *writers, uint64_t key, struct program *program, const char *refusal,
                                 struct error *err)
{
    if (writers->count == CODEC_WRITERS_LIMIT) {
        error_set(err, ERROR_BAD_INPUT, "%d schemas have been met: this one is not read", CODEC_WRITERS_LIMIT);
        return NULL;
    }
    struct writer *writer = malloc(sizeof *writer);
    char *copy = refusal != NULL ? strdup(refusal) : NULL;
    if (writer == NULL || (refusal != NULL && copy == NULL)) {
        free(writer);
        error_set(err, ERROR_FATAL, "out of memory while adding a schema");
        return NULL;
    }
    *writer = (struct writer){key, program, copy};
    size_t step = 0;
    while (atomic_load_explicit(&writers->slots[slot_of(key, step)], memory_order_relaxed) != NULL)
        step++;
    atomic_store_explicit(&writers->slots[slot_of(key, step)], writer, memory_order_release);
    writers->count++;
    return writer;
}

void writers_free(struct writers *writers)
{
    for (size_t i = 0; i < WRITERS_SLOTS; i++) {
        struct writer *writer = atomic_load_explicit(&writers->slots[i], memory_order_relaxed);
        if (writer != NULL)
            free(writer->refusal);
        free(writer);
    }
}
