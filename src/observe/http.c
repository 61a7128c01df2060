#include "observe/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    CONNECTIONS = 64,
    CONNECTION_LIMIT = CONNECTIONS + 16, /* of libmicrohttpd: those that are being shown the door count, too */
    AGE_LIMIT_MS = 10000,
    REQUEST_MEMORY = 16 << 10,
    WAIT_MS = 100, /* how late a stop or an age is noticed */
    HOST_SIZE = 256,
};

/* An open connection. */
struct visitor {
    const struct MHD_Connection *connection;
    int socket;
    int64_t since_ns;
};

struct http {
    const struct http_route *routes;
    size_t route_count;
    void *context;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    bool has_thread;
    atomic_bool stopping;
    struct visitor visitors[CONNECTION_LIMIT]; /* the oldest first; server's thread only */
    size_t visitor_count;
    char address[HOST_SIZE + 16];
};

bool http_split_address(const char *address, char *host, char *port, size_t size)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL)
        return false;
    size_t host_length = (size_t)(colon - address), port_length = strlen(colon + 1);
    bool bracketed = host_length >= 2 && address[0] == '[' && address[host_length - 1] == ']';
    if (bracketed) {
        address++;
        host_length -= 2;
    }
    if (host_length >= size || port_length == 0 || port_length > 5 || port_length >= size ||
        strspn(colon + 1, "0123456789") != port_length || strtoul(colon + 1, NULL, 10) > 65535)
        return false;
    if (memchr(address, bracketed ? '[' : ':', host_length) != NULL || memchr(address, ']', host_length) != NULL)
        return false;
    memcpy(host, address, host_length);
    host[host_length] = '\0';
    memcpy(port, colon + 1, port_length + 1);
    return true;
}

/* Ends a connection without taking it from libmicrohttpd, which sees its end and forgets it. */
static void show_out(const struct visitor *visitor)
{
    shutdown(visitor->socket, SHUT_RDWR);
}

static void remove_visitor(struct http *http, const struct MHD_Connection *connection)
{
    size_t index = 0;
    while (index < http->visitor_count && http->visitors[index].connection != connection)
        index++;
    if (index == http->visitor_count)
        return;
    http->visitor_count--;
    memmove(&http->visitors[index], &http->visitors[index + 1], (http->visitor_count - index) * sizeof *http->visitors);
}

static void count_connection(void *context, struct MHD_Connection *connection, void **unused,
                             enum MHD_ConnectionNotificationCode what)
{
    (void)unused;
    struct http *http = context;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        remove_visitor(http, connection);
        return;
    }
    if (http->visitor_count >= CONNECTIONS)
        show_out(&http->visitors[http->visitor_count - CONNECTIONS]);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info != NULL && http->visitor_count < CONNECTION_LIMIT)
        http->visitors[http->visitor_count++] = (struct visitor){connection, info->connect_fd, clock_monotonic_ns()};
}

static void end_old_connections(struct http *http)
{
    for (size_t i = 0; i < http->visitor_count && clock_since_ms(http->visitors[i].since_ns) > AGE_LIMIT_MS; i++)
        show_out(&http->visitors[i]);
}

static void put_other_paths(const struct http *http, struct http_page *page)
{
    page->status = MHD_HTTP_NOT_FOUND;
    buffer_append_string(&page->body, "no such page; there is");
    for (size_t i = 0; i < http->route_count; i++)
        buffer_printf(&page->body, " %s", http->routes[i].path);
    buffer_append_byte(&page->body, '\n');
}

static void make_page(const struct http *http, const char *path, const char *method, struct http_page *page)
{
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        page->status = MHD_HTTP_METHOD_NOT_ALLOWED;
        buffer_append_string(&page->body, "only GET and HEAD\n");
        return;
    }
    for (size_t i = 0; i < http->route_count; i++)
        if (strcmp(http->routes[i].path, path) == 0) {
            http->routes[i].handler(http->context, page);
            return;
        }
    put_other_paths(http, page);
}

static enum MHD_Result send_page(struct MHD_Connection *connection, struct http_page *page)
{
    static char failed[] = "out of memory\n";
    struct MHD_Response *response;
    if (page->body.failed || page->body.size == 0) {
        page->status = page->body.failed ? MHD_HTTP_INTERNAL_SERVER_ERROR : page->status;
        page->type = NULL;
        buffer_free(&page->body);
        response = MHD_create_response_from_buffer(page->status == MHD_HTTP_INTERNAL_SERVER_ERROR ? strlen(failed) : 0,
                                                   failed, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_buffer(page->body.size, page->body.data, MHD_RESPMEM_MUST_FREE);
        if (response == NULL)
            buffer_free(&page->body);
    }
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            page->type != NULL ? page->type : "text/plain; charset=utf-8");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, "nosniff");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (page->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result =
        MHD_queue_response(connection, page->status == 0 ? MHD_HTTP_OK : (unsigned)page->status, response);
    MHD_destroy_response(response);
    return result;
}

