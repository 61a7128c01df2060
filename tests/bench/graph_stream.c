#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/random.h"
#include "graph_bench.h"
#include "replay/event_file.h"

static int append(struct stream *stream, struct rating rating, struct error *err)
{
    if (array_reserve(&stream->ratings, &stream->capacity, stream->count + 1, sizeof rating) != 0)
        return error_set(err, ERROR_FATAL, "out of memory");
    stream->ratings[stream->count++] = rating;
    size_t largest = rating.user > rating.item ? rating.user : rating.item;
    if (largest >= stream->names)
        stream->names = largest + 1;
    return 0;
}

static int compare_ratings(const void *a, const void *b)
{
    const struct rating *x = a, *y = b;
    if (x->timestamp_ms != y->timestamp_ms)
        return x->timestamp_ms < y->timestamp_ms ? -1 : 1;
    return x->user != y->user ? (x->user < y->user ? -1 : 1) : (x->item > y->item) - (x->item < y->item);
}

static uint32_t number_of(struct text id)
{
    uint32_t number = 0;
    for (size_t i = 0; i < id.size; i++)
        number = number * 10 + (uint32_t)(id.data[i] - '0');
    return number;
}

/* In order of time. */
static int read_ratings(struct stream *stream, const char *path, struct error *err)
{
    struct event_file_settings settings = {.path = path, .type = &interaction_type, .kind = INTERACTION_RATING};
    struct event_file *file;
    struct arena arena;
    struct interaction event;
    int more;
    if (event_file_open(&file, &settings, err) != 0)
        return -1;
    arena_init(&arena, 0);
    while ((more = event_file_next(file, &arena, &event, err)) == 1) {
        more = append(
            stream,
            (struct rating){number_of(event.user_id), number_of(event.item_id), event.timestamp_ms, event.value}, err);
        if (more != 0)
            break;
        arena_reset(&arena);
    }
    arena_free(&arena);
    event_file_close(file);
    qsort(stream->ratings, stream->count, sizeof *stream->ratings, compare_ratings);
    return more;
}

/* Rank r of n with probability about r^-exponent. */
static uint32_t draw(struct random *random, size_t n, double exponent)
{
    uint64_t rank = (uint64_t)((double)n * pow(random_uniform(random), 1.0 / (1.0 - exponent)));
    return (uint32_t)(rank * 2654435761u % n); /* numbers do not tell ranks */
}

static int make_ratings(struct stream *stream, const struct flags *flags, struct error *err)
{
    struct random random = {1};
    for (size_t i = 0; i < flags->events; i++) {
        struct rating rating = {flags->every_user && i < flags->users ? (uint32_t)i : draw(&random, flags->users, 0.6),
                                draw(&random, flags->item_count, 0.8), 1600000000000 + (int64_t)i * 10,
                                1.0 + (double)random_below(&random, 5)};
        if (append(stream, rating, err) != 0)
            return -1;
    }
    return 0;
}

int stream_open(struct stream *stream, const struct flags *flags, struct error *err)
{
    *stream = (struct stream){0};
    return flags->ratings != NULL ? read_ratings(stream, flags->ratings, err) : make_ratings(stream, flags, err);
}

int stream_encode(struct stream *stream, const struct codec *codec, struct error *err)
{
    stream->ends = calloc(stream->count + 1, sizeof *stream->ends);
    if (stream->ends == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    for (size_t i = 0; i < stream->count; i++) {
        const struct rating *rating = &stream->ratings[i];
        char user[16], item[16];
        snprintf(user, sizeof user, "u%u", rating->user);
        snprintf(item, sizeof item, "i%u", rating->item);
        struct interaction event = {.user_id = text_of(user),
                                    .item_id = text_of(item),
                                    .timestamp_ms = rating->timestamp_ms,
                                    .kind = INTERACTION_RATING,
                                    .has_value = true,
                                    .value = rating->value};
        if (codec_encode(codec, &interaction_type, &event, &stream->messages, err) != 0)
            return -1;
        stream->ends[i] = stream->messages.size;
    }
    return 0;
}

void stream_close(struct stream *stream)
{
    free(stream->ratings);
    free(stream->ends);
    buffer_free(&stream->messages);
}
