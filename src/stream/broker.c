#include "stream/broker.h"

#include <stdlib.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "stream/kafka.h"

struct broker {
    rd_kafka_t *host; /* the mock cluster lives in a client's threads */
    rd_kafka_mock_cluster_t *cluster;
};

int broker_start(struct broker **broker, struct error *err)
{
    struct broker *made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the embedded broker");
    /* log_level 4: a host without bootstrap.servers is what we want; no notice about it. */
    struct property properties[] = {{"log_level", "4"}};
    struct kafka_settings settings = {properties, 1, "broker"};
    if (kafka_create_client(&made->host, RD_KAFKA_PRODUCER, &settings, NULL, 0, NULL, NULL, NULL, err) != 0)
        goto failed;
    made->cluster = rd_kafka_mock_cluster_new(made->host, 1);
    if (made->cluster == NULL) {
        error_set(err, ERROR_RETRY, "the embedded broker found no free port on the loopback interface");
        goto failed;
    }
    *broker = made;
    return 0;
failed:
    broker_stop(made);
    return -1;
}

int broker_create_topic(struct broker *broker, const char *topic, int32_t partitions, struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_mock_topic_create(broker->cluster, topic, partitions, 1);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_FATAL, "topic %.100s with %d partitions: %s", topic, (int)partitions,
                         rd_kafka_err2str(code));
    return 0;
}

const char *broker_address(const struct broker *broker)
{
    return rd_kafka_mock_cluster_bootstraps(broker->cluster);
}

void broker_stop(struct broker *broker)
{
    if (broker == NULL)
        return;
    if (broker->cluster != NULL)
        rd_kafka_mock_cluster_destroy(broker->cluster);
    if (broker->host != NULL)
        rd_kafka_destroy(broker->host);
    free(broker);
}
