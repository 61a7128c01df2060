"""How well `headrace train graph` ranks, beside RecBole's LightGCN. Run by ./dev bench train-graph.

Both train on the same 80 % of ml-100k (a random share of each user's ratings, RecBole's own default), stop early by
recall@20 on the next 10 %, and are tested on the last 10 %: full ranking, a user's known items left out, mean over
users. Same layers, normalisation, dimension, batch, learning rate and penalty. One function here measures both; ours
is put together anew from the file that `train graph` wrote: e0 = z0 * sqrt(degree) / scale, propagated by scipy.
Fails when the mean over the seeds of our recall@20 is below 0.97 of RecBole's.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time

import numpy
import scipy.sparse

REQUIRED = 0.97
TOP = 20
SETTINGS = {
    "layers": 3,
    "dimension": 64,
    "epochs": 300,
    "batch": 2048,
    "learning_rate": 0.002,
    "l2": 1e-4,
    "patience": 20,  # recall@20 stands still for ten epochs before it rises
}
SPLIT_SEED = 2020


class Split:
    """pairs of ids by part, written as RecBole wants them and as `train graph` reads them"""

    def __init__(self, ratings, directory):
        by_user = {}
        with open(ratings) as file:
            next(file)
            for line in file:
                user, item = line.rstrip("\n").split("\t")[:2]
                by_user.setdefault(user, []).append(item)
        chance = random.Random(SPLIT_SEED)
        self.train, self.valid, self.test = [], [], []
        for user, items in sorted(by_user.items()):
            chance.shuffle(items)
            tenth = len(items) // 10
            pairs = [(user, item) for item in items]
            self.test += pairs[:tenth]
            self.valid += pairs[tenth : 2 * tenth]
            self.train += pairs[2 * tenth :]
        self.directory = os.path.join(directory, "split")
        os.makedirs(self.directory, exist_ok=True)
        for name in ("train", "valid", "test"):
            self.write(f"split.{name}.inter", getattr(self, name))
        # Ours holds out the latest share by time: the line's number stands for it.
        self.fit = self.write("fit.inter", self.train + self.valid)
        self.held_share = len(self.valid) / (len(self.train) + len(self.valid))
        self.known, self.wanted = {}, {}
        for user, item in self.train + self.valid:
            self.known.setdefault(user, set()).add(item)
        for user, item in self.test:
            self.wanted.setdefault(user, set()).add(item)

    def write(self, name, pairs):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write("user_id:token\titem_id:token\ttimestamp:float\n")
            for number, (user, item) in enumerate(pairs):
                file.write(f"{user}\t{item}\t{number}\n")
        return path

    def recall(self, users, user_rows, items, item_rows):
        """ids and their final vectors; a user or an item without a vector is never right"""
        number = {item: i for i, item in enumerate(items)}
        rows = {user: i for i, user in enumerate(users)}
        recalls = []
        for user, wanted in self.wanted.items():
            hits = 0
            if user in rows:
                scores = item_rows @ user_rows[rows[user]]
                scores[[number[item] for item in self.known[user] if item in number]] = -numpy.inf
                best = numpy.argpartition(-scores, TOP)[:TOP]
                hits = sum(items[i] in wanted for i in best)
            recalls.append(hits / len(wanted))
        return float(numpy.mean(recalls))


def multiply_faster(model):
    """The same products as RecBole's, several times faster on a CPU: rows instead of coordinates, and backward, where
    torch transposes the matrix at every step, the matrix itself, as it is symmetric."""
    import torch

    multiply = torch.sparse.mm

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(context, matrix, rows):
            context.matrix = matrix
            return multiply(matrix, rows)

        @staticmethod
        def backward(context, gradient):
            return None, multiply(context.matrix, gradient)

    model.norm_adj_matrix = model.norm_adj_matrix.coalesce().to_sparse_csr()
    torch.sparse.mm = Product.apply


def run_recbole(split, seed, directory):
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    multiply = torch.sparse.mm
    config = Config(
        model="LightGCN",
        dataset="split",
        config_dict={
            "data_path": directory,
            "checkpoint_dir": os.path.join(directory, "saved"),
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "use_gpu": False,
            "seed": seed,
            "show_progress": False,
            "embedding_size": SETTINGS["dimension"],
            "n_layers": SETTINGS["layers"],
            "epochs": SETTINGS["epochs"],
            "train_batch_size": SETTINGS["batch"],
            "learning_rate": SETTINGS["learning_rate"],
            "reg_weight": SETTINGS["l2"],
            "require_pow": True,  # the squares of equation 15, as He et al. and we have them
            "stopping_step": SETTINGS["patience"],
            "metrics": ["Recall"],
            "topk": [TOP],
            "valid_metric": f"Recall@{TOP}",
        },
    )
    init_seed(seed, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    init_seed(seed, True)
    model = get_model("LightGCN")(config, train.dataset)
    multiply_faster(model)
    trainer = get_trainer(config["MODEL_TYPE"], "LightGCN")(config, model)
    values = []

    def show(epoch, value):
        values.append(value)
        print(f"RecBole, seed {seed}: epoch {epoch + 1}, recall@{TOP} {value:.4f} ", file=sys.stderr, flush=True)

    trainer.fit(train, valid, saved=True, show_progress=False, callback_fn=show)
    own = trainer.evaluate(test, load_best_model=True, show_progress=False)[f"recall@{TOP}"]
    model.eval()
    with torch.no_grad():
        user_rows, item_rows = (rows.numpy() for rows in model.forward())
    users = [str(id) for id in dataset.field2id_token["user_id"]]
    items = [str(id) for id in dataset.field2id_token["item_id"]]
    torch.sparse.mm = multiply
    # Number 0 is RecBole's padding.
    recall = split.recall(users[1:], user_rows[1:], items[1:], item_rows[1:])
    return {"recall": recall, "recall_by_recbole": float(own), "epochs": int(numpy.argmax(values)) + 1}


def kept_recbole(split, seed, directory):
    """An hour's work on two cores: a result for these very settings and split is kept."""
    what = json.dumps([SETTINGS, seed, split.train, split.valid, split.test], sort_keys=True)
    path = os.path.join(directory, f"recbole-{seed}-{hashlib.sha256(what.encode()).hexdigest()[:12]}.json")
    if not os.path.exists(path):
        result = run_recbole(split, seed, directory)
        with open(path, "w") as file:
            json.dump(result, file)
    with open(path) as file:
        return json.load(file)


