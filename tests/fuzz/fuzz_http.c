/* Any bytes as a request, an address and a label: an answer that is HTTP or none, and the next request is served. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "observe/http.h"
#include "observe/metrics.h"

/* A request without an end is waited for by the server, too: it is broken off then. */
enum { SOUND_EVERY = 64, PATIENCE_MS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void show_hello(void *context, struct http_page *page)
{
    (void)context;
    buffer_append_string(&page->body, "hello\n");
}

static int dial(const struct http *http)
{
    int handle = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(strrchr(http_address(http), ':') + 1)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(handle >= 0 && connect(handle, (struct sockaddr *)&address, sizeof address) == 0);
    /* Closing resets: otherwise ports that linger run out after some ten thousand requests. */
    setsockopt(handle, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    return handle;
}

/* What the server answers, as a string; nothing, where it has not begun to within `patience_ms`. */
static void ask(const struct http *http, const void *request, size_t size, int patience_ms, char answer[4096])
{
    int handle = dial(http);
    size_t used = 0;
    ssize_t got;
    send(handle, request, size, MSG_NOSIGNAL);
    while (used < 4095 && poll(&(struct pollfd){.fd = handle, .events = POLLIN}, 1, patience_ms) > 0 &&
           (got = recv(handle, answer + used, 4095 - used, 0)) > 0)
        used += (size_t)got;
    answer[used] = '\0';
    close(handle);
}

static void send_request(const uint8_t *bytes, size_t size)
{
    static const struct http_route routes[] = {{"/hello", show_hello}};
    static const char sound[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    static struct http *http;
    static unsigned count;
    char answer[4096];
    struct error err;
    if (http == NULL)
        must(http_start(&http, &(struct http_settings){.listen = "127.0.0.1:0", .routes = routes, .route_count = 1},
                        &err) == 0);
    ask(http, bytes, size, PATIENCE_MS, answer);
    must(*answer == '\0' || strncmp(answer, "HTTP/1.", 7) == 0);
    if (++count % SOUND_EVERY == 0) {
        ask(http, sound, sizeof sound - 1, 10000, answer);
        must(strncmp(answer, "HTTP/1.1 200", 12) == 0 && strstr(answer, "\r\n\r\nhello\n") != NULL);
    }
}

static void split_address(const char *string)
{
    char host[32], port[32];
    if (!http_split_address(string, host, port, sizeof host))
        return;
    must(strlen(host) < sizeof host && strlen(port) >= 1 && strlen(port) <= 5);
    must(strspn(port, "0123456789") == strlen(port) && strtol(port, NULL, 10) <= 65535);
}

/* One line, between the quotes no quote that does not stand behind a backslash, and all of it UTF-8. */
static void write_label(const char *string)
{
    struct metrics metrics = {0};
    struct error err;
    metrics_family(&metrics, "m", METRICS_GAUGE, "");
    metrics_put(&metrics, METRICS_LABELS({"l", string}), 1);
    must(metrics_end(&metrics, &err) == 0);
    const char *page = buffer_string(&metrics.page), *line = strstr(page, "\nm{l=\"");
    must(line != NULL && text_is_utf8(buffer_text(&metrics.page)));
    const char *at = line + 6;
    while (*at != '"') {
        must(*at != '\0' && *at != '\n');
        must(*at != '\\' || at[1] == '\\' || at[1] == '"' || at[1] == 'n');
        at += *at == '\\' ? 2 : 1;
    }
    must(strcmp(at, "\"} 1\n") == 0);
    metrics_free(&metrics);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *string = malloc(size + 1);
    must(string != NULL);
    memcpy(string, bytes, size);
    string[size] = '\0';
    send_request(bytes, size);
    split_address(string);
    write_label(string);
    free(string);
    return 0;
}
