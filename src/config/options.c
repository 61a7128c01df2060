#include "config/options.h"

#include <ctype.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

const struct config_section config_sections[] = {
    {"state", "Where the graph is kept"},
    {"kafka", "Any librdkafka property: what is not named here passes through (security.protocol, sasl.password, …)"},
    {"transaction", "With delivery exactly_once: when answers are committed"},
    {"topics", "Topic names"},
    {"registry", "Schemas by number, the Confluent way: of any registry with that API (Apicurio, Karapace, Redpanda)"},
    {"ingest", "From Kafka into the graph"},
    {"label", "What counts as a like"},
    {"graph", "Embeddings and similar users"},
    {"history", "How much of a user's past a prompt tells"},
    {"prompt", "What the model reads"},
    {"model", "The language model"},
    {"engine", "Where the model is computed"},
    {"heads", "What makes a probability of a hidden state"},
    {"exit",
     "When an answer is final before the last layer. Rule auto: calibrated if the heads have thresholds, else full"},
    {"score", "Requests and answers"},
    {"batch", "Requests that run through the model together"},
    {"replay", "Logged traffic once more: replay, export, train heads"},
    {"http", "What a worker tells about itself"},
    {"log", "What is written to standard error"},
};
const size_t config_section_count = sizeof config_sections / sizeof *config_sections;

/* clang-format off */
#define ROW(kind_, name_, preset_, line_) .name = name_, .kind = kind_, .preset = preset_, .line = line_
#define TEXT(name, preset, line) {ROW(OPTION_TEXT, name, preset, line)}
#define REQUIRED(name, preset, line) {ROW(OPTION_REQUIRED, name, preset, line)}
#define TOPIC(name, preset, line) {ROW(OPTION_TOPIC, name, preset, line)}
#define FLAG(name, preset, line) {ROW(OPTION_FLAG, name, preset, line)}
#define INTEGER(name, preset, line, low, high) {ROW(OPTION_INTEGER, name, preset, line), .least = low, .most = high}
#define INTEGERS(name, preset, line, low, high) {ROW(OPTION_INTEGERS, name, preset, line), .least = low, .most = high}
#define WEIGHTS(name, preset, line, low, high) {ROW(OPTION_INTEGERS, name, preset, line), .least = low, .most = high, .any_order = true}
#define NUMBER(name, preset, line, low, high) {ROW(OPTION_NUMBER, name, preset, line), .lowest = low, .highest = high}
#define CHOICE(name, preset, line, ...) {ROW(OPTION_CHOICE, name, preset, line), .choices = {__VA_ARGS__}}
#define CHOICES(name, preset, line, ...) {ROW(OPTION_CHOICES, name, preset, line), .choices = {__VA_ARGS__}}
/* clang-format on */

/*
 * The order of choices is that of the enumerations they are for (see config_choice()). exit.threshold stays above the
 * smallest float that is still worth a comparison; exit.window leaves room for the two layers that the probability rule
 * adds in ENGINE_MAX_WINDOW.
 */
