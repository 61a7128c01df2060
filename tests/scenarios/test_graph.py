"""The graph's state: killed again and again under limits, saved at clean stops, copied while it is written."""

import json
import math
import random
import signal
import subprocess
import threading
import time

from conftest import FULL, PROGRAM, SLOWDOWN, interaction, wait_for

KILLS = 20 if FULL else 4
LIMITS = ["graph.window_days=20", "graph.max_edges_per_node=100", "graph.max_nodes=800", "graph.edges=all",
          "graph.push_budget=16"]


def stream_of(ratings, count, seed):
    """Ratings in order of time, and among them: rated again, taken back, looked at, late, and the very same again."""
    dice = random.Random(seed)
    stream = []
    for user, item, value, timestamp in ratings[:count]:
        stream.append((user, item, value, timestamp, "rating"))
        if dice.random() > 0.25:
            continue
        user, item, value, timestamp, _ = stream[-dice.randint(1, min(2000, len(stream)))]
        later = timestamp + dice.choice([-30 * 86_400_000, -86_400_000, 0, 1000, 3_600_000])
        stream.append(dice.choice([(user, item, float(dice.randint(1, 5)), later, "rating"), (user, item, None, later, "remove"),
                                   (user, item, None, later, "impression"), (user, item, value, timestamp, "rating")]))
    return stream


def produce(world, schema, stream):
    """Into one partition: what the limits leave depends on the order of the events, and on nothing else."""
    producer = world.producer()
    for number, (user, item, value, timestamp, kind) in enumerate(stream):
        producer.produce("interactions", key=user, partition=0, value=interaction(schema, user, item, value, timestamp, kind))
        if number % 100 == 0:
            producer.flush(30)
            time.sleep(0.02)  # 5,000 a second: a worker that keeps up is killed, or copied, while they stream in
    assert producer.flush(60) == 0


class Producing:
    """Beside what else is done."""

    def __init__(self, world, schema, stream):
        self.thread = threading.Thread(target=produce, args=(world, schema, stream))

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.thread.join()


def look(world, what, *sets):
    return json.loads(world.run("inspect", *what, "--json", sets=sets))


def edges_of(world, *sets):
    return sorted(world.run("inspect", "edges", sets=sets).splitlines())


def counts_of(world, *sets):
    graph = look(world, ["graph"], *sets)
    return {name: graph[name] for name in ("events", "late_events", "newest_event_ms", "users", "erased_users", "items", "edges", "offsets")}


def reached_by(world, *sets):
    """The offset that the store stands at, also beside a worker; 0 before there is one."""
    done = subprocess.run([PROGRAM, "inspect", *world.config(*sets), "graph", "--json"], capture_output=True)
    return sum(o["next_offset"] for o in json.loads(done.stdout)["offsets"]) if done.returncode == 0 else 0


def angle_between(a, b):
    dot, lengths = sum(x * y for x, y in zip(a, b)), math.hypot(*a) * math.hypot(*b)
    return math.acos(max(-1.0, min(1.0, dot / lengths)))


def run_to_the_end(world, count, *sets, instance="scenario"):
    worker = world.worker("roles=ingest", f"instance_id={instance}", *sets)
    wait_for("all applied", lambda: world.applied("interactions", instance) == count or worker.poll() is not None, 120)
    world.stop(worker)
    assert (world.directory / dict(s.split("=", 1) for s in sets).get("state.dir", "state") / "graph.image").exists()


