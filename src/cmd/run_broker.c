#include "cmd/run_broker.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cmd/setup.h"

enum { ANSWER_MS = 1000, FRESH_MS = 5000 };

struct run_broker {
    rd_kafka_t *client;
    bool asked;
    int64_t asked_ns;
    rd_kafka_resp_err_t answer;
};

/* A consumer, which never joins: it looks for the coordinator of its group, while an idle producer does not connect. */
int run_broker_create(struct run_broker **result, const struct config *config, struct error *err)
{
    const struct property forced[] = {{"group.id", config_text(config, "kafka.group.id")},
                                      {"enable.auto.commit", "false"},
                                      {"log_level", "0"}}; /* the worker's own clients log what is wrong */
    struct run_broker *broker = calloc(1, sizeof *broker);
    if (broker == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (setup_reader(config, forced, sizeof forced / sizeof *forced, &broker->client, err) != 0) {
        free(broker);
        return -1;
    }
    *result = broker;
    return 0;
}

void run_broker_destroy(struct run_broker *broker)
{
    if (broker == NULL)
        return;
    kafka_destroy_consumer(broker->client);
    free(broker);
}

int run_broker_ask(struct run_broker *broker, struct error *err)
{
    bool fresh = broker->answer == RD_KAFKA_RESP_ERR_NO_ERROR && clock_since_ms(broker->asked_ns) < FRESH_MS;
    if (!broker->asked || !fresh) {
        const rd_kafka_metadata_t *metadata;
        broker->answer = rd_kafka_metadata(broker->client, 0, NULL, &metadata, ANSWER_MS);
        if (broker->answer == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_metadata_destroy(metadata);
        rd_kafka_poll(broker->client, 0);
        broker->asked = true;
        broker->asked_ns = clock_monotonic_ns();
    }
    return broker->answer == RD_KAFKA_RESP_ERR_NO_ERROR
               ? 0
               : error_set(err, ERROR_RETRY, "the broker does not answer: %s", rd_kafka_err2str(broker->answer));
}
