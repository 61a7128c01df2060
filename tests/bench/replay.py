"""Heads and replay beside their goals, on ml-100k in order of time and on data whose truth is known. Run by
./dev bench replay.

Heads learn from events of 50-75 % (the last tenth of them calibrates), rows of 75-100 % are the test. Twice: with
evidence in the prompt, and with the user's history alone. The figures are those of the reports that `headrace replay`
writes; here they are put beside the goals. A tenth of the rows is replayed twice, model and all: both reports must be
the same bytes but for their lines of times. History alone, whose prompts are short, trains on twice as many rows and is
judged on half of them. The generated data (clicks.py) need no model: what can be known of them is in the evidence.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time

import clicks

# (key, goal, whether more is better); a goal of None is told as it comes
GOALS = [
    ("rows", None, True),
    ("auc_exit0", None, True),
    ("auc_text_evidence", 0.74, True),
    ("auc_text_history", 0.70, True),
    ("auc_features", None, True),
    ("auc_hybrid", 0.757, True),
    ("auc_hybrid_minus_features", -0.002, True),
    ("auc_hybrid_minus_features_low", None, True),
    ("auc_hybrid_minus_features_high", None, True),
    ("token_layers_ratio_calibrated", 0.55, False),
    ("log_loss_increase_calibrated", 0.002, False),
    ("speedup_calibrated", 1.6, True),
    ("token_layers_ratio_probability", 0.75, False),
    ("log_loss_increase_probability", 0.0, False),
    ("ece", 0.03, False),
    ("clicks_auc_missing", 0.01, False),
    ("clicks_ece_excess", 0.01, False),
]
PAPERS_RULE = "probability, m 3, tau 0.01"
MAPS = ["--item-map", "title={movie_title} ({release_year})", "--item-map", "attributes.genres=class:list"]
TEST_SHARE = 0.25
SPLIT = "45.1:5:49.9"  # of the later half


class Bench:
    def __init__(self, flags):
        self.flags = flags
        self.start = time.monotonic()
        self.seconds = {}

    def path(self, name):
        return os.path.join(self.flags.work, name)

    def run(self, name, command):
        """Its standard output; what it says on standard error goes to a log."""
        print(f"\n{name} ({time.monotonic() - self.start:.0f} s)", flush=True)
        begin = time.monotonic()
        with open(self.path(name.replace(" ", "-") + ".log"), "w") as log:
            done = subprocess.run([self.flags.program, *command], stdout=subprocess.PIPE, stderr=log, text=True)
        self.seconds[name] = round(time.monotonic() - begin, 1)
        if done.returncode != 0:
            with open(log.name) as said:
                sys.stderr.write("".join(said.readlines()[-5:]))
            raise SystemExit(f"bench: headrace {' '.join(command)}")
        print(done.stdout, end="")
        return done.stdout

    def settings(self, more):
        pairs = {"model.path": self.flags.model, "model.id": "SmolLM2-135M-Instruct",
                 "engine.weights_cache": self.path("cache"), "engine.threads": self.flags.threads} | more
        return [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]

    def data(self):
        return ["--events", self.flags.ratings, "--items", self.flags.items, *MAPS]

    def train(self, name, sets, settings, more=(), times=1):
        """(file of heads, exit 0's penalty); on so many times the rows of --train-share"""
        heads = self.path(name + ".heads.gguf")
        said = self.run(f"train {name}", ["train", "heads", *self.data(), "--sets", sets, "--out", heads, "--rows-share",
                                          f"{times * self.flags.train_share:g}", *more, *self.settings(settings)])
        found = re.search(r"^exit0\s+0\s+\S+\s+\S+\s+(\S+)", said, re.MULTILINE)
        if found is None:
            raise SystemExit("bench: train heads has not said exit 0's penalty")
        return heads, float(found.group(1))

    def replay(self, name, data, settings, more):
        """The report, and its text without the line of times."""
        out = self.path(name + ".json")
        self.run(f"replay {name}", ["replay", *data, "--json", out, "--report", self.path(name + ".html"), *more,
                                    *self.settings(settings)])
        with open(out) as file:
            text = file.read()
        return json.loads(text), without_times(text)

    def judge(self, name, heads, l2, settings, rows, more=()):
        """Test rows are those of the last quarter; baselines learn from the quarter before.

        The test begins just behind the newest event that the heads know, else the replay would rightly call it a leak.
        """
        share = min(rows / self.flags.test_rows, 1)
        return self.replay(name, self.data(), {"heads.path": heads} | settings,
                           ["--warm", "0.5", "--split", SPLIT, "--sample-by", "request", "--sample", f"{share:.6g}",
                            "--l2", f"{l2:g}", *more])


def without_times(text):
    return [line for line in text.splitlines() if not line.startswith('"times": ')]


def page_without_times(path):
    """The page's line of times is the paragraph behind its heading."""
    with open(path) as file:
        lines = file.read().splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("<h1>"))
    return lines[: heading + 1] + lines[heading + 2 :]


