#!/usr/bin/env python3
"""Writes blocks.json beside this script: rows of every tensor type as raw bytes, and the floats they stand for.

The floats come from the PyPI package `gguf` (0.19 or later), which shares no code with ours: pip install gguf numpy
The bytes are random, so that every bit of a block counts, but the halves in them are finite.
"""

import json
import os

import gguf
import numpy

SEED = 11
VALUES = 512  # a row: 16 small blocks or two large ones
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
HALVES_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def raw_row(source, kind):
    if kind == "F32":
        return source.normal(size=VALUES).astype("<f4").view(numpy.uint8)
    if kind == "F16":
        return source.normal(size=VALUES).astype("<f2").view(numpy.uint8)
    if kind == "BF16":
        return (source.normal(size=VALUES).astype("<f4").view("<u4") >> 16).astype("<u2").view(numpy.uint8)
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = source.integers(0, 256, (VALUES // values, size), dtype=numpy.uint8)
    for at in HALVES_AT[kind]:
        blocks[:, at : at + 2] = source.normal(size=(len(blocks), 1)).astype("<f2").view(numpy.uint8)
    return blocks.reshape(-1)


def main():
    source = numpy.random.default_rng(SEED)
    lines = []
    for kind in TYPES:
        number = gguf.GGMLQuantizationType[kind]
        raw = raw_row(source, kind)
        floats = gguf.quants.dequantize(raw.reshape(1, -1), number).astype("<f4")
        assert floats.size == VALUES and numpy.isfinite(floats).all()
        entry = {"name": kind, "number": int(number), "raw": raw.tobytes().hex(), "floats": floats.tobytes().hex()}
        lines.append(json.dumps(entry, separators=(",", ":")))
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "blocks.json"), "w") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
