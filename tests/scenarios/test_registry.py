"""Messages framed the Confluent way, by a real schema registry; and a registry that is slow, gone, secured or flooded."""

import base64
import collections
import http.server
import io
import json
import ssl
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import fastavro
import pytest

import registry
from conftest import EARLY, ROOT, SLOWDOWN, needed, wait_for
from state import events_of

pytestmark = pytest.mark.real_broker
TYPE = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
PASSWORD = "hidden-Kp3.words"


@pytest.fixture(scope="module")
def schemas_server(tmp_path_factory):
    """One for all: a start takes longer than most tests. A test that stops it starts it again."""
    made = needed(lambda: registry.Registry(tmp_path_factory.mktemp("registry")))
    made.start()
    yield made
    made.kill()


def call(url, body=None):
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), TYPE)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def ours(name):
    return json.loads((ROOT / f"schemas/{name}.avsc").read_text())


class Writer:
    """A producer of another team: its own schema, registered by itself, and fastavro."""

    def __init__(self, url, subject, schema):
        self.schema = fastavro.parse_schema(json.loads(json.dumps(schema)))
        self.id = call(f"{url}/subjects/{subject}/versions", {"schema": json.dumps(schema)})["id"]

    def frame(self, record):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.schema, record)
        return b"\0" + struct.pack(">I", self.id) + out.getvalue()


def decode(url, message, cache={}):
    """As any Confluent consumer: the schema is the registry's."""
    assert message[0] == 0, message[:8].hex()
    number = struct.unpack(">I", message[1:5])[0]
    if (url, number) not in cache:
        cache[url, number] = fastavro.parse_schema(json.loads(call(f"{url}/schemas/ids/{number}")["schema"]))
    return fastavro.schemaless_reader(io.BytesIO(message[5:]), cache[url, number], None)


def like(writer, number, **more):
    return writer.frame({"user_id": f"u{number % 50}", "item_id": f"i{number}", "timestamp": EARLY + number, "kind": "like",
                         "value": None, "label": None, "request_id": None, **more})


def request(writer, number, **more):
    return writer.frame({"request_id": f"r{number}", "user_id": f"u{number % 50}", "timestamp": EARLY + 10**9, "explain": False,
                         "candidates": [{"item_id": "i1", "title": None}], "deadline_ms": None, "history": None, **more})


def newer(schema, name="rank"):
    """What a next version of a producer writes: a field more, others in another order."""
    return {**schema, "fields": [{"name": name, "type": ["null", "int"], "default": None}, *schema["fields"][::-1]]}


def send(world, topic, messages):
    producer = world.producer()
    for key, value in messages:
        producer.produce(topic, key=key, value=value)
    assert producer.flush(60) == 0


def ready(world, worker):
    wait_for("the worker", lambda: "ready:" in world.log(worker) or worker.poll() is not None, 60)
    assert worker.poll() is None, world.log(worker)


def letters(world, topic):
    return [json.loads(line) for line in world.run("consume", "--envelope", f"{topic}.dead").splitlines()]


def test_what_we_write_others_read_and_what_others_write_we_read(world, schemas_server):
    url = schemas_server.url
    sets = (f"registry.url={url}", "engine.backend=none")
    rows = [{"user_id": f"u{n % 50}", "item_id": f"i{n}", "timestamp": EARLY + n, "kind": "like"} for n in range(200)]
    world.run("produce", "--format", "json", "-", sets=sets, stdin="\n".join(map(json.dumps, rows)).encode())
    read = [decode(url, m.value()) for m in world.consume("interactions", 200)]
    assert sorted(r["item_id"] for r in read) == sorted(r["item_id"] for r in rows)
    assert json.loads(call(f"{url}/subjects/interactions-value/versions/1")["schema"]) == ours("Interaction")

    newest = Writer(url, "interactions-value", newer(ours("Interaction")))
    send(world, "interactions", [(f"u{n % 50}", like(newest, n, rank=n)) for n in range(200, 400)])
    asks = Writer(url, "score-requests-value", newer(ours("ScoreRequest")))
    worker = world.worker(*sets)
    ready(world, worker)
    send(world, "score-requests", [(f"u{n % 50}", request(asks, n, rank=None)) for n in range(50)])
    answers = [decode(url, m.value()) for m in world.consume("scores", 50)]
    assert {a["request_id"] for a in answers} == {f"r{n}" for n in range(50)}
    assert {a["status"] for a in answers} == {"OK"}
    assert events_of(world) == 400
    lines = [json.loads(line) for line in world.run("consume", "scores", sets=sets).splitlines()]
    assert {line["request_id"] for line in lines} == {f"r{n}" for n in range(50)}
    world.stop(worker)
    checked = world.run("check", "--connect", sets=sets)
    assert f"\u2713 registry   {url} answers" in checked
    assert "\u2713 subject    scores-value has the schema of what is written to scores, id" in checked
    assert letters(world, "interactions") == [] and letters(world, "score-requests") == []
    print("200 events of ours read by fastavro, 200 of another writer's schema applied, 50 requests answered, 0 dead letters")


