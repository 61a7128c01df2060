"""What an arithmetic mode costs in accuracy, on real prompts with trained heads. Run by ./dev bench accuracy.

For every mode and exit a logistic regression on the last token's hidden state (RMS-norm, each dimension's mean and
scale, L2) is trained on the mode's own states: the difference of its AUC to that of f32 is what a user would notice.
And once the f32 heads read the mode's states: the correlation of their logits with those on f32 states says how much
noise the arithmetic adds.

So that the difference is the arithmetic's and not the training's, all modes have the same rows, folds and L2 (chosen
on f32), the regression has one solution and is solved to it, and every row is tested: users fall into folds, and a
fold is read by the head that was trained on the others. AUC and correlation are means over the folds: heads of two
folds differ by a constant, and that moves with the arithmetic. States are kept in the work folder for the next run;
they are made anew when prompts, model or programs change.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time

import numpy

import rounds

FOLDS = 5
RIDGES = [300, 1000, 3000, 10000]  # the L2 tried on f32: half of it times the weights' square is added to the losses
STEPS = 50  # of Newton's method, at most; it needs about 6
DRAWS = 1000  # of the bootstrap


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


def correlation(a, b):
    return numpy.corrcoef(a, b)[0, 1]


class Head:
    """Logistic regression by Newton's method; the penalty is on the weights, not on the bias."""

    def __init__(self, states, liked, ridge):
        self.mean = states.mean(0)
        self.scale = states.std(0) + 1e-6
        x = numpy.hstack([self.normal(states), numpy.ones((len(states), 1))])
        penalty = numpy.full(x.shape[1], float(ridge))
        penalty[-1] = 0
        self.weights = numpy.zeros(x.shape[1])
        for _ in range(STEPS):
            p = 1 / (1 + numpy.exp(-x @ self.weights))
            gradient = x.T @ (p - liked) + penalty * self.weights
            curvature = x.T @ (x * (p * (1 - p))[:, None]) + numpy.diag(penalty)
            step = numpy.linalg.solve(curvature, gradient)
            self.weights -= step
            if numpy.abs(step).max() < 1e-9:
                return
        raise SystemExit("bench: the training of a head did not converge")

    def normal(self, states):
        return (states - self.mean) / self.scale

    def logits(self, states):
        return self.normal(states) @ self.weights[:-1] + self.weights[-1]


class Heads:
    """A head for each fold, trained on all the others."""

    def __init__(self, states, liked, folds, ridge):
        self.folds = folds
        self.heads = [Head(states[folds != fold], liked[folds != fold], ridge) for fold in range(FOLDS)]

    def logits(self, states):
        """Each row's by the head that has not seen its user."""
        out = numpy.empty(len(states))
        for fold, head in enumerate(self.heads):
            out[self.folds == fold] = head.logits(states[self.folds == fold])
        return out


def losses(logits, liked):
    return numpy.logaddexp(0, numpy.where(liked, -logits, logits))


def choose_ridge(tried, states, liked):
    """The strongest whose loss is within a standard error of the least: what is weaker fits what the rows have by
    chance, and makes much of directions in which states hardly vary."""
    seen = [losses(heads.logits(states), liked) for heads in tried]
    least = min(seen, key=numpy.mean)
    bound = least.mean() + least.std() / numpy.sqrt(len(least))
    return max(i for i in range(len(tried)) if seen[i].mean() <= bound)


def digest(paths, texts):
    sha256 = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            sha256.update(hashlib.sha256(file.read()).digest())
    for text in texts:
        sha256.update(text.encode() + b"\n")
    return sha256.hexdigest()


