"""How often a request is answered, whatever dies meanwhile. The answers are counted by answers.py, a process of its own.

Workers answer without a model (engine.backend none), but in one test: what is tried here is the way of requests and
answers. The short run tries exactly once; the full one more requests, more kills, and at least once as well."""

import itertools
import json
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource, AlterConfigOpType, ConfigEntry

from conftest import CACHE, EARLY, FULL, SLOWDOWN, TINY_MODEL, interaction, wait_for

VERIFIER = pathlib.Path(__file__).with_name("answers.py")
ITEMS = ("1", "2", "3")
USERS = 50
BOTH = pytest.mark.parametrize("delivery", ("exactly_once", "at_least_once"))
EITHER = pytest.mark.parametrize("delivery", ("exactly_once", pytest.param("at_least_once", marks=pytest.mark.full)))


def fill(world, schemas):
    producer = world.producer()
    for item in ITEMS:
        producer.produce("items", key=item, value=schemas["Item"].encode(
            {"item_id": item, "title": f"Film {item}", "attributes": {}}))
    for user, item in itertools.product(range(USERS), ITEMS):
        producer.produce("interactions", key=f"u{user}", value=interaction(
            schemas["Interaction"], f"u{user}", item, float(1 + user % 5), EARLY + user))
    assert producer.flush(30) == 0


class Requests(threading.Thread):
    """`count` requests at `rate` a second, from a thread."""

    def __init__(self, world, schemas, count, rate):
        super().__init__(daemon=True)
        self.schema, self.count, self.rate = schemas["ScoreRequest"], count, rate
        # Idempotent: a broker that dies must not make two requests of one.
        self.producer = Producer({"bootstrap.servers": world.address, "partitioner": "murmur2_random", "linger.ms": 1,
                                  "enable.idempotence": True, "log_level": 0})
        self.acknowledged = 0

    def reported(self, error, message):
        assert error is None, error
        self.acknowledged += 1

    def run(self):
        start = time.monotonic()
        for number in range(self.count):
            user = f"u{number % USERS}"
            self.producer.produce("score-requests", key=user, on_delivery=self.reported, value=self.schema.encode({
                "request_id": f"r{number}", "user_id": user, "timestamp": EARLY + 1_000_000, "deadline_ms": None,
                "candidates": [{"item_id": item, "title": None} for item in ITEMS], "history": None, "explain": False}))
            self.producer.poll(0)
            ahead = number / self.rate - (time.monotonic() - start)
            if ahead > 0.01:
                time.sleep(ahead)
        self.producer.flush(120)
        self.producer = None

    def finish(self):
        self.join()
        assert self.acknowledged == self.count


class Fleet:
    """Workers 0, 1, …, each with a state directory and a name of its own."""

    def __init__(self, world, delivery, *sets, session_ms=6000):
        self.world, self.workers = world, {}
        self.model = TINY_MODEL
        self.sets = (f"delivery={delivery}", "engine.backend=none", "score.drain_ms=20000", "http.listen=",
                     f"kafka.session.timeout.ms={session_ms}", "kafka.heartbeat.interval.ms=500", *sets)

    def start(self, number, *sets):
        self.workers[number] = self.world.worker(
            *self.sets, f"state.dir={self.world.directory / f'state-{number}'}", f"instance_id=worker-{number}", *sets,
            model=self.model)

    def ready(self):
        for worker in self.workers.values():
            wait_for("a worker", lambda: "ready" in self.world.log(worker) or worker.poll() is not None, 60)
            assert worker.poll() is None, self.world.log(worker)[-4000:]

    def kill(self, number):
        self.workers[number].kill()
        self.workers[number].wait()

    def stop(self, number):
        self.world.stop(self.workers.pop(number))

    def stop_all(self):
        for worker in self.workers.values():
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers.values():
            assert worker.wait(timeout=60 * SLOWDOWN) == 0, self.world.log(worker)[-4000:]
        self.workers = {}

    def dead(self):
        return [self.world.log(worker)[-4000:] for worker in self.workers.values() if worker.poll() is not None]