@pytest.mark.full
def test_while_the_registry_is_down_nothing_is_given_up_and_known_schemas_go_on(world, schemas_server):
    url, away, total = schemas_server.url, 20, 3000
    sets = (f"registry.url={url}", "engine.backend=none")
    known = Writer(url, "interactions-value", ours("Interaction"))
    asks = Writer(url, "score-requests-value", ours("ScoreRequest"))
    unseen = Writer(url, "interactions-value", newer(ours("Interaction"), "unseen"))
    unasked, aside = Writer(url, "score-requests-value", newer(ours("ScoreRequest"))), {f"r{n}" for n in range(900, 910)}
    send(world, "interactions", [(f"u{n % 50}", like(known, n)) for n in range(100)])
    worker = world.worker(*sets)
    ready(world, worker)
    send(world, "score-requests", [("u0", request(asks, 0))])
    world.consume("scores", 1)

    schemas_server.stop()
    send(world, "score-requests", [(f"u{n}", request(unasked, n, rank=n)) for n in range(900, 910)])
    down = time.monotonic()
    number, asked = 100, 1
    while time.monotonic() < down + away:  # events flow on; from the 500th on by a schema that nobody has asked for yet
        count = min(total - 100, int((total - 100) * (time.monotonic() - down) / away)) - (number - 100)
        send(world, "interactions", [(f"u{n % 50}", like(known, n) if n < 500 else like(unseen, n, unseen=n))
                                     for n in range(number, number + count)])
        number += count
        if number > 150 * asked:
            send(world, "score-requests", [(f"u{asked}", request(asks, asked))])
            asked += 1
        time.sleep(0.1)
    answered = world.consume("scores", asked)  # without the registry: the schemas that it takes are known
    assert aside.isdisjoint(m.key().decode() for m in answered)
    waiting = events_of(world)
    send(world, "interactions", [(f"u{n % 50}", like(unseen, n, unseen=n)) for n in range(number, total)])
    assert 100 < waiting < total, "nothing had to wait: proves nothing"
    assert worker.poll() is None, world.log(worker)

    schemas_server.start()
    wait_for("all events", lambda: events_of(world) == total, 60)
    outage = time.monotonic() - down
    everyone = sorted(m.key().decode() for m in world.consume("scores", asked + len(aside)))
    assert everyone == sorted({f"r{n}" for n in range(asked)} | aside), "each once, those that were put aside too"
    assert letters(world, "interactions") == [] and letters(world, "score-requests") == []
    log = world.log(worker)
    said = log.count("schema registry: ") - log.count("answers again")
    assert 1 <= said <= outage / 10 + 2, f"said {said} times in {outage:.0f} s"
    assert "schema registry: answers again" in log
    world.stop(worker)
    print(f"registry away for {outage:.0f} s: {waiting} events applied meanwhile, {total} after; {asked} requests answered "
          f"meanwhile, {len(aside)} after; 0 dead letters; said {said} times")


