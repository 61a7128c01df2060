"""Requests in, answers out: one each, in order, committed only when acknowledged."""

import json
import signal
import time

from conftest import EARLY, SLOWDOWN, interaction, wait_for

TITLES = {"1": "Toy Story (1995)", "2": "GoldenEye (1995)", "3": "Four Rooms (1995)", "4": "Get Shorty (1995)"}


def fill(world, schemas):
    producer = world.producer()
    for item, title in TITLES.items():
        producer.produce("items", key=item, value=schemas["Item"].encode({"item_id": item, "title": title, "attributes": {}}))
    for user in range(20):
        for item in range(1, 5):
            producer.produce("interactions", key=f"u{user}", value=interaction(
                schemas["Interaction"], f"u{user}", str(item), float(1 + (user * item) % 5), EARLY + user * 100 + item))
    assert producer.flush(30) == 0


def request(schemas, number, user="u1", items=("1", "2"), **changes):
    return schemas["ScoreRequest"].encode({
        "request_id": f"r{number}", "user_id": user, "timestamp": EARLY + 1_000_000,
        "candidates": [{"item_id": item, "title": None} for item in items],
        "deadline_ms": None, "history": None, "explain": False, **changes})


def ready(world, worker):
    wait_for("the worker", lambda: "ready" in world.log(worker) or worker.poll() is not None)
    assert worker.poll() is None, world.log(worker)


def test_every_request_gets_one_answer_with_its_candidates_in_order(world, schemas):
    fill(world, schemas)
    worker = world.worker()
    ready(world, worker)
    wait_for("the graph", lambda: world.applied("interactions") == 80 and world.applied("items") == 4)
    producer = world.producer()
    orders = [("1", "2", "3"), ("3", "1"), ("2",), ("4", "99", "1")]
    for number in range(60):
        producer.produce("score-requests", key="u1", value=request(schemas, number, items=orders[number % 4]))
    assert producer.flush(30) == 0
    answers = [schemas["ScoreResponse"].decode(m.value()) for m in world.consume("scores", 60)]
    by_id = {a["request_id"]: a for a in answers}
    assert len(by_id) == 60
    alone = {}
    for number in range(60):
        answer = by_id[f"r{number}"]
        assert answer["status"] == "OK"
        assert [c["item_id"] for c in answer["candidates"]] == list(orders[number % 4])
        for candidate in answer["candidates"]:
            assert 0 <= candidate["probability"] <= 1
            cold = candidate["item_id"] == "99"
            assert candidate["status"] == ("COLD_ITEM" if cold else "OK")
            assert (candidate["exit_layer"] == 0) == cold
            # The same bit for bit, whatever the company and the order.
            key = candidate["item_id"]
            assert alone.setdefault(key, candidate["probability"]) == candidate["probability"]
        assert answer["state"]["events_applied"] == 80

    world.stop(worker)  # drains, leaves nothing uncommitted
    worker = world.worker()
    ready(world, worker)
    time.sleep(1)
    world.stop(worker)
    assert len(world.run("consume", "scores").splitlines()) == 60


def test_the_worker_tells_of_its_shadow_and_of_what_became_of_its_answers(world, schemas):
    fill(world, schemas)
    worker = world.worker("exit.shadow=1")
    ready(world, worker)
    producer = world.producer()
    for number in range(10):
        producer.produce("score-requests", key="u1", value=request(schemas, number))
    assert producer.flush(30) == 0
    assert len(world.consume("scores", 10)) == 10
    for number in range(12):  # the last two name requests that nobody made
        producer.produce("interactions", key="u1", value=schemas["Interaction"].encode({
            "user_id": "u1", "item_id": "1", "timestamp": EARLY + 2_000_000 + number, "kind": "rating", "value": 5.0,
            "label": None, "request_id": f"r{number}"}))
    assert producer.flush(30) == 0
    wait_for("the events", lambda: world.applied("interactions") == 92)
    world.stop(worker)
    log = world.log(worker)
    assert "on average, over 20 candidates" in log
    assert "feedback of the last hour: 10 answers joined" in log and "liked 1.0000" in log


def test_a_killed_worker_loses_no_request(world, schemas):
    fill(world, schemas)
    producer = world.producer()
    for number in range(300):
        producer.produce("score-requests", key=f"u{number % 20}", value=request(schemas, number, user=f"u{number % 20}"))
    assert producer.flush(30) == 0
    for answered in (40, 120):
        worker = world.worker("score.queue=8")
        world.consume("scores", answered)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    worker = world.worker("score.queue=8")
    wait_for("every answer", lambda: len({json.loads(line)["request_id"] for line in world.run("consume", "scores").splitlines()}) == 300, 60)
    world.stop(worker)


