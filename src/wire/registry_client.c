#include "wire/registry_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/registry_answer.h"

enum { REDIRECT_LIMIT = 3, PATH_SIZE = 1200 };

struct registry_client {
    CURL *curl;
    CURLU *origin; /* of url: where redirects may go */
    struct curl_slist *headers;
    char *url; /* without a slash at its end */
    const atomic_bool *stop;
    struct buffer body;
    bool too_large;
    char curl_words[CURL_ERROR_SIZE];
};

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* What the URL has of a part, or NULL; the caller frees it with curl_free(). */
static char *part_of(CURLU *url, CURLUPart part, unsigned flags)
{
    char *text = NULL;
    return curl_url_get(url, part, &text, flags) == CURLUE_OK ? text : NULL;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = part_of(url, part, 0);
    curl_free(text);
    return text != NULL;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *one = part_of(a, part, CURLU_DEFAULT_PORT), *other = part_of(b, part, CURLU_DEFAULT_PORT);
    bool same = one != NULL && other != NULL && curl_strequal(one, other);
    curl_free(one);
    curl_free(other);
    return same;
}

static bool has_scheme(CURLU *url)
{
    char *scheme = part_of(url, CURLUPART_SCHEME, 0);
    bool ours = scheme != NULL && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    return ours;
}

/* The message does not repeat the URL: a password may be in it. */
static int read_url(struct registry_client *client, const char *url, struct error *err)
{
    client->origin = curl_url();
    client->url = strdup(url);
    if (client->origin == NULL || client->url == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (curl_url_set(client->origin, CURLUPART_URL, url, 0) != CURLUE_OK || !has_scheme(client->origin))
        return error_set(err, ERROR_BAD_INPUT, "registry.url is no URL as http://host:8081 or https://host/path");
    if (has_part(client->origin, CURLUPART_USER) || has_part(client->origin, CURLUPART_PASSWORD))
        return error_set(err, ERROR_BAD_INPUT,
                         "registry.url has a user in it: give registry.user and registry.password instead");
    if (has_part(client->origin, CURLUPART_QUERY) || has_part(client->origin, CURLUPART_FRAGMENT))
        return error_set(err, ERROR_BAD_INPUT, "registry.url has a question mark or a hash sign in it");
    for (size_t length = strlen(client->url); length > 0 && client->url[length - 1] == '/'; length--)
        client->url[length - 1] = '\0';
    return 0;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *context)
{
    struct registry_client *client = context;
    if (client->body.size + size * count > REGISTRY_ANSWER_LIMIT) {
        client->too_large = true;
        return 0; /* ends the call: what is missing is not wanted */
    }
    buffer_append(&client->body, bytes, size * count);
    return client->body.failed ? 0 : size * count;
}

static int look_at_stop(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    const struct registry_client *client = context;
    return client->stop != NULL && atomic_load(client->stop) ? 1 : 0;
}

static int set_credentials(CURL *curl, const struct registry_settings *settings, struct error *err)
{
    if (settings->user == NULL || settings->user[0] == '\0')
        return 0;
    if (strchr(settings->user, ':') != NULL) /* RFC 7617: the first colon ends the user */
        return error_set(err, ERROR_BAD_INPUT, "registry.user has a colon in it, which HTTP basic cannot carry");
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    if (curl_easy_setopt(curl, CURLOPT_USERNAME, settings->user) != CURLE_OK ||
        curl_easy_setopt(curl, CURLOPT_PASSWORD, settings->password != NULL ? settings->password : "") != CURLE_OK)
        return error_set(err, ERROR_FATAL, "out of memory");
    return 0;
}

static int set_options(struct registry_client *client, const struct registry_settings *settings, struct error *err)
{
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->curl_words);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)settings->connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)settings->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "headrace/" HEADRACE_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_at_stop);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    const char *accept = "Accept: application/vnd.schemaregistry.v1+json, application/json";
    client->headers = curl_slist_append(NULL, accept);
    struct curl_slist *longer =
        curl_slist_append(client->headers, "Content-Type: application/vnd.schemaregistry.v1+json");
    if (client->headers == NULL || longer == NULL ||
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->headers) != CURLE_OK)
        return error_set(err, ERROR_FATAL, "out of memory");
    const char *ca_file = settings->ca_file;
    if (ca_file != NULL && *ca_file != '\0') {
        FILE *readable = fopen(ca_file, "re");
        if (readable == NULL)
            return error_set(err, ERROR_BAD_INPUT, "registry.ca_file: %s: %s", ca_file, strerror(errno));
        fclose(readable);
        if (curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file) != CURLE_OK)
            return error_set(err, ERROR_FATAL, "out of memory");
    }
    return set_credentials(curl, settings, err);
}

int registry_client_create(struct registry_client **client, const struct registry_settings *settings,
                           const atomic_bool *stop, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    struct registry_client *new = calloc(1, sizeof *new);
    if (new == NULL || (new->curl = curl_easy_init()) == NULL) {
        free(new);
        return error_set(err, ERROR_FATAL, "out of memory while setting up the registry's client");
    }
    new->stop = stop;
    if (read_url(new, settings->url, err) != 0 || set_options(new, settings, err) != 0) {
        registry_client_destroy(new);
        return -1;
    }
    *client = new;
    return 0;
}

void registry_client_destroy(struct registry_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    curl_slist_free_all(client->headers);
    curl_url_cleanup(client->origin);
    buffer_free(&client->body);
    free(client->url);
    free(client);
}

const char *registry_client_url(const struct registry_client *client)
{
    return client->url;
}

