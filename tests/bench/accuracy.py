"""What an arithmetic mode costs in accuracy, on real prompts with trained heads. Run by ./dev bench accuracy.

For every mode and exit a logistic regression on the last token's hidden state (RMS-norm, each dimension's mean and
scale, strong L2) is trained on the earlier prompts and tested on the later ones, once on the mode's own states: the
difference of its AUC to that of f32 is what a user would notice. And once the f32 head reads the mode's states: the
correlation of its logits with those on f32 states says how much noise the arithmetic adds.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy

PENALTY = 1e-3  # C of one row, in scikit-learn's terms: 1e-3 at 2,000 rows did best by our measurements
TRAINED = 0.55  # share of the prompts, the earlier ones, that train
ROUNDS = 1000  # of the bootstrap


def read_prompts(path):
    users, liked = [], []
    with open(path) as file:
        for line in file:
            if line.startswith("prompt "):
                _, user, _, count = line.split()
                next(file)
                for _ in range(int(count)):
                    liked.append(next(file).startswith("1 "))
                    users.append(int(user))
    return numpy.array(users), numpy.array(liked)


def auc(scores, liked):
    """Mann and Whitney's, ties count a half."""
    order = numpy.argsort(scores, kind="stable")
    ordered = scores[order]
    first = numpy.searchsorted(ordered, ordered, "left")
    last = numpy.searchsorted(ordered, ordered, "right")
    ranks = numpy.empty(len(scores))
    ranks[order] = (first + last + 1) / 2
    yes = liked.sum()
    return (ranks[liked].sum() - yes * (yes + 1) / 2) / (yes * (len(liked) - yes))


class Head:
    """Logistic regression by Newton's method; the penalty is on the weights, not on the bias."""

    def __init__(self, states, liked):
        self.mean = states.mean(0)
        self.scale = states.std(0) + 1e-6
        x = numpy.hstack([self.normal(states), numpy.ones((len(states), 1))])
        ridge = numpy.full(x.shape[1], 1 / PENALTY)
        ridge[-1] = 0
        weights = numpy.zeros(x.shape[1])
        for _ in range(30):
            p = 1 / (1 + numpy.exp(-x @ weights))
            gradient = x.T @ (p - liked) + ridge * weights
            curvature = x.T @ (x * (p * (1 - p))[:, None]) + numpy.diag(ridge)
            step = numpy.linalg.solve(curvature, gradient)
            weights -= step
            if numpy.abs(step).max() < 1e-8:
                break
        self.weights = weights

    def normal(self, states):
        return (states - self.mean) / self.scale

    def logits(self, states):
        return self.normal(states) @ self.weights[:-1] + self.weights[-1]


