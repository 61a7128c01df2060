"""A generated data set in RecBole's form whose true click probabilities are known.

    clicks.py --out DIRECTORY [--users N] [--items N] [--events N] [--seed N]

Writes clicks.inter and clicks.item, to be read like ml-100k, and clicks.truth: a line an event, "timestamp<TAB>p". Each
event has a second of its own, so a row is known by its time. A click (rating 5) has the probability

    sigmoid(the user's mood + the item's appeal)

and is a 1 otherwise. Moods and appeals are normal, users and items are drawn by their own popularity, no pair twice.
What can be known at best is p itself: its AUC and log loss on the test rows are the most that any scorer can reach but
for luck.
"""

import argparse
import bisect
import math
import os
import random

WORDS = ("Amber", "Broken", "Crimson", "Distant", "Empty", "Frozen", "Golden", "Hidden", "Iron", "Jade")
THINGS = ("Harbour", "Meadow", "Mirror", "Orchard", "Passage", "River", "Signal", "Tower", "Valley", "Winter")
START = 1_600_000_000  # seconds
STEP = 600  # between two events
MOOD, APPEAL = 0.8, 1.0  # deviations


def popularity(chance, count):
    """Sums of weights that differ by a factor of about four."""
    total, sums = 0.0, []
    for _ in range(count):
        total += math.exp(chance.uniform(-0.7, 0.7))
        sums.append(total)
    return sums


def draw(chance, sums):
    return bisect.bisect_right(sums, chance.random() * sums[-1])


def generate(users, items, events, seed):
    """(user, item, timestamp, p, clicked) in order of time"""
    chance = random.Random(seed)
    moods = [chance.gauss(0, MOOD) for _ in range(users)]
    appeals = [chance.gauss(0, APPEAL) for _ in range(items)]
    of_users, of_items = popularity(chance, users), popularity(chance, items)
    seen = set()
    while len(seen) < events:
        user, item = draw(chance, of_users), draw(chance, of_items)
        if (user, item) in seen:
            continue
        seen.add((user, item))
        p = 1 / (1 + math.exp(-moods[user] - appeals[item]))
        yield user, item, START + len(seen) * STEP, p, chance.random() < p


def title(item):
    return f"{WORDS[item % 10]} {THINGS[item // 10 % 10]} {item // 100 + 1}"


def write(directory, users=400, items=300, events=60_000, seed=1):
    if events > users * items // 2:
        raise SystemExit(f"clicks: {events} events leave hardly a pair of {users} users and {items} items free")
    os.makedirs(directory, exist_ok=True)
    paths = {name: os.path.join(directory, "clicks." + name) for name in ("inter", "item", "truth")}
    with open(paths["inter"], "w") as inter, open(paths["truth"], "w") as truth:
        inter.write("user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
        for user, item, timestamp, p, clicked in generate(users, items, events, seed):
            inter.write(f"u{user}\ti{item}\t{5 if clicked else 1}\t{timestamp}\n")
            truth.write(f"{timestamp}\t{p:.6f}\n")
    with open(paths["item"], "w") as file:
        file.write("item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n")
        for item in range(items):
            file.write(f"i{item}\t{title(item)}\t{1980 + item % 40}\t{THINGS[item % 7]}\n")
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    for name, value in (("users", 400), ("items", 300), ("events", 60_000), ("seed", 1)):
        parser.add_argument("--" + name, type=int, default=value)
    flags = parser.parse_args()
    print("\n".join(write(flags.out, flags.users, flags.items, flags.events, flags.seed).values()))


if __name__ == "__main__":
    main()
