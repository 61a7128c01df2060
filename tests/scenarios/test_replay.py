"""Replay and export of logged traffic: the program on small generated files and topics."""

import json
import random
import subprocess

from conftest import PROGRAM, ROOT, SLOWDOWN, TINY_MODEL, Schema

USERS, ITEMS, RATINGS, START = 8, 12, 220, 900_000_000_000


def ratings(seed=7):
    """(user, item, rating, ms) in no order; about two of a time."""
    numbers = random.Random(seed)
    rows = [(f"u{numbers.randrange(USERS)}", f"i{numbers.randrange(ITEMS)}", numbers.randint(1, 5),
             START + 1000 * numbers.randrange(RATINGS // 2)) for _ in range(RATINGS)]
    numbers.shuffle(rows)
    return rows


def write_files(directory, rows):
    events, items = directory / "ratings.csv", directory / "items.csv"
    events.write_text("user_id,item_id,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    items.write_text("item_id,title\n" + "".join(f"i{n},Film number {n}\n" for n in range(ITEMS - 1)))
    return ["--events", str(events), "--items", str(items)]


def run(directory, command, *arguments, code=0):
    sets = [f"model.path={TINY_MODEL}", "exit.layers=1,3,5", f"engine.weights_cache={directory / 'cache'}", "engine.mode=f32"]
    flags = [flag for value in sets for flag in ("--set", value)]
    done = subprocess.run([PROGRAM, command, *flags, *arguments], capture_output=True, timeout=120 * SLOWDOWN,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "TMPDIR": str(directory)})
    assert done.returncode == code, done.stderr.decode() + done.stdout.decode()
    return done.stdout.decode(), done.stderr.decode()



def earlier(rows, at, **fields):
    """Pairs met before a time: an event of the very same time is not known."""
    wanted = [row for row in rows if row[3] < at and all(row["uirt".index(key)] == value for key, value in fields.items())]
    return len({(row[0], row[1]) for row in wanted})


def test_an_exported_prompt_holds_what_was_known_and_the_tokens_that_the_worker_reads(tmp_path):
    rows = ratings()
    out = tmp_path / "prompts.jsonl"
    run(tmp_path, "export", *write_files(tmp_path, rows), "--out", str(out))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == len({(u, i, t) for u, i, _, t in rows})
    assert [line["times"]["request"] for line in lines] == sorted(line["times"]["request"] for line in lines)
    assert {line["part"] for line in lines} == {"train", "calibrate", "test"}
    first = {}
    for user, item, rating, time in rows:
        first.setdefault((user, item, time), rating >= 4)
    for line in lines:
        at = line["times"]["request"]
        assert line["label"] == first[line["user_id"], line["item_id"], at]
        assert line["evidence"]["user_count"] == earlier(rows, at, u=line["user_id"])
        assert line["evidence"]["item_count"] == earlier(rows, at, i=line["item_id"])
        for fact in ("history", "evidence"):
            assert line["times"][fact] is None or line["times"][fact] < at
        cold = line["item_id"] == f"i{ITEMS - 1}"
        assert (line["status"] == "COLD_ITEM") == cold
        assert bool(line["ids"]["candidate"]) == bool(line["prompt"]["candidate"]) == (not cold)
        if not cold:
            assert f"Film number {line['item_id'][1:]}" in line["prompt"]["candidate"]


def test_a_second_replay_knows_the_answers_and_reports_the_same(tmp_path):
    files = write_files(tmp_path, ratings())
    arguments = [*files, "--split", "5:2:3", "--protocol", "both"]
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    _, log = run(tmp_path, "replay", *arguments, "--json", str(one), "--report", str(tmp_path / "one.html"))
    assert "layers of width" in log and "leak" not in log
    _, log = run(tmp_path, "replay", *arguments, "--json", str(other))
    assert "known from an earlier replay" in log and "layers of width" not in log
    times = [a for a, b in zip(one.read_text().splitlines(), other.read_text().splitlines()) if a != b]
    assert len(times) <= 1, times
    assert json.loads(one.read_text()) and (tmp_path / "one-paper.html").exists()
    assert not list(tmp_path.glob("headrace-replay-*"))
    _, log = run(tmp_path, "replay", *arguments, "--json", str(other), "--fresh")
    assert "known from an earlier replay" not in log
    times = [a for a, b in zip(one.read_text().splitlines(), other.read_text().splitlines()) if a != b]
    assert len(times) <= 1, times
    run(tmp_path, "replay", "--compare", str(one), str(other))


def test_settings_are_crossed_and_the_operating_point_is_measured(tmp_path):
    files = write_files(tmp_path, ratings())
    table, report = tmp_path / "matrix.csv", tmp_path / "matrix.json"
    out, _ = run(tmp_path, "replay", *files, "--split", "5:2:3", "--matrix", "--measure", "20", "--choose", "max_loss=0.02",
                 "--csv", str(table), "--json", str(report))
    lines = table.read_text()
    for setting in ("candidate 4, mean", "none, final", "global 6, weighted", "candidate 1, mean"):
        assert f'"{setting}"' in lines
    assert "text, full depth: " in out and " candidates/s" in out
    assert "text, max_loss 0.02: " in out
    assert len(list((tmp_path / "cache/trajectories").iterdir())) == 3 + 2 * 18


def test_base_vectors_trained_on_the_future_fail_the_run(tmp_path):
    files = write_files(tmp_path, ratings())
    vectors = tmp_path / "vectors.gguf"
    trained = subprocess.run([PROGRAM, "train", "graph", "--ratings", files[1], "--out", str(vectors), "--epochs", "2",
                              "--dimension", "16"], capture_output=True, timeout=120 * SLOWDOWN)
    assert trained.returncode == 0, trained.stderr.decode()
    use = ["--set", f"graph.vectors={vectors}", "--set", "graph.dimension=16"]
    _, log = run(tmp_path, "replay", *files, *use, code=1)
    assert "leak: row 0, " in log and "graph.vectors were trained on an event of" in log


def test_a_store_that_knows_the_future_fails_the_run(tmp_path):
    files = write_files(tmp_path, ratings())
    store = ["--store", str(tmp_path / "store"), "--limit", "30"]
    run(tmp_path, "replay", *files, *store)
    _, log = run(tmp_path, "replay", *files, *store, code=1)
    assert "leak: row 0, " in log


def test_topics_give_what_files_give(world, tmp_path):
    rows = ratings()
    files = write_files(tmp_path, rows)
    producer, interactions, items = world.producer(), Schema("Interaction"), Schema("Item")
    for user, item, rating, time in rows:
        producer.produce("interactions", key=user, value=interactions.encode(
            {"user_id": user, "item_id": item, "timestamp": time, "kind": "rating", "value": float(rating), "label": None,
             "request_id": None}))
    for number in range(ITEMS - 1):
        producer.produce("items", key=f"i{number}", value=items.encode(
            {"item_id": f"i{number}", "title": f"Film number {number}", "attributes": {}}))
    assert producer.flush(20) == 0
    kafka = ["--set", f"kafka.bootstrap.servers={world.address}"]
    from_topics, from_files = tmp_path / "topics.jsonl", tmp_path / "files.jsonl"
    run(tmp_path, "export", *kafka, "--out", str(from_topics))
    run(tmp_path, "export", *files, "--out", str(from_files))

    def told(path):
        """In an order that does not depend on the partitions, and without what comes of the order of one time's events."""
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return sorted((line["times"]["request"], line["user_id"], line["item_id"], line["status"], line["part"],
                       line["evidence"]["user_count"], line["evidence"]["item_count"]) for line in lines)

    assert told(from_topics) == told(from_files)
    run(tmp_path, "export", *kafka, "--from", "0", "--to", "0", "--out", str(from_topics), code=2)
    _, log = run(tmp_path, "export", *kafka, "--from", "1000000", "--out", str(from_topics), code=1)
    assert "nothing to replay" in log


def test_what_is_wrong_is_said(tmp_path):
    files = write_files(tmp_path, ratings())
    for arguments, words in [
        (["--items", files[3]], "--events or --requests is missing"),
        ([*files, "--split", "8:1"], "train:calibrate:test"),
        ([*files, "--sample", "2"], "--sample is a share"),
        ([*files, "--protocol", "rolling"], "none of chronological, paper, both"),
        ([*files, "--from", "yesterday"], "neither a time nor an offset"),
        (["--compare", files[1]], "two reports"),
    ]:
        _, log = run(tmp_path, "replay", *arguments, code=2)
        assert words in log, log
    _, log = run(tmp_path, "replay", "--events", str(tmp_path / "none.csv"), code=1)
    assert "none.csv" in log
    _, log = run(tmp_path, "replay", *files, "--after", "2040-01-01", code=1)
    assert "no request is left" in log
