"""Scenarios: the real program as processes on the embedded or a real broker, judged by another implementation.

A test that takes `world` has the embedded broker, one that takes `real_world` a real one (the marker real_broker is
added to it); where that cannot be had it is skipped, saying why, and under CI=true it fails.

SCENARIO_PROGRAM names the program, SCENARIO_CACHE the directory with the model and ml-100k, SCENARIO_SLOWDOWN how many
times more slowly than usual the program runs under a sanitizer, SCENARIO_FULL=yes that the long tests run and others do
more (./dev test sets them). Every process is started on loopback at a free port and stopped by its own process id.
"""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import time

import fastavro
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import kafka
import maven
import registry

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY_MODEL = ROOT / "tests/golden/tiny.gguf"
PROGRAM = os.environ.get("SCENARIO_PROGRAM", str(ROOT / "build/release/headrace"))
CACHE = maven.CACHE
SLOWDOWN = int(os.environ.get("SCENARIO_SLOWDOWN", "1"))
FULL = os.environ.get("SCENARIO_FULL") == "yes"
SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:")
TOPICS = ("interactions", "items", "users", "score-requests")
GROUPS = itertools.count(1)
EARLY = 875_000_000_000  # milliseconds, before every timestamp that the scenarios use


def pytest_configure(config):
    config.addinivalue_line("markers", "real_broker: needs a real Kafka broker, or a real registry")
    config.addinivalue_line("markers", "full: takes long; only in ./dev test --full")


def pytest_collection_modifyitems(items):
    for item in items:
        if {"shared_broker", "secured_broker", "real_registry"} & set(item.fixturenames):
            item.add_marker(pytest.mark.real_broker)


def pytest_runtest_setup(item):
    if item.get_closest_marker("full") and not FULL:
        pytest.skip("takes long: in ./dev test --full, or with SCENARIO_FULL=yes")


def needed(make):
    """What `make` gives; without it there is nothing to test."""
    try:
        return make()
    except maven.Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds * SLOWDOWN
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


class Schema:
    """A schema of schemas/, with Avro's single-object encoding on fastavro."""

    def __init__(self, name):
        parsed = json.loads((ROOT / f"schemas/{name}.avsc").read_text())
        self.schema = fastavro.parse_schema(parsed)
        canonical = fastavro.schema.to_parsing_canonical_form(parsed)
        fingerprint = int(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"), 16)
        self.header = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        assert fingerprint >= 0

    def encode(self, record):
        import io

        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.schema, record)
        return self.header + out.getvalue()

    def decode(self, message):
        import io

        assert message[:10] == self.header, message[:10].hex()
        return fastavro.schemaless_reader(io.BytesIO(message[10:]), self.schema, None)