class Gate(http.server.ThreadingHTTPServer):
    """In front of a registry: slow, behind TLS, behind a password; counts what is asked."""

    daemon_threads = True

    def __init__(self, target, delay=0, password=None, certificate=None):
        super().__init__(("127.0.0.1", 0), Passer)
        self.target, self.delay, self.password, self.calls = target, delay, password, collections.Counter()
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "gate.pem", certificate / "gate.key")
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that does not trust us hangs up: that is its right."""


class Passer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self):
        self.server.calls[f"{self.command} {self.path}"] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        time.sleep(self.server.delay)
        status, said = 401, b'{"error_code":40101,"message":"Unauthorized"}'
        wanted = self.server.password
        if wanted is None or self.headers.get("Authorization") == "Basic " + base64.b64encode(wanted.encode()).decode():
            try:
                with urllib.request.urlopen(urllib.request.Request(self.server.target + self.path, body, TYPE), timeout=30) as answer:
                    status, said = answer.status, answer.read()
            except urllib.error.HTTPError as refused:
                status, said = refused.code, refused.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = answer


@pytest.mark.full
def test_a_slow_registry_costs_time_once_and_a_flood_of_unknown_ids_one_call_each(world, schemas_server):
    gate, flood = Gate(schemas_server.url, delay=2), 4000 // SLOWDOWN
    writers = [Writer(schemas_server.url, "interactions-value", newer(ours("Interaction"), f"field{n}")) for n in range(3)]
    good = [(f"u{n % 50}", like(writers[n % 3], n, **{f"field{n % 3}": n})) for n in range(300)]
    unknown = [(f"u{n % 50}", b"\0" + struct.pack(">I", 10**9 + n % 4) + b"x") for n in range(flood)]
    for start in range(0, 300, 30):
        send(world, "interactions", good[start:start + 30] + unknown[start * flood // 300:(start + 30) * flood // 300])
    worker = world.worker(f"registry.url={gate.url}", "roles=ingest")
    wait_for("all events", lambda: world.applied("interactions") == 300 + flood, 120)
    assert events_of(world) == 300
    dead = world.consume("interactions.dead", flood, 60)
    assert {dict(m.headers())["headrace.error.class"] for m in dead} == {b"unknown_schema"}
    asked = sum(count for path, count in gate.calls.items() if "/schemas/ids/" in path)
    assert asked <= 7 * 3, gate.calls  # seven ids, and once more when one has been unknown for half a minute
    world.stop(worker)
    gate.shutdown()
    print(f"2 s a call: 300 events of 3 schemas applied, {flood} of 4 unknown ids dead-lettered, {asked} calls")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
                "-subj", f"/CN=scenario {name}")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "gate.key", "-out", "gate.csr", "-subj", "/CN=gate")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "gate.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "gate.pem", "-days", "2",
            "-extfile", "names")
    return directory


@pytest.mark.full
def test_tls_and_basic_authentication(world, schemas_server, certificates):
    gate = Gate(schemas_server.url, password=f"worker:{PASSWORD}", certificate=certificates)
    file = world.directory / "registry.yaml"

    # There already, written otherwise: it is found, and need not be registered.
    Writer(schemas_server.url, "items-value", ours("Item"))

    def produce(password=PASSWORD, ca="ca.pem"):
        file.write_text(f"registry:\n  url: {gate.url}\n  user: worker\n  password: {password}\n  register: false\n  ca_file: {certificates / ca}\n"
                        f"kafka: {{bootstrap.servers: {world.address}}}\nroles: [ingest]\nstate: {{dir: {world.directory / 'state'}}}\n")
        made = world.start("produce", "--config", str(file), "--type", "item", "--format", "json",
                           str(world.directory / "items.json"))
        return made

    (world.directory / "items.json").write_text('{"item_id": "1", "title": "Heat"}\n')
    for wrong, words in ({"password": "nothing-else"}, "HTTP 401"), ({"ca": "other.pem"}, "certificate"):
        made = produce(**wrong)
        wait_for(words, lambda: words in world.log(made) or made.poll() is not None)
        assert made.poll() is None and "registry." in world.log(made), world.log(made)  # waits: it may be mended
        made.kill()
        checked = subprocess.run([made.args[0], "check", "--connect", "--config", str(file)], capture_output=True, timeout=60)
        assert "\u2717 registry" in checked.stdout.decode() and words in checked.stdout.decode()
        assert b"nothing-else" not in checked.stdout + checked.stderr
    made = produce()
    assert made.wait(timeout=60) == 0, world.log(made)
    assert decode(schemas_server.url, world.consume("items", 1)[0].value())["title"] == "Heat"
    for process in world.processes:
        assert PASSWORD not in world.log(process) and "nothing-else" not in world.log(process)
    gate.shutdown()
