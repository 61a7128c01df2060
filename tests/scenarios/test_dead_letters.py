"""Dead letters for people: what lies there, and putting it back after what was wrong has been mended."""

import json
import subprocess

import pytest
from confluent_kafka import Consumer, TopicPartition

from conftest import EARLY, PROGRAM, interaction, wait_for

FUTURE = 4_000_000_000_000  # the year 2096


def census(world, *arguments):
    return json.loads(world.run("inspect", "dead", "--json", *arguments))


def letters(world, topic="interactions.dead", *arguments):
    found = [t for t in census(world, *arguments)["topics"] if t["topic"] == topic]
    return found[0]["letters"] if found else 0


def put_back(world, *arguments, code=0):
    done = subprocess.run([PROGRAM, "produce", *world.config(), "--from-dead", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def edges(world):
    return [json.loads(line) for line in world.run("inspect", "edges").splitlines()]


def send(world, messages):
    producer = world.producer()
    for topic, key, value, headers in messages:
        producer.produce(topic, key=key, value=value, headers=headers)
    assert producer.flush(30) == 0


def poison(world, schema, future=4, garbage=6):
    headers = [("traceparent", b"00-1-2-01"), ("headrace.error.class", b"of somebody else"), ("empty", None)]
    send(world, [("interactions", f"u{i}", interaction(schema, f"u{i}", "i1", 4.0, FUTURE + i), headers) for i in range(future)] +
         [("interactions", f"bad{i}", b"no avro \x00\xff%d" % i, None) for i in range(garbage)] +
         [("interactions", "good", interaction(schema, "good", "i1", 5.0, EARLY), None)])


def test_poison_is_inspected_mended_put_back_and_applied(real_world, schemas):
    world, schema = real_world, schemas["Interaction"]
    worker = world.worker("roles=ingest", "engine.backend=none")
    poison(world, schema)
    wait_for("letters", lambda: letters(world) == 10)

    found = census(world, "interactions")
    assert [(t["of"], t["classes"]["semantic"], t["classes"]["framing"], t["to_put_back"]) for t in found["topics"]] == [("interactions", 4, 6, 10)]
    letter = next(each for each in found["letters"] if each["key"] == "u1")
    assert (letter["class"], letter["from_topic"], letter["to_put_back"], letter["cut_from_bytes"]) == ("semantic", "interactions", True, None)
    assert letter["age_seconds"] < 60 and "timestamp" in letter["reason"]
    assert bytes.fromhex(letter["first_bytes_hex"]) == interaction(schema, "u1", "i1", 4.0, FUTURE + 1)[:48]
    assert letter["size"] == len(interaction(schema, "u1", "i1", 4.0, FUTURE + 1))
    assert len(census(world, "interactions.dead", "--limit", "3")["letters"]) == 3
    assert census(world, "--class", "decode")["letters"] == []
    table = world.run("inspect", "dead", "--limit", "2")
    assert "interactions.dead" in table and "to put back" in table and "semantic" in table

    said = put_back(world, "--dry-run")
    assert "interactions.dead: 10 letters would be put back into interactions (framing 6, semantic 4)" in said
    said = put_back(world, "--class", "semantic", "interactions")
    assert "4 letters put back" in said and "(semantic 4)" in said
    wait_for("the same letters once more, as nothing has been mended", lambda: letters(world) == 14)

    world.stop(worker)
    worker = world.worker("roles=ingest", "engine.backend=none", "ingest.max_future_skew_ms=0")
    assert "4 letters put back" in put_back(world, "--class", "semantic")
    world.stop(worker) if wait_for("edges", lambda: world.applied("interactions") == 19) else None
    assert {e["user_id"] for e in edges(world)} == {"good", "u0", "u1", "u2", "u3"}
    assert letters(world) == 14

    assert "interactions.dead: 0 letters put back" in put_back(world, "--class", "semantic")
    assert "interactions.dead: 6 letters put back into interactions (framing 6)" in put_back(world)
    said = put_back(world)
    assert "interactions.dead: 0 letters put back into interactions\n" in said
    assert [t["to_put_back"] for t in census(world, "interactions")["topics"]] == [0]
    print(f"14 letters in interactions.dead: 8 semantic and 6 framing ones put back, each once, 4 of them applied")

    messages = world.consume("interactions", 11 + 8 + 6)
    first = {m.key(): m for m in messages if m.key().startswith(b"u")}
    for again in messages:
        if again.key().startswith(b"u"):
            assert again.value() == first[again.key()].value()
            assert again.headers() == [("traceparent", b"00-1-2-01"), ("headrace.error.class", b"of somebody else"), ("empty", None)]
        elif again.key().startswith(b"bad"):
            assert again.value().startswith(b"no avro") and again.headers() is None
    assert sum(m.key() == b"u1" for m in messages) == 3


def die(world, count):
    """Letters of a worker that is gone again."""
    worker = world.worker("roles=ingest", "engine.backend=none")
    send(world, [("interactions", f"k{i}", b"bad %d" % i, None) for i in range(count)])
    wait_for("letters", lambda: letters(world) == count)
    world.stop(worker)


def test_two_at_once_put_nothing_back_twice(real_world):
    die(real_world, 60)
    slow = real_world.start("produce", *real_world.config(), "--from-dead", "--rate", "5")
    wait_for("some are back", lambda: at_end(real_world) > 62)
    put_back(real_world)
    assert slow.wait(timeout=60) == 1
    assert f"another run has joined group {real_world.group}-dead" in real_world.log(slow)
    assert at_end(real_world) == 120
    keys = [m.key() for m in real_world.consume("interactions", 120)]
    assert sorted(keys) == sorted(2 * [b"k%d" % i for i in range(60)])


def at_end(world):
    """How many messages the topic has."""
    consumer = Consumer({"bootstrap.servers": world.address, "group.id": "verifier"})
    try:
        partitions = consumer.list_topics("interactions", timeout=10).topics["interactions"].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition("interactions", p), timeout=10)[1] for p in partitions)
    finally:
        consumer.close()


