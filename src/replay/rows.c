#include "replay/rows.h"

#include <csv.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buffer.h"

enum { ROW_LIMIT = 4 << 20 /* bytes */ };

struct rows {
    FILE *file;
    const char *path;
    enum row_format format;
    off_t size; /* of the file; 0: unknown */
    uint64_t read_bytes;
    uint64_t line;       /* of the row handed out */
    uint64_t lines_read; /* line ends seen so far */

    struct buffer bytes; /* of the row's cells, one after the other */
    size_t *ends;        /* where each cell ends in `bytes` */
    size_t end_capacity;
    size_t cell_count;
    struct text *cells;
    size_t cell_capacity;

    struct csv_parser csv;
    bool csv_ready;
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

int rows_open(struct rows **result, const char *path, enum row_format format, struct error *err)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening %s", path);
    rows->path = path;
    rows->format = format;
    bool standard_input = path[0] == '-' && path[1] == '\0';
    rows->file = standard_input ? stdin : fopen(path, "rb");
    if (rows->file == NULL) {
        error_set(err, ERROR_FATAL, "opening %s: %s", path, strerror(errno));
        goto fail;
    }
    struct stat status;
    if (fstat(fileno(rows->file), &status) == 0 && S_ISREG(status.st_mode))
        rows->size = status.st_size;
    if (format == ROW_CSV) {
        if (csv_init(&rows->csv, CSV_APPEND_NULL | CSV_STRICT | CSV_STRICT_FINI) != 0) {
            error_set(err, ERROR_FATAL, "out of memory while opening %s", path);
            goto fail;
        }
        rows->csv_ready = true;
    }
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
    if (rows->csv_ready)
        csv_free(&rows->csv);
    buffer_free(&rows->bytes);
    free(rows->ends);
    free(rows->cells);
    free(rows);
}

static int next_byte(struct rows *rows)
{
    int byte = getc_unlocked(rows->file);
    if (byte != EOF)
        rows->read_bytes++;
    if (byte == '\n')
        rows->lines_read++;
    return byte;
}

/* Reads on behind the line in hand; -1 with the reason. */
static int skip_line(struct rows *rows, struct error *err, const char *reason)
{
    int byte;
    while ((byte = next_byte(rows)) != EOF && byte != '\n')
        continue;
    return error_set(err, ERROR_BAD_INPUT, "%s:%llu: %s", rows->path, (unsigned long long)rows->line, reason);
}

static int read_csv_row(struct rows *rows, struct error *err)
{
    int byte;
    while (!rows->row_complete && (byte = next_byte(rows)) != EOF) {
        char one = (char)byte;
        if (csv_parse(&rows->csv, &one, 1, take_csv_cell, take_csv_row, rows) != 1) {
            csv_free(&rows->csv);
            rows->csv_ready = csv_init(&rows->csv, CSV_APPEND_NULL | CSV_STRICT | CSV_STRICT_FINI) == 0;
            return byte == '\n' ? error_set(err, ERROR_BAD_INPUT, "%s:%llu: a quote where none may stand", rows->path,
                                            (unsigned long long)rows->line)
                                : skip_line(rows, err, "a quote where none may stand");
        }
        if (rows->bytes.size > ROW_LIMIT)
            return skip_line(rows, err, "the row is larger than 4 MiB");
    }
    if (!rows->row_complete && csv_fini(&rows->csv, take_csv_cell, take_csv_row, rows) != 0)
        return error_set(err, ERROR_BAD_INPUT, "%s:%llu: a quote is opened and never closed", rows->path,
                         (unsigned long long)rows->line);
    return 0;
}

static int read_line(struct rows *rows, struct error *err)
{
    int byte;
    size_t start = 0;
    while ((byte = next_byte(rows)) != EOF && byte != '\n') {
        if (rows->format == ROW_TSV && byte == '\t') {
            add_cell(rows, NULL, 0);
            start = rows->bytes.size;
            continue;
        }
        if (rows->bytes.size > ROW_LIMIT)
            return skip_line(rows, err, "the line is longer than 4 MiB");
        buffer_append_byte(&rows->bytes, (uint8_t)byte);
    }
    if (rows->bytes.size > start && rows->bytes.data[rows->bytes.size - 1] == '\r')
        rows->bytes.size--;
    if (rows->bytes.size > 0 || rows->cell_count > 0)
        add_cell(rows, NULL, 0);
    return 0;
}

int rows_next(struct rows *rows, const struct text **cells, size_t *count, struct error *err)
{
    do {
        rows->line = rows->lines_read + 1;
        rows->cell_count = 0;
        rows->row_complete = false;
        buffer_clear(&rows->bytes);
        if (feof(rows->file))
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
        rows->cells[i] = (struct text){(const char *)rows->bytes.data + start, rows->ends[i] - start};
        if (rows->bytes.data == NULL)
            rows->cells[i] = text_of("");
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
