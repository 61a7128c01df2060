"""Too many requests, too little time, and all of them answered once. On the tiny model."""

import collections
import json
import time

from conftest import EARLY, SLOWDOWN, wait_for
from test_scores import fill, ready, request

FULL_DEPTH = ("exit.rule=full", "exit.shadow=0")


def send(world, messages):
    """All at once: they wait in the producer until the last is there."""
    producer = world.producer()
    for key, value in messages:
        producer.produce("score-requests", key=key, value=value)
    assert producer.flush(60) == 0


def answers(world, schemas, count):
    decoded = [schemas["ScoreResponse"].decode(message.value()) for message in world.consume("scores", count)]
    by_id = {answer["request_id"]: answer for answer in decoded}
    assert len(by_id) == count
    return by_id


def statuses(found):
    """Requests by status, candidates by status."""
    print(collections.Counter(a["status"] for a in found.values()),
          collections.Counter((c["status"], c["exit_layer"]) for a in found.values() for c in a["candidates"]))
    return (collections.Counter(a["status"] for a in found.values()),
            collections.Counter(c["status"] for a in found.values() for c in a["candidates"]))


def answered_once(world, count):
    """After the worker has stopped: nothing came twice."""
    lines = [json.loads(line)["request_id"] for line in world.run("consume", "scores").splitlines()]
    assert len(lines) == len(set(lines)) == count


def loaded(world, schemas, *sets):
    fill(world, schemas)
    worker = world.worker(*sets)
    ready(world, worker)
    wait_for("the graph", lambda: world.applied("interactions") == 80 and world.applied("items") == 4)
    return worker


# A request of 800 rows takes so long that hundreds more are there before it is done.
MANY = tuple("1234" * 200)


def burst(schemas, count, round=0):
    """A long request, then many short ones of several users."""
    yield "u0", request(schemas, f"long{round}", user="u0", items=MANY)
    for number in range(round * count, (round + 1) * count):
        yield f"u{number % 7}", request(schemas, number, user=f"u{number % 7}", items=("1", "2", "3", "4")[: 1 + number % 4])


def test_requests_of_several_users_together_are_answered_as_one_by_one(world, schemas):
    worker = loaded(world, schemas, "score.overload=wait", "batch.max_tokens=700")
    send(world, burst(schemas, 150))
    together = answers(world, schemas, 151)
    world.stop(worker)
    answered_once(world, 151)

    # The same users and items again, each request by itself: one at a time on an engine that keeps nothing.
    alone = {}
    lines = [{"request_id": f"{user}-{item}", "user_id": f"u{user}", "timestamp": EARLY + 1_000_000,
              "candidates": [{"item_id": item, "title": None}], "deadline_ms": None, "history": None, "explain": False}
             for user in range(7) for item in "1234"]
    said = world.run("score", sets=("engine.prefix_cache=0",), stdin="".join(json.dumps(line) + "\n" for line in lines).encode())
    for answer in map(json.loads, said.splitlines()):
        candidate, = answer["candidates"]
        alone[answer["user_id"], candidate["item_id"]] = candidate["probability"], candidate["exit_layer"]
    compared = 0
    for answer in together.values():
        assert answer["status"] == "OK"
        for candidate in answer["candidates"]:
            assert candidate["status"] == "OK"
            assert (candidate["probability"], candidate["exit_layer"]) == alone[answer["user_id"], candidate["item_id"]]
            compared += 1
    assert len(together["rlong0"]["candidates"]) == len(MANY)  # cut, and answered once
    print(compared, "candidates compared")


def test_overload_makes_answers_shallow_first(world, schemas):
    worker = loaded(world, schemas, *FULL_DEPTH, "score.overload=depth", f"score.patience_ms={500 * SLOWDOWN}", "score.queue=1000")
    send(world, [("u1", request(schemas, "first"))])  # the worker learns its speed
    world.consume("scores", 1)
    send(world, [message for round in range(40) for message in burst(schemas, 2, round)])
    found = answers(world, schemas, 121)
    requests, candidates = statuses(found)
    assert requests["OK"] + requests["SHED"] == 121
    assert candidates["SHALLOW"] > candidates["OK"] > 0
    # Each says how deep it went.
    for answer in found.values():
        for candidate in answer["candidates"]:
            assert 0 < candidate["probability"] < 1
            assert (candidate["exit_layer"] == 6) == (candidate["status"] == "OK")

    # When the burst is over all is as before.
    time.sleep(0.5)
    send(world, [("u1", request(schemas, "last"))])
    found = answers(world, schemas, 122)
    assert {c["status"] for c in found["rlast"]["candidates"]} <= {"OK", "SHALLOW"}
    world.stop(worker)
    answered_once(world, 122)


def test_overload_refuses_when_told_to_and_what_is_answered_is_whole(world, schemas):
    worker = loaded(world, schemas, *FULL_DEPTH, "score.overload=shed", "score.patience_ms=20", "score.queue=1000")
    send(world, [("u1", request(schemas, "first"))])
    world.consume("scores", 1)
    send(world, burst(schemas, 300))
    found = answers(world, schemas, 302)
    requests, candidates = statuses(found)
    assert requests["SHED"] > 0 and requests["OK"] > 0 and requests["SHED"] + requests["OK"] == 302
    assert set(candidates) == {"OK"}
    assert all(not a["candidates"] for a in found.values() if a["status"] == "SHED")
    assert all(c["exit_layer"] == 6 for a in found.values() for c in a["candidates"])
    world.stop(worker)
    answered_once(world, 302)


def test_what_waits_beyond_its_deadline_is_expired_and_the_urgent_go_first(world, schemas):
    worker = loaded(world, schemas, *FULL_DEPTH, "score.overload=wait", "score.queue=1000")
    now = int(time.time() * 1000)
    messages = [("u0", request(schemas, f"long{n}", user="u0", items=MANY)) for n in range(3)]
    for number in range(200):
        deadline = [None, now + 3_600_000, now + 1, now + 60_000][number % 4]
        messages.append(("u1", request(schemas, number, deadline_ms=deadline)))
    send(world, messages)
    found = answers(world, schemas, 203)
    requests, _ = statuses(found)
    assert requests["EXPIRED"] == 50 and requests["OK"] == 153
    assert all(found[f"r{n}"]["status"] == ("EXPIRED" if n % 4 == 2 else "OK") for n in range(200))
    assert all(not a["candidates"] for a in found.values() if a["status"] == "EXPIRED")
    world.stop(worker)
    answered_once(world, 203)
