/*
 * logged.h - logged traffic for the sub-commands that replay it: which files or topics, which requests of them
 *
 * The flags are the same for replay, export and train heads.
 */
#ifndef HEADRACE_CMD_LOGGED_H
#define HEADRACE_CMD_LOGGED_H

#include <signal.h>

#include "base/error.h"
#include "cmd/flags.h"
#include "cmd/vectors.h"
#include "config/config.h"
#include "replay/loop.h"

struct logged_flags {
    const char *events, *items, *users, *requests; /* files; none of them: topics */
    struct flag_list maps, item_maps, user_maps;
    const char *format, *kind, *time_unit;
    const char *from, *to; /* times or offsets */
    int64_t after_ms, before_ms;
    double sample, warm;
    const char *sample_by, *split, *protocol, *speed, *store;
    int64_t limit, seed;
    /* From logged_check(). */
    int32_t event_kind;
    enum event_format event_format;
    struct source_range range;
    double shares[TRAJECTORY_PARTS];
    double speedup;
};

#define LOGGED_DEFAULTS                                                                                                \
    {                                                                                                                  \
        .format = "", .kind = "rating", .before_ms = INT64_MAX, .sample = 1, .sample_by = "user", .split = "8:1:1",    \
        .protocol = "chronological", .speed = "max", .seed = 1                                                         \
    }

/* clang-format off */
/* What is replayed. */
#define LOGGED_FILE_FLAGS(logged)                                                                                   \
    {"events", "FILE", FLAG_TEXT, &(logged).events, "interactions, as produce reads them (no file at all: topics)"},  \
    {"items", "FILE", FLAG_TEXT, &(logged).items, "titles and attributes"},                                          \
    {"users", "FILE", FLAG_TEXT, &(logged).users, "profiles"},                                                       \
    {"requests", "FILE", FLAG_TEXT, &(logged).requests, "score requests, JSON lines (default: made of the events)"},  \
    {"map", "FIELD=RULE", FLAG_LIST, &(logged).maps, "a column of the events, as for produce; again for more"},       \
    {"item-map", "FIELD=RULE", FLAG_LIST, &(logged).item_maps, "of the items"},                                      \
    {"user-map", "FIELD=RULE", FLAG_LIST, &(logged).user_maps, "of the users"},                                      \
    {"format", "FORMAT", FLAG_TEXT, &(logged).format, "of the events: csv, tsv, json, recbole (default: by name)"},  \
    {"kind", "KIND", FLAG_TEXT, &(logged).kind, "of events without a kind column (default rating)"},                 \
    {"time-unit", "s|ms", FLAG_TEXT, &(logged).time_unit, "of their timestamps (default: s for RecBole, else ms)"}

/* And which requests of it. */
#define LOGGED_FLAGS(logged)                                                                                         \
    LOGGED_FILE_FLAGS(logged),                                                                                       \
    {"from", "TIME|OFFSET", FLAG_TEXT, &(logged).from, "where reading begins; offsets: in every partition"},         \
    {"to", "TIME|OFFSET", FLAG_TEXT, &(logged).to, "where it ends (default: what is there now)"},                    \
    {"after", "TIME", FLAG_TIME, &(logged).after_ms, "requests from then on; what is earlier is only learned"},      \
    {"before", "TIME", FLAG_TIME, &(logged).before_ms, "requests before then"},                                      \
    {"warm", "SHARE", FLAG_DECIMAL, &(logged).warm, "of the rows, the earliest: only learned (default 0)"},          \
    {"sample", "SHARE", FLAG_DECIMAL, &(logged).sample, "of the users, by hash (default 1: all)"},                   \
    {"sample-by", "user|request", FLAG_TEXT, &(logged).sample_by, "a share of the requests instead"},                \
    {"limit", "N", FLAG_NUMBER, &(logged).limit, "end after so many rows"},                                          \
    {"split", "A:B:C", FLAG_TEXT, &(logged).split, "train:calibrate:test (default 8:1:1)"},                          \
    {"seed", "N", FLAG_NUMBER, &(logged).seed, "of samples and random splits (default 1)"}
/* clang-format on */

/* Returns EXIT_FINE, or says what is wrong as flags_wrong() does. */
int logged_check(const struct usage *usage, struct logged_flags *flags);
void logged_flags_free(struct logged_flags *flags);

struct logged {
    struct trained trained;
    struct replay_log *log;
    struct codec *codec;             /* NULL: no topic was read */
    struct replay_settings settings; /* without template, parts and what heads were trained on */
};

/* Reads everything. A zeroed `logged` is fine to close afterwards, also on -1; it must not outlive flags and config. */
int logged_open(struct logged *logged, const struct logged_flags *flags, const struct config *config,
                const volatile sig_atomic_t *interrupted, struct error *err);
void logged_close(struct logged *logged);

#endif