def test_kills_under_limits_leave_the_edges_and_counts_of_an_undisturbed_run(world, schemas, ratings):
    rounds = [clean for kill in range(KILLS) for clean in ([True, False] if kill % 2 else [False])]
    each = 3000 // SLOWDOWN
    stream = stream_of(ratings, each * len(rounds), 1)
    dice, reached = random.Random(2), [0]
    for number, clean in enumerate(rounds):  # a kill may come after a start from an image
        worker = world.worker("roles=ingest", "ingest.batch_events=20", *LIMITS)
        first, last = number * len(stream) // len(rounds), (number + 1) * len(stream) // len(rounds)
        with Producing(world, schemas["Interaction"], stream[first:last]):
            wait_for("progress", lambda: reached_by(world, *LIMITS) > reached[-1] or worker.poll() is not None, 60)
            time.sleep(dice.uniform(0, 0.2))
            assert worker.poll() is None, world.log(worker)
            if clean:
                world.stop(worker)
            else:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
        reached.append(reached_by(world, *LIMITS))
    assert reached == sorted(set(reached)) and reached[-1] < len(stream), f"stopped at {reached} of {len(stream)}: proves nothing"

    undisturbed = [*LIMITS, f"state.dir={world.directory / 'undisturbed'}"]
    run_to_the_end(world, len(stream), *undisturbed, instance="undisturbed")
    run_to_the_end(world, len(stream), *LIMITS)
    assert edges_of(world, *LIMITS) == edges_of(world, *undisturbed)
    counts = counts_of(world, *LIMITS)
    assert counts == counts_of(world, *undisturbed)
    assert counts["late_events"] > 0 and counts["users"] < len({user for user, *_ in stream}), counts  # the limits were at work

    # Embeddings as they were kept up to date, against those computed from the edges.
    users = sorted({json.loads(edge)["user_id"] for edge in edges_of(world, *LIMITS)})
    users = dice.sample(users, 8)
    kept = [look(world, ["user", user], *LIMITS) for user in users]
    others = [look(world, ["user", user], *undisturbed) for user in users]
    (world.directory / "state/graph.image").unlink()
    angles = []
    for user, one, other in zip(users, kept, others):
        exact = look(world, ["user", user], *LIMITS)
        assert exact["embedding_angle"] == 0
        for found in (one, other):
            angles.append(angle_between(found["embedding"], exact["embedding"]))
            assert angles[-1] <= found["embedding_angle"] + 1e-3, (user, angles[-1], found["embedding_angle"])
    assert max(angles) > 1e-4, f"{angles}: nothing was kept up to date"


def test_a_snapshot_taken_while_events_stream_in_goes_on_to_the_same_state(world, schemas, ratings):
    stream = stream_of(ratings, 20_000 // SLOWDOWN, 3)
    snapshot, restored = world.directory / "snapshot", world.directory / "restored"
    worker = world.worker("roles=ingest", "ingest.batch_events=50", *LIMITS)
    with Producing(world, schemas["Interaction"], stream):
        wait_for("a quarter", lambda: reached_by(world, *LIMITS) > len(stream) // 4 or worker.poll() is not None, 60)
        world.run("snapshot", "create", str(snapshot), sets=LIMITS)
    world.run("snapshot", "verify", str(snapshot))
    wait_for("all applied", lambda: world.applied("interactions") == len(stream) or worker.poll() is not None, 120)
    manifest = json.loads((snapshot / "manifest.json").read_text())
    (offset,) = manifest["offsets"]
    assert 0 < offset["next_offset"] < len(stream), "everything had come already: proves nothing"

    world.run("snapshot", "restore", str(snapshot), code=1)  # into the state of a running worker
    world.stop(worker)
    there = [*LIMITS, f"state.dir={restored}"]
    world.run("snapshot", "restore", str(snapshot), sets=there)
    counts = counts_of(world, *there)
    assert counts["events"] == manifest["events"] and counts["edges"] == manifest["edges"]
    assert [o["next_offset"] for o in counts["offsets"]] == [offset["next_offset"]]
    run_to_the_end(world, len(stream), *there, instance="restored")
    assert edges_of(world, *there) == edges_of(world, *LIMITS)
    assert counts_of(world, *there) == counts_of(world, *LIMITS)

    table = next(path for path in sorted((snapshot / "store").iterdir()) if path.suffix == ".sst")
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    world.run("snapshot", "verify", str(snapshot), code=1)
