#!/usr/bin/env bash
# Plays traffic, once a volume:
#
#   headrace-load              ml-100k: items, ratings, then $REQUESTS score requests, $RATE a second
#   headrace-load ARGUMENT...  what `headrace produce` makes of them: a file of one's own
set -euo pipefail
files=/files/headrace
done=/var/lib/headrace/loaded

if [ $# -gt 0 ]; then
    exec headrace produce "$@"
fi

# A request a line: a user of the ratings asks now for ten items that were rated near each other in the file.
requests() {
    awk -F '\t' -v count="$REQUESTS" -v run="$(date +%s)" '
        NR > 1 { users[rows] = $1; items[rows++] = $2 }
        END {
            srand(run)
            for (i = 0; i < count; i++) {
                row = int(rand() * (rows - 10))
                line = sprintf("{\"request_id\":\"load-%s-%d\",\"user_id\":\"%s\",\"timestamp\":%s000,\"candidates\":[", run, i, users[row], run)
                for (k = 0; k < 10; k++)
                    line = line (k ? "," : "") "{\"item_id\":\"" items[row + k] "\"}"
                print line "]}"
            }
        }' "$files/ml-100k.inter"
}

if [ -e $done ]; then
    echo "loaded before: items and ratings stay as they are"
else
    headrace produce --type item "$files/ml-100k.item" --map 'title={movie_title} ({release_year})' \
        --map 'attributes.genres=class:list'
    headrace produce --type interaction "$files/ml-100k.inter"
    touch $done
fi
requests | headrace produce --type request --format json --rate "$RATE" -
cat <<END

  ml-100k is loaded, $REQUESTS requests are sent ($RATE a second); the answers are in the topic scores.

  dashboard    http://localhost:$GRAFANA_PORT
  Prometheus   http://localhost:$PROMETHEUS_PORT
  registry     http://localhost:$REGISTRY_PORT/apis/ccompat/v7/subjects
  Kafka        localhost:$KAFKA_PORT

  in docker/
  answers      docker compose exec worker headrace consume scores --limit 3
  more         docker compose run --rm -e REQUESTS=1000 -e RATE=5 loader
  your file    docker compose run --rm -v "\$PWD:/data:ro" loader /data/ratings.csv --map item_id=movie --time-unit s
END
