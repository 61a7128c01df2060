#include "replay/rows.h"

#include <csv.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buffer.h"

enum { ROW_LIMIT = 4 << 20 /* bytes */, CELL_BLOCK = 1 << 16, MARK_SIZE = 3 };

/* U+FEFF, which some programs write before UTF-8: no part of the first cell. */
static const uint8_t byte_order_mark[MARK_SIZE] = {0xef, 0xbb, 0xbf};

struct rows {
    FILE *file;
    const char *path;
    enum row_format format;
    off_t size;               /* of the file; 0: unknown */
    uint8_t start[MARK_SIZE]; /* the file's first bytes, read ahead to look for a byte order mark */
    size_t start_size, start_taken;
    uint64_t read_bytes;
    uint64_t row_start;  /* read_bytes before the row in hand */
    uint64_t line;       /* of the row handed out */
    uint64_t lines_read; /* line ends seen so far */

    struct buffer bytes; /* of the row's cells, one after the other */
    size_t *ends;        /* where each cell ends in `bytes` */
    size_t end_capacity;
    size_t cell_count;
    struct text *cells;
    size_t cell_capacity;

    struct csv_parser csv;
    bool row_complete;
    bool out_of_memory;
};

static void add_cell(struct rows *rows, const void *data, size_t size)
{
    if (array_reserve(&rows->ends, &rows->end_capacity, rows->cell_count + 1, sizeof *rows->ends) != 0) {
        rows->out_of_memory = true;
        return;
    }
    buffer_append(&rows->bytes, data, size);
    rows->ends[rows->cell_count++] = rows->bytes.size;
}

static void take_csv_cell(void *cell, size_t size, void *context)
{
    add_cell(context, cell, size);
}

static void take_csv_row(int terminator, void *context)
{
    (void)terminator;
    ((struct rows *)context)->row_complete = true;
}

/* Allocates nothing yet, so it cannot fail. A cell grows by blocks: with libcsv's 128 bytes a long one takes forever.
 */
static void begin_csv(struct rows *rows)
{
    csv_init(&rows->csv, CSV_STRICT | CSV_STRICT_FINI);
    csv_set_blk_size(&rows->csv, CELL_BLOCK);
}

int rows_open(struct rows **result, const char *path, enum row_format format, struct error *err)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening %s", path);
    rows->path = path;
    rows->format = format;
    begin_csv(rows);
    bool standard_input = path[0] == '-' && path[1] == '\0';
    rows->file = standard_input ? stdin : fopen(path, "rb");
    if (rows->file == NULL) {
        error_set(err, ERROR_FATAL, "opening %s: %s", path, strerror(errno));
        goto fail;
    }
    struct stat status;
    if (fstat(fileno(rows->file), &status) == 0 && S_ISREG(status.st_mode))
        rows->size = status.st_size;
    rows->start_size = fread(rows->start, 1, MARK_SIZE, rows->file);
    if (rows->start_size == MARK_SIZE && memcmp(rows->start, byte_order_mark, MARK_SIZE) == 0)
        rows->start_taken = rows->read_bytes = MARK_SIZE;
    *result = rows;
    return 0;

fail:
    rows_close(rows);
    return -1;
}

void rows_close(struct rows *rows)
{
    if (rows == NULL)
        return;
    if (rows->file != NULL && rows->file != stdin)
        fclose(rows->file);
    csv_free(&rows->csv);
    buffer_free(&rows->bytes);
    free(rows->ends);
    free(rows->cells);
    free(rows);
}

static int next_byte(struct rows *rows)
{
    int byte = rows->start_taken < rows->start_size ? rows->start[rows->start_taken++] : getc_unlocked(rows->file);
    if (byte != EOF)
        rows->read_bytes++;
    if (byte == '\n')
        rows->lines_read++;
    return byte;
}

/* Delimiters count, too: a row of nothing but commas takes memory as well. */
static bool too_large(const struct rows *rows)
{
    return rows->read_bytes - rows->row_start > ROW_LIMIT;
}

