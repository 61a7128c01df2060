"""Programs that do a round of work when told to, and rounds of several programs in turn."""

import json
import os
import statistics
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """CPU time spent by everything on this machine."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


def others_busy(seconds=3):
    """Processors that others keep busy while we do nothing. (The load average still knows of our own build.)"""
    before = busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / seconds


class Progress:
    """What is being done: on a terminal a line that the next one writes over, else a line every half a minute."""

    EVERY = 30

    def __init__(self):
        self.last = time.monotonic()

    def say(self, text):
        if sys.stderr.isatty():
            print(f"\r\033[K    {text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last > self.EVERY:
            print(f"    {text} ...", file=sys.stderr, flush=True)
            self.last = time.monotonic()

    def done(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Program:
    """A bench program that has loaded its model and waits for rounds on its standard input."""

    def __init__(self, name, command):
        self.name = name
        start = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit(f"bench: {' '.join(command)}\n{self.process.communicate()[1]}")
        self.start_seconds = time.monotonic() - start
        self.ready = line[len("ready "):].strip()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def round(self, work):
        """One round; adds how many processors others kept busy meanwhile."""
        before = busy_seconds() - self.cpu_seconds()
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: {self.name} stopped\n{self.process.communicate()[1]}")
        result = json.loads(line)
        result["others"] = max(0.0, busy_seconds() - self.cpu_seconds() - before) / result["seconds"]
        return result

    def close(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stderr.read()
        self.process.wait()


def alternate(programs, work, rounds, before_round=lambda: None):
    """Rounds of all programs in turn, each time another one first, after those that do not count. By name: the median
    time, with the fastest and slowest beside it."""
    progress = Progress()
    for program in programs:
        progress.say(f"warming up {program.name}")
        program.round(work.replace("warm", "cold"))
        program.round(work)
    results = {program.name: [] for program in programs}
    for i in range(rounds):
        before_round()
        for j in range(len(programs)):
            program = programs[(i + j) % len(programs)]
            progress.say(f"round {i + 1} of {rounds}: {program.name}")
            results[program.name].append(program.round(work))
    progress.done()
    return {name: summary(seen) for name, seen in results.items()}


def summary(seen):
    seconds = [result["seconds"] for result in seen]
    return seen[-1] | {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds),
                       "others": statistics.median(result["others"] for result in seen)}


def add_figures(path, figures):
    """To those that an earlier part of the bench wrote."""
    known = {}
    if os.path.exists(path):
        with open(path) as file:
            known = json.load(file)
    with open(path, "w") as file:
        json.dump(known | figures, file, indent=2)
        file.write("\n")
