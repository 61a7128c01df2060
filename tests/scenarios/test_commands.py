"""The command line: help, exit codes, files in and JSON lines out."""

import json
import re
import subprocess

import pytest

from conftest import CACHE, EARLY, PROGRAM, ROOT, TINY_MODEL, wait_for

COMMANDS = ["run", "score", "produce", "consume", "broker", "demo", "inspect", "check"]


def headrace(*arguments, **options):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, **options)


def test_help_names_every_command_and_every_help_has_an_example():
    done = headrace("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.M)
        one = headrace(command, "--help")
        assert one.returncode == 0 and f"headrace {command}" in one.stdout.split("example:")[1]


def test_version():
    done = headrace("--version")
    assert done.returncode == 0 and re.fullmatch(r"headrace \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["run", "--nonsense"], ["run", "operand"], ["consume"], ["score", "--user", "1"],
    ["produce", "--type", "film", "x.csv"], ["run", "--set", "graph.layer=3"], ["run", "--set", "graph.layers=many"],
    ["broker", "--partitions", "zero"], ["inspect", "weather"]])
def test_wrong_usage_is_2_and_says_why_on_standard_error(arguments):
    done = headrace(*arguments)
    assert done.returncode == 2, done
    assert done.stderr and not done.stdout


def test_a_misspelt_option_is_named_with_its_place_and_the_nearest(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("graph:\n  layers: 3\n  similar_user: 4\n")
    done = headrace("check", "--config", str(path))
    assert done.returncode == 2
    assert f"{path}:3:3" in done.stderr and "similar_users" in done.stderr


def test_failures_are_1_and_name_what_failed(tmp_path):
    done = headrace("score", "--user", "1", "--items", "2", "--set", f"state.dir={tmp_path}/none", "--set", f"model.path={TINY_MODEL}")
    assert done.returncode == 1 and f"{tmp_path}/none" in done.stderr


def test_files_of_every_format_become_the_same_messages(world, tmp_path):
    rows = [("u1", "i1", 4, 881250949), ("u2", "i\"2", 3.5, 881250950)]
    (tmp_path / "a.csv").write_text('user_id,item_id,rating,timestamp\nu1,i1,4,881250949\nu2,"i""2",3.5,881250950\n')
    (tmp_path / "a.tsv").write_text("who\titem_id\trating\ttimestamp\nu1\ti1\t4\t881250949\nu2\ti\"2\t3.5\t881250950\n")
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t4\t881250949\nu2\ti\"2\t3.5\t881250950\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t * 1000, "kind": "rating", "value": v}) + "\n" for u, i, v, t in rows))
    extra = {"a.csv": ["--time-unit", "s"], "a.tsv": ["--time-unit", "s", "--map", "user_id=who"], "a.inter": [], "a.jsonl": []}
    for name, flags in extra.items():
        world.run("produce", str(tmp_path / name), *flags)
    lines = [json.loads(line) for line in world.run("consume", "interactions").splitlines()]
    assert len(lines) == 8
    expected = {(u, i, float(v), t * 1000, "rating") for u, i, v, t in rows}
    assert {(m["user_id"], m["item_id"], m["value"], m["timestamp"], m["kind"]) for m in lines} == expected


def test_bad_rows_are_named_and_the_rest_is_produced(world, tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,rating,timestamp\nu1,i1,four,1\nu2,i2,4,2\n")
    done = subprocess.run([PROGRAM, "produce", *world.config(), str(tmp_path / "a.csv")], capture_output=True, text=True)
    assert done.returncode == 1 and "a.csv:2" in done.stderr
    assert len(world.run("consume", "interactions").splitlines()) == 1


def test_score_needs_no_kafka(world):
    """The store of a worker that is gone answers from the command line, and from JSON lines."""
    world.run("produce", "--type", "item", str(CACHE / "ml-100k.item"), "--map", "title={movie_title} ({release_year})", "--limit", "400")
    world.run("produce", str(CACHE / "ml-100k.inter"), "--limit", "2000")
    worker = world.worker("roles=ingest")
    wait_for("applied", lambda: world.applied("interactions") == 2000 and world.applied("items") == 400)
    world.stop(worker)
    world.stop(world.broker)

    table = world.run("score", "--user", "196", "--items", "242,302", "--explain")
    assert "Kolya (1996)" in table and "L.A. Confidential (1997)" in table and "similar" in table
    one = json.loads(world.run("score", "--user", "196", "--items", "242,302", "--json"))
    assert [c["item_id"] for c in one["candidates"]] == ["242", "302"]
    requests = "".join(json.dumps({"request_id": str(n), "user_id": "196", "timestamp": 900_000_000_000,
                                   "candidates": [{"item_id": "302"}, {"item_id": "242"}]}) + "\n" for n in range(3))
    lines = [json.loads(line) for line in world.run("score", stdin=requests.encode()).splitlines()]
    assert [line["request_id"] for line in lines] == ["0", "1", "2"]
    for line in lines:
        assert line["candidates"][0]["probability"] == one["candidates"][1]["probability"]
    done = subprocess.run([PROGRAM, "score", *world.config()], input=b"{nonsense\n" + requests.encode(), capture_output=True)
    assert done.returncode == 1 and b"line 1" in done.stderr and len(done.stdout.splitlines()) == 3

    packed, = (world.directory / "weights").iterdir()
    assert packed.stat().st_mode & 0o777 == 0o600 and f"weights from {packed} in " in done.stderr.decode()


def test_check_explains_the_configuration_and_hides_secrets(world):
    text = world.run("check", "--connect", sets=("kafka.sasl.password=geheim", "roles=score"), code=1)
    assert "geheim" not in text and "********" in text
    assert "exit.rule" in text and "demo.yaml" in text
    assert re.search(r"^\u2713 http +http.listen: 127.0.0.1:0$", text, re.M)
    text = world.run("check", sets=("http.listen=9464",), code=1)
    assert 'http.listen: cannot listen on "9464": HOST:PORT is wanted' in text


def test_the_client_in_the_readme_gets_its_answer(world, tmp_path):
    readme = (ROOT / "README.md").read_text()
    client, = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert len(client.strip().splitlines()) <= 15
    world.run("produce", "--type", "item", str(CACHE / "ml-100k.item"), "--map", "title={movie_title} ({release_year})")
    world.run("produce", str(CACHE / "ml-100k.inter"), "--limit", "1000")
    worker = world.worker()
    wait_for("ready", lambda: "ready" in world.log(worker))
    path = tmp_path / "client.py"
    path.write_text(client)
    import sys

    done = subprocess.run([sys.executable, str(path), world.address], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "242" in done.stdout and "302" in done.stdout
    world.stop(worker)