/* The row is at fault; unless its line has ended with `byte`, reads on behind it. */
static int refuse_row(struct rows *rows, int byte, const char *reason, struct error *err)
{
    while (byte != EOF && byte != '\n')
        byte = next_byte(rows);
    csv_free(&rows->csv);
    begin_csv(rows);
    return error_set(err, ERROR_BAD_INPUT, "%s:%llu: %s", rows->path, (unsigned long long)rows->line, reason);
}

static int read_csv_row(struct rows *rows, struct error *err)
{
    int byte;
    bool begun = false;
    while (!rows->row_complete && (byte = next_byte(rows)) != EOF) {
        if (!begun && (byte == '\n' || byte == '\r')) /* an empty line, or what is left of the last row's CR LF */
            continue;
        if (!begun) {
            begun = true;
            rows->line = rows->lines_read + 1;
            rows->row_start = rows->read_bytes - 1;
        }
        char one = (char)byte;
        if (csv_parse(&rows->csv, &one, 1, take_csv_cell, take_csv_row, rows) != 1)
            return csv_error(&rows->csv) == CSV_EPARSE
                       ? refuse_row(rows, byte, "a quote inside a cell: quote the cell and double the quote", err)
                       : error_set(err, ERROR_FATAL, "out of memory while reading %s", rows->path);
        if (too_large(rows))
            return refuse_row(rows, byte, "the row is larger than 4 MiB: is a quote opened and never closed?", err);
    }
    if (!rows->row_complete && csv_fini(&rows->csv, take_csv_cell, take_csv_row, rows) != 0)
        return refuse_row(rows, EOF, "a quote is opened and never closed", err);
    return 0;
}

static int read_line(struct rows *rows, struct error *err)
{
    int byte;
    size_t start = 0;
    while ((byte = next_byte(rows)) != EOF && byte != '\n') {
        if (too_large(rows))
            return refuse_row(rows, byte, "the line is longer than 4 MiB", err);
        if (rows->format == ROW_TSV && byte == '\t') {
            add_cell(rows, NULL, 0);
            start = rows->bytes.size;
        } else {
            buffer_append_byte(&rows->bytes, (uint8_t)byte);
        }
    }
    if (rows->bytes.size > start && rows->bytes.data[rows->bytes.size - 1] == '\r')
        rows->bytes.size--;
    if (rows->bytes.size > 0 || rows->cell_count > 0)
        add_cell(rows, NULL, 0);
    return 0;
}

static bool at_end(const struct rows *rows)
{
    return rows->start_taken == rows->start_size && feof(rows->file);
}

int rows_next(struct rows *rows, const struct text **cells, size_t *count, struct error *err)
{
    do {
        rows->line = rows->lines_read + 1;
        rows->row_start = rows->read_bytes;
        rows->cell_count = 0;
        rows->row_complete = false;
        buffer_clear(&rows->bytes);
        if (at_end(rows))
            return 0;
        if ((rows->format == ROW_CSV ? read_csv_row(rows, err) : read_line(rows, err)) != 0)
            return -1;
        if (ferror(rows->file))
            return error_set(err, ERROR_FATAL, "reading %s: %s", rows->path, strerror(errno));
    } while (rows->cell_count == 0);

    if (rows->out_of_memory || buffer_check(&rows->bytes, "reading a row", err) != 0 ||
        array_reserve(&rows->cells, &rows->cell_capacity, rows->cell_count, sizeof *rows->cells) != 0)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", rows->path);
    for (size_t i = 0; i < rows->cell_count; i++) {
        size_t start = i == 0 ? 0 : rows->ends[i - 1];
        rows->cells[i] = rows->bytes.data == NULL
                             ? text_of("")
                             : (struct text){(const char *)rows->bytes.data + start, rows->ends[i] - start};
    }
    *cells = rows->cells;
    *count = rows->cell_count;
    return 1;
}

uint64_t rows_line(const struct rows *rows)
{
    return rows->line;
}

double rows_share(const struct rows *rows)
{
    return rows->size > 0 ? (double)rows->read_bytes / (double)rows->size : 0;
}
