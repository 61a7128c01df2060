"""What is in the graph is what was in the topics: exactly, whatever happens to the worker."""

import json
import random
import signal
import time

import pytest
from conftest import SLOWDOWN, interaction, wait_for
from state import edges_of, events_of, expected_edges, graph_of, produce


@pytest.fixture(params=["world", pytest.param("real_world", marks=[pytest.mark.real_broker, pytest.mark.full])])
def any_world(request):
    return request.getfixturevalue(request.param)


def test_five_kills_leave_exactly_the_edges_of_the_file(any_world, schemas, ratings):
    world = any_world
    rows = ratings[:len(ratings) // SLOWDOWN]
    # Some are rated again, later or earlier: the newest by time must count, wherever it stands in the stream.
    dice = random.Random(1)
    again = [(u, i, float(dice.randint(1, 5)), t + dice.choice([-5000, 5000])) for u, i, _, t in dice.sample(rows, 2000 // SLOWDOWN)]
    stream = rows + again
    expected, events = expected_edges(stream), set(stream)

    # A part comes before each kill, and one after the last: however fast a worker reads, there is more for the next.
    part, reached = len(stream) // 6, [0]
    for kill in range(5):
        produce(world, schemas["Interaction"], stream[kill * part:(kill + 1) * part])
        worker = world.worker("roles=ingest", "ingest.batch_events=50")
        wait_for("progress", lambda: events_of(world) > reached[-1] or worker.poll() is not None)
        time.sleep(dice.uniform(0, 0.1))
        assert worker.poll() is None, world.log(worker)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        reached.append(events_of(world))
    assert reached == sorted(set(reached)) and reached[-1] < len(events), f"killed at {reached}: proves nothing"

    produce(world, schemas["Interaction"], stream[5 * part:])
    worker = world.worker("roles=ingest")
    wait_for("all applied", lambda: world.applied("interactions") == len(stream), 60)
    world.stop(worker)
    assert edges_of(world) == expected
    counts = graph_of(world)
    assert counts["events"] == len(events)
    assert counts["edges"] == len(expected)
    assert counts["users"] == len({u for u, *_ in stream})
    print(f"{len(stream)} messages, killed at {reached[1:]}: {counts['events']} events, {counts['edges']} edges, none lost, twice or stale")


def test_bad_messages_are_dead_letters_with_class_and_original_bytes(world, schemas):
    now = int(time.time() * 1000)
    schema = schemas["Interaction"]
    good = interaction(schema, "1", "2", 4.0, now)
    bad = {
        "framing": b"hello",
        "unknown_schema": b"\xc3\x01" + b"\x11" * 8 + good[10:],
        "decode": good[:-3],
        "semantic": interaction(schema, "1", "2", 4.0, now + 86_400_000),
        "too_large": interaction(schema, "u" * 300, "2", 4.0, now),
    }
    producer = world.producer()
    for name, value in bad.items():
        producer.produce("interactions", key=name, value=value, headers={"trace": b"abc"})
    producer.produce("interactions", key="1", value=good)
    assert producer.flush(30) == 0

    worker = world.worker("roles=ingest")
    letters = world.consume("interactions.dead", len(bad))
    wait_for("all applied", lambda: world.applied("interactions") == len(bad) + 1)
    world.stop(worker)
    worker = world.worker("roles=ingest")  # again: no letter may come twice
    wait_for("caught up", lambda: world.applied("interactions") == len(bad) + 1)
    time.sleep(0.5)
    world.stop(worker)
    lines = world.run("consume", "interactions.dead", "--envelope").splitlines()
    assert len(lines) == len(bad)

    for letter in letters:
        name, headers = letter.key().decode(), dict(letter.headers())
        assert headers["headrace.error.class"] == name.encode()
        assert headers["__connect.errors.topic"] == b"interactions"
        assert headers["trace"] == b"abc"
        assert letter.value() == bad[name]
    assert set(edges_of(world)) == {("1", "2")}


def test_titles_and_users_come_and_go(world, schemas):
    producer = world.producer()
    producer.produce("items", key="7", value=schemas["Item"].encode({"item_id": "7", "title": "Seven", "attributes": {"year": "1995"}}))
    producer.produce("users", key="u", value=schemas["User"].encode({"user_id": "u", "profile": {"age": "30"}}))
    producer.produce("interactions", key="u", value=interaction(schemas["Interaction"], "u", "7", 5.0, 880_000_000_000))
    producer.flush(30)
    worker = world.worker("roles=ingest")
    wait_for("applied", lambda: world.applied("items") == 1 and world.applied("users") == 1 and world.applied("interactions") == 1)
    assert json.loads(world.run("inspect", "item", "7", "--json"))["title"] == "Seven"
    assert len(edges_of(world)) == 1

    producer.produce("users", key="u", value=None)  # erases the user
    producer.produce("items", key="7", value=None)
    producer.flush(30)
    wait_for("applied", lambda: world.applied("items") == 2 and world.applied("users") == 2)
    world.stop(worker)
    assert edges_of(world) == {}
    assert json.loads(world.run("inspect", "item", "7", "--json"))["title"] is None
