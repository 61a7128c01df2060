#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "observe/http.h"

static void show_hello(void *context, struct http_page *page)
{
    buffer_printf(&page->body, "hello %s\n", (const char *)context);
}

static void show_trouble(void *context, struct http_page *page)
{
    (void)context;
    page->status = 503;
    page->type = "application/json";
    buffer_append_string(&page->body, "{\"ready\":false}\n");
}

static void show_nothing(void *context, struct http_page *page)
{
    (void)context, (void)page;
}

static void show_much(void *context, struct http_page *page)
{
    (void)context;
    for (int i = 0; i < 1 << 20; i++)
        buffer_append_byte(&page->body, 'x');
}

static void run_out_of_memory(void *context, struct http_page *page)
{
    (void)context;
    buffer_append_string(&page->body, "half a page");
    page->body.failed = true;
}

static const struct http_route routes[] = {{"/hello", show_hello},
                                           {"/trouble", show_trouble},
                                           {"/nothing", show_nothing},
                                           {"/much", show_much},
                                           {"/memory", run_out_of_memory}};

static struct http *start(void)
{
    struct http *http;
    struct error err;
    const struct http_settings settings = {.listen = "127.0.0.1:0",
                                           .routes = routes,
                                           .route_count = sizeof routes / sizeof *routes,
                                           .context = (void *)(uintptr_t) "there"};
    assert_int_equal(http_start(&http, &settings, &err), 0);
    assert_memory_equal(http_address(http), "127.0.0.1:", 10);
    return http;
}

static int dial(const struct http *http)
{
    int handle = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(strrchr(http_address(http), ':') + 1)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(handle, (struct sockaddr *)&address, sizeof address), 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return handle;
}

/* All that comes until the server ends the connection, as a string. */
static size_t receive(int handle, char *out, size_t size)
{
    size_t used = 0;
    ssize_t got;
    while (used < size - 1 && (got = recv(handle, out + used, size - 1 - used, 0)) > 0)
        used += (size_t)got;
    out[used] = '\0';
    close(handle);
    return used;
}

static size_t ask(const struct http *http, const char *request, char *out, size_t size)
{
    int handle = dial(http);
    send(handle, request, strlen(request), MSG_NOSIGNAL);
    return receive(handle, out, size);
}

static void expect(const struct http *http, const char *request, const char *status, const char *part)
{
    char answer[4096];
    ask(http, request, answer, sizeof answer);
    if (strncmp(answer, "HTTP/1.1 ", 9) != 0 || strncmp(answer + 9, status, strlen(status)) != 0 ||
        strstr(answer, part) == NULL)
        fail_msg("%s\nwas answered by\n%s\nnot %s with %s", request, answer, status, part);
}