const struct config_option config_options[] = {
    CHOICES("roles", "ingest,score", "What this process does: keep the graph up to date, answer score requests",
            "ingest", "score"),
    TEXT("instance_id", "", "Tells this process from its siblings (empty: the host name)"),
    CHOICE("delivery", "at_least_once", "Whether a crash may repeat an answer, or answers leave in Kafka transactions",
           "at_least_once", "exactly_once"),

    REQUIRED("state.dir", "/var/lib/headrace", "Directory of the store; one process at a time writes to it"),
    INTEGER("state.memory", "128", "MiB that the store may hold in memory: half unwritten, half to cache files", 8,
            1 << 20),
    FLAG("state.dead_letters", "true",
         "Whether this process sends events that cannot be read to the dead-letter topics; one process is enough"),
    /* in the order of enum gap_policy */
    CHOICE("state.on_gap", "stop",
           "When unread messages are gone or a topic is another one: stop, read all anew, go on", "stop", "rebuild",
           "accept"),

    REQUIRED("kafka.bootstrap.servers", "localhost:9092", "Brokers to ask first, host:port, joined by commas"),
    REQUIRED("kafka.group.id", "headrace", "Consumer group that shares out the score requests"),
    TEXT("kafka.client.id", "", "Name in the broker's logs and quotas (empty: headrace chooses one)"),

    INTEGER("transaction.requests", "1000", "A transaction is committed at this many answers …", 1, 100000),
    INTEGER("transaction.ms", "100", "… or this long after its first", 1, 10000),

    TOPIC("topics.interactions", "interactions", "Who did what with which item"),
    TOPIC("topics.items", "items", "Titles and attributes, keyed by item id, compacted"),
    TOPIC("topics.users", "users", "Profiles, keyed by user id, compacted; a null erases the user"),
    TOPIC("topics.requests", "score-requests", "What is to be scored"),
    TOPIC("topics.scores", "scores", "The answers"),
    TOPIC("topics.dead_suffix", ".dead", "A topic's dead letters go to the topic with this behind its name"),

    TEXT("registry.url", "",
         "As http://host:8081; of Apicurio, with /apis/ccompat/v7 (empty: none, single-object encoding)"),
    TEXT("registry.user", "", "For HTTP basic authentication (empty: none)"),
    TEXT("registry.password", "", "Its password"),
    TEXT("registry.ca_file", "", "PEM file of who vouches for its certificate (empty: the system's)"),
    INTEGER("registry.connect_timeout_ms", "2000", "How long a connection may take to come about", 1, 600000),
    INTEGER("registry.timeout_ms", "5000", "How long a call may take, its connection included", 1, 600000),
    /* in the order of enum registry_subject */
    CHOICE("registry.subject", "topic_name", "What we write is filed under TOPIC-value, or the schema's full name",
           "topic_name", "record_name"),
    FLAG("registry.register", "true", "Whether schemas of what we write are registered where they are missing"),

    INTEGER("ingest.batch_events", "1000", "A batch is committed at this many events …", 1, 100000),
    INTEGER("ingest.batch_wait_ms", "50", "… or this long after its first", 1, 10000),
    INTEGER("ingest.max_future_skew_ms", "300000",
            "An event later than Kafka's time of it by more is a dead letter (0: no check)", 0, 31536000000),
    INTEGER("ingest.message_limit", "1048576", "Bytes of one event; a larger one is a dead letter", 1024, 1000000000),

    NUMBER("label.threshold", "4", "A rating from here on is a like", -FLT_MAX, FLT_MAX),
    FLAG("label.inclusive", "true", "Whether a rating of just the threshold is a like"),

    INTEGER("graph.window_days", "0", "Edges and history this much older than the newest event leave (0: none does)", 0,
            36500),
    INTEGER("graph.max_edges_per_node", "0", "A user or item with more edges gives up its oldest (0: no limit)", 0,
            UINT32_MAX),
    INTEGER("graph.max_nodes", "0", "With more nodes the least recently active one leaves (0: no limit)", 0,
            UINT32_MAX),
    CHOICE("graph.edges", "likes", "Edges that the embeddings see; evidence counts all of them", "all", "likes"),
    INTEGER("graph.layers", "3", "Layers of the propagation that the embeddings average", 1, 4),
    CHOICE("graph.result", "mean", "An embedding is the mean of its layers, the last alone, or their weighted mean",
           "mean", "final", "weighted"),
    WEIGHTS("graph.weights", "1,1,1", "For graph.result weighted: of layers 1, 2, …", 0, 1000000),
    FLAG("graph.normalise", "false", "Whether each layer counts with unit length"),
    INTEGER("graph.dimension", "64", "Length of an embedding, a multiple of 16", 16, 256),
    NUMBER("graph.push_threshold", "0.1",
           "A node tells its neighbours of a change above this share of its norm (0: of every one)", 0, 1),
    INTEGER("graph.push_budget", "256",
            "Vectors that a change of an edge may make us touch, the rest waits (0: no limit)", 0, 1 << 20),
    /* fm: by trained vectors, graph.vectors; text: by the model's vectors of titles */
    CHOICE("graph.similar", "candidate", "Similar users in the prompt: of the candidate's, or (the last 3) of all",
           "none", "candidate", "global", "fm", "text"),
    INTEGER("graph.similar_users", "4", "How many of them", 0, 64),
    INTEGER("graph.seed", "1", "Seed of the base embeddings", 0, INT64_MAX),
    /* title: by the model's vectors of titles, model.path */
    CHOICE("graph.base", "hash", "Where an item's base embedding comes from when it has no trained one", "hash",
           "title"),
    TEXT("graph.vectors", "", "File of trained base embeddings, from headrace train graph (empty: none)"),

    INTEGER("history.max", "15", "Newest events of a user in a prompt, at most: the oldest leave it in steps of 5", 0,
            200),
    INTEGER("history.min", "3", "A user with fewer events is answered as COLD_USER", 0, 200),

    TEXT("prompt.template", "", "Template file (empty: the built-in one for movies)"),

    TEXT("model.path", "", "GGUF file; needed to score unless engine.backend is none"),
    TEXT("model.lora", "", "GGUF file of a LoRA adapter, merged into the weights (empty: none)"),
    TEXT("model.id", "", "Name of the model in answers (empty: general.name of the file)"),

    INTEGER("engine.threads", "0", "Threads that compute (0: one a processor)", 0, 1024),
    CHOICE("engine.backend", "cpu", "With none, exit 0 answers: the evidence alone, no model", "cpu", "none"),
    CHOICE("engine.mode", "auto", "Products in float, bfloat16, 8-bit integers; auto: the fastest that keeps the order",
           "auto", "f32", "bf16", "int8"),
    CHOICE("engine.cpu", "auto", "Instruction set; auto: the best that the processor has", "auto", "scalar", "avx2",
           "avx512"),
    INTEGER("engine.prefix_cache", "256", "MiB of prompts' beginnings kept for a user's next request (0: none)", 0,
            1 << 20),
    TEXT("engine.weights_cache", "",
         "Directory of packed weights, for the next start (empty: ~/.cache/headrace; none: not kept)"),

    TEXT("heads.path", "", "File of trained exit heads (empty: copies of the model's own output rows, no exit 0)"),
    CHOICE("heads.set", "text", "Which of the file's: on the text alone, on text and evidence, one head for all exits",
           "text", "hybrid", "single"),

    INTEGERS("exit.layers", "5,10,15,20,25,30", "Layers with an exit; those from the model's last on are passed over",
             1, 1024),
    INTEGER("exit.max_layer", "0", "The model ends at the exit on this layer, none above is loaded (0: all are)", 0,
            1024),
    /* in the order of enum exit_rule_kind, auto behind them */
    CHOICE("exit.rule", "auto", "When an answer is final", "full", "ratio", "log_odds", "probability", "fixed",
           "confidence", "patience", "calibrated", "auto"),
    INTEGER("exit.layer", "0", "For exit.rule fixed: all leave at the first exit from this layer on", 0, 1024),
    INTEGER("exit.window", "3", "Steps that the rule looks at, at least 2 for ratio and log_odds; answers for patience",
            1, 14),
    NUMBER("exit.threshold", "0.01", "A step nearer than this to those before is settled; for confidence: 0.5 to 1",
           1e-6, 1e6),
    NUMBER("exit.shadow", "0.01", "Share of requests that run to the reference depth as well, to be compared (0: none)",
           0, 1),

    INTEGER("score.queue", "256", "Requests planned and not yet answered; more wait with the broker", 1, 65536),
    INTEGER("score.max_candidates", "1000", "Candidates in one request; more is an error of the request", 1, 100000),
    INTEGER("score.max_history", "200", "Events of an inline history; more is an error of the request", 0, 10000),
    FLAG("score.explain", "false", "Whether requests may ask for an explanation"),
    /* in the order of enum order_overload */
    CHOICE("score.overload", "depth", "When too much waits: shallower answers, at last refusals; refusals alone; none",
           "depth", "shed", "wait"),
    INTEGER("score.patience_ms", "10000", "Too much is what takes longer than this", 1, 3600000),
    INTEGER("score.drain_ms", "10000", "After SIGTERM: how long unfinished requests may take", 0, 3600000),

    INTEGER("batch.max_tokens", "2048", "Tokens to be computed in a batch; a larger request is cut", 1, 1 << 20),
    INTEGER("batch.max_wait_ms", "0", "What came while the model was busy may wait so long for a batch to fill", 0,
            10000),

    INTEGER("replay.label_window", "3600",
            "Seconds after a request in which a click is its label; none by then is a no", 0, 31536000),

    TEXT("http.listen", "127.0.0.1:9464",
         "HOST:PORT of /metrics, /livez and /readyz; no host: all; port 0: any free one, see the log (empty: none)"),

    CHOICE("log.level", "info", "Least level that is written", "debug", "info", "warn", "error"),
    CHOICE("log.format", "human", "Lines for people, or a JSON object a line", "human", "json"),
};
const size_t config_option_count = sizeof config_options / sizeof *config_options;