def places(world):
    """(committed by the group, end) of each partition of requests."""
    consumer = Consumer({"bootstrap.servers": world.address, "group.id": world.group, "log_level": 0})
    try:
        partitions = [TopicPartition("score-requests", p)
                      for p in consumer.list_topics("score-requests", timeout=10).topics["score-requests"].partitions]
        return [(max(place.offset, 0), consumer.get_watermark_offsets(place, timeout=10)[1])
                for place in consumer.committed(partitions, timeout=10)]
    finally:
        consumer.close()


def places_soon(world):
    """While a coordinator is looked for, or a transaction is open, nobody knows."""
    for _ in range(20):
        try:
            return places(world)
        except KafkaException:
            time.sleep(0.5)
    return places(world)


def uncommitted(world):
    return sum(end - committed for committed, end in places_soon(world))


def all_committed(world, fleet, seconds=120):
    def done():
        dead = fleet.dead()
        assert not dead, dead[0]
        return uncommitted(world) == 0
    wait_for("every request committed", done, seconds)


def answers(world, isolation="read_committed"):
    done = subprocess.run([sys.executable, str(VERIFIER), world.address, isolation], capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def judge(world, delivery, count, **told):
    """Each exactly once, or at least once; says how many."""
    found = answers(world)
    missing = set(f"r{number}" for number in range(count)) - set(found["ids"])
    repeated = found["answers"] - found["distinct"]
    print(f"\n{delivery}: {count} requests, {found['answers']} answers, {len(missing)} missing, {repeated} repeated;",
          ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in told.items()))
    assert sum(end for _, end in places_soon(world)) == count + told.get("bad_messages", 0)
    assert not missing, sorted(missing)[:10]
    if delivery == "exactly_once":
        assert repeated == 0, found["again"]
    return found


def log_count(world, phrase):
    return sum(world.log(process).count(phrase) for process in world.processes)


@EITHER
def test_workers_killed_in_rotation(real_world, schemas, delivery):
    count, kills = (60_000, 10) if FULL else (9_000, 3)
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery)
    for number in range(3):
        fleet.start(number)
    fleet.ready()
    requests = Requests(real_world, schemas, count, rate=1000)
    requests.start()
    for kill in range(kills):
        time.sleep(random.uniform(1.5, 2.5))
        fleet.kill(kill % 3)
        time.sleep(random.uniform(0, 0.5))
        fleet.start(kill % 3)
    requests.finish()
    all_committed(real_world, fleet)
    fleet.stop_all()
    judge(real_world, delivery, count, kills=kills)


def test_the_real_engine_answers_once_though_it_is_killed(real_world, schemas):
    count = 200
    fill(real_world, schemas)
    fleet = Fleet(real_world, "exactly_once", "engine.backend=cpu", "exit.layers=5,10,15,20,25,30", "transaction.ms=20")
    fleet.model = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
    fleet.start(0)
    fleet.ready()
    requests = Requests(real_world, schemas, count, rate=1000)
    requests.start()
    requests.finish()
    wait_for("a part of the answers", lambda: uncommitted(real_world) < count - 20, 120)
    fleet.kill(0)
    left = uncommitted(real_world)
    fleet.start(0)
    all_committed(real_world, fleet, 300)
    fleet.stop_all()
    found = judge(real_world, "exactly_once", count, left_at_the_kill=left)
    assert left > 0 and found["statuses"] == {"OK": count}


@EITHER
def test_the_broker_is_killed(real_world, schemas, delivery):
    count, kills = (20_000, 5) if FULL else (6_000, 1)
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery)
    for number in range(2):
        fleet.start(number)
    fleet.ready()
    requests = Requests(real_world, schemas, count, rate=1000)
    requests.start()
    for _ in range(kills):
        time.sleep(random.uniform(1.5, 2.5))
        real_world.kafka.kill()
        time.sleep(1)
        real_world.kafka.start()
    requests.finish()
    all_committed(real_world, fleet)
    fleet.stop_all()
    judge(real_world, delivery, count, broker_kills=kills)


