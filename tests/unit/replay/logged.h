/* logged.h - logs of given lines, for the tests of what replays them */
#ifndef HEADRACE_TESTS_REPLAY_LOGGED_H
#define HEADRACE_TESTS_REPLAY_LOGGED_H

#include "replay/source.h"
#include "replay/temporary.h"

static inline void must(int result, const struct error *err)
{
    if (result != 0)
        fail_msg("%s", err->message);
}

/* Adds a file of these bytes; the suffix tells the format. */
static inline void logged_add(struct replay_log *log, const struct message_type *type, const char *suffix,
                              const char *lines, bool untimed)
{
    char path[256];
    struct error err;
    temporary_write(path, suffix, lines, strlen(lines));
    const struct event_file_settings file = {
        .path = path, .type = type, .kind = INTERACTION_RATING, .untimed = untimed};
    must(replay_log_read_file(log, &file, NULL, &err), &err);
    unlink(path);
}

/* Lines "user,item,rating,timestamp". */
static inline void logged_ratings(struct replay_log *log, const char *lines)
{
    struct buffer csv = {0};
    buffer_append_string(&csv, "user_id,item_id,rating,timestamp\n");
    buffer_append_string(&csv, lines);
    logged_add(log, &interaction_type, ".csv", buffer_string(&csv), false);
    buffer_free(&csv);
}

static inline void logged_titles(struct replay_log *log, const char *lines)
{
    struct buffer csv = {0};
    buffer_append_string(&csv, "item_id,title\n");
    buffer_append_string(&csv, lines);
    logged_add(log, &item_type, ".csv", buffer_string(&csv), false);
    buffer_free(&csv);
}

#endif
