/* broker.c - the embedded broker as a process of its own */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cmd/commands.h"
#include "cmd/setup.h"
#include "stream/broker.h"

static int create_topics(struct broker *broker, const struct config *config, int32_t partitions, struct error *err)
{
    struct kafka_topics topics = setup_topics(config);
    const char *const names[] = {topics.interactions, topics.items, topics.users, topics.requests, topics.scores};
    char dead[300];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(dead, sizeof dead, "%s%s", names[i], topics.dead_suffix);
        if (broker_create_topic(broker, names[i], partitions, err) != 0 ||
            broker_create_topic(broker, dead, 1, err) != 0)
            return -1;
    }
    return 0;
}

static int serve(const struct config *config, int32_t partitions, const char *address_file, struct error *err)
{
    sigset_t stop_signals;
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGINT);
    sigaddset(&stop_signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);

    struct broker *broker;
    if (broker_start(&broker, err) != 0)
        return -1;
    int result = create_topics(broker, config, partitions, err);
    if (result == 0) {
        const char *address = broker_address(broker);
        printf("%s\n", address);
        fflush(stdout);
        if (address_file != NULL)
            result = file_replace(address_file, address, strlen(address), err);
    }
    if (result == 0) {
        int number;
        sigwait(&stop_signals, &number);
    }
    broker_stop(broker);
    return result;
}

int command_broker(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    int64_t partitions = 4;
    const char *address_file = NULL;
    const struct flag flags[] = {
        {"partitions", "N", FLAG_NUMBER, &partitions, "of each topic (default 4)"},
        {"address-file", "FILE", FLAG_TEXT, &address_file, "write the address there, too, once it listens"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "broker",
        .operands = "",
        .summary =
            "The embedded broker (librdkafka's mock cluster): prints its address and serves until SIGINT or SIGTERM.\n"
            "For demos and tests on one machine: everything is in memory, and beyond 5 MiB a partition is dropped.",
        .example = "headrace broker --address-file /tmp/broker &",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags};
    int parsed = flags_parse(&usage, argc, argv);
    if (parsed < 0)
        return parsed == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    if (partitions < 1 || partitions > 1000)
        return flags_wrong(&usage, "--partitions must be 1 to 1000");
    struct config *config;
    int code = setup_config("broker", &config_flags, &config);
    if (code != EXIT_FINE)
        return code;
    struct error err;
    int result = serve(config, (int32_t)partitions, address_file, &err);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : setup_failed("broker", &err);
}