@EITHER
def test_a_rolling_restart_is_no_rebalance_and_repeats_nothing(real_world, schemas, delivery):
    count, rounds = (30_000, 4) if FULL else (8_000, 1)
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery, session_ms=30000)
    for number in range(3):
        fleet.start(number)
    fleet.ready()
    wait_for("a settled group", lambda: settled(real_world, 3))
    revoked = log_count(real_world, "partitions revoked")
    requests = Requests(real_world, schemas, count, rate=1000)
    requests.start()
    for number in list(range(3)) * rounds:
        time.sleep(1)
        fleet.stop(number)
        fleet.start(number)
        fleet.ready()
    requests.finish()
    all_committed(real_world, fleet)
    others = log_count(real_world, "partitions revoked") - revoked
    fleet.stop_all()
    found = judge(real_world, delivery, count, restarts=3 * rounds, rebalances=others)
    assert others == 0
    assert found["answers"] == count  # who drains leaves nothing behind, in either mode


def settled(world, members):
    """Every member has its partitions and the last rebalance is a while ago."""
    before = log_count(world, "partitions assigned")
    time.sleep(2)
    return before >= members and log_count(world, "partitions assigned") == before


@EITHER
def test_a_worker_joins_or_leaves_every_three_seconds(real_world, schemas, delivery):
    count, changes = (30_000, 10) if FULL else (9_000, 3)
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery)
    for number in range(2):
        fleet.start(number)
    fleet.ready()
    requests = Requests(real_world, schemas, count, rate=1000)
    requests.start()
    for change in range(changes):
        time.sleep(3)
        if change % 2 == 0:
            fleet.start(2)
        else:
            fleet.ready()
            fleet.stop(2)
    requests.finish()
    all_committed(real_world, fleet)
    fleet.stop_all()
    judge(real_world, delivery, count, joins_and_leaves=changes)


@EITHER
def test_a_full_producer_queue_loses_nothing(real_world, schemas, delivery):
    count = 5_000
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery, "kafka.queue.buffering.max.messages=10")
    fleet.start(0)
    requests = Requests(real_world, schemas, count, rate=100_000)
    requests.start()
    requests.finish()
    all_committed(real_world, fleet)
    fleet.stop_all()
    found = judge(real_world, delivery, count)
    assert found["answers"] == count


def bad_messages():
    """One of every class, again and again; none larger than 2 KiB but every hundredth, which is beyond the limit."""
    good = None
    for number in itertools.count():
        kind = number % 5
        if kind == 0:
            yield "framing", b"\x07neither framing"
        elif kind == 1:
            yield "unknown_schema", b"\xc3\x01" + number.to_bytes(8, "little") + b"body"
        elif kind == 2:
            yield "decode", None
        elif kind == 3:
            yield "semantic", good
        else:
            yield "too_large", b"\xc3\x01" + bytes(3000)


