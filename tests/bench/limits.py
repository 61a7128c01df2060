"""What the bench's figures must reach, printed beside them.

    limits.py FILE       the figures as ./dev bench wrote them
"""

import json
import sys

AVX512 = [  # key, what it is, the least it may be
    ("ratio_default_full", "default mode, to the peer", 3.0),
    ("ratio_bf16_full", "bf16, to the peer", 2.0),
    ("ratio_latency_single", "one candidate, to the peer", 2.5),
    ("fraction_of_peak_default", "default mode, of the processor's peak", 0.65),
    ("fraction_of_peak_bf16", "bf16, of the processor's peak", 0.72),
]
AVX2 = [("ratio_default_full", "default mode, to the peer", 1.3)]
ALL = [
    ("delta_auc_default", "default mode, AUC less f32's at the best exit", -0.003),
    ("delta_auc_default_worst", "default mode, the same at the worst exit", -0.005),
    ("delta_auc_bf16", "bf16, AUC less f32's at the best exit", -0.003),
    ("delta_auc_bf16_worst", "bf16, the same at the worst exit", -0.005),
    ("logit_correlation_bf16", "bf16, correlation of logits with f32's", 0.995),
]
CORRELATION = {"int8": 0.98, "bf16": 0.995, "f32": 1.0}
MEMORY = 1.1  # of weights and configured caches together
SECOND_START = 1.0  # seconds


def at_least(figures):
    """(what, figure, its least)"""
    of_processor = {"avx512": AVX512, "avx2": AVX2}.get(figures.get("cpu"), [])
    rows = [(what, figures[key], least) for key, what, least in of_processor + ALL if figures.get(key) is not None]
    if "logit_correlation_default" in figures:
        rows.append(("default mode, correlation of logits with f32's", figures["logit_correlation_default"],
                     CORRELATION[figures["default_mode"]]))
    return rows


def at_most(figures):
    rows = [(f"{mode}, memory to weights and caches", memory["share"], MEMORY)
            for mode, memory in figures.get("memory", {}).items()]
    if "second_start_s" in figures:
        rows.append(("second start, seconds", figures["second_start_s"], SECOND_START))
    return rows


def show(figures):
    print(f"\n{'what is to be reached':<52}{'figure':>10}{'limit':>12}")
    for what, figure, least in at_least(figures):
        row(what, figure, f">= {least:g}", figure >= least)
    for what, figure, most in at_most(figures):
        row(what, figure, f"<= {most:g}", figure <= most)


def row(what, figure, limit, reached):
    print(f"  {what:<50}{figure:>10.4f}{limit:>12}{'' if reached else '   MISSED'}")


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        show(json.load(file))
