/* fake_registry.h - a schema registry on loopback, in a thread of the test's own, that can go wrong in every way */
#ifndef WIRE_FAKE_REGISTRY_H
#define WIRE_FAKE_REGISTRY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/buffer.h"
#include "wire/messages.h"

enum trouble {
    FINE,
    SERVER_ERROR,
    SLOW,      /* longer than the client's patience */
    HUGE_JSON, /* 2 MiB */
    HUGE_HTML,
    LOOP,       /* redirects to itself */
    ELSEWHERE,  /* redirects to `elsewhere` */
    MOVED,      /* redirects to where it is, on this host */
    NO_JSON,    /* HTTP 200 */
    OTHER_JSON, /* HTTP 200 */
    BARE_404,   /* no registry's own */
    DENIED,
    BROKEN_OFF,  /* the connection ends in the middle of the body */
    INCOMPATIBLE /* to what is registered */
};

/*
 * Knows 7 (our Interaction), 8 (PROTOBUF), 9 (references), 10 (our Item), 12 (no schema at all), and from 1000 on an
 * Interaction with one more field, of a name of its own. What is registered gets 11.
 */
struct fake_registry {
    struct MHD_Daemon *daemon;
    uint16_t port;
    char url[64], elsewhere[64];
    const char *user, *password; /* NULL: everybody may */
    atomic_int trouble;
    atomic_uint calls;
    atomic_bool registered;
    pthread_mutex_t lock;
    char asked[512];      /* under the lock: the last call, "GET /schemas/ids/7" */
    struct buffer posted; /* under the lock: its body */
};

static enum MHD_Result answer_with(struct MHD_Connection *connection, unsigned status, const char *type,
                                   const char *location, const void *body, size_t size)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(response, "Content-Type", type);
    if (location != NULL)
        MHD_add_response_header(response, "Location", location);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *json)
{
    return answer_with(connection, status, "application/vnd.schemaregistry.v1+json", NULL, json, strlen(json));
}

static enum MHD_Result redirect(struct MHD_Connection *connection, const char *base, const char *path)
{
    char location[768];
    snprintf(location, sizeof location, "%s%s", base, path);
    return answer_with(connection, 307, "text/html", location, "", 0);
}

static enum MHD_Result say_schema(struct MHD_Connection *connection, const char *schema, const char *more)
{
    struct buffer json = {0};
    buffer_append_string(&json, "{\"schema\":");
    buffer_append_json(&json, text_of(schema));
    buffer_append_string(&json, more);
    buffer_append_byte(&json, '}');
    enum MHD_Result result = say(connection, 200, buffer_string(&json));
    buffer_free(&json);
    return result;
}

/* Our Interaction with one more field. */
static void append_wider(struct buffer *schema, unsigned number)
{
    const char *ours = message_schema(&interaction_type), *fields = strstr(ours, "\"fields\": [") + 11;
    buffer_append(schema, ours, (size_t)(fields - ours));
    buffer_printf(schema, "{\"name\": \"more_%u\", \"type\": \"int\", \"default\": 0},", number);
    buffer_append_string(schema, fields);
}

static enum MHD_Result answer_id(struct MHD_Connection *connection, unsigned id)
{
    struct buffer schema = {0};
    enum MHD_Result result;
    switch (id) {
    case 7:
        return say_schema(connection, message_schema(&interaction_type), "");
    case 8:
        return say_schema(connection, "syntax = \"proto3\";", ",\"schemaType\":\"PROTOBUF\"");
    case 9:
        return say_schema(connection, message_schema(&interaction_type),
                          ",\"references\":[{\"name\":\"a\",\"subject\":\"b\",\"version\":1}]");
    case 10:
        return say_schema(connection, message_schema(&item_type), ",\"schemaType\":\"AVRO\",\"references\":[]");
    case 12:
        return say_schema(connection, "{\"type\":\"recor", "");
    }
    if (id < 1000 || id > 9999)
        return say(connection, 404, "{\"error_code\":40403,\"message\":\"Schema not\\nfound\"}");
    append_wider(&schema, id);
    result = say_schema(connection, buffer_string(&schema), "");
    buffer_free(&schema);
    return result;
}

static enum MHD_Result answer_subject(struct fake_registry *fake, struct MHD_Connection *connection, const char *path)
{
    const char *last = strrchr(path, '/');
    if (strcmp(last, "/versions") == 0)
        atomic_store(&fake->registered, true);
    if (atomic_load(&fake->registered))
        return say(connection, 200, "{\"subject\":\"any\",\"version\":1,\"id\":11}");
    return say(connection, 404, "{\"error_code\":40401,\"message\":\"Subject not found\"}");
}