const struct config_option *option_find(const char *name)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (strcmp(config_options[i].name, name) == 0)
            return &config_options[i];
    return NULL;
}

bool option_is_section(const char *name)
{
    for (size_t i = 0; i < config_section_count; i++)
        if (strcmp(config_sections[i].name, name) == 0)
            return true;
    return false;
}

bool option_is_kafka(const char *name)
{
    return strncmp(name, "kafka.", 6) == 0;
}

void option_environment_name(const char *name, char out[OPTION_NAME_SIZE])
{
    int length = snprintf(out, OPTION_NAME_SIZE, "HEADRACE_%s", name);
    for (int i = 0; i < length && i < OPTION_NAME_SIZE - 1; i++)
        out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

static void join_choices(const struct config_option *option, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; option->choices[i] != NULL && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", option->choices[i]);
}

static void integer_range(const struct config_option *option, char *out, size_t size)
{
    if (option->most == INT64_MAX)
        snprintf(out, size, "from %" PRId64 " up", option->least);
    else
        snprintf(out, size, "from %" PRId64 " to %" PRId64, option->least, option->most);
}

void option_phrase(const struct config_option *option, char out[OPTION_PHRASE_SIZE])
{
    char detail[112] = "";
    switch (option->kind) {
    case OPTION_TEXT:
        snprintf(out, OPTION_PHRASE_SIZE, "text without control characters");
        break;
    case OPTION_REQUIRED:
        snprintf(out, OPTION_PHRASE_SIZE, "text that is not empty, without control characters");
        break;
    case OPTION_TOPIC:
        snprintf(out, OPTION_PHRASE_SIZE, "1 to 249 letters, digits, dots, dashes and underscores");
        break;
    case OPTION_FLAG:
        snprintf(out, OPTION_PHRASE_SIZE, "true or false");
        break;
    case OPTION_INTEGER:
        integer_range(option, detail, sizeof detail);
        snprintf(out, OPTION_PHRASE_SIZE, "a whole number %s", detail);
        break;
    case OPTION_INTEGERS:
        integer_range(option, detail, sizeof detail);
        snprintf(out, OPTION_PHRASE_SIZE, "up to 16 %swhole numbers %s", option->any_order ? "" : "rising ", detail);
        break;
    case OPTION_NUMBER:
        if (option->highest == FLT_MAX)
            snprintf(out, OPTION_PHRASE_SIZE, "a number");
        else
            snprintf(out, OPTION_PHRASE_SIZE, "a number from %.10g to %.10g", option->lowest, option->highest);
        break;
    case OPTION_CHOICE:
        join_choices(option, detail, sizeof detail);
        snprintf(out, OPTION_PHRASE_SIZE, "one of %s", detail);
        break;
    case OPTION_CHOICES:
        join_choices(option, detail, sizeof detail);
        snprintf(out, OPTION_PHRASE_SIZE, "one or more of %s", detail);
        break;
    }
}

static bool ends_in_word(const char *name, const char *word)
{
    size_t name_length = strlen(name), word_length = strlen(word);
    return name_length > word_length && name[name_length - word_length - 1] == '.' &&
           strcmp(name + name_length - word_length, word) == 0;
}

static void take_nearer(const char *candidate, const char *name, const char **nearest, size_t *least)
{
    size_t distance = text_distance(text_of(candidate), text_of(name));
    if (distance < *least) {
        *least = distance;
        *nearest = candidate;
    }
}

const char *option_nearest(const char *name)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (ends_in_word(config_options[i].name, name))
            return config_options[i].name;

    const char *nearest = NULL;
    size_t length = strlen(name), least = length < 9 ? 3 : length / 3 + 1; /* one change in three letters is a slip */
    for (size_t i = 0; i < config_option_count; i++)
        take_nearer(config_options[i].name, name, &nearest, &least);
    for (size_t i = 0; i < config_section_count; i++)
        take_nearer(config_sections[i].name, name, &nearest, &least);
    return nearest;
}
