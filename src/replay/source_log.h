/* source_log.h - inside replay/: the log that files and topics are read into */
#ifndef HEADRACE_REPLAY_SOURCE_LOG_H
#define HEADRACE_REPLAY_SOURCE_LOG_H

#include "base/arena.h"
#include "replay/source.h"

struct replay_log {
    struct arena arena; /* the messages and their texts */
    struct source_message *messages;
    size_t count, capacity;
    struct source_range range;
    uint64_t unreadable;
    int32_t files; /* read so far: a file's partition is its number */
    bool untimed;
};

int replay_log_add(struct replay_log *log, const struct source_message *message, struct error *err);

/* Counts a message that cannot be read; the first ten of a source are named in our log. `wrong`: so many before. */
void replay_log_report(struct replay_log *log, size_t wrong, const char *message);

/* The event's own time; 0 for items and users. */
int64_t source_message_time(enum source_topic topic, const void *message);

#endif