static ssize_t break_off(void *context, uint64_t position, char *bytes, size_t size)
{
    (void)context;
    if (position > 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    memcpy(bytes, "{\"schema\":\"", 11);
    return size < 11 ? MHD_CONTENT_READER_END_WITH_ERROR : 11;
}

static enum MHD_Result answer_huge(struct MHD_Connection *connection, const char *type)
{
    size_t size = 2u << 20;
    char *body = malloc(size);
    memset(body, ' ', size);
    memcpy(body, "{\"schema\":\"", 11);
    enum MHD_Result result = answer_with(connection, 200, type, NULL, body, size);
    free(body);
    return result;
}

static enum MHD_Result answer_badly(struct fake_registry *fake, struct MHD_Connection *connection, const char *path,
                                    enum trouble trouble)
{
    struct MHD_Response *response;
    enum MHD_Result result;
    switch (trouble) {
    case SERVER_ERROR:
        return say(connection, 500, "{\"error_code\":50001,\"message\":\"the store is gone\"}");
    case HUGE_JSON:
        return answer_huge(connection, "application/json");
    case HUGE_HTML:
        return answer_huge(connection, "text/html");
    case LOOP:
        return redirect(connection, fake->url, path);
    case ELSEWHERE:
        return redirect(connection, fake->elsewhere, path);
    case NO_JSON:
        return answer_with(connection, 200, "text/html", NULL, "<html>welcome</html>", 20);
    case OTHER_JSON:
        return say(connection, 200, "{\"schema\":7,\"id\":\"seven\"}");
    case BARE_404:
        return say(connection, 404, "{\"error_code\":404,\"message\":\"HTTP 404 Not Found\"}");
    case INCOMPATIBLE:
        return strstr(path, "/versions") != NULL
                   ? say(connection, 409, "{\"error_code\":409,\"message\":\"READER_FIELD_MISSING_DEFAULT_VALUE\"}")
                   : say(connection, 404, "{\"error_code\":40403,\"message\":\"Schema not found\"}");
    case BROKEN_OFF:
        response = MHD_create_response_from_callback(1000, 512, break_off, NULL, NULL);
        MHD_add_response_header(response, "Content-Type", "application/json");
        result = MHD_queue_response(connection, 200, response);
        MHD_destroy_response(response);
        return result;
    default:
        return say(connection, 401, "{\"error_code\":40101,\"message\":\"Unauthorized\"}");
    }
}

static bool may_come_in(const struct fake_registry *fake, struct MHD_Connection *connection)
{
    char *password = NULL, *user = MHD_basic_auth_get_username_password(connection, &password);
    bool may = fake->user == NULL || (user != NULL && password != NULL && strcmp(user, fake->user) == 0 &&
                                      strcmp(password, fake->password) == 0);
    MHD_free(user);
    MHD_free(password);
    return may;
}

static enum MHD_Result take_call(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                                 const char *version, const char *data, size_t *size, void **seen)
{
    (void)version;
    struct fake_registry *fake = context;
    const char *query = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "normalize");
    char whole[400];
    snprintf(whole, sizeof whole, "%s%s%s", path, query != NULL ? "?normalize=" : "", query != NULL ? query : "");
    bool is_begin = *seen == NULL, is_end = !is_begin && *size == 0;
    pthread_mutex_lock(&fake->lock);
    if (is_begin)
        buffer_clear(&fake->posted);
    buffer_append(&fake->posted, data, is_begin ? 0 : *size);
    snprintf(fake->asked, sizeof fake->asked, "%s %s", method, whole);
    pthread_mutex_unlock(&fake->lock);
    if (!is_end) {
        *seen = fake;
        *size = 0;
        return MHD_YES;
    }
    atomic_fetch_add(&fake->calls, 1);
    enum trouble trouble = (enum trouble)atomic_load(&fake->trouble);
    if (trouble == SLOW)
        usleep(600 * 1000);
    if (!may_come_in(fake, connection))
        trouble = DENIED;
    if (trouble == MOVED && strncmp(path, "/moved", 6) != 0) {
        char moved[600];
        snprintf(moved, sizeof moved, "/moved%s", whole);
        return redirect(connection, fake->url, moved);
    }
    if (trouble != FINE && trouble != SLOW && trouble != MOVED)
        return answer_badly(fake, connection, path, trouble);
    if (trouble == MOVED)
        path += 6;
    unsigned id;
    if (strcmp(method, "GET") == 0 && sscanf(path, "/schemas/ids/%u", &id) == 1)
        return answer_id(connection, id);
    if (strcmp(method, "POST") == 0 && strncmp(path, "/subjects/", 10) == 0)
        return answer_subject(fake, connection, path);
    return say(connection, 404, "{\"error_code\":404,\"message\":\"HTTP 404 Not Found\"}");
}

/* `port` 0: any free one. */
static void fake_registry_start(struct fake_registry *fake, uint16_t port)
{
    fake->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, port, NULL, NULL, take_call, fake,
                                    MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    assert_non_null(fake->daemon);
    fake->port = MHD_get_daemon_info(fake->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    snprintf(fake->url, sizeof fake->url, "http://127.0.0.1:%u", fake->port);
}

/* Whether the last call was this one. */
static inline bool fake_registry_heard(struct fake_registry *fake, const char *call)
{
    pthread_mutex_lock(&fake->lock);
    bool same = strcmp(fake->asked, call) == 0;
    pthread_mutex_unlock(&fake->lock);
    return same;
}

static void fake_registry_stop(struct fake_registry *fake)
{
    if (fake->daemon != NULL)
        MHD_stop_daemon(fake->daemon);
    fake->daemon = NULL;
}

#endif
