"""What the scenarios of the state share: events into a topic, and what has become of them in the store."""

import json
import subprocess

from conftest import PROGRAM, interaction


def edges_of(world, *sets):
    """(user, item) -> (timestamp, value)"""
    edges = {}
    for line in world.run("inspect", "edges", sets=sets).splitlines():
        edge = json.loads(line)
        key = (edge["user_id"], edge["item_id"])
        assert key not in edges, f"two edges between {key}"
        edges[key] = (edge["timestamp"], edge["value"])
    return edges


def graph_of(world, *sets):
    return json.loads(world.run("inspect", "graph", "--json", sets=sets))


def events_of(world, *sets):
    """Events in the store of a worker, which may be running; 0 before it has one."""
    done = subprocess.run([PROGRAM, "inspect", *world.config(*sets), "graph", "--json"], capture_output=True)
    return json.loads(done.stdout)["events"] if done.returncode == 0 else 0


def expected_edges(stream):
    """The newest by time of each pair, and of one time the last that came."""
    edges = {}
    for user, item, value, timestamp in stream:
        if (user, item) not in edges or timestamp >= edges[user, item][0]:
            edges[user, item] = (timestamp, value)
    return edges


def produce(world, schema, rows, flush_every=5000, **place):
    """Rows of (user, item, value, timestamp); `place` as Producer.produce() takes it: partition=0."""
    producer = world.producer()
    for number, (user, item, value, timestamp) in enumerate(rows):
        producer.produce("interactions", key=user, value=interaction(schema, user, item, value, timestamp), **place)
        if number % flush_every == 0:
            producer.flush(30)
    assert producer.flush(60) == 0