def read_vectors(path):
    """ids and final vectors of users and items"""
    from gguf import GGUFReader

    reader = GGUFReader(path)

    def value(key):
        field = reader.get_field("headrace.vectors." + key)
        values = [field.parts[i] for i in field.data]
        if field.types[0].name == "STRING":
            return bytes(values[0]).decode()
        return [bytes(v).decode() for v in values] if field.types[0].name == "ARRAY" else values[0][0]

    tensors = {tensor.name: numpy.asarray(tensor.data, numpy.float64) for tensor in reader.tensors}
    if value("normalisation") != "z":
        sys.exit(f"{path}: normalisation {value('normalisation')}, expected z")
    users, items = value("users"), value("items")
    degrees = numpy.concatenate([tensors["users.degree"].ravel(), tensors["items.degree"].ravel()])
    z = numpy.concatenate([tensors["users"], tensors["items"]])
    base = z * numpy.sqrt(degrees)[:, None] / value("scale")
    return users, items, degrees, base, value("layers"), value("epochs")


def run_ours(split, seed, directory, program):
    path = os.path.join(directory, f"vectors-{seed}.gguf")
    start = time.monotonic()
    subprocess.run(
        [program, "train", "graph", "--ratings", split.fit, "--out", path]
        + ["--validate", repr(split.held_share), "--seed", str(seed), "--layers", str(SETTINGS["layers"])]
        + ["--dimension", str(SETTINGS["dimension"]), "--epochs", str(SETTINGS["epochs"])]
        + ["--batch", str(SETTINGS["batch"]), "--learning-rate", str(SETTINGS["learning_rate"])]
        + ["--l2", str(SETTINGS["l2"]), "--patience", str(SETTINGS["patience"])],
        check=True,
    )
    seconds = time.monotonic() - start
    users, items, degrees, base, layers, epochs = read_vectors(path)
    user_number = {id: i for i, id in enumerate(users)}
    item_number = {id: i + len(users) for i, id in enumerate(items)}
    rows = [user_number[user] for user, _ in split.train]
    columns = [item_number[item] for _, item in split.train]
    size = len(users) + len(items)
    edges = scipy.sparse.coo_matrix((numpy.ones(len(rows)), (rows, columns)), (size, size)).tocsr()
    edges = edges + edges.T
    if not numpy.array_equal(numpy.asarray(edges.sum(1)).ravel(), degrees):
        sys.exit(f"{path}: its degrees are not those of the split's training part")
    root = scipy.sparse.diags(1 / numpy.sqrt(degrees))
    matrix = root @ edges @ root
    layer = mean = base / (layers + 1)
    for _ in range(layers):
        layer = matrix @ layer
        mean = mean + layer
    recall = split.recall(users, mean[: len(users)], items, mean[len(users) :])
    return {"recall": recall, "epochs": int(epochs), "seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, help="headrace")
    parser.add_argument("--ratings", required=True, help="ml-100k.inter")
    parser.add_argument("--work", required=True, help="a directory for the split and what is trained")
    parser.add_argument("--out", required=True, help="the figures, as JSON")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", choices=["ours", "recbole"], help="one side, without a verdict")
    flags = parser.parse_args()
    for path in ("program", "ratings", "work", "out"):
        setattr(flags, path, os.path.abspath(getattr(flags, path)))
    directory = flags.work
    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)  # RecBole leaves logs where it is
    split = Split(flags.ratings, directory)
    print(f"split: {len(split.train)} train, {len(split.valid)} early stop, {len(split.test)} test", flush=True)
    ours, recbole = [], []
    for seed in map(int, flags.seeds.split(",")):
        if flags.only != "recbole":
            ours.append(run_ours(split, seed, directory, flags.program))
            print(f"seed {seed}  headrace {ours[-1]}", flush=True)
        if flags.only != "ours":
            recbole.append(kept_recbole(split, seed, directory))
            print(f"seed {seed}  RecBole  {recbole[-1]}", flush=True)
    if flags.only:
        return 0
    means = [numpy.mean([run["recall"] for run in side]) for side in (ours, recbole)]
    ratio = means[0] / means[1]
    figures = {"recall_20": means[0], "recall_20_recbole": means[1], "ratio": ratio, "required": REQUIRED}
    with open(flags.out, "w") as file:
        json.dump(figures | {"settings": SETTINGS, "headrace": ours, "recbole": recbole}, file, indent=2)
    print(f"recall@{TOP}: headrace {means[0]:.4f}, RecBole {means[1]:.4f}, ratio {ratio:.4f} (at least {REQUIRED})")
    return 0 if ratio >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
