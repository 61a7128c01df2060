/*
 * dead_letter_read.h - a message of a dead-letter topic: where it came from, why, and what it was
 *
 * Reads what dead_letter.h writes, and what Kafka Connect writes as far as its headers say the same. What somebody else
 * has put into the topic is a letter, too: of nothing that is known, without headers of ours.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_STREAM_DEAD_LETTER_READ_H
#define HEADRACE_STREAM_DEAD_LETTER_READ_H

#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "base/text.h"
#include "wire/codec.h"

/* Classes of letters: enum dead_letter_class, and what names none of them. */
enum { DEAD_LETTER_OTHER = DEAD_TOO_LARGE + 1, DEAD_LETTER_CLASSES };

/* "framing", …; "other" */
const char *dead_letter_class_text(int class);

/* -1: it is none of them. */
int dead_letter_class_find(struct text name);

/* Texts live as long as the headers. */
struct dead_letter {
    struct text topic; /* that it came from; absent: the letter does not say */
    int64_t partition; /* -1: the same */
    int64_t offset;
    int class;
    struct text reason; /* absent: the letter does not say */
    int64_t cut_from;   /* bytes of key, value and headers before the letter was cut; -1: it is whole */
    size_t own_headers; /* how many headers, the last of them, describe the letter; those before are the message's */
};

/* `headers` NULL: none. */
void dead_letter_read(const rd_kafka_headers_t *headers, struct dead_letter *letter);

#endif