static void a_page_comes_with_its_status_and_type(void **state)
{
    (void)state;
    struct http *http = start();
    expect(http, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200", "\r\n\r\nhello there\n");
    expect(http, "GET /hello?a=%00&b HTTP/1.1\r\nHost: a\r\n\r\n", "200", "\r\n\r\nhello there\n");
    expect(http, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200", "Connection: close\r\n");
    expect(http, "GET /trouble HTTP/1.1\r\nHost: a\r\n\r\n", "503", "Content-Type: application/json\r\n");
    expect(http, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "200", "Content-Length: 0\r\n");
    expect(http, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n", "500", "\r\n\r\nout of memory\n");
    http_stop(http);
}

static void head_is_get_without_the_page(void **state)
{
    (void)state;
    struct http *http = start();
    char answer[4096];
    ask(http, "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    assert_memory_equal(answer, "HTTP/1.1 200", 12);
    assert_non_null(strstr(answer, "Content-Length: 12\r\n"));
    assert_null(strstr(answer, "hello"));
    http_stop(http);
}

static void other_paths_and_methods_are_told_what_there_is(void **state)
{
    (void)state;
    struct http *http = start();
    expect(http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404", "/hello /trouble");
    expect(http, "GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\n", "404", "/hello");
    expect(http, "GET /../hello HTTP/1.1\r\nHost: a\r\n\r\n", "404", "/hello");
    expect(http, "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd", "405", "Allow: GET, HEAD\r\n");
    expect(http, "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", "405", "Allow: GET, HEAD");
    expect(http, "DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n", "405", "Allow: GET, HEAD\r\n");
    http_stop(http);
}

static void a_large_page_arrives_whole(void **state)
{
    (void)state;
    struct http *http = start();
    static char answer[(1 << 20) + 4096];
    size_t size = ask(http, "GET /much HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    const char *page = strstr(answer, "\r\n\r\n");
    assert_non_null(page);
    assert_int_equal(answer + size - (page + 4), 1 << 20);
    http_stop(http);
}

static void bytes_that_are_no_request_harm_nothing(void **state)
{
    (void)state;
    struct http *http = start();
    static char answer[8192], line[64 << 10];
    static const char *const wrong[] = {
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello\r\n\r\n",
        "GET /hello HTTP/9.9\r\n\r\n",
        "GET /%zz%%%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost\r\n: b\r\n\r\n",
        "GET /hello HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        "GET /hello HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int handle = dial(http);
        send(handle, wrong[i], strlen(wrong[i]), MSG_NOSIGNAL);
        shutdown(handle, SHUT_WR);
        size_t size = receive(handle, answer, sizeof answer);
        assert_true(size == 0 || strncmp(answer, "HTTP/1.", 7) == 0);
    }
    memset(line, 'a', sizeof line - 1); /* a header that never ends */
    memcpy(line, "GET /hello HTTP/1.1\r\nA: ", 24);
    ask(http, line, answer, sizeof answer);
    assert_true(*answer == '\0' || strncmp(answer, "HTTP/1.1 4", 10) == 0);
    expect(http, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200", "hello there");
    http_stop(http);
}

static void those_who_only_hold_connections_keep_nobody_out(void **state)
{
    (void)state;
    enum { SLOW = 200 };
    struct http *http = start();
    int slow[SLOW];
    for (int i = 0; i < SLOW; i++) {
        slow[i] = dial(http);
        send(slow[i], "GET /hello HTTP/1.1\r\nHo", 23, MSG_NOSIGNAL);
    }
    int64_t start_ns = clock_monotonic_ns();
    expect(http, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200", "hello there");
    assert_true(clock_since_ms(start_ns) < 5000);
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
    expect(http, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200", "hello there");
    http_stop(http);
}

static void a_stop_does_not_wait_for_a_client(void **state)
{
    (void)state;
    struct http *http = start();
    char answer[64];
    int reads_nothing = dial(http), asks_nothing = dial(http);
    const char *request = "GET /much HTTP/1.1\r\nHost: a\r\n\r\n";
    send(reads_nothing, request, strlen(request), MSG_NOSIGNAL);
    expect(http, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200", "hello there");
    int64_t start_ns = clock_monotonic_ns();
    http_stop(http);
    assert_true(clock_since_ms(start_ns) < 5000);
    close(reads_nothing);
    assert_int_equal(receive(asks_nothing, answer, sizeof answer), 0);
    http_stop(NULL);
}

static void an_address_that_is_taken_or_wrong_is_named(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",         "9464",    "127.0.0.1", "127.0.0.1:",      "127.0.0.1:http",
                                        "a:999999", "a:65536", "::1:80",    "[::1:80",         "[[::1]]:80",
                                        "a]:80",    "a:-1",    "a: 1",      "256.1.1.1.1:9464"};
    struct http *http = start(), *second;
    struct error err;
    struct http_settings settings = {.listen = http_address(http)};
    assert_int_equal(http_start(&second, &settings, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, http_address(http)));
    assert_non_null(strstr(err.message, "port of its own"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        settings.listen = wrong[i];
        assert_int_equal(http_start(&second, &settings, &err), -1);
        assert_non_null(strstr(err.message, wrong[i]));
    }
    http_stop(http);
}

static void an_address_is_taken_apart(void **state)
{
    (void)state;
    char host[16], port[16];
    assert_true(http_split_address("localhost:80", host, port, sizeof host));
    assert_string_equal(host, "localhost");
    assert_string_equal(port, "80");
    assert_true(http_split_address("[fe80::1%lo]:0", host, port, sizeof host));
    assert_string_equal(host, "fe80::1%lo");
    assert_true(http_split_address(":9464", host, port, sizeof host));
    assert_string_equal(host, "");
    assert_false(http_split_address("a.name.that.is.too.long:80", host, port, sizeof host));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_comes_with_its_status_and_type),
        cmocka_unit_test(head_is_get_without_the_page),
        cmocka_unit_test(other_paths_and_methods_are_told_what_there_is),
        cmocka_unit_test(a_large_page_arrives_whole),
        cmocka_unit_test(bytes_that_are_no_request_harm_nothing),
        cmocka_unit_test(those_who_only_hold_connections_keep_nobody_out),
        cmocka_unit_test(a_stop_does_not_wait_for_a_client),
        cmocka_unit_test(an_address_that_is_taken_or_wrong_is_named),
        cmocka_unit_test(an_address_is_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
