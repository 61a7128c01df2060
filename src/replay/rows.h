/*
 * rows.h - inside replay/: lines and cells of a text file
 *
 * Lines end with LF or CR LF, a UTF-8 byte order mark at the start is passed over, and a row of more than 4 MiB is
 * refused. In CSV, blanks around a cell that is not quoted are no part of it.
 *
 * Threads: one.
 */
#ifndef HEADRACE_REPLAY_ROWS_H
#define HEADRACE_REPLAY_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

enum row_format { ROW_CSV /* RFC 4180 */, ROW_TSV /* cells between tabs, no quoting */, ROW_LINE /* one cell */ };

struct rows;

/* `path` "-" is standard input. */
int rows_open(struct rows **rows, const char *path, enum row_format format, struct error *err);
void rows_close(struct rows *rows);

/*
 * The next row that is not empty. 1: *cells[0..*count) hold until the next call; 0: the end; -1: ERROR_BAD_INPUT for
 * this row (the next call goes on behind it) or ERROR_FATAL when the file cannot be read.
 */
int rows_next(struct rows *rows, const struct text **cells, size_t *count, struct error *err);

/* Line that the last row began on, counted from 1. */
uint64_t rows_line(const struct rows *rows);

/* Bytes read so far over the file's size; 0 for what has no size. */
double rows_share(const struct rows *rows);

#endif
