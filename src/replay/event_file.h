/*
 * event_file.h - logged events, items, users and requests in files
 *
 * Formats: CSV (RFC 4180, a header line), TSV (a header line, no quoting), JSON lines (a message a line, fields as in
 * the schema), RecBole's atomic files (.inter, .item, .user: TSV whose header names types, "user_id:token").
 *
 * Columns become fields by maps, "FIELD=COLUMN" or "FIELD=text with {COLUMN}s"; a column called like a field needs
 * none, and neither does `rating`, which is an interaction's value. "attributes.NAME=…" (items) and "profile.NAME=…"
 * (users) fill the maps. ":list" behind a column's name turns its spaces into "|", as RecBole's token_seq need it:
 * genres={class:list}. An empty cell is an absent value. A row with more or fewer cells than the header is refused, as
 * its cells cannot be told apart. Requests have lists in them: JSON lines only.
 *
 * Threads: one.
 */
#ifndef HEADRACE_REPLAY_EVENT_FILE_H
#define HEADRACE_REPLAY_EVENT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "wire/messages.h"

enum event_format { EVENT_FORMAT_BY_NAME, EVENT_FORMAT_CSV, EVENT_FORMAT_TSV, EVENT_FORMAT_JSON, EVENT_FORMAT_RECBOLE };

struct event_file_settings {
    const char *path;         /* "-": standard input */
    enum event_format format; /* BY_NAME: .csv .tsv .jsonl .json .inter .item .user */
    const struct message_type *type;
    const char *const *maps;
    size_t map_count;
    int32_t kind;        /* of interactions without a `kind` column: enum interaction_kind */
    double timestamp_ms; /* how many milliseconds one unit of a timestamp column is; 0: 1000 for RecBole, else 1 */
    bool untimed;        /* a file without a timestamp column will do: all its messages are at 0 */
};

struct event_file;

/* ERROR_BAD_INPUT: a map names no field or column, or a field without default has no column. */
int event_file_open(struct event_file **file, const struct event_file_settings *settings, struct error *err);
void event_file_close(struct event_file *file);

/*
 * The next message into *message, its texts in `arena` (the caller resets it). 1: there is one; 0: the end; -1: with
 * ERROR_BAD_INPUT this line cannot be read ("file:line: …") and the next call goes on behind it.
 */
int event_file_next(struct event_file *file, struct arena *arena, void *message, struct error *err);

/* There is no timestamp column. */
bool event_file_untimed(const struct event_file *file);

/* How much of the file has been read, 0 to 1; of standard input 0. */
double event_file_share(const struct event_file *file);

#endif
