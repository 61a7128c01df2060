#!/usr/bin/env bash
# As the image apache/kafka does it: KAFKA_LOG_DIRS=x is log.dirs=x in server.properties.
set -euo pipefail
while IFS='=' read -r -d '' name value; do
    case $name in
    KAFKA_HEAP_OPTS) ;;
    KAFKA_*) name=${name#KAFKA_} && name=${name,,} && printf '%s=%s\n' "${name//_/.}" "$value" ;;
    esac
done < <(env -0) >/tmp/server.properties
java=(java $KAFKA_HEAP_OPTS -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.showDateTime=true -cp '/opt/kafka/libs/*')
[ -e "$KAFKA_LOG_DIRS/meta.properties" ] ||
    "${java[@]}" kafka.tools.StorageTool format -t "$CLUSTER_ID" -c /tmp/server.properties
exec "${java[@]}" kafka.Kafka /tmp/server.properties