static int say_failure(const struct registry_client *client, CURLcode code, struct error *err)
{
    const char *words = client->curl_words[0] != '\0' ? client->curl_words : curl_easy_strerror(code);
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return error_set(err, ERROR_RETRY, "%s (registry.ca_file names who vouches for it)", words);
    case CURLE_OUT_OF_MEMORY:
        return error_set(err, ERROR_FATAL, "out of memory while asking the registry");
    default:
        return error_set(err, ERROR_RETRY, "%s", words);
    }
}

/* One exchange with one address. `json` NULL: GET. */
static int exchange(struct registry_client *client, const char *url, const char *json, struct registry_answer *answer,
                    struct error *err)
{
    CURL *curl = client->curl;
    buffer_clear(&client->body);
    client->body.failed = client->too_large = false;
    client->curl_words[0] = '\0';
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (json != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(json));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
    } else {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    }
    CURLcode code = curl_easy_perform(curl);
    if (buffer_check(&client->body, "reading a registry's answer", err) != 0)
        return -1;
    if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && client->too_large))
        return say_failure(client, code, err);
    const char *type = NULL;
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
    answer->is_json = type != NULL && strstr(type, "json") != NULL;
    answer->too_large = client->too_large;
    answer->body = buffer_text(&client->body);
    return 0;
}

/* Where an answer redirects to, if we may go there; a copy to be freed. NULL: the error says why not. */
static char *redirection(struct registry_client *client, bool posts, long status, struct error *err)
{
    const char *where = NULL;
    curl_easy_getinfo(client->curl, CURLINFO_REDIRECT_URL, &where);
    CURLU *url = curl_url();
    char *copy = NULL;
    if (where == NULL || url == NULL || curl_url_set(url, CURLUPART_URL, where, 0) != CURLUE_OK)
        error_set(err, ERROR_RETRY, "HTTP %ld without a place to go to", status);
    else if (posts && status != 307 && status != 308)
        error_set(err, ERROR_RETRY, "HTTP %ld redirects a POST, which only 307 and 308 may", status);
    else if (!same_part(url, client->origin, CURLUPART_SCHEME) || !same_part(url, client->origin, CURLUPART_HOST) ||
             !same_part(url, client->origin, CURLUPART_PORT))
        error_set(err, ERROR_RETRY, "redirects to another scheme, host or port, which is not followed: %.200s", where);
    else if ((copy = strdup(where)) == NULL)
        error_set(err, ERROR_FATAL, "out of memory");
    curl_url_cleanup(url);
    return copy;
}

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* A call with its redirects. The answer points into the client. */
static int call(struct registry_client *client, const char *path, const char *json, struct registry_answer *answer,
                struct error *err)
{
    size_t size = strlen(client->url) + strlen(path) + 1;
    char *url = malloc(size);
    if (url == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    snprintf(url, size, "%s%s", client->url, path);
    int result = exchange(client, url, json, answer, err);
    for (int hops = 0; result == 0 && is_redirect(answer->status); hops++) {
        char *next = hops < REDIRECT_LIMIT ? redirection(client, json != NULL, answer->status, err) : NULL;
        if (hops >= REDIRECT_LIMIT)
            error_set(err, ERROR_RETRY, "redirected more than %d times", REDIRECT_LIMIT);
        free(url);
        url = next;
        result = url == NULL ? -1 : exchange(client, url, json, answer, err);
    }
    free(url);
    return result;
}

int registry_client_schema(struct registry_client *client, uint32_t id, struct buffer *schema, struct error *err)
{
    char path[64];
    struct registry_answer answer = {0};
    snprintf(path, sizeof path, "/schemas/ids/%" PRIu32, id);
    if (call(client, path, NULL, &answer, err) != 0 || registry_answer_schema(&answer, schema, err) != 0)
        return error_wrap(err, "schema %" PRIu32 " of %s", id, client->url);
    return 0;
}

/*
 * {"schema": "…"} to /subjects/SUBJECT`behind`. Normalised: the same schema with other white space is the same schema
 * to every registry (Apicurio would otherwise go by the very text).
 */
static int post_schema(struct registry_client *client, const char *subject, const char *behind, const char *schema,
                       uint32_t *id, struct error *err)
{
    char path[PATH_SIZE];
    struct registry_answer answer = {0};
    struct buffer json = {0};
    char *escaped = curl_easy_escape(client->curl, subject, 0);
    int result = escaped == NULL ? error_set(err, ERROR_FATAL, "out of memory") : 0;
    if (result == 0) {
        snprintf(path, sizeof path, "/subjects/%s%s?normalize=true", escaped, behind);
        buffer_append_string(&json, "{\"schema\":");
        buffer_append_json(&json, text_of(schema));
        buffer_append_byte(&json, '}');
        const char *body = buffer_string(&json);
        result = buffer_check(&json, "asking the registry", err);
        if (result == 0)
            result = call(client, path, body, &answer, err);
        if (result == 0)
            result = registry_answer_id(&answer, id, err);
    }
    curl_free(escaped);
    buffer_free(&json);
    if (result != 0)
        error_wrap(err, "subject %s of %s", subject, client->url);
    return result;
}

int registry_client_find(struct registry_client *client, const char *subject, const char *schema, uint32_t *id,
                         struct error *err)
{
    return post_schema(client, subject, "", schema, id, err);
}

int registry_client_register(struct registry_client *client, const char *subject, const char *schema, uint32_t *id,
                             struct error *err)
{
    return post_schema(client, subject, "/versions", schema, id, err) == 0 ? 0 : -1;
}
