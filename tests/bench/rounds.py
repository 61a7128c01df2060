"""Programs that do a round of work when told to, and rounds of several programs in turn."""

import json
import os
import statistics
import subprocess

TICK = os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """CPU time spent by everything on this machine."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


class Program:
    """A bench program that has loaded its model and waits for rounds on its standard input."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit(f"bench: {' '.join(command)}\n{self.process.communicate()[1]}")
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
    for program in programs:
        program.round(work.replace("warm", "cold"))
        program.round(work)
    results = {program.name: [] for program in programs}
    for i in range(rounds):
        before_round()
        for j in range(len(programs)):
            program = programs[(i + j) % len(programs)]
            results[program.name].append(program.round(work))
    return {name: summary(seen) for name, seen in results.items()}


def summary(seen):
    seconds = [result["seconds"] for result in seen]
    return seen[-1] | {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds),
                       "others": statistics.median(result["others"] for result in seen)}
