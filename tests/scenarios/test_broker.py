"""A real broker's troubles and the state: what is promised is kept, or the worker says what is not."""

import pathlib
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from conftest import FULL, SLOWDOWN, World, interaction, wait_for
from state import edges_of, events_of, expected_edges, graph_of, produce
from test_observe import address, scrape, total


def rows_of(first, count, users=50):
    """Events (user, item, value, timestamp), no two alike, whose newest of a pair is the last."""
    return [(f"u{i % users}", f"i{i % 97}", float(1 + i % 5), 880_000_000_000 + i) for i in range(first, first + count)]


def ends(world, topic="interactions"):
    """partition -> (first, next offset)"""
    consumer = Consumer({"bootstrap.servers": world.address, "group.id": "ends"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in partitions}
    finally:
        consumer.close()


def ingest(world, *sets, instance="scenario"):
    """A worker that reads to the end and stops; gives its log. Another state is another instance: what it has applied
    is told by its group."""
    worker = world.worker("roles=ingest", f"instance_id={instance}", *sets)
    total = sum(high for _, high in ends(world).values())
    wait_for("all applied", lambda: worker.poll() is not None or world.applied("interactions", instance) == total, 60)
    world.stop(worker)
    return world.log(worker)


def refusal(world, *sets):
    """What a worker says that does not start on the state."""
    worker = world.worker("roles=ingest", *sets)
    assert worker.wait(timeout=30 * SLOWDOWN) == 1, world.log(worker)
    return world.log(worker)


def copies(world, *names):
    """Copies of the state directory: one a policy."""
    for name in names:
        shutil.copytree(world.directory / "state", world.directory / name)


def test_a_retention_gap_stops_and_is_accepted_or_rebuilt_as_the_operator_says(real_world, schemas):
    world, early, late = real_world, rows_of(0, 2000), rows_of(2000, 2000)
    produce(world, schemas["Interaction"], early)
    ingest(world)
    stood = {p: high for p, (_, high) in ends(world).items()}
    produce(world, schemas["Interaction"], late)
    held = {p: stood[p] + (high - stood[p]) // 2 for p, (_, high) in ends(world).items()}
    world.kafka.delete_records("interactions", held)
    lost = sum(held[p] - stood[p] for p in stood)
    kept = rows_in(world, schemas)
    assert 0 < len(kept) < len(late) and len(kept) + lost == len(late)
    copies(world, "accept", "rebuild")

    log = refusal(world)
    assert "retention gap: the state stands at interactions/" in log and "state.on_gap" in log
    assert edges_of(world) == expected_edges(early)

    accept = f"state.dir={world.directory / 'accept'}"
    log = ingest(world, accept, "state.on_gap=accept", instance="accept")
    assert log.count("state.on_gap is accept") == len(stood)
    assert edges_of(world, accept) == expected_edges(early + kept)
    assert "state.on_gap" not in ingest(world, accept, instance="again"), "the gap is behind us: the next start knows of none"

    rebuild = f"state.dir={world.directory / 'rebuild'}"
    ingest(world, rebuild, "state.on_gap=rebuild", instance="rebuild")
    assert edges_of(world, rebuild) == expected_edges(kept)
    assert graph_of(world, rebuild)["events"] == len(kept)
    print(f"{lost} of {len(early + late)} messages gone unread: stop refuses, accept has {len(early + kept)} events, rebuild {len(kept)}")


def test_a_backlog_is_read_without_a_pause(real_world, schemas):
    """librdkafka pauses for a second whenever it has fetched enough: five times in this many events, if it is let."""
    world, rows, pauses = real_world, rows_of(0, 120_000), []
    produce(world, schemas["Interaction"], rows, flush_every=50_000)
    worker = world.worker("roles=ingest")
    at, count, since = address(world, worker), 0, time.monotonic()
    while count < len(rows):
        assert worker.poll() is None and time.monotonic() - since < 60, world.log(worker)
        now = total(scrape(at)[2], "headrace_graph_events_total")
        if now > count > 0 and time.monotonic() - since > 0.5 * SLOWDOWN:
            pauses.append(time.monotonic() - since)
        if now > count:
            count, since = now, time.monotonic()
        time.sleep(0.02)
    world.stop(worker)
    assert len(pauses) <= 1, pauses
    print(f"{count:.0f} events, {len(pauses)} pauses of half a second")


def rows_in(world, schemas):
    """What the topic still holds."""
    consumer = Consumer({"bootstrap.servers": world.address, "group.id": "rows", "enable.auto.commit": False})
    rows, left = [], {p: high for p, (low, high) in ends(world).items() if high > low}
    try:
        consumer.assign([TopicPartition("interactions", p, low) for p, (low, _) in ends(world).items()])
        end = time.monotonic() + 60
        while left and time.monotonic() < end:
            message = consumer.poll(1)
            if message is None or message.error():
                continue
            event = schemas["Interaction"].decode(message.value())
            rows.append((event["user_id"], event["item_id"], event["value"], round(event["timestamp"].timestamp() * 1000)))
            if message.offset() + 1 >= left.get(message.partition(), 0):
                left.pop(message.partition(), None)
        assert not left, f"the topic was not read to its end: {left}"
        return sorted(rows, key=lambda row: row[3])
    finally:
        consumer.close()


@pytest.mark.real_broker
@pytest.mark.full
def test_retention_by_size_overtakes_a_worker_that_is_away(tmp_path, schemas):
    world = World(tmp_path)
    try:
        world.start_real_broker(partitions=1, properties={
            "log.retention.check.interval.ms": "500", "log.initial.task.delay.ms": "500", "log.segment.delete.delay.ms": "100",
            "log.retention.bytes": "100000", "log.segment.bytes": "50000"})
        produce(world, schemas["Interaction"], rows_of(0, 500))
        ingest(world)
        stood = ends(world)[0][1]
        produce(world, schemas["Interaction"], rows_of(500, 20000), flush_every=500)
        wait_for("retention", lambda: ends(world)[0][0] > stood, 60)
        log = refusal(world)
        assert f"retention gap: the state stands at interactions/0@{stood}" in log
        low = ends(world)[0][0]
        print(f"the state stood at {stood}, the log begins at {low}: refused")
    finally:
        world.close()


def test_a_topic_that_was_created_again_is_noticed_though_its_offsets_fit(real_world, schemas):
    world, before, after = real_world, rows_of(0, 1000), rows_of(5000, 3000, users=33)
    produce(world, schemas["Interaction"], before)
    ingest(world)
    world.kafka.delete_topics("interactions")
    time.sleep(1)
    world.kafka.create_topics({"interactions": 4})
    produce(world, schemas["Interaction"], after)
    copies(world, "accept", "rebuild")

    log = refusal(world)
    assert "topic interactions is not the one that the state was made of" in log and "another message at" in log
    assert edges_of(world) == expected_edges(before)

    accept = f"state.dir={world.directory / 'accept'}"
    ingest(world, accept, "state.on_gap=accept", instance="accept")
    assert edges_of(world, accept) == expected_edges(before + after)

    rebuild = f"state.dir={world.directory / 'rebuild'}"
    ingest(world, rebuild, "state.on_gap=rebuild", instance="rebuild")
    assert edges_of(world, rebuild) == expected_edges(after)
    print(f"{len(before)} messages of the topic before, {len(after)} of the new one: noticed, accepted, rebuilt")


def test_a_topic_created_again_under_a_running_worker_ends_it(real_world, schemas):
    world = real_world
    produce(world, schemas["Interaction"], rows_of(0, 1000))
    worker = world.worker("roles=ingest")
    wait_for("all applied", lambda: world.applied("interactions") == 1000)
    world.kafka.delete_topics("interactions")
    time.sleep(1)
    world.kafka.create_topics({"interactions": 4})
    produce(world, schemas["Interaction"], rows_of(1000, 10))
    assert worker.wait(timeout=60 * SLOWDOWN) == 1
    assert "topic interactions is not the one that the state was made of" in world.log(worker)


def test_partitions_added_to_a_topic_are_read_without_a_restart(real_world, schemas):
    world, rows = real_world, rows_of(0, 2000)
    produce(world, schemas["Interaction"], rows[:500])
    worker = world.worker("roles=ingest")
    wait_for("all applied", lambda: world.applied("interactions") == 500)
    world.kafka.add_partitions("interactions", 7)
    wait_for("partitions", lambda: len(ends(world)) == 7)
    produce(world, schemas["Interaction"], rows[500:])
    new = sum(high for p, (_, high) in ends(world).items() if p >= 4)
    wait_for("all applied", lambda: world.applied("interactions") == len(rows), 60)
    world.stop(worker)
    assert new > 0 and edges_of(world) == expected_edges(rows)
    print(f"{new} of {len(rows)} messages lay in three new partitions: all applied")


def test_kills_of_broker_and_worker_lose_and_repeat_nothing(real_world, schemas):
    world, dice = real_world, random.Random(3)
    rows = rows_of(0, 60000 if FULL else 20000, users=500)
    again = [(u, i, float(dice.randint(1, 5)), t + dice.choice([-3, 3])) for u, i, _, t in dice.sample(rows, len(rows) // 20)]
    stream = rows + again
    failed = []

    def produce_through_kills():
        producer = Producer({"bootstrap.servers": world.address, "enable.idempotence": True, "message.timeout.ms": 120000,
                             "partitioner": "murmur2_random", "linger.ms": 5})
        for number, (user, item, value, timestamp) in enumerate(stream):
            producer.produce("interactions", key=user, value=interaction(schemas["Interaction"], user, item, value, timestamp),
                             on_delivery=lambda error, _: failed.append(error) if error else None)
            if number % 200 == 0:
                producer.poll(0)
                time.sleep(0.05)
        assert producer.flush(120) == 0

    producing = threading.Thread(target=produce_through_kills)
    producing.start()
    kills = 0
    while producing.is_alive():
        worker = world.worker("roles=ingest", "ingest.batch_events=100", "kafka.reconnect.backoff.max.ms=500")
        before = events_of(world)
        wait_for("progress", lambda: events_of(world) > before or worker.poll() is not None or not producing.is_alive(), 60)
        assert worker.poll() is None, world.log(worker)
        world.kafka.kill()
        time.sleep(dice.uniform(0, 1))
        assert worker.poll() is None, world.log(worker)
        world.kafka.start()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        kills += 1
    producing.join()
    assert failed == [] and kills >= 2
    ingest(world)
    counts = graph_of(world)
    assert counts["events"] == len(set(stream)) and edges_of(world) == expected_edges(stream)
    print(f"broker and worker killed {kills} times: {counts['events']} of {len(set(stream))} events, {counts['edges']} edges, as they must be")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 32 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(directory)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(file):
    """Writes to it until the disk has no page left."""
    with pytest.raises(OSError, match="No space"), open(file, "wb", buffering=0) as ballast:
        while True:
            ballast.write(b"\1" * 4096)


def test_a_full_disk_is_waited_for_and_a_stop_on_it_is_clean(world, schemas, small_disk):
    rows, ballast = rows_of(0, 60000, users=500), small_disk / "ballast"
    sets = (f"state.dir={small_disk / 'state'}", "state.memory=8", "ingest.batch_events=200")
    worker = world.worker("roles=ingest", *sets)

    def times(words):
        assert worker.poll() is None, world.log(worker)
        return world.log(worker).count(words)

    produce(world, schemas["Interaction"], rows[:1000])
    wait_for("the first", lambda: world.applied("interactions") == 1000, 60)
    fill(ballast)
    produce(world, schemas["Interaction"], rows[1000:30000])
    wait_for("a full disk", lambda: times("trying again until it works") == 1, 60)
    stood = events_of(world, *sets)
    ballast.unlink()  # there is space again: it goes on by itself
    wait_for("all of them", lambda: world.applied("interactions") == 30000, 60)
    assert stood < 30000 and times("is stored now") == 1

    fill(ballast)
    produce(world, schemas["Interaction"], rows[30000:])
    wait_for("a full disk again", lambda: times("trying again until it works") == 2, 60)
    world.stop(worker)
    ballast.unlink()
    ingest(world, *sets)
    assert edges_of(world, *sets) == expected_edges(rows)
    print(f"full at {stood} events, went on when there was space, full again, stopped on it with code 0; all {len(rows)} are there")


def poison(schema):
    """class -> bytes"""
    good = interaction(schema, "u", "i", 4.0, 880_000_000_000)
    return {"framing": b"hello", "unknown_schema": b"\xc3\x01" + b"\x11" * 8 + good[10:], "decode": good[:-3],
            "semantic": interaction(schema, "u", "i", 4.0, int(time.time() * 1000) + 86_400_000),
            "too_large": interaction(schema, "u" * 300, "i", 4.0, 880_000_000_000)}


def anonymous_memory(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) * 1024


def letters_by_class(world, topic, count):
    """How many dead letters there are of each class; once `count` are read, a moment is waited for one too many."""
    consumer = Consumer({"bootstrap.servers": world.address, "group.id": "letters", "enable.auto.commit": False})
    found, read, end = {}, 0, time.monotonic() + (900 if FULL else 120) * SLOWDOWN
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in ends(world, topic)])
        while time.monotonic() < end:
            messages = consumer.consume(10000, timeout=1)
            for message in messages:
                assert not message.error(), message.error()
                name = dict(message.headers())["headrace.error.class"].decode()
                found[name] = found.get(name, 0) + 1
            read += len(messages)
            if read >= count and not messages:
                return found
        raise AssertionError(f"{read} of {count} letters: {found}")
    finally:
        consumer.close()


def test_a_flood_of_poison_takes_no_memory_and_holds_up_no_good_event(real_world, schemas):
    world, flood = real_world, (1_000_000 if FULL else 50_000) // SLOWDOWN
    schema, good = schemas["Interaction"], rows_of(0, flood // 100)
    bad = list(poison(schema).items())
    worker = world.worker("roles=ingest", "state.memory=8")
    early = [(f"e{user}", item, value, timestamp) for user, item, value, timestamp in rows_of(0, 30000 // SLOWDOWN)]
    produce(world, schema, early)  # what queues and the store's caches take is there before the flood
    wait_for("a quiet time", lambda: world.applied("interactions") == len(early), 60)
    before = peak = anonymous_memory(worker)

    producer = world.producer()
    for number in range(flood):
        if number % 100 == 0:
            user, item, value, timestamp = good[number // 100]
            producer.produce("interactions", key=user, value=interaction(schema, user, item, value, timestamp))
        producer.produce("interactions", key=str(number), value=bad[number % len(bad)][1])
        if number % 5000 == 0:
            assert producer.flush(60) == 0
            peak = max(peak, anonymous_memory(worker))
    assert producer.flush(60) == 0
    total = sum(high for _, high in ends(world).values())

    def all_applied():
        nonlocal peak
        peak = max(peak, anonymous_memory(worker))
        return world.applied("interactions") == total

    wait_for("all applied", all_applied, 300)
    letters = letters_by_class(world, "interactions.dead", flood)
    world.stop(worker)
    assert letters == {name: flood // len(bad) for name, _ in bad}
    assert edges_of(world) == expected_edges(early + good)
    assert SLOWDOWN > 1 or peak - before <= 32 << 20, f"{before} bytes before the flood, {peak} in it"
    print(f"{flood} bad messages, as many letters: {letters}; {len(good)} good events between them applied; "
          f"RssAnon {before >> 20} MiB before, at most {peak >> 20} MiB")


def test_jumps_of_a_producers_clock_reorder_nothing_and_the_impossible_is_refused(real_world, schemas):
    """Records are stamped by the producer: its clock jumps an hour ahead and back, and what counts is the event's time."""
    world, schema = real_world, schemas["Interaction"]
    now, hour = int(time.time() * 1000), 3_600_000
    producer, stream = world.producer(), []
    for number in range(600):
        jump = [0, hour, -hour][number // 200]
        stream.append((f"u{number % 7}", f"i{number % 11}", float(1 + number % 5), now + jump + number))
        user, item, value, timestamp = stream[-1]
        producer.produce("interactions", key=user, value=interaction(schema, user, item, value, timestamp), timestamp=now + jump)
    # An event a day later than its own record: no clock jumped, it is wrong.
    producer.produce("interactions", key="u1", value=interaction(schema, "u1", "i1", 1.0, now + 24 * hour), timestamp=now)
    assert producer.flush(30) == 0
    worker = world.worker("roles=ingest")
    wait_for("all applied", lambda: world.applied("interactions") == len(stream) + 1)
    assert letters_by_class(world, "interactions.dead", 1) == {"semantic": 1}
    world.stop(worker)
    assert edges_of(world) == expected_edges(stream)
