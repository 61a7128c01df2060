"""What a reader finds in the topics of scores and of dead letters: a process of its own, as JSON on standard output.

    python answers.py ADDRESS [read_committed|read_uncommitted]

It reads from the beginning up to where the topics end now, as a reader with that isolation level sees them.
"""

import collections
import io
import json
import pathlib
import sys
import time

import fastavro
from confluent_kafka import Consumer, TopicPartition

SCHEMA = fastavro.parse_schema(json.loads(
    (pathlib.Path(__file__).resolve().parents[2] / "schemas/ScoreResponse.avsc").read_text()))
FRAME = 10  # C3 01 and the fingerprint


def read(address, topic, isolation, patience=120):
    """Every message up to the end. A transaction that is open holds a committed reader up until it has timed out."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "answers", "enable.auto.commit": False,
                         "isolation.level": isolation, "auto.offset.reset": "error", "fetch.wait.max.ms": 50,
                         "enable.partition.eof": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, p, 0) for p in partitions]
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        consumer.assign(places)
        limit = time.monotonic() + patience  # without a message
        while time.monotonic() < limit:
            message = consumer.poll(0.2)
            if message is not None and message.error():
                raise RuntimeError(f"{topic}: {message.error()}")
            if message is not None:
                limit = time.monotonic() + patience
                yield message
            elif all(place.offset >= ends[place.partition] or ends[place.partition] == 0
                     for place in consumer.position(places)):
                return
        raise RuntimeError(f"{topic}: not at its end after {patience} s of silence: {consumer.position(places)} of {ends}")
    finally:
        consumer.close()


def main(address, isolation="read_committed"):
    times, statuses, letters = collections.Counter(), collections.Counter(), collections.Counter()
    for message in read(address, "scores", isolation):
        answer = fastavro.schemaless_reader(io.BytesIO(message.value()[FRAME:]), SCHEMA, None)
        assert message.key() == answer["request_id"].encode()
        times[answer["request_id"]] += 1
        statuses[answer["status"]] += 1
    for message in read(address, "score-requests.dead", isolation):
        headers = dict(message.headers())
        letters[headers["__connect.errors.partition"] + b"/" + headers["__connect.errors.offset"]] += 1
        statuses[headers["headrace.error.class"].decode()] += 1
    json.dump({"answers": sum(times.values()), "distinct": len(times), "ids": sorted(times),
               "again": {name: count for name, count in times.items() if count > 1},
               "letters": sum(letters.values()), "distinct_letters": len(letters), "statuses": statuses}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
