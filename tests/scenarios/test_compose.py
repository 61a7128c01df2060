"""The whole stack of docker/compose.yaml in containers: brought up, fed, scaled, looked at, taken down.

Where containers cannot run the test is skipped with the reason. Under CI=true that holds only for missing tools (or
rights): tools that are there and do not work are a failure.
"""

import io
import json
import math
import os
import subprocess
import time
import urllib.parse
import urllib.request
import uuid

import fastavro
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from conftest import ROOT, needed, wait_for
from containers import stack as containers

pytestmark = pytest.mark.full
REQUESTS = 20
PROMTOOL = ("check config /docker/prometheus/prometheus.yml", "check rules /docker/prometheus/alerts.yml",
            "test rules /docker/prometheus/alerts_test.yml")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    reason = containers.missing()
    if reason:
        pytest.skip(reason)
    made = containers.Stack(tmp_path_factory.mktemp("compose"), REQUESTS=str(REQUESTS), RATE="5", PARTITIONS="4")
    try:
        try:
            made.make_base()
            made.podman("run", "--rm", "--memory", "64m", containers.BASE, "true")
        except (AssertionError, subprocess.CalledProcessError) as broken:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"containers do not run here: {broken}")
        needed(made.make_images)
        made.open()
        yield made
    finally:
        made.close()


def eventually(what, condition, seconds=300):
    """As wait_for, but a look costs something: two a second."""
    return wait_for(what, lambda: condition() or time.sleep(0.5), seconds)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class Client:
    """Somebody outside of the stack, at its published ports."""

    def __init__(self, stack, schemas):
        self.stack, self.schemas = stack, schemas
        self.address = f"127.0.0.1:{stack.ports['KAFKA_PORT']}"
        self.registry = f"http://127.0.0.1:{stack.ports['REGISTRY_PORT']}/apis/ccompat/v7"
        self.producer = Producer({"bootstrap.servers": self.address, "partitioner": "murmur2_random"})
        self.writers = {}

    def decode(self, message):
        """A framed answer, with the schema that the registry has for it."""
        assert message[0] == 0, message[:10].hex()
        number = int.from_bytes(message[1:5], "big")
        if number not in self.writers:
            self.writers[number] = fastavro.parse_schema(json.loads(get(f"{self.registry}/schemas/ids/{number}")["schema"]))
        return fastavro.schemaless_reader(io.BytesIO(message[5:]), self.writers[number], None)

    def ask(self, ratings, count):
        """Sends requests of five candidates each; gives their ids."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        for i, name in enumerate(ids):
            rows = ratings[-5 * (i + 1):][:5]
            items = list(dict.fromkeys(row[1] for row in rows))
            request = {"request_id": name, "user_id": rows[0][0], "timestamp": int(time.time() * 1000),
                       "candidates": [{"item_id": item, "title": None} for item in items]}
            self.producer.produce("score-requests", key=rows[0][0], value=self.schemas["ScoreRequest"].encode(request))
        assert self.producer.flush(30) == 0
        return ids

    def messages(self, topic, done, seconds=300):
        """All of a topic from its start, until done(messages)."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "verifier", "enable.auto.commit": False,
                             "isolation.level": "read_committed", "fetch.wait.max.ms": 50})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
            found, end = [], time.monotonic() + seconds
            while not done(found):
                assert time.monotonic() < end, f"{topic}: {len(found)} messages after {seconds} s"
                message = consumer.poll(0.2)
                if message is not None and not message.error():
                    found.append(message)
            return found
        finally:
            consumer.close()

    def answers(self, ids):
        """The answers to these requests; every one is there, and once."""
        wanted = {name.encode() for name in ids}
        messages = self.messages("scores", lambda found: wanted <= {message.key() for message in found})
        keys = [message.key() for message in messages]
        assert len(keys) == len(set(keys)), "answered twice"
        return [self.decode(message.value()) for message in messages if message.key() in wanted]

    def query(self, expression):
        port = self.stack.ports["PROMETHEUS_PORT"]
        answer = get(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}")
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def workers_up(self, count):
        """Prometheus has found so many workers, and no other."""
        return [row["value"][1] for row in self.query('up{job="headrace"}')] == ["1"] * count


def check_answer(answer):
    assert answer["status"] == "OK", answer
    assert answer["model"] == "SmolLM2-135M-Instruct" and answer["heads"] == "ml-100k:text", answer
    for candidate in answer["candidates"]:
        assert candidate["status"] in ("OK", "COLD_USER", "SHALLOW"), candidate  # shallow: a slow machine has a backlog
        assert 0 < candidate["probability"] < 1 and 0 <= candidate["exit_layer"] <= 30, candidate