class Accuracy:
    def __init__(self, flags):
        self.flags = flags
        self.prompts = os.path.join(flags.work, "prompts.txt")

    def program(self, name):
        return os.path.join(self.flags.programs, f"bench_{name}")

    def write_prompts(self):
        store = os.path.join(self.flags.work, "store")
        subprocess.run(["rm", "-rf", store], check=True)
        subprocess.run([self.program("prompts"), "--ratings", self.flags.ratings, "--items", self.flags.items,
                        "--out", self.prompts, "--prompts", str(self.flags.prompts), "--candidates", "20",
                        "--set", f"model.path={self.flags.model}", "--set", f"state.dir={store}",
                        "--set", "log.level=warn"], check=True)
        self.users, self.liked = read_prompts(self.prompts)
        self.train = numpy.arange(len(self.liked)) < len(self.liked) * TRAINED  # prompts are in time order
        self.test = ~self.train

    def states(self, mode):
        """(the mode's layers, {layer: RMS-normed states})"""
        out = os.path.join(self.flags.work, f"states-{mode}.bin")
        start = time.monotonic()
        run = subprocess.run([self.program("states"), "--prompts", self.prompts, "--out", out,
                              "--set", f"model.path={self.flags.model}", "--set", f"engine.mode={mode}",
                              "--set", f"engine.cpu={self.flags.cpu}", "--set", f"engine.threads={self.flags.threads}",
                              "--set", "log.level=warn"], stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            raise SystemExit(f"bench: no hidden states in mode {mode}")
        shape = json.loads(run.stdout)
        print(f"  {mode}: hidden states of {len(self.liked)} prompts in {time.monotonic() - start:.0f} s", flush=True)
        raw = numpy.fromfile(out, numpy.float32).reshape(len(self.liked), len(shape["layers"]), shape["width"])
        raw = raw.astype(numpy.float64)
        raw /= numpy.sqrt((raw**2).mean(-1, keepdims=True) + shape["norm_epsilon"])
        return {layer: raw[:, i] for i, layer in enumerate(shape["layers"])}

    def compare(self, mode, states, exact):
        """By exit: AUC, difference to f32 with its interval, correlation."""
        draw = numpy.random.default_rng(1)
        liked, users = self.liked[self.test], self.users[self.test]
        rows_of = [numpy.flatnonzero(users == user) for user in numpy.unique(users)]
        out = {}
        for layer, own in states.items():
            base = Head(exact[layer][self.train], self.liked[self.train])
            head = base if mode == "f32" else Head(own[self.train], self.liked[self.train])
            ours, theirs = head.logits(own[self.test]), base.logits(exact[layer][self.test])
            through = base.logits(own[self.test])
            differences = []
            for _ in range(ROUNDS if mode != "f32" else 0):
                rows = numpy.concatenate([rows_of[i] for i in draw.integers(0, len(rows_of), len(rows_of))])
                differences.append(auc(ours[rows], liked[rows]) - auc(theirs[rows], liked[rows]))
            out[layer] = {"auc": auc(ours, liked), "delta_auc": auc(ours, liked) - auc(theirs, liked),
                          "interval": list(numpy.percentile(differences, [2.5, 97.5])) if differences else [0.0, 0.0],
                          "logit_correlation": float(numpy.corrcoef(through, theirs)[0, 1]),
                          "state_error": float(numpy.mean(numpy.linalg.norm(own - exact[layer], axis=1) /
                                                          numpy.linalg.norm(exact[layer], axis=1)))}
        return out


def print_table(mode, results):
    print(f"\n  {mode:<10}{'exit':>6}{'AUC':>8}{'less f32':>10}{'95 % interval':>20}{'corr. of logits':>18}"
          f"{'error of state':>16}")
    for layer, result in results.items():
        low, high = result["interval"]
        print(f"  {'':<10}{layer:>6}{result['auc']:>8.3f}{result['delta_auc']:>+10.4f}"
              f"{f'{low:+.4f} .. {high:+.4f}':>20}{result['logit_correlation']:>18.4f}{result['state_error']:>16.4f}")
    sys.stdout.flush()


def default_mode(accuracy):
    """As the engine itself says."""
    run = subprocess.run([accuracy.program("engine"), "--prompts", accuracy.prompts,
                          "--set", f"model.path={accuracy.flags.model}", "--set", f"engine.cpu={accuracy.flags.cpu}",
                          "--set", "exit.rule=full"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"bench: {run.stderr}")
    return json.loads(run.stdout[len("ready "):])["arithmetic"].split(" on ")[0]


def read_flags():
    parser = argparse.ArgumentParser(prog="./dev bench accuracy", description=__doc__)
    for name in ("programs", "model", "ratings", "items", "work", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--cpu", default="auto", help="instruction set: auto, scalar, avx2, avx512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=150, help="each with 20 candidates")
    parser.add_argument("--modes", help="joined by commas; without: the default mode and bf16")
    return parser.parse_args()


def main():
    accuracy = Accuracy(read_flags())
    os.makedirs(accuracy.flags.work, exist_ok=True)
    accuracy.write_prompts()
    print(f"  {accuracy.train.sum()} train, {accuracy.test.sum()} test, {accuracy.liked.mean():.2f} liked", flush=True)
    default = default_mode(accuracy)
    modes = accuracy.flags.modes.split(",") if accuracy.flags.modes else list(dict.fromkeys([default, "bf16"]))
    exact = accuracy.states("f32")
    tables = {"f32": accuracy.compare("f32", exact, exact)}
    print_table("f32", tables["f32"])
    for mode in modes:
        tables[mode] = accuracy.compare(mode, accuracy.states(mode), exact)
        print_table(mode, tables[mode])

    best = max(tables["f32"], key=lambda layer: tables["f32"][layer]["auc"])
    out = {"accuracy": tables, "best_exit": best, "default_mode": default}
    if default in tables:
        out["delta_auc_default"] = tables[default][best]["delta_auc"]
        out["logit_correlation_default"] = min(exit["logit_correlation"] for exit in tables[default].values())
    if "bf16" in tables:
        out["logit_correlation_bf16"] = min(exit["logit_correlation"] for exit in tables["bf16"].values())
    known = {}
    if os.path.exists(accuracy.flags.out):
        with open(accuracy.flags.out) as file:
            known = json.load(file)
    with open(accuracy.flags.out, "w") as file:
        json.dump(known | out, file, indent=2)
        file.write("\n")
    print("\n  " + ", ".join(f"{key} {value:.4f}" for key, value in out.items() if isinstance(value, float)))


if __name__ == "__main__":
    main()
