"""The demo's traffic on the tiny model: figures that can be checked, and a planted leak that must be caught."""

import json
import re
import subprocess

from conftest import CACHE, PROGRAM, wait_for


def drive(world, *flags):
    worker = world.worker()
    done = subprocess.run([PROGRAM, "demo", *world.config(), "--ratings", str(CACHE / "ml-100k.inter"), "--items", str(CACHE / "ml-100k.item"), *flags],
                          capture_output=True, text=True, timeout=300)
    return worker, done


def test_the_demo_measures_answers_that_knew_only_the_past(world, tmp_path):
    worker, done = drive(world, "--requests", "200", "--summary", str(tmp_path / "summary.json"))
    assert done.returncode == 0, done.stderr + world.log(worker)
    world.stop(worker)
    assert "leaks      none" in done.stdout
    assert done.stdout.count("probability at each exit") == 3
    figures = json.loads((tmp_path / "summary.json").read_text())
    assert figures["events"] == 100_000
    assert figures["requests"] == figures["responses"] == 200
    assert figures["candidates"] > 1000
    assert 0 < figures["auc_low"] < figures["auc"] < figures["auc_high"] < 1
    assert 0.6 < figures["auc_item_rate"] < 0.85 and 0.65 < figures["auc_item_user_rate"] < 0.9
    assert 1 <= figures["mean_exit_layer"] <= 6
    for name in ("log_loss", "candidates_per_second", "latency_ms_p50", "latency_ms_p99"):
        assert figures[name] > 0
    counts = json.loads(world.run("inspect", "graph", "--json"))
    assert counts["edges"] == 100_000 and counts["titles"] == 1682


def test_a_rating_planted_early_is_caught(world):
    worker, done = drive(world, "--requests", "3", "--plant-leak")
    assert done.returncode == 1
    assert "planting a leak" in done.stderr and "proves nothing" in done.stderr
    assert re.search(r"LEAKS +[1-9]\d* answers knew too much", done.stdout)
    world.stop(worker)
