/*
 * printed.h - a command run as main() would, from a line of words, and what it printed
 *
 * Include after cmocka.h.
 */
#ifndef HEADRACE_TESTS_PRINTED_H
#define HEADRACE_TESTS_PRINTED_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Cuts `line` at its blanks; `words` gets them and a NULL behind. Returns how many. */
static inline int printed_split(char *line, char **words)
{
    int count = 0;
    for (char *word = strtok(line, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    words[count] = NULL;
    return count;
}

/* A standard stream that goes into a file for a while. */
struct printed_stream {
    int number, saved;
};

static inline struct printed_stream printed_divert(int number, FILE *into)
{
    struct printed_stream stream = {number, dup(number)};
    dup2(fileno(into), number);
    return stream;
}

static inline void printed_restore(const struct printed_stream *stream)
{
    dup2(stream->saved, stream->number);
    close(stream->saved);
}

static inline void printed_take(FILE *file, char *text, size_t size)
{
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/*
 * Calls command(argc, argv) and returns what it does; its standard output goes to `out`, its errors to `errors`, or to
 * `out` as well, in their order, where that is NULL. Both hold `size` bytes.
 */
static inline int printed_run(int (*command)(int, char **), int argc, char **argv, char *out, char *errors, size_t size)
{
    FILE *files[] = {tmpfile(), errors == NULL ? NULL : tmpfile()};
    assert_non_null(files[0]);
    assert_true(errors == NULL || files[1] != NULL);
    fflush(stdout);
    fflush(stderr);
    const struct printed_stream streams[] = {printed_divert(STDOUT_FILENO, files[0]),
                                             printed_divert(STDERR_FILENO, files[errors != NULL])};
    int result = command(argc, argv);
    fflush(stdout);
    fflush(stderr);
    printed_restore(&streams[0]);
    printed_restore(&streams[1]);
    printed_take(files[0], out, size);
    if (errors != NULL)
        printed_take(files[1], errors, size);
    return result;
}

#endif