def history_template(source, target):
    """The default template without evidence: what others thought, and the viewer's own counts."""
    with open(source) as file:
        text = file.read()
    for name in ("ratings", "similar_known", "recent_known"):
        text, removed = re.subn(r"\{\{\?%s\}\}\n.*?\{\{/%s\}\}\n" % (name, name), "", text, flags=re.DOTALL)
        if removed != 1:
            raise SystemExit(f"bench: {source} has no section {name}")
    with open(target, "w") as file:
        file.write(text)
    return target


def scorer(report, name):
    return next((one for one in report["scorers"] if one["id"] == name), None)


def point(report, heads, rule):
    dial = next(one for one in report["dials"] if one["set"] == heads)
    return next((one for one in dial["points"] if one["rule"] == rule), None)


def speedup(report):
    """Candidates/s under `calibrated` to those at full depth, where the replay has measured both."""
    speeds = {name: value for name, value in report["candidates_per_second"].items() if name.startswith("text")}
    full = next((value for name, value in speeds.items() if "full" in name), None)
    calibrated = next((value for name, value in speeds.items() if "calibrated" in name), None)
    return calibrated / full if full and calibrated else None


def figures_of(report, history):
    text, hybrid = scorer(report, "text.best"), scorer(report, "hybrid.best")
    served = scorer(report, "text.served") or scorer(report, "text.full")  # heads without thresholds run to the end
    papers = point(report, "text", PAPERS_RULE)
    difference = hybrid["auc_minus"]
    return {
        "rows": served["rows"],
        "auc_exit0": scorer(report, "exit0")["auc"],
        "auc_text_evidence": text["auc"],
        "auc_text_history": scorer(history, "text.best")["auc"],
        "auc_features": scorer(report, "features")["auc"],
        "auc_hybrid": hybrid["auc"],
        "auc_hybrid_minus_features": difference["value"],
        "auc_hybrid_minus_features_low": difference["low"],
        "auc_hybrid_minus_features_high": difference["high"],
        "token_layers_ratio_calibrated": served["token_layers_share"],
        "log_loss_increase_calibrated": served["increase"]["value"],
        "speedup_calibrated": speedup(report),
        "token_layers_ratio_probability": papers["token_layers_share"] if papers else None,
        "log_loss_increase_probability":
            papers["log_loss"] - scorer(report, "text.full")["log_loss"] if papers else None,
        "ece": served["ece"],
    }