class Accuracy:
    def __init__(self, flags):
        self.flags = flags
        self.prompts = os.path.join(flags.work, "prompts.txt")

    def program(self, name):
        return os.path.join(self.flags.programs, f"bench_{name}")

    def sets(self, mode, cpu):
        out = []
        for assignment in (f"model.path={self.flags.model}", f"engine.mode={mode}", f"engine.cpu={cpu}",
                           f"engine.threads={self.flags.threads}", "exit.rule=full", "log.level=warn",
                           f"engine.weights_cache={os.path.join(self.flags.work, 'weights')}"):
            out += ["--set", assignment]
        return out

    def write_prompts(self):
        store = os.path.join(self.flags.work, "store")
        subprocess.run(["rm", "-rf", store], check=True)
        subprocess.run([self.program("prompts"), "--ratings", self.flags.ratings, "--items", self.flags.items,
                        "--out", self.prompts, "--prompts", str(self.flags.prompts), "--candidates", "20",
                        "--set", f"model.path={self.flags.model}", "--set", f"state.dir={store}",
                        "--set", "log.level=warn"], check=True)
        self.users, self.liked = read_prompts(self.prompts)
        known = numpy.unique(self.users)
        fold_of = numpy.random.default_rng(1).permutation(len(known)) % FOLDS
        self.folds = fold_of[numpy.searchsorted(known, self.users)]
        for fold in range(FOLDS):
            if len(numpy.unique(self.liked[self.folds == fold])) < 2:
                raise SystemExit(f"bench: {len(known)} users are too few for {FOLDS} folds: more --prompts")

    def states(self, mode, cpu):
        """{layer: RMS-normed states}"""
        out = os.path.join(self.flags.work, f"states-{mode}-{cpu}.bin")
        key = digest([self.program("states"), self.prompts, self.flags.model], [mode, cpu])
        shape = known_shape(out, key)
        if shape:
            print(f"  {mode}: hidden states from {out}", flush=True)
        else:
            shape = self.write_states(mode, cpu, out)
            with open(out + ".json", "w") as file:
                json.dump(shape | {"key": key}, file)
        raw = numpy.fromfile(out, numpy.float32).reshape(len(self.liked), len(shape["layers"]), shape["width"])
        raw = raw.astype(numpy.float64)
        raw /= numpy.sqrt((raw**2).mean(-1, keepdims=True) + shape["norm_epsilon"])
        return {layer: raw[:, i] for i, layer in enumerate(shape["layers"])}

    def write_states(self, mode, cpu, out):
        if os.path.exists(out + ".json"):
            os.remove(out + ".json")  # the states there are about to go
        start = time.monotonic()
        run = subprocess.run([self.program("states"), "--prompts", self.prompts, "--out", out, *self.sets(mode, cpu)],
                             stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            raise SystemExit(f"bench: no hidden states in mode {mode}")
        print(f"  {mode}: hidden states of {len(self.liked)} prompts in {time.monotonic() - start:.0f} s", flush=True)
        return json.loads(run.stdout)

    def train_exact(self, states):
        """By layer: heads on f32 states, and their L2."""
        self.ridges, self.exact, self.exact_heads = {}, states, {}
        for layer, rows in states.items():
            tried = [Heads(rows, self.liked, self.folds, ridge) for ridge in RIDGES]
            chosen = choose_ridge(tried, rows, self.liked)
            self.ridges[layer], self.exact_heads[layer] = RIDGES[chosen], tried[chosen]

    def compare(self, mode, states):
        """By exit: AUC, difference to f32 with its interval, correlation."""
        out = {}
        for layer, own in states.items():
            exact, base = self.exact[layer], self.exact_heads[layer]
            head = base if mode == "f32" else Heads(own, self.liked, self.folds, self.ridges[layer])
            ours, theirs, through = head.logits(own), base.logits(exact), base.logits(own)
            out[layer] = {"auc": self.by_fold(auc, ours, self.liked),
                          "delta_auc": self.by_fold(auc, ours, self.liked) - self.by_fold(auc, theirs, self.liked),
                          "interval": [0.0, 0.0] if mode == "f32" else self.interval(ours, theirs),
                          "log_loss": losses(ours, self.liked).mean(), "ridge": self.ridges[layer],
                          "logit_correlation": self.by_fold(correlation, through, theirs),
                          "state_error": float(numpy.mean(numpy.linalg.norm(own - exact, axis=1) /
                                                          numpy.linalg.norm(exact, axis=1)))}
        return out

    def by_fold(self, measure, a, b, rows=slice(None)):
        """The mean over folds, a row counting as a row."""
        folds, a, b = self.folds[rows], a[rows], b[rows]
        return float(sum((folds == fold).mean() * measure(a[folds == fold], b[folds == fold])
                         for fold in range(FOLDS)))

    def interval(self, ours, theirs):
        """95 % of the difference of AUCs: a bootstrap that draws users, whose rows hang together."""
        draw = numpy.random.default_rng(1)
        rows_of = [numpy.flatnonzero(self.users == user) for user in numpy.unique(self.users)]
        differences = []
        for _ in range(DRAWS):
            rows = numpy.concatenate([rows_of[i] for i in draw.integers(0, len(rows_of), len(rows_of))])
            differences.append(self.by_fold(auc, ours, self.liked, rows) - self.by_fold(auc, theirs, self.liked, rows))
        return list(numpy.percentile(differences, [2.5, 97.5]))


def known_shape(out, key):
    """Of the states that an earlier run left; None if they are not those that this one would make."""
    if not os.path.exists(out) or not os.path.exists(out + ".json"):
        return None
    with open(out + ".json") as file:
        shape = json.load(file)
    return shape if shape.pop("key") == key else None


def print_table(mode, results):
    print(f"\n  {mode:<6}{'exit':>6}{'AUC':>8}{'log loss':>10}{'L2':>7}{'AUC less f32':>14}{'95 % interval':>20}"
          f"{'corr. of logits':>17}{'error of state':>16}")
    for layer, result in results.items():
        low, high = result["interval"]
        print(f"  {'':<6}{layer:>6}{result['auc']:>8.3f}{result['log_loss']:>10.3f}{result['ridge']:>7}"
              f"{result['delta_auc']:>+14.4f}{f'{low:+.4f} .. {high:+.4f}':>20}{result['logit_correlation']:>17.4f}{result['state_error']:>16.4f}")
    sys.stdout.flush()


def default_mode(accuracy):
    """As the engine itself says."""
    run = subprocess.run([accuracy.program("engine"), "--prompts", accuracy.prompts,
                          *accuracy.sets("auto", accuracy.flags.cpu)],
                         stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"bench: {run.stderr}")
    return json.loads(run.stdout[len("ready "):])["arithmetic"].split(" on ")[0]


def read_flags():
    parser = argparse.ArgumentParser(prog="./dev bench accuracy", description=__doc__)
    for name in ("programs", "model", "ratings", "items", "work", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--cpu", default="auto", help="instruction set: auto, scalar, avx2, avx512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=200, help="each with 20 candidates")
    parser.add_argument("--modes", help="joined by commas; without: the default mode and bf16")
    return parser.parse_args()


def figures(tables, default):
    best = max(tables["f32"], key=lambda layer: tables["f32"][layer]["auc"])
    out = {"accuracy": tables, "best_exit": best, "default_mode": default}
    for name, mode in (("default", default), ("bf16", "bf16")):
        if mode in tables:
            out |= {f"delta_auc_{name}": tables[mode][best]["delta_auc"],
                    f"delta_auc_{name}_worst": min(exit["delta_auc"] for exit in tables[mode].values()),
                    f"logit_correlation_{name}": min(exit["logit_correlation"] for exit in tables[mode].values())}
    return out


def main():
    accuracy = Accuracy(read_flags())
    os.makedirs(accuracy.flags.work, exist_ok=True)
    accuracy.write_prompts()
    default = default_mode(accuracy)
    modes = accuracy.flags.modes.split(",") if accuracy.flags.modes else list(dict.fromkeys([default, "bf16"]))
    print(f"  {len(accuracy.liked)} prompts, {len(numpy.unique(accuracy.users))} users, {accuracy.liked.mean():.2f} "
          f"liked; each is tested by heads trained on the other {FOLDS - 1} of {FOLDS} folds", flush=True)
    accuracy.train_exact(accuracy.states("f32", "auto"))
    tables = {"f32": accuracy.compare("f32", accuracy.exact)}
    print_table("f32", tables["f32"])
    for mode in modes:
        tables[mode] = accuracy.compare(mode, accuracy.states(mode, accuracy.flags.cpu))
        print_table(mode, tables[mode])
    rounds.add_figures(accuracy.flags.out, figures(tables, default))


if __name__ == "__main__":
    main()
