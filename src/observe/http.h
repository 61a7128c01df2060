/*
 * http.h - a few pages over HTTP, for whoever watches the program
 *
 * GET and HEAD of the paths that the caller names; 404 says which they are, 405 every other method. One request a
 * connection: what a page costs is paid in the server's own thread, and nothing that a client does or leaves undone
 * reaches another thread. At most 64 connections of 10 seconds and 16 KiB of request each; when one more comes the
 * oldest goes, so that those who only hold connections do not keep others out.
 *
 * There is no encryption and no password: who can reach the address can read the pages. Listen on loopback, or where
 * the network keeps strangers out.
 *
 * Threads: http_start() and http_stop() from one; pages are made in the server's.
 */
#ifndef HEADRACE_OBSERVE_HTTP_H
#define HEADRACE_OBSERVE_HTTP_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

/* What a page fills in; it is zeroed before. */
struct http_page {
    int status;       /* 0 counts as 200 */
    const char *type; /* Content-Type; NULL counts as text/plain */
    struct buffer body;
};

/* One at a time. A body that failed for want of memory becomes a 500. */
typedef void http_handler(void *context, struct http_page *page);

struct http_route {
    const char *path; /* "/metrics" */
    http_handler *handler;
};

struct http_settings {
    const char *listen; /* HOST:PORT; no host: all addresses; an IPv6 host in []; port 0: any free one */
    const struct http_route *routes;
    size_t route_count;
    void *context; /* for the handlers */
};

struct http;

/* The routes must outlive the server. ERROR_FATAL: nobody can listen there; the message says why. */
int http_start(struct http **http, const struct http_settings *settings, struct error *err);

/* Whether `listen` is an address at all; somebody may well listen there already. */
int http_check(const char *listen, struct error *err);

/* Where it listens, as HOST:PORT with the real port. */
const char *http_address(const struct http *http);

/* Ends connections that are open, and the thread. NULL is fine. */
void http_stop(struct http *http);

/* Inside http: HOST:PORT taken apart; the parts hold `size` bytes each. False: it is none. */
bool http_split_address(const char *address, char *host, char *port, size_t size);

#endif
