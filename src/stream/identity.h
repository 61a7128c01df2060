/*
 * identity.h - who a worker is to its group, from one start to the next
 *
 * Static membership (KIP-345) and transactions need a name that a restart keeps and that no other worker has. It is
 * `<instance_id>-<8 hex digits>`; the digits are drawn at the first start and kept in the file `instance` of the state
 * directory, so that workers of one host, or of one default instance_id, do not shut each other out. Of the instance_id
 * characters that Kafka does not take become underscores.
 *
 * Threads: any.
 */
#ifndef HEADRACE_STREAM_IDENTITY_H
#define HEADRACE_STREAM_IDENTITY_H

#include "base/error.h"

enum { IDENTITY_SIZE = 160 };

/* The directory must be there. ERROR_FATAL: the file can be neither read nor made, or is not one of ours. */
int identity_read(const char *directory, const char *instance_id, char identity[IDENTITY_SIZE], struct error *err);

#endif
