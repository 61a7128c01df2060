#include "cmd/run_observe.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cmd/run_broker.h"
#include "cmd/run_metrics.h"
#include "observe/http.h"

struct run_observe {
    struct http *http;
    struct run_broker *broker; /* the server's thread only */
    pthread_mutex_t lock;      /* a page holds it for as long as it looks at the parts */
    struct run_view view;
};

/* JSON objects, joined by commas. */
struct readiness {
    struct buffer reasons, troubles;
};

static void add(struct buffer *list, const char *part, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void add(struct buffer *list, const char *part, const char *format, ...)
{
    char reason[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    buffer_printf(list, "%s{\"part\":\"%s\",\"reason\":", list->size > 0 ? "," : "", part);
    buffer_append_json(list, text_of(reason));
    buffer_append_byte(list, '}');
}

static void look_at_topics(const struct materialiser_progress *progress, struct buffer *reasons)
{
    if (progress->stopped)
        add(reasons, "state", "the state's topics are no longer read; the log says why");
    else if (!progress->caught_up)
        add(reasons, "state", "has not caught up with its topics");
    for (int i = 0; !progress->caught_up && i < MATERIALISER_TOPICS; i++) {
        const struct materialiser_topic *topic = &progress->topics[i];
        if (topic->name != NULL && topic->partitions == 0)
            add(reasons, "state", "topic %s is not there, or the broker does not answer", topic->name);
        else if (topic->name != NULL && topic->lag > 0)
            add(reasons, "state", "topic %s: %lld messages to read", topic->name, (long long)topic->lag);
    }
}

static void look_at_state(const struct run_view *view, struct readiness *readiness)
{
    if (view->graph == NULL) {
        add(&readiness->reasons, "state", "the store is being opened");
        return;
    }
    if (view->materialiser == NULL) {
        if (view->ingests)
            add(&readiness->reasons, "state", "the state's topics are not read yet");
        return;
    }
    struct materialiser_progress progress = materialiser_progress(view->materialiser);
    look_at_topics(&progress, &readiness->reasons);
    if (progress.waiting)
        add(&readiness->troubles, "registry", "an event waits for the schema registry, which cannot be asked");
}

static void look_at_scoring(const struct run_view *view, struct readiness *readiness)
{
    struct error err;
    if (view->answering == NULL)
        add(&readiness->reasons, "engine", "the model is not loaded yet");
    if (view->requests == NULL)
        add(&readiness->reasons, "group", "not joined: the state and the model come first");
    else if (!requests_alive(view->requests, &err))
        add(&readiness->reasons, "group", "%s", err.message);
    else if (requests_progress(view->requests).rebalances == 0)
        add(&readiness->reasons, "group", "joining: the broker has not shared out the partitions yet");
    if (view->codec != NULL && codec_ready(view->codec, 0, &err) != 0)
        add(&readiness->troubles, "registry", "%s", err.message);
}

static void look_at_all(const struct run_view *view, struct readiness *readiness)
{
    if (view->stopping)
        add(&readiness->reasons, "worker", "it is stopping");
    else
        look_at_state(view, readiness);
    if (view->scores && !view->stopping)
        look_at_scoring(view, readiness);
}

static void free_readiness(struct readiness *readiness)
{
    buffer_free(&readiness->reasons);
    buffer_free(&readiness->troubles);
}

static void show_alive(void *context, struct http_page *page)
{
    (void)context;
    buffer_append_string(&page->body, "alive\n");
}

static void show_ready(void *context, struct http_page *page)
{
    struct run_observe *observe = context;
    struct readiness readiness = {0};
    struct error err;
    pthread_mutex_lock(&observe->lock);
    look_at_all(&observe->view, &readiness);
    pthread_mutex_unlock(&observe->lock);
    if (run_broker_ask(observe->broker, &err) != 0)
        add(&readiness.troubles, "broker", "%s", err.message);

    bool ready = readiness.reasons.size == 0;
    page->status = ready ? 200 : 503;
    page->type = "application/json";
    buffer_printf(&page->body, "{\"ready\":%s,\"reasons\":[", ready ? "true" : "false");
    buffer_append_text(&page->body, buffer_text(&readiness.reasons));
    buffer_append_string(&page->body, "],\"troubles\":[");
    buffer_append_text(&page->body, buffer_text(&readiness.troubles));
    buffer_append_string(&page->body, "]}\n");
    page->body.failed |= readiness.reasons.failed || readiness.troubles.failed;
    free_readiness(&readiness);
}

static void show_metrics(void *context, struct http_page *page)
{
    struct run_observe *observe = context;
    struct readiness readiness = {0};
    struct metrics metrics = {0};
    pthread_mutex_lock(&observe->lock);
    look_at_all(&observe->view, &readiness);
    run_put_metrics(&metrics, &observe->view, readiness.reasons.size == 0);
    pthread_mutex_unlock(&observe->lock);
    page->type = METRICS_CONTENT_TYPE;
    page->body = metrics.page;
    free_readiness(&readiness);
}

static const struct http_route routes[] = {{"/metrics", show_metrics}, {"/livez", show_alive}, {"/readyz", show_ready}};

int run_observe_start(struct run_observe **result, const struct config *config, struct error *err)
{
    const char *listen = config_text(config, "http.listen");
    *result = NULL;
    if (*listen == '\0')
        return 0;
    struct run_observe *observe = calloc(1, sizeof *observe);
    if (observe == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the HTTP server");
    pthread_mutex_init(&observe->lock, NULL);
    const struct http_settings settings = {
        .listen = listen, .routes = routes, .route_count = sizeof routes / sizeof *routes, .context = observe};
    int started = run_broker_create(&observe->broker, config, err);
    if (started == 0 && http_start(&observe->http, &settings, err) != 0)
        started = error_wrap(err, "http.listen");
    if (started != 0) {
        run_observe_stop(observe);
        return -1;
    }
    log_info("run", "metrics and health at http://%s/metrics, /livez and /readyz", http_address(observe->http));
    *result = observe;
    return 0;
}

void run_observe_show(struct run_observe *observe, const struct run_view *view)
{
    if (observe == NULL)
        return;
    pthread_mutex_lock(&observe->lock);
    observe->view = *view;
    pthread_mutex_unlock(&observe->lock);
}

void run_observe_stop(struct run_observe *observe)
{
    if (observe == NULL)
        return;
    http_stop(observe->http);
    run_broker_destroy(observe->broker);
    pthread_mutex_destroy(&observe->lock);
    free(observe);
}