def test_an_interrupted_run_keeps_its_place(real_world):
    die(real_world, 40)
    slow = real_world.start("produce", *real_world.config(), "--from-dead", "--rate", "20")
    wait_for("some are back", lambda: at_end(real_world) >= 45)
    slow.terminate()
    assert slow.wait(timeout=30) == 1 and "interrupted" in real_world.log(slow)
    assert 40 < at_end(real_world) < 80
    assert "letters put back" in put_back(real_world, "--limit", "5")
    put_back(real_world)
    assert at_end(real_world) == 80


def test_what_cannot_go_back_is_said_and_passed_over(real_world, schemas):
    worker = real_world.worker("roles=ingest", "engine.backend=none")
    send(real_world, [("interactions", b"k", b"bad", None)])
    wait_for("a letter", lambda: letters(real_world) == 1)
    real_world.stop(worker)
    send(real_world, [("interactions.dead", b"cut", b"half", [("headrace.truncated", b"100000"), ("headrace.error.class", b"too_large")]),
                 ("interactions.dead", b"astray", b"x", [("__connect.errors.topic", b"accounts"), ("headrace.error.class", b"decode")]),
                 ("interactions.dead", b"unknown", b"y", None)])
    found = {letter["key"]: letter for letter in census(real_world)["letters"]}
    assert found["cut"]["cut_from_bytes"] == 100000 and not found["cut"]["to_put_back"]
    assert found["unknown"]["class"] == "other" and found["unknown"]["reason"] is None
    said = put_back(real_world, code=1)
    assert "it was cut from 100000 bytes" in said and "it says that it came from another topic" in said
    assert "2 letters put back into interactions (framing 1, other 1)" in said and "2 letters were passed over" in said
    assert "0 letters put back" in put_back(real_world)


@pytest.mark.parametrize("arguments, complaint", [
    (["produce", "--from-dead", "--format", "csv"], "takes no --format"),
    (["produce", "x.csv", "--class", "decode"], "goes with --from-dead"),
    (["produce", "x.csv", "--dry-run"], "goes with --from-dead"),
    (["produce"], "missing operand"),
    (["inspect", "dead", "--user", "1"], "dead takes no --user"),
    (["inspect", "user", "1", "--class", "decode"], "user takes no --class")])
def test_flags_that_mean_nothing_here_are_refused(arguments, complaint):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and complaint in done.stderr


def test_a_class_or_topic_that_is_none_is_named(world):
    done = subprocess.run([PROGRAM, "inspect", "dead", "--class", "decod", *world.config()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and '"decod" is none of framing' in done.stderr
    done = subprocess.run([PROGRAM, "produce", "--from-dead", "nonsense", *world.config()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "there is no topic nonsense.dead" in done.stderr