def test_requests_that_cannot_be_answered_say_why(world, schemas):
    fill(world, schemas)
    worker = world.worker("score.max_candidates=3")
    ready(world, worker)
    producer = world.producer()
    producer.produce("score-requests", value=request(schemas, "late", deadline_ms=1000))
    producer.produce("score-requests", value=request(schemas, "none", items=()))
    producer.produce("score-requests", value=request(schemas, "many", items=("1", "2", "3", "4")))
    producer.produce("score-requests", value=request(schemas, "new", user="nobody"))
    producer.produce("score-requests", value=b"\x00\x00\x00\x00\x07garbage")
    producer.produce("score-requests", value=request(schemas, "inline", user="guest", history=[
        {"item_id": str(i), "title": None, "kind": "rating", "value": 5.0, "timestamp": EARLY + i} for i in range(1, 4)]))
    producer.flush(30)
    answers = {a["request_id"]: a for a in (schemas["ScoreResponse"].decode(m.value()) for m in world.consume("scores", 5))}
    assert answers["rlate"]["status"] == "EXPIRED"
    assert answers["rnone"]["status"] == "ERROR" and "no candidates" in answers["rnone"]["error"]
    assert answers["rmany"]["status"] == "ERROR" and "max_candidates" in answers["rmany"]["error"]
    assert {c["status"] for c in answers["rnew"]["candidates"]} == {"COLD_USER"}
    assert {c["status"] for c in answers["rinline"]["candidates"]} == {"OK"}
    letter, = world.consume("score-requests.dead", 1)
    assert dict(letter.headers())["headrace.error.class"] == b"framing"
    assert letter.value() == b"\x00\x00\x00\x00\x07garbage"
    world.stop(worker)


def test_history_ends_before_the_timestamp_of_the_request(world, schemas):
    fill(world, schemas)
    worker = world.worker()
    ready(world, worker)
    wait_for("the graph", lambda: world.applied("interactions") == 80 and world.applied("items") == 4)
    producer = world.producer()
    for number, cut in enumerate((EARLY + 103, EARLY + 104, EARLY + 105)):  # u1 rated item 4 at EARLY + 104
        producer.produce("score-requests", value=request(schemas, number, items=("1",), timestamp=cut, explain=True))
    producer.flush(30)
    prompts = {}
    for message in world.consume("scores", 3):
        answer = schemas["ScoreResponse"].decode(message.value())
        prompts[answer["request_id"]] = answer["candidates"][0]["explanation"]["prompt"]
    assert "Four Rooms" not in prompts["r0"] and "Get Shorty" not in prompts["r0"]
    assert "Four Rooms" in prompts["r1"] and "Get Shorty" not in prompts["r1"]
    assert "Get Shorty" in prompts["r2"]
    world.stop(worker)


def test_without_a_model_the_evidence_answers(world, schemas):
    fill(world, schemas)
    worker = world.worker("engine.backend=none")
    ready(world, worker)
    wait_for("the graph", lambda: world.applied("interactions") == 80)
    producer = world.producer()
    producer.produce("score-requests", value=request(schemas, 1, items=("1", "2")))
    producer.flush(30)
    message, = world.consume("scores", 1)
    candidate = schemas["ScoreResponse"].decode(message.value())["candidates"][0]
    likes = sum(1 + user % 5 >= 4 for user in range(20))
    assert candidate["exit_layer"] == 0 and candidate["status"] == "OK"
    assert abs(candidate["probability"] - (likes + 1) / 22) < 1e-9
    world.stop(worker)


def test_a_second_signal_stops_at_once(world, schemas):
    fill(world, schemas)
    worker = world.worker()
    ready(world, worker)
    producer = world.producer()
    for number in range(2000):
        producer.produce("score-requests", value=request(schemas, number, items=("1", "2", "3", "4")))
    producer.flush(30)
    world.consume("scores", 1)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=5 * SLOWDOWN) == 1
    assert "second signal" in world.log(worker)


def test_a_worker_whose_broker_is_gone_stops_within_its_time_limit(world, schemas):
    fill(world, schemas)
    worker = world.worker("score.drain_ms=2000")
    ready(world, worker)
    producer = world.producer()
    for number in range(3000):
        producer.produce("score-requests", value=request(schemas, number))
        producer.produce("interactions", key="u", value=interaction(schemas["Interaction"], "u", str(number), 4.0, EARLY))
    producer.flush(30)
    world.consume("scores", 20)
    world.broker.kill()
    time.sleep(0.5)
    start = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=60 * SLOWDOWN)
    assert time.monotonic() - start < 25 * SLOWDOWN, world.log(worker)[-3000:]
