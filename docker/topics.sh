#!/usr/bin/env bash
# Creates the topics with Kafka's own tool; what is there stays as it is. Dead-letter topics come with their first letter.
set -euo pipefail
export KAFKA_HEAP_OPTS="-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"

create() { # topic [setting...]
    local topic=$1 settings=()
    shift
    for setting in "$@"; do settings+=(--config "$setting"); done
    /opt/kafka/bin/kafka-topics.sh --bootstrap-server "$BROKER" --create --if-not-exists --topic "$topic" \
        --partitions "$PARTITIONS" --replication-factor 1 "${settings[@]}"
}

create interactions retention.ms=-1 # a worker that starts anew reads all of it
create items cleanup.policy=compact
create users cleanup.policy=compact
create score-requests
create scores
