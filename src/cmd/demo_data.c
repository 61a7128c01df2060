#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "cmd/demo.h"
#include "replay/event_file.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while reading the demo's data");
}

static int load_titles(struct demo_data *data, const char *path, struct error *err)
{
    static const char *const maps[] = {"title={movie_title} ({release_year})", "attributes.genres=class:list",
                                       "attributes.year=release_year"};
    struct event_file_settings settings = {
        .path = path, .type = &item_type, .maps = maps, .map_count = sizeof maps / sizeof *maps};
    struct event_file *file;
    if (event_file_open(&file, &settings, err) != 0)
        return -1;
    size_t capacity = 0;
    int found = 1;
    while (found == 1) {
        if (array_reserve(&data->titles, &capacity, data->title_count + 1, sizeof *data->titles) != 0) {
            found = out_of_memory(err);
            break;
        }
        found = event_file_next(file, &data->arena, &data->titles[data->title_count], err);
        data->title_count += found == 1;
    }
    event_file_close(file);
    return found;
}

static int load_ratings(struct demo_data *data, const char *path, const struct graph_settings *labels,
                        struct error *err)
{
    struct event_file_settings settings = {.path = path, .type = &interaction_type, .kind = INTERACTION_RATING};
    struct event_file *file;
    if (event_file_open(&file, &settings, err) != 0)
        return -1;
    struct arena arena;
    arena_init(&arena, 0);
    size_t capacity = 0;
    struct interaction event;
    int found;
    while ((found = event_file_next(file, &arena, &event, err)) == 1) {
        uint32_t user = table_add(&data->users, event.user_id), item = table_add(&data->items, event.item_id);
        if (user == TABLE_NONE || item == TABLE_NONE ||
            array_reserve(&data->ratings, &capacity, data->rating_count + 1, sizeof *data->ratings) != 0) {
            found = out_of_memory(err);
            break;
        }
        data->ratings[data->rating_count++] = (struct demo_rating){
            .user = user,
            .item = item,
            .value = event.value,
            .timestamp_ms = event.timestamp_ms,
            .like = graph_verdict(labels, event.kind, event.has_value, event.value, false, false) == VERDICT_LIKE};
        arena_reset(&arena);
    }
    arena_free(&arena);
    event_file_close(file);
    return found;
}

static int earlier_first(const void *a, const void *b, void *context)
{
    const struct demo_rating *ratings = context;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (ratings[x].timestamp_ms != ratings[y].timestamp_ms)
        return ratings[x].timestamp_ms < ratings[y].timestamp_ms ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int sort_ratings(struct demo_data *data, struct error *err)
{
    size_t *order = calloc(data->rating_count + 1, sizeof *order);
    struct demo_rating *sorted = calloc(data->rating_count + 1, sizeof *sorted);
    if (order == NULL || sorted == NULL) {
        free(order);
        free(sorted);
        return out_of_memory(err);
    }
    for (size_t i = 0; i < data->rating_count; i++)
        order[i] = i;
    qsort_r(order, data->rating_count, sizeof *order, earlier_first, data->ratings);
    for (size_t i = 0; i < data->rating_count; i++)
        sorted[i] = data->ratings[order[i]];
    free(order);
    free(data->ratings);
    data->ratings = sorted;
    return 0;
}

/* Every user's ratings behind the cut, in groups of ten: all the requests there could be, by their first rating. */
static int group_ratings(struct demo_data *data, struct demo_request **groups, size_t *group_count, struct error *err)
{
    size_t *open = calloc(data->users.count, sizeof *open); /* a user's group that is not full: its number + 1 */
    size_t capacity = 0;
    int result = open == NULL ? out_of_memory(err) : 0;
    *groups = NULL;
    *group_count = 0;
    for (size_t i = data->first_asked; result == 0 && i < data->rating_count; i++) {
        uint32_t user = data->ratings[i].user;
        if (open[user] == 0) {
            if (array_reserve(groups, &capacity, *group_count + 1, sizeof **groups) != 0) {
                result = out_of_memory(err);
                break;
            }
            (*groups)[*group_count] = (struct demo_request){0};
            open[user] = ++*group_count;
        }
        struct demo_request *group = &(*groups)[open[user] - 1];
        group->ratings[group->count++] = i;
        if (group->count == DEMO_CANDIDATES)
            open[user] = 0;
    }
    free(open);
    return result;
}

static int plan_requests(struct demo_data *data, size_t wanted, struct error *err)
{
    struct demo_request *groups;
    size_t group_count;
    int result = group_ratings(data, &groups, &group_count, err);
    if (result == 0) {
        data->request_count = wanted < group_count ? wanted : group_count;
        data->requests = calloc(data->request_count + 1, sizeof *data->requests);
        if (data->requests == NULL)
            result = out_of_memory(err);
        for (size_t i = 0; result == 0 && i < data->request_count; i++)
            data->requests[i] = groups[(i * 2 + 1) * group_count / (data->request_count * 2)];
    }
    free(groups);
    return result;
}

int demo_data_load(struct demo_data *data, const char *ratings_path, const char *items_path,
                   const struct graph_settings *labels, double loaded_share, size_t requests, struct error *err)
{
    *data = (struct demo_data){0};
    arena_init(&data->arena, 0);
    if (load_titles(data, items_path, err) != 0 || load_ratings(data, ratings_path, labels, err) != 0 ||
        sort_ratings(data, err) != 0)
        goto fail;
    if (data->rating_count < 100) {
        error_set(err, ERROR_BAD_INPUT, "%s holds %zu ratings: too few to replay", ratings_path, data->rating_count);
        goto fail;
    }
    data->first_asked = (size_t)((double)data->rating_count * loaded_share);
    if (plan_requests(data, requests, err) != 0)
        goto fail;
    return 0;

fail:
    demo_data_free(data);
    return -1;
}

void demo_data_free(struct demo_data *data)
{
    table_free(&data->users);
    table_free(&data->items);
    free(data->titles);
    free(data->ratings);
    free(data->requests);
    arena_free(&data->arena);
    *data = (struct demo_data){0};
}

struct interaction demo_interaction(const struct demo_data *data, const struct demo_rating *rating)
{
    return (struct interaction){.user_id = table_key(&data->users, rating->user),
                                .item_id = table_key(&data->items, rating->item),
                                .timestamp_ms = rating->timestamp_ms,
                                .kind = INTERACTION_RATING,
                                .has_value = true,
                                .value = rating->value};
}
