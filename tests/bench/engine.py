"""The engine beside its peer, llama.cpp, on the same weights and token ids. Run by ./dev bench engine.

A prompt with a prefix of about 560 tokens and 20 candidates of about 40. First a search for the peer's best settings,
then rounds of its best few and of ours in turn; medians count. The roofline is the time that the matrices and attention
would take at the processor's measured peak of the numbers they run in.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess

import roofline
import rounds

TYPES = ["Q4_0", "Q8_0", "Q4_1", "BF16"]
PREFIX, CANDIDATES = 560, 20
EXITS = [10, 15, 20]
SECOND_STARTS = 5
FINALISTS = 3  # of the peer's settings, measured against ours
LARGEST_DIFFERENCE = 1.0  # between our answers' log odds and the peer's: more, and the two do not compute the same


class Bench:
    def __init__(self, flags):
        self.flags = flags
        self.prompts = os.path.join(flags.work, "timing.txt")
        self.weights = os.path.join(flags.work, "weights")
        self.prompt = None
        self.labels = None
        self.shape = None
        self.instructions = None
        self.peaks = []

    # Programs

    def ours(self, mode, threads=None, options=()):
        sets = [f"model.path={self.flags.model}", f"engine.threads={threads or self.flags.threads}",
                f"engine.mode={mode}", f"engine.cpu={self.flags.cpu}", f"engine.weights_cache={self.weights}",
                "exit.rule=full", "log.level=warn", *options]
        command = [self.program("engine"), "--prompts", self.prompts, "--prompt", str(self.prompt)]
        for assignment in sets:
            command += ["--set", assignment]
        return rounds.Program(mode, command)

    def peer(self, settings, threads=None):
        """Settings are (type, flash attention, micro-batch, group, one cache for all)."""
        kind, flash, ubatch, group, unified = settings
        model = self.flags.model if kind == "Q4_1" else os.path.join(self.flags.peer_models, f"{kind}.gguf")
        command = [os.path.join(self.flags.peer, "peer"), "--model", model, "--prompts", self.prompts,
                   "--prompt", str(self.prompt), "--yes", str(self.labels[0]), "--no", str(self.labels[1]),
                   "--threads", str(threads or self.flags.threads), "--ubatch", str(ubatch), "--group", str(group),
                   "--flash", str(int(flash)), "--unified", str(int(unified))]
        return rounds.Program(settings_name(settings), command)

    def program(self, name):
        return os.path.join(self.flags.programs, f"bench_{name}")

    # Preparation

    def write_prompts(self):
        """More history than a worker tells by default, and no similar users, for the lengths that we want."""
        store = os.path.join(self.flags.work, "timing-store")
        subprocess.run(["rm", "-rf", store, self.prompts], check=True)
        subprocess.run([self.program("prompts"), "--ratings", self.flags.ratings, "--items", self.flags.items,
                        "--out", self.prompts, "--prompts", "60", "--candidates", str(CANDIDATES),
                        "--set", f"model.path={self.flags.model}", "--set", f"state.dir={store}",
                        "--set", "log.level=warn", "--set", "history.max=40", "--set", "graph.similar=none"],
                       check=True, stdout=subprocess.DEVNULL)
        with open(self.prompts) as file:
            headers = [line.split() for line in file if line.startswith("prompt ")]
        fits = [i for i, header in enumerate(headers) if int(header[3]) == CANDIDATES]
        self.prompt = min(fits, key=lambda i: abs(int(headers[i][2]) - PREFIX))

    def write_peer_models(self):
        """The peer's own quantiser, from the file that we run."""
        os.makedirs(self.flags.peer_models, exist_ok=True)
        for kind in TYPES:
            out = os.path.join(self.flags.peer_models, f"{kind}.gguf")
            if kind != "Q4_1" and not os.path.exists(out):
                log = subprocess.run([os.path.join(self.flags.peer, "llama-quantize"), "--allow-requantize",
                                      self.flags.model, out + ".part", kind, str(self.flags.threads)],
                                     capture_output=True, text=True)
                if log.returncode != 0:
                    raise SystemExit(f"bench: llama-quantize {kind}\n{log.stderr[-2000:]}")
                os.rename(out + ".part", out)

    def look_at_ours(self):
        program = self.ours("auto")
        ready = json.loads(program.ready)
        program.close()
        self.labels = ready["yes"], ready["no"]
        self.shape = ready
        mode, self.instructions = ready["arithmetic"].split(" on ")
        return mode

    # The peer's best

    def try_settings(self, what, candidates, work):
        print(f"  {len(candidates)} settings: {what}", flush=True)
        timed = []
        progress = rounds.Progress()
        for i, settings in enumerate(candidates):
            progress.say(f"{i + 1} of {len(candidates)}: {settings_name(settings)}")
            program = self.peer(settings)
            timed.append((min(program.round(work)["seconds"] for _ in range(2)), settings))
            program.close()
        progress.done()
        timed.sort()
        for seconds, settings in timed[:3]:
            print(f"  {seconds:9.3f} s  {settings_name(settings)}", flush=True)
        return [settings for _, settings in timed]

    def search(self, work, groups):
        """Type and flash attention first, then the sizes for the best two, then a stream for each sequence."""
        group = groups[len(groups) // 2]
        best = self.try_settings("number types, flash attention",
                                 [(kind, flash, 512, group, True) for kind in TYPES for flash in (False, True)], work)
        best = self.try_settings("micro-batches, groups",
                                 [(kind, flash, ubatch, size, True) for kind, flash, *_ in best[:2]
                                  for ubatch in (256, 512, 1024) for size in groups], work)[:FINALISTS]
        return self.try_settings("caches",
                                 best + [(*settings[:4], False) for settings in best], work)[:FINALISTS]

    # Scenarios

    def measure_peak(self):
        out = subprocess.run([self.program("peak"), str(self.flags.threads)], capture_output=True, check=True)
        self.peaks.append(json.loads(out.stdout))

    def compare(self, work, peers, modes, threads=None):
        """(the peer's best, {mode: ours}) by alternated rounds."""
        theirs = [self.peer(settings, threads) for settings in peers]
        ours = [self.ours(mode, threads) for mode in modes]
        full = threads is None and work.startswith("cold") and work.endswith(str(CANDIDATES))
        results = rounds.alternate(theirs + ours, work, self.flags.rounds, self.measure_peak if full else lambda: None)
        for program in theirs + ours:
            if full:
                results[program.name]["margins"] = program.round(f"warm {CANDIDATES}")["margins"]
            program.close()
        best = min((results[program.name] | {"settings": program.name} for program in theirs),
                   key=lambda result: result["seconds"])
        return best, {mode: results[mode] for mode in modes}

    def measure_exits(self, mode):
        """All candidates made to leave at one layer: a rule that is content with any steps."""
        programs = []
        for layer in EXITS:
            program = self.ours(mode, None, [f"exit.layers={layer}", "exit.rule=probability", "exit.window=1",
                                             "exit.threshold=10"])
            program.name = f"exit {layer}"
            programs.append(program)
        results = rounds.alternate(programs, f"cold {CANDIDATES}", self.flags.rounds)
        for program in programs:
            program.close()
        return results

    def measure_memory(self, mode):
        """Memory that is no file's, after the cache of prefixes has been filled and all candidates scored. The weights
        are packed into it; mapped from the file that an earlier start has kept they are not among it."""
        program = self.ours(mode, None, ["engine.weights_cache=none"])
        ready = json.loads(program.ready)
        progress = rounds.Progress()
        while ready["cache_bytes"] and program.round("cold 1")["evictions"] == 0:
            progress.say(f"filling the cache of prefixes, {mode}")
        progress.done()
        anonymous = program.round(f"cold {CANDIDATES}")["anonymous_kib"] * 1024
        program.close()
        weights, caches = ready["weight_bytes"][mode], ready["cache_bytes"]
        return {"anonymous_bytes": anonymous, "weight_bytes": weights, "cache_bytes": caches,
                "share": anonymous / (weights + caches)}

    def measure_starts(self, mode):
        """Seconds from the program's start until it can score: with nothing kept, and with the packed weights kept."""
        shutil.rmtree(self.weights, ignore_errors=True)
        seconds = []
        for _ in range(1 + SECOND_STARTS):
            program = self.ours(mode)
            seconds.append(program.start_seconds)
            program.close()
        return seconds[0], statistics.median(seconds[1:])

    def peak(self):
        kinds = self.peaks[0].keys()
        return {kind: statistics.median(peak[kind] for peak in self.peaks) if self.peaks[0][kind] else None
                for kind in kinds}

    def fraction(self, mode, seconds, depth=None):
        counts = roofline.operations(self.shape, self.shape["prefix"], self.shape["candidates"], depth)
        least = roofline.least_seconds(mode, self.instructions, self.peak(), *counts)
        return least / seconds if least else None


def settings_name(settings):
    kind, flash, ubatch, group, unified = settings
    return (f"{kind}, flash attention {'on' if flash else 'off'}, ubatch {ubatch}, groups of {group}, "
            f"{'one cache' if unified else 'a stream each'}")


def check_answers(peer, ours):
    """The peer and we must have computed the same."""
    worst = max(abs(a - b) for a, b in zip(peer["margins"], ours["margins"]))
    print(f"  largest difference between our answers' log odds (f32) and the peer's: {worst:.2f}")
    if not worst < LARGEST_DIFFERENCE:
        raise SystemExit("bench: the peer and the engine do not compute the same")


def row(name, seconds, candidates, ratio=None, fraction=None, others=0.0):
    print(f"  {name:<44}{seconds * 1000:9.0f} ms {candidates / seconds:8.1f}/s"
          f"{'' if ratio is None else f'{ratio:8.2f} x':>11}{'' if fraction is None else f'{fraction:8.2f}':>9}"
          f"{'' if others < 0.05 else f'   others busy: {others:.1f} processors'}", flush=True)


def peer_rows(peer, candidates):
    row("peer", peer["seconds"], candidates, others=peer["others"])
    print(f"    {peer['settings']}")


def heading(text):
    print(f"\n{text:<46}{'median':>12} {'cand.':>10}{'to peer':>11}{'of peak':>9}", flush=True)


def measure(bench, default):
    modes = list(dict.fromkeys([default, "bf16", "f32"]))
    out = {"default_mode": default, "threads": bench.flags.threads, "cpu": bench.instructions}
    cold, single, warm = f"cold {CANDIDATES}", "cold 1", f"warm {CANDIDATES}"

    print("\nthe peer's settings, 20 candidates", flush=True)
    best_full = bench.search(cold, [2, 5, 10, 20])
    print("\nthe peer's settings, one candidate", flush=True)
    best_single = bench.search(single, [1])

    heading(f"20 candidates, cold prefix, {bench.flags.threads} threads")
    peer, ours = bench.compare(cold, best_full, modes)
    check_answers(peer, ours["f32"])
    peer_rows(peer, CANDIDATES)
    for mode in modes:
        seconds = ours[mode]["seconds"]
        row(mode, seconds, CANDIDATES, peer["seconds"] / seconds, bench.fraction(mode, seconds), ours[mode]["others"])
    out |= {"ratio_default_full": peer["seconds"] / ours[default]["seconds"],
            "ratio_bf16_full": peer["seconds"] / ours["bf16"]["seconds"],
            "fraction_of_peak_default": bench.fraction(default, ours[default]["seconds"]),
            "fraction_of_peak_bf16": bench.fraction("bf16", ours["bf16"]["seconds"]),
            "full": {"peer": peer, **ours}}
    full_peer = peer["seconds"]

    heading("exits forced, to the peer's full depth")
    out["exits"] = bench.measure_exits(default)
    for layer in EXITS:
        result = out["exits"][f"exit {layer}"]
        row(f"{default}, exit {layer}", result["seconds"], CANDIDATES, full_peer / result["seconds"],
            bench.fraction(default, result["seconds"], layer), result["others"])

    for key, text, work, candidates, peers, threads in (
            ("single", "one candidate, cold prefix", single, 1, best_single, None),
            ("warm", "20 candidates, warm prefix", warm, CANDIDATES, best_full, None),
            ("one_thread", "20 candidates, cold prefix, 1 thread", cold, CANDIDATES, best_full, 1)):
        heading(text)
        peer, ours = bench.compare(work, peers, modes[:2], threads)
        peer_rows(peer, candidates)
        for mode in modes[:2]:
            row(mode, ours[mode]["seconds"], candidates, peer["seconds"] / ours[mode]["seconds"],
                others=ours[mode]["others"])
        out[key] = {"peer": peer, **ours}
    out["ratio_latency_single"] = out["single"]["peer"]["seconds"] / out["single"][default]["seconds"]
    return out


def measure_memory(bench, modes):
    print(f"\n{'memory (RssAnon), MB':<46}{'measured':>12}{'weights':>11}{'caches':>10}{'share':>9}", flush=True)
    out = {}
    for mode in modes:
        out[mode] = memory = bench.measure_memory(mode)
        sizes = [memory[key] / 1e6 for key in ("anonymous_bytes", "weight_bytes", "cache_bytes")]
        print(f"  {mode:<44}{sizes[0]:>12.0f}{sizes[1]:>11.0f}{sizes[2]:>10.0f}{memory['share']:>9.2f}", flush=True)
    return out


def warn_of_others(out):
    """Waiting for each other costs the peer's threads most where something else runs: such figures flatter us."""
    out["others_busy"] = max(result["others"] for part in ("full", "exits", "single", "warm", "one_thread")
                             for result in out[part].values())
    if out["others_busy"] > 0.1:
        print(f"\nNOT TO BE RELIED ON: other programs kept up to {out['others_busy']:.1f} processors busy meanwhile")


def read_flags():
    parser = argparse.ArgumentParser(prog="./dev bench engine", description=__doc__)
    for name in ("programs", "peer", "peer-models", "model", "ratings", "items", "work", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--cpu", default="auto", help="our instruction set: auto, scalar, avx2, avx512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="of each; at least 5")
    flags = parser.parse_args()
    if flags.rounds < 5:
        parser.error("--rounds: at least 5")
    return flags


def main():
    bench = Bench(read_flags())
    os.makedirs(bench.flags.work, exist_ok=True)
    bench.write_prompts()
    bench.write_peer_models()
    default = bench.look_at_ours()
    lengths = bench.shape["candidates"]
    print(f"prefix {bench.shape['prefix']} tokens, {len(lengths)} candidates of {sum(lengths) / len(lengths):.0f}, "
          f"default mode {default} on {bench.instructions}")
    out = measure(bench, default)
    out["memory"] = measure_memory(bench, list(dict.fromkeys([default, "bf16", "f32"])))
    out["first_start_s"], out["second_start_s"] = bench.measure_starts(default)
    print(f"\n{default} ready after {out['first_start_s']:.2f} s with nothing kept, {out['second_start_s']:.2f} s with "
          "its packed weights on disk")
    out["peak"] = bench.peak()
    print("\npeak, Gop/s: " + ", ".join(f"{kind} {value / 1e9:.0f}" for kind, value in out["peak"].items() if value))
    warn_of_others(out)
    rounds.add_figures(bench.flags.out, out)


if __name__ == "__main__":
    main()