def anonymous_mib(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no RssAnon")


@EITHER
def test_a_flood_of_poison_costs_no_memory_and_no_answer(real_world, schemas, delivery):
    count = 1_000_000 if FULL else 10_000
    good = count // 1000
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery, "ingest.message_limit=2048", "log.level=error")
    fleet.start(0)
    schema = schemas["ScoreRequest"]
    record = {"request_id": "", "user_id": "u1", "timestamp": EARLY, "deadline_ms": None, "history": None,
              "explain": False, "candidates": [{"item_id": "1", "title": None}]}
    nothing, producer, sent = schema.encode(record), real_world.producer(), {}

    def send(value, key="u1"):
        while True:
            try:
                return producer.produce("score-requests", key=key, value=value)
            except BufferError:
                producer.poll(0.1)

    def send_good(number):
        send(schema.encode({**record, "request_id": f"r{number}", "user_id": f"u{number % USERS}"}), f"u{number % USERS}")

    send_good(0)
    producer.flush(60)
    wait_for("the first answer", lambda: uncommitted(real_world) == 0, 60)
    before = most = anonymous_mib(fleet.workers[0])
    for number, (kind, value) in zip(range(count), bad_messages()):
        if value is None:
            value = nothing if kind == "semantic" else schema.header + b"\x80\x80"
        send(value, f"k{number % 100}")
        sent[kind] = sent.get(kind, 0) + 1
        if number % 1000 == 999:
            send_good((number + 1) // 1000)
        if number % 10_000 == 0:
            producer.poll(0)
            most = max(most, anonymous_mib(fleet.workers[0]))
    producer.flush(120)
    end = time.monotonic() + (3600 if FULL else 180) * SLOWDOWN
    while uncommitted(real_world) > 0:
        most = max(most, anonymous_mib(fleet.workers[0]))
        assert not fleet.dead() and time.monotonic() < end, fleet.dead()
        time.sleep(0.2)
    most = max(most, anonymous_mib(fleet.workers[0]))
    fleet.stop_all()
    found = judge(real_world, delivery, good + 1, bad_messages=count, MiB_before=round(before), MiB_at_most=round(most))
    assert found["distinct_letters"] == count
    assert {kind: found["statuses"].get(kind) for kind in sent} == sent
    assert most < before + 32


@BOTH
def test_headers_by_which_a_request_is_known_come_back(real_world, schemas, delivery):
    fill(real_world, schemas)
    fleet = Fleet(real_world, delivery)
    fleet.start(0)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    returned = [("traceparent", trace.encode()), ("tracestate", b"a=1"), ("correlationId", b"c1"), ("correlation_id", b"c2"),
                ("kafka_correlationId", bytes(16))]
    producer = real_world.producer()
    producer.produce("score-requests", key="u1", headers=[*returned, ("authorization", b"secret")],
                     value=schemas["ScoreRequest"].encode({
                         "request_id": "r0", "user_id": "u1", "timestamp": EARLY, "deadline_ms": None, "history": None,
                         "explain": False, "candidates": [{"item_id": "1", "title": None}]}))
    producer.flush(30)
    answer, = real_world.consume("scores", 1)
    assert sorted(answer.headers()) == sorted(returned)
    fleet.stop_all()


@BOTH
def test_an_answer_that_its_topic_refuses_is_a_dead_letter_and_nobody_waits(real_world, schemas, delivery):
    fill(real_world, schemas)
    resource = ConfigResource("topic", "scores", incremental_configs=[
        ConfigEntry("max.message.bytes", "1500", incremental_operation=AlterConfigOpType.SET)])
    for future in real_world.kafka.admin.incremental_alter_configs([resource]).values():
        future.result(30)
    fleet = Fleet(real_world, delivery, "kafka.compression.type=none")
    fleet.start(0)
    producer = real_world.producer()
    for number in range(30):
        items = [f"item-{i:090}" for i in range(30)] if number == 7 else ["1"]
        producer.produce("score-requests", key="u1", value=schemas["ScoreRequest"].encode({
            "request_id": f"r{number}", "user_id": "u1", "timestamp": EARLY, "deadline_ms": None, "history": None,
            "explain": False, "candidates": [{"item_id": item, "title": None} for item in items]}))
        producer.flush(30)
        time.sleep(0.2)  # each in a batch of its own: a topic refuses a batch as a whole
    all_committed(real_world, fleet)
    fleet.stop_all()
    found = answers(real_world)
    print(f"\n{delivery}: 30 requests, {found['answers']} answers, {found['letters']} letters")
    assert found["letters"] >= 1 and found["statuses"]["too_large"] == found["letters"]
    assert found["distinct"] + found["distinct_letters"] == 30 and "r7" not in found["ids"]
    assert found["answers"] == found["distinct"] or delivery == "at_least_once"


def test_exactly_once_is_refused_on_a_broker_that_does_not_honour_it(world, schemas):
    fill(world, schemas)
    worker = world.worker("delivery=exactly_once", "engine.backend=none", "http.listen=")
    assert worker.wait(timeout=60 * SLOWDOWN) == 1
    log = world.log(worker)
    assert "does not honour" in log and "at_least_once" in log


def test_a_second_worker_of_one_name_is_told_so(real_world, schemas):
    fill(real_world, schemas)
    fleet = Fleet(real_world, "exactly_once")
    fleet.start(0)
    fleet.ready()
    wait_for("its partitions", lambda: log_count(real_world, "4 partitions assigned") == 1)
    fleet.start(1)
    fleet.ready()
    fleet.stop(1)
    name = (real_world.directory / "state-0/instance").read_text()
    (real_world.directory / "state-1/instance").write_text(name)
    first = fleet.workers[0]
    fleet.start(1, "instance_id=worker-0")
    requests = Requests(real_world, schemas, 200, rate=100)
    requests.start()
    assert first.wait(timeout=60 * SLOWDOWN) == 1
    assert "instance_id" in real_world.log(first)
    fleet.workers.pop(0)
    requests.finish()
    all_committed(real_world, fleet)
    fleet.stop_all()
    judge(real_world, "exactly_once", 200)