class World:
    """A broker, a state directory and workers."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = []
        self.log_number = 0
        self.group = f"headrace-{next(GROUPS)}"  # of its own: a killed member keeps its place for a session's time
        self.kafka = self.own_broker = None  # the real broker

    def start_broker(self):
        address = self.directory / "broker"
        self.broker = self.start("broker", "--address-file", str(address))
        wait_for("the broker's address", address.exists)
        self.address = address.read_text()

    def start_real_broker(self, partitions=4, **options):
        """One of its own with our topics; `options` as kafka.Broker takes them."""
        self.own_broker = needed(lambda: kafka.Broker(self.directory / "kafka", **options))
        self.use_real_broker(self.own_broker, partitions)

    def use_real_broker(self, broker, partitions=4):
        self.kafka = broker
        self.address = broker.address
        broker.reset({**{name: partitions for name in (*TOPICS, "scores")}, **{f"{name}.dead": 1 for name in TOPICS}})

    def start(self, command, *arguments):
        self.log_number += 1
        log = open(self.directory / f"{self.log_number:02}-{command}.log", "wb")
        process = subprocess.Popen([PROGRAM, command, *arguments], stdout=log, stderr=subprocess.STDOUT)
        process.log_path = log.name
        log.close()
        self.processes.append(process)
        return process

    def config(self, *sets, model=TINY_MODEL):
        """Flags for a command in this world; later ones win."""
        values = [f"kafka.bootstrap.servers={self.address}", f"state.dir={self.directory / 'state'}", "instance_id=scenario",
                  f"kafka.group.id={self.group}",
                  f"model.path={model}", "exit.layers=1,3,5", "exit.rule=ratio", "exit.window=2", "ingest.batch_wait_ms=10",
                  f"engine.weights_cache={self.directory / 'weights'}", *sets]
        return ["--config", str(ROOT / "config/demo.yaml"), *[flag for value in values for flag in ("--set", value)]]

    def worker(self, *sets, **options):
        return self.start("run", *self.config(*sets, **options))

    def run(self, command, *arguments, sets=(), code=0, stdin=None):
        """A command that ends by itself; gives its standard output."""
        done = subprocess.run([PROGRAM, command, *self.config(*sets), *arguments], capture_output=True, input=stdin, timeout=120 * SLOWDOWN)
        assert done.returncode == code, done.stderr.decode() + done.stdout.decode()
        return done.stdout.decode()

    def log(self, process):
        return pathlib.Path(process.log_path).read_text(errors="replace")

    def producer(self):
        return Producer({"bootstrap.servers": self.address, "partitioner": "murmur2_random", "linger.ms": 1})

    def consume(self, topic, count, seconds=60):
        """The first `count` messages of a topic."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "verifier", "enable.auto.commit": False,
                             "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10, "session.timeout.ms": 6000})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
            messages, end = [], time.monotonic() + seconds * SLOWDOWN
            while len(messages) < count and time.monotonic() < end:
                message = consumer.poll(0.1)
                if message is not None and not message.error():
                    messages.append(message)
            assert len(messages) >= count, f"{len(messages)} of {count} messages in {topic}"
            return messages
        finally:
            consumer.close()

    def applied(self, topic, instance="scenario"):
        """What the worker says it has committed of a topic (its group is for lag tools)."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": f"{self.group}-state-{instance}"})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            committed = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=10)
            return sum(p.offset for p in committed if p.offset > 0)
        except KafkaException as failure:  # a real broker that has started a moment ago
            assert failure.args[0].code() in (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS), failure
            return 0
        finally:
            consumer.close()

    def stop(self, process, number=signal.SIGTERM, code=0):
        process.send_signal(number)
        assert process.wait(timeout=30 * SLOWDOWN) == code, self.log(process)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.own_broker is not None:
            self.own_broker.kill()
        for process in self.processes:
            log = self.log(process)
            assert not any(report in log for report in SANITIZER_REPORTS), log


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    try:
        made.start_broker()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory):
    """One for all: a start takes longer than most tests."""
    made = needed(lambda: kafka.Broker(tmp_path_factory.mktemp("broker") / "kafka"))
    yield made
    made.kill()


@pytest.fixture
def real_world(tmp_path, shared_broker):
    made = World(tmp_path)
    try:
        made.use_real_broker(shared_broker)
        yield made
    finally:
        made.close()


@pytest.fixture
def real_registry(tmp_path):
    made = needed(lambda: registry.Registry(tmp_path / "registry"))
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="session")
def schemas():
    return {name: Schema(name) for name in ("Interaction", "Item", "User", "ScoreRequest", "ScoreResponse")}


@pytest.fixture(scope="session")
def ratings():
    """ml-100k as (user, item, value, timestamp_ms), in time order."""
    rows = (CACHE / "ml-100k.inter").read_text().splitlines()[1:]
    parsed = [(u, i, float(r), int(float(t)) * 1000) for u, i, r, t in (row.split("\t") for row in rows)]
    return sorted(parsed, key=lambda row: row[3])


def interaction(schema, user, item, value, timestamp, kind="rating"):
    return schema.encode({"user_id": user, "item_id": item, "timestamp": timestamp, "kind": kind, "value": value,
                          "label": None, "request_id": None})
