"""What a worker tells about itself: metrics that promtool and a reader of our own understand, liveness, readiness."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from conftest import CACHE, EARLY, interaction, wait_for

LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')
STAGES = ("queue", "plan", "render", "wait", "compute", "send")

# Every family that a worker of both roles with an engine has once it has answered; those of feedback need outcomes.
FAMILIES = """build_info model_info ready events_total lag_events lag_seconds state_caught_up state_commits_total
state_gaps_total state_gap_events_total state_waiting graph_nodes graph_edges graph_events_total graph_late_events_total
graph_newest_event_timestamp_seconds graph_memory_bytes embedding_bound embedding_epsilon embedding_backlog
embedding_operations_total store_memory_bytes store_table_bytes store_compaction_pending_bytes
store_delayed_write_bytes_per_second store_stopped store_stall_seconds_total requests_taken_total
requests_committed_total requests_waiting requests_unfinished requests_paused requests_lag assigned_partitions
rebalances_total commits_total answers_total transactions_total answers_pending producer_queue_messages requests_total
candidates_total exits_total stage_seconds batch_requests batch_candidates batch_tokens tokens_total token_layers_total
token_layers_full_total prompts_alone_total requests_planned overload_layer prefix_cache_hits_total
prefix_cache_misses_total prefix_cache_deepenings_total prefix_cache_evictions_total prefix_cache_bytes
prefix_cache_entries shadow_difference feedback_answers feedback_calibration_error feedback_probability_mean
feedback_like_ratio dead_letters_total""".split()
PROCESS = ("process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes",
           "process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "process_threads")


def address(world, worker):
    """Where the worker says that it listens."""
    found = wait_for("the address in the log", lambda: re.search(r"http://(\S+)/metrics", world.log(worker)) or None)
    return found.group(1)


def get(at, path, timeout=20):
    try:
        with urllib.request.urlopen(f"http://{at}{path}", timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as failure:
        return failure.code, failure.headers, failure.read().decode()


def ready(at):
    status, headers, page = get(at, "/readyz")
    assert headers["Content-Type"] == "application/json"
    told = json.loads(page)
    assert (status == 200) == told["ready"] == (told["reasons"] == []), page
    return told


def scrape(at):
    """The page, its families' types, and {(name, labels): value}."""
    status, headers, page = get(at, "/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert page.endswith("\n")
    types, series, family = {}, {}, None
    for line in page.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in types, f"{family} twice"
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
            types[family] = line.split()[3]
        else:
            name, labels, value = LINE.match(line).groups()
            base = re.sub("_(bucket|sum|count)$", "", name) if types[family] == "histogram" else name
            assert base == family and (name, labels) not in series, line
            series[(name, labels or "")] = float(value)
            assert abs(float(value)) < float("inf"), line
    return page, types, series


def rising(types, series):
    """The series that may only rise."""
    return {key: value for key, value in series.items()
            if types.get(key[0]) == "counter" or (key[0] not in types and not key[0].endswith("_sum"))}


def total(series, name, part=""):
    return sum(value for (each, labels), value in series.items() if each == name and part in labels)


def check_by_promtool(page):
    promtool = shutil.which("promtool", path=f"{os.environ['PATH']}:{CACHE}")
    if promtool is None:
        message = "promtool is missing: ./dev test fetches it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        print("SKIP:", message)
        return
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.strip() == "", done.stderr


def check_histograms(types, series):
    for family in (name for name, kind in types.items() if kind == "histogram"):
        counts = {labels: value for (name, labels), value in series.items() if name == f"{family}_count"}
        assert counts
        for labels, count in counts.items():
            inside = f"{labels}," if labels else ""
            buckets = [(float(re.search('le="([^"]*)"', each).group(1)), value) for (name, each), value in series.items()
                       if name == f"{family}_bucket" and re.sub('le="[^"]*"$', "", each) == inside]
            buckets.sort()
            assert buckets[-1] == (float("inf"), count), family
            assert all(a[1] <= b[1] for a, b in zip(buckets, buckets[1:])), family


def play(world, schemas, begin, count):
    """`count` requests of three candidates, and what became of one candidate of each; a dead letter of each topic."""
    producer = world.producer()
    for n in range(begin, begin + count):
        request = {"request_id": f"r{n}", "user_id": f"u{n % 5}", "timestamp": EARLY + 1000, "deadline_ms": None, "history": None,
                   "explain": False, "candidates": [{"item_id": f"i{i}", "title": None} for i in range(3)]}
        producer.produce("score-requests", key=f"u{n % 5}", value=schemas["ScoreRequest"].encode(request))
    producer.produce("score-requests", key="bad", value=b"no avro")
    producer.produce("interactions", key="bad", value=b"no avro")
    assert producer.flush(30) == 0
    world.consume("scores", begin + count)
    for n in range(begin, begin + count):
        producer.produce("interactions", key=f"u{n % 5}", value=schemas["Interaction"].encode(
            {"user_id": f"u{n % 5}", "item_id": "i1", "timestamp": EARLY + 2000 + n, "kind": "rating", "value": 5.0, "label": None,
             "request_id": f"r{n}"}))
    assert producer.flush(30) == 0


def fill(world, schemas):
    producer = world.producer()
    for i in range(4):
        producer.produce("items", key=f"i{i}", value=schemas["Item"].encode({"item_id": f"i{i}", "title": f"Film {i}", "attributes": {}}))
    for u in range(5):
        for i in range(4):
            producer.produce("interactions", key=f"u{u}", value=interaction(schemas["Interaction"], f"u{u}", f"i{i}", 1.0 + i, EARLY + u + i))
    assert producer.flush(30) == 0


def test_every_family_has_a_live_series_and_counters_only_rise(world, schemas):
    fill(world, schemas)
    worker = world.worker("exit.shadow=1")
    at = address(world, worker)
    wait_for("ready", lambda: ready(at)["ready"], 60)
    play(world, schemas, 0, 10)
    wait_for("outcomes", lambda: total(scrape(at)[2], "headrace_feedback_answers") == 10)
    page, types, before = scrape(at)
    missing = {f"headrace_{name}" for name in FAMILIES} | set(PROCESS)
    assert missing - set(types) == set() and set(types) - missing == set()
    assert not re.search(r'"(u|i|r)\d+"', page), "an id in a label"
    check_by_promtool(page)
    check_histograms(types, before)

    play(world, schemas, 10, 5)
    wait_for("outcomes", lambda: total(scrape(at)[2], "headrace_feedback_answers") == 15)
    wait_for("commits", lambda: total(scrape(at)[2], "headrace_requests_committed_total") == 17)
    wait_for("no lag, which is looked at once a second", lambda: total(scrape(at)[2], "headrace_lag_events") == 0)
    page, types, after = scrape(at)
    fallen = [key for key, value in rising(types, before).items() if after.get(key, -1) < value]
    assert fallen == []
    assert total(after, "headrace_requests_total", 'status="ok"') == 15
    assert total(after, "headrace_candidates_total") == 45 == total(after, "headrace_exits_total")
    assert total(after, "headrace_events_total", 'topic="interactions",result="applied"') == 35
    assert total(after, "headrace_events_total", 'result="dead"') == 2
    assert total(after, "headrace_dead_letters_total", 'topic="interactions",class="framing"') == 2
    assert total(after, "headrace_dead_letters_total", 'topic="score-requests",class="framing"') == 2
    assert total(after, "headrace_answers_total", 'result="delivered"') == 15
    assert total(after, "headrace_graph_nodes", 'kind="user"') == 5 and total(after, "headrace_graph_nodes", 'kind="item"') == 4
    assert total(after, "headrace_ready") == 1
    for stage in STAGES:
        assert total(after, "headrace_stage_seconds_count", f'stage="{stage}"') >= 15, stage
    assert total(after, "headrace_token_layers_total") <= total(after, "headrace_token_layers_full_total")
    world.stop(worker)
    print(f"{len(types)} families, {len(after)} series; {len(rising(types, before))} that may only rise, none fell")


def test_ready_says_what_is_missing_until_it_is_there(world, schemas):
    """The broker is not there at first: the state cannot be read."""
    missing = world.config("roles=ingest", "engine.backend=none", "kafka.bootstrap.servers=127.0.0.1:1")
    worker = world.start("run", *missing)
    at = address(world, worker)
    told = wait_for("a reason", lambda: next((r for r in ready(at)["reasons"] if "topic interactions" in r["reason"]), None))
    assert told["part"] == "state" and "broker does not answer" in told["reason"]
    assert get(at, "/livez")[0] == 200
    _, _, series = scrape(at)
    assert total(series, "headrace_ready") == 0
    world.stop(worker)

    worker = world.worker("roles=ingest", "engine.backend=none")
    at = address(world, worker)
    wait_for("ready, and nothing wrong", lambda: ready(at) == {"ready": True, "reasons": [], "troubles": []})
    world.stop(world.broker)
    told = wait_for("trouble", lambda: next(iter(ready(at)["troubles"]), None))
    assert told["part"] == "broker" and "does not answer" in told["reason"]
    assert ready(at)["ready"], "taking it away would mend nothing"
    world.stop(worker)


def test_it_is_unready_while_it_drains(world, schemas):
    worker = world.worker("engine.backend=none", "http.listen=[::1]:0")
    at = address(world, worker)
    assert at.startswith("[::1]:")
    wait_for("ready", lambda: ready(at)["ready"], 60)
    worker.terminate()
    seen = []
    while worker.poll() is None:
        try:
            seen.append(ready(at))
        except OSError:
            break
    assert worker.wait(timeout=60) == 0
    assert all(told["ready"] or told["reasons"] == [{"part": "worker", "reason": "it is stopping"}] for told in seen), seen


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = world.worker("engine.backend=none", f"http.listen={listen}")
        assert worker.wait(timeout=30) == 1
        assert f"http.listen: cannot listen on {listen}" in world.log(worker) and "port 0" in world.log(worker)
    worker = world.worker("engine.backend=none", "http.listen=")
    wait_for("taking requests", lambda: "taking requests" in world.log(worker), 60)
    assert "http://" not in world.log(worker)
    world.stop(worker)


def test_hostile_clients_harm_nothing(world, schemas):
    fill(world, schemas)
    worker = world.worker("engine.backend=none")
    at = address(world, worker)
    wait_for("ready", lambda: ready(at)["ready"], 60)
    host, port = at.split(":")

    def dial():
        client = socket.create_connection((host, int(port)), timeout=30)
        client.settimeout(30)
        return client

    wrong = [b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n" * 50, b"GET " + b"a" * 100_000, b"GET /metrics HTTP/1.1\r\nA: " + b"b" * 100_000,
             b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n" + b"c" * 100_000,
             b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", os.urandom(5000),
             b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500)]
    hostile = wrong + wrong[1:] * 4  # the first is given ten seconds to become a request
    for request in hostile:
        with dial() as client:
            try:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(4096)
                assert answer == b"" or answer.startswith(b"HTTP/1."), answer[:100]
            except OSError:
                pass  # it ends a connection that says nothing sensible
    resident = total(scrape(at)[2], "process_resident_memory_bytes")
    slow = [dial() for _ in range(150)]
    for client in slow:
        try:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHo")
        except OSError:
            pass
    start = time.monotonic()
    assert get(at, "/livez")[0] == 200
    waited = time.monotonic() - start
    assert waited < 10
    oldest = slow[-1]  # not driven out by the number of connections, but by its age
    oldest.settimeout(40)
    assert oldest.recv(100) == b""
    held = time.monotonic() - start
    assert held < 30
    for client in slow:
        client.close()
    series = scrape(at)[2]
    assert total(series, "process_resident_memory_bytes") < resident + (16 << 20)
    assert total(series, "process_open_fds") < 200
    producer = world.producer()
    producer.produce("interactions", key="u9", value=interaction(schemas["Interaction"], "u9", "i1", 4.0, EARLY))
    assert producer.flush(30) == 0
    wait_for("the worker works on", lambda: total(scrape(at)[2], "headrace_events_total", 'topic="interactions",result="applied"') == 21)
    world.stop(worker)
    print(f"{len(hostile)} hostile requests and {len(slow)} slow ones: the next was answered in {waited * 1000:.0f} ms, a slow one ended after {held:.1f} s")