/* Answered at the headers: a body is not read. */
static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **state)
{
    (void)version, (void)upload, (void)upload_size, (void)state;
    struct http_page page = {0};
    make_page(context, path, method, &page);
    return send_page(connection, &page);
}

static void *serve(void *context)
{
    struct http *http = context;
    while (!atomic_load(&http->stopping)) {
        if (MHD_run_wait(http->daemon, WAIT_MS) != MHD_YES)
            usleep(WAIT_MS * 1000); /* out of descriptors or memory for the moment: others need them more */
        end_old_connections(http);
    }
    return NULL;
}

static int bind_first(const struct addrinfo *found)
{
    int handle = -1, failure = EADDRNOTAVAIL;
    for (; found != NULL && handle < 0; found = found->ai_next) {
        handle = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, found->ai_protocol);
        if (handle < 0) {
            failure = errno;
            continue;
        }
        setsockopt(handle, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (bind(handle, found->ai_addr, found->ai_addrlen) != 0 || listen(handle, CONNECTIONS) != 0) {
            failure = errno;
            close(handle);
            handle = -1;
        }
    }
    errno = failure;
    return handle;
}

static int look_up(const char *listen_on, struct addrinfo **found, struct error *err)
{
    char host[HOST_SIZE], port[HOST_SIZE];
    if (!http_split_address(listen_on, host, port, HOST_SIZE))
        return error_set(err, ERROR_FATAL,
                         "cannot listen on \"%s\": HOST:PORT is wanted, as 127.0.0.1:9464, [::1]:9464 or :9464",
                         listen_on);
    const struct addrinfo wanted = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int code = getaddrinfo(*host != '\0' ? host : NULL, port, &wanted, found);
    return code == 0 ? 0 : error_set(err, ERROR_FATAL, "cannot listen on %s: %s", listen_on, gai_strerror(code));
}

int http_check(const char *listen, struct error *err)
{
    struct addrinfo *found;
    if (look_up(listen, &found, err) != 0)
        return -1;
    freeaddrinfo(found);
    return 0;
}

static int open_socket(const char *listen_on, int *handle, struct error *err)
{
    struct addrinfo *found;
    if (look_up(listen_on, &found, err) != 0)
        return -1;
    *handle = bind_first(found);
    int failure = errno;
    freeaddrinfo(found);
    if (*handle < 0)
        return error_set(err, ERROR_FATAL, "cannot listen on %s: %s%s", listen_on, strerror(failure),
                         failure == EADDRINUSE ? "; give each process of this host a port of its own, or port 0" : "");
    return 0;
}

static void write_address(struct http *http, int handle)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char host[HOST_SIZE] = "?", port[8] = "?";
    if (getsockname(handle, (struct sockaddr *)&bound, &size) == 0)
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    bool bare = strchr(host, ':') == NULL;
    snprintf(http->address, sizeof http->address, "%s%s%s:%s", bare ? "" : "[", host, bare ? "" : "]", port);
}

/*
 * epoll, as a program with many open files has handles that select() cannot take. The thread is ours: connections are
 * ended between two rounds, when libmicrohttpd is in none of them.
 */
static int start_daemon(struct http *http, int handle, struct error *err)
{
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, answer, http, MHD_OPTION_LISTEN_SOCKET, handle, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTION_LIMIT, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_MEMORY,
        MHD_OPTION_NOTIFY_CONNECTION, count_connection, http, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (http->daemon == NULL)
        return error_set(err, ERROR_FATAL, "starting the HTTP server on %s failed", http->address);
    int code = pthread_create(&http->thread, NULL, serve, http);
    if (code != 0)
        return error_set(err, ERROR_FATAL, "starting the HTTP server's thread: %s", strerror(code));
    http->has_thread = true;
    return 0;
}

int http_start(struct http **result, const struct http_settings *settings, struct error *err)
{
    int handle;
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the HTTP server");
    http->routes = settings->routes;
    http->route_count = settings->route_count;
    http->context = settings->context;
    if (open_socket(settings->listen, &handle, err) != 0) {
        free(http);
        return -1;
    }
    write_address(http, handle);
    if (start_daemon(http, handle, err) != 0) {
        http_stop(http);
        return -1;
    }
    *result = http;
    return 0;
}

const char *http_address(const struct http *http)
{
    return http->address;
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    atomic_store(&http->stopping, true);
    if (http->has_thread)
        pthread_join(http->thread, NULL);
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    free(http);
}