def auc(p, labels):
    """By mid-ranks."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    ranks, i = 0.0, 0
    while i < len(order):
        j = i
        while j < len(order) and p[order[j]] == p[order[i]]:
            j += 1
        ranks += sum(labels[order[k]] for k in range(i, j)) * (i + j + 1) / 2
        i = j
    yes = sum(labels)
    return (ranks - yes * (yes + 1) / 2) / (yes * (len(p) - yes))


def calibration_error(p, labels, bins=10):
    order = sorted(range(len(p)), key=lambda i: p[i])
    error = 0.0
    for b in range(bins):
        inside = order[b * len(order) // bins : (b + 1) * len(order) // bins]
        error += abs(sum(p[i] - labels[i] for i in inside))
    return error / len(p)


def known_truth(bench):
    """How far the evidence's regression is from the most that can be known."""
    paths = clicks.write(bench.path("clicks"))
    with open(paths["truth"]) as file:
        truth = {int(line.split("\t")[0]) * 1000: float(line.split("\t")[1]) for line in file}
    report, _ = bench.replay("clicks", ["--events", paths["inter"], "--items", paths["item"], *MAPS],
                             {"engine.backend": "none"}, ["--warm", "0.5", "--split", "45:5:50"])
    rows = report["predictions"]
    labels, best = rows["label"], [truth[at] for at in rows["timestamp_ms"]]
    ours = rows["p"]["features"]
    out = {"clicks_rows": len(labels), "clicks_auc": auc(ours, labels), "clicks_auc_best": auc(best, labels),
           "clicks_ece": calibration_error(ours, labels), "clicks_ece_best": calibration_error(best, labels),
           "clicks_mean_distance": sum(abs(a - b) for a, b in zip(ours, best)) / len(best)}
    if not math.isclose(out["clicks_auc"], scorer(report, "features")["auc"], abs_tol=1e-4):
        raise SystemExit("bench: the report's AUC is not that of its own rows")
    return out | {"clicks_auc_missing": out["clicks_auc_best"] - out["clicks_auc"],
                  "clicks_ece_excess": out["clicks_ece"] - out["clicks_ece_best"]}


def table(out):
    print(f"\n{'':<34}{'goal':>10}{'measured':>12}")
    missed = 0
    for key, goal, more in GOALS:
        value = out[key]
        if value is None:
            verdict = "NOT MEASURED"
        else:
            verdict = "" if goal is None else "met" if (value >= goal if more else value <= goal) else "NOT MET"
        missed += verdict.startswith("NOT")
        limit = "" if goal is None else f"{'>=' if more else '<='} {goal:g}"
        shown = "" if value is None else f"{value:.0f}" if key == "rows" else f"{value:.4f}"
        print(f"{key:<34}{limit:>10}{shown:>12}  {verdict}")
    print(f"{'identical_runs':<34}{'yes':>10}{'yes' if out['identical_runs'] else 'no':>12}  "
          f"{'met' if out['identical_runs'] else 'NOT MET'}")
    return missed + (not out["identical_runs"])


def read_flags():
    parser = argparse.ArgumentParser(prog="./dev bench replay", description=__doc__)
    for name in ("program", "model", "ratings", "items", "template", "work", "out", "threads"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--rows", type=int, default=2300, help="test rows, about")
    parser.add_argument("--train-share", type=float, default=0.1, help="of the rows in 50-75 %% that train")
    flags = parser.parse_args()
    with open(flags.ratings) as file:
        flags.test_rows = (sum(1 for _ in file) - 1) * TEST_SHARE
    return flags


def main():
    bench = Bench(read_flags())
    flags = bench.flags
    shutil.rmtree(flags.work, ignore_errors=True)
    os.makedirs(flags.work)
    heads, l2 = bench.train("evidence", "text,hybrid", {}, ["--calibrate-share", "0.5"])
    report, _ = bench.judge("evidence", heads, l2, {}, flags.rows, more=["--measure", "200"])
    _, once = bench.judge("once", heads, l2, {}, flags.rows / 10, more=["--fresh"])
    _, again = bench.judge("again", heads, l2, {}, flags.rows / 10, more=["--fresh"])
    history = {"prompt.template": history_template(flags.template, bench.path("history.prompt")),
               "graph.similar": "none"}
    history_heads, history_l2 = bench.train("history", "text", history, ["--calibrate-share", "0.5"], 2)
    history_report, _ = bench.judge("history", history_heads, history_l2, history, flags.rows / 2)
    same = once == again and (page_without_times(bench.path("once.html")) ==
                              page_without_times(bench.path("again.html")))
    out = figures_of(report, history_report) | known_truth(bench)
    out |= {"identical_runs": same, "summary": report["summary"],
            "candidates_per_second": report["candidates_per_second"], "seconds": bench.seconds,
            "seconds_in_all": round(time.monotonic() - bench.start, 1)}
    missed = table(out)
    print(f"\n{out['summary']}\n\n{out['seconds_in_all']:.0f} s in all; report: {bench.path('evidence.html')}")
    if missed:
        print(f"{missed} goals are not met")
    with open(flags.out, "w") as file:
        json.dump(out, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