def same_scores_offline(stack, answer):
    """`headrace score` says the same on the worker's own store: nothing happened in between."""
    items = ",".join(candidate["item_id"] for candidate in answer["candidates"])
    line = stack.compose("exec", "-T", "worker", "headrace", "score", "--config", "/etc/headrace.yaml", "--set",
                         "state.dir=/var/lib/headrace/slot-0", "--set", "log.level=error", "--json", "--user",
                         answer["user_id"], "--items", items)
    offline = json.loads(line.splitlines()[-1])
    assert [c["probability"] for c in offline["candidates"]] == [c["probability"] for c in answer["candidates"]]


def dashboard_queries():
    """(panel, query), as Grafana would send it."""
    dashboard = json.loads((ROOT / "docker/grafana/dashboards/headrace.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


def without_series(client):
    """Panels and queries to which Prometheus has no number to give."""
    return [(panel, query) for panel, query in dashboard_queries()
            if not any(math.isfinite(float(row["value"][1])) for row in client.query(query))]


def test_prometheus_takes_configuration_and_rules_and_the_alerts_fire_when_they_should(stack):
    for command in PROMTOOL:
        stack.podman("run", "--rm", "--network", "none", "--entrypoint", "promtool", "--volume",
                     f"{ROOT / 'docker'}:/docker:ro", containers.IMAGES["PROMETHEUS_IMAGE"], *command.split())


def test_the_image_is_small_and_needs_neither_root_nor_a_compiler(stack):
    image = json.loads(stack.podman("image", "inspect", containers.IMAGES["HEADRACE_IMAGE"]).stdout)[0]
    print(f"image of headrace: {image['Size'] / 1e6:.0f} MB")
    assert image["Config"]["User"] == "headrace"
    assert image["Size"] < 300e6
    done = stack.podman("run", "--rm", "--read-only", "--network", "none", "--entrypoint", "sh",
                        containers.IMAGES["HEADRACE_IMAGE"], "-c", "id -u; headrace --version; ! command -v gcc")
    assert done.stdout.splitlines()[0] == "10001" and "headrace" in done.stdout


def test_the_stack_comes_up_answers_scales_and_goes_without_a_trace(stack, schemas, ratings):
    start = time.monotonic()
    stack.compose("up", "-d", "kafka", "registry", "topics", "fetch", "worker", "loader", "prometheus")
    print(f"up after {time.monotonic() - start:.0f} s")
    try:
        eventually("the loader", lambda: [c for c in stack.containers("loader")
                                          if c["State"] == "exited" and c["ExitCode"] == 0])
    finally:
        said = stack.compose("logs", "loader", "worker")
        print(said[-6000:])
    assert f"http://localhost:{stack.ports['GRAFANA_PORT']}" in said
    client = Client(stack, schemas)

    # What the loader asked has been answered, each once, by the model.
    loaded = client.messages("scores", lambda found: len(found) >= REQUESTS)
    for message in loaded:
        check_answer(client.decode(message.value()))
    assert len({message.key() for message in loaded}) == REQUESTS
    asked = client.answers(client.ask(ratings, 10))
    for answer in asked:
        check_answer(answer)
        assert answer["state"]["events_applied"] == 100_000
    alone = client.answers(client.ask(ratings, 1))[0]
    assert {candidate["status"] for candidate in alone["candidates"]} <= {"OK", "COLD_USER"}, alone
    same_scores_offline(stack, alone)

    # A request that nobody can read: a dead letter with the very bytes, in a topic that came with it.
    client.producer.produce("score-requests", key="broken", value=b"no Avro at all")
    assert client.producer.flush(30) == 0
    eventually("the dead letter's topic", lambda: "score-requests.dead" in client.producer.list_topics(timeout=10).topics)
    letter = client.messages("score-requests.dead", len)[0]
    assert letter.value() == b"no Avro at all"

    # Two workers share the requests, each with a slot of its own; then one takes the other's partitions over.
    stack.compose("up", "-d", "--no-recreate", "--no-deps", "--scale", "worker=2", "worker")
    eventually("a second worker", lambda: client.workers_up(2))
    eventually("both workers' share of the partitions",
               lambda: [row["value"][1] for row in client.query("headrace_assigned_partitions")] == ["2", "2"])
    for answer in client.answers(client.ask(ratings, 40)):
        check_answer(answer)
    lacking = []

    def every_panel_has_a_figure():
        lacking[:] = without_series(client)
        return not lacking

    try:
        eventually("figures", every_panel_has_a_figure, 30)
    except AssertionError:
        assert not lacking

    stack.compose("up", "-d", "--no-recreate", "--no-deps", "--scale", "worker=1", "worker")
    for answer in client.answers(client.ask(ratings, 20)):
        check_answer(answer)
    eventually("Prometheus to see one worker", lambda: client.workers_up(1))
    print(f"{REQUESTS + 10 + 1 + 40 + 20} requests answered once each")

    stack.down()
    assert stack.containers() == []
    assert stack.podman("volume", "ls", "--quiet").stdout == ""
    assert not [n for n in stack.podman("network", "ls", "--format", "{{.Name}}").stdout.split() if n != "podman"]
