#!/usr/bin/env python3
"""Hidden states and label logits of tiny.gguf in float64, from a reader and a forward pass that share nothing with the C.

Run again when tiny.gguf changes; needs numpy:

    pip install numpy
    python make_tiny_states.py

Writes tiny_states.json beside itself: of two sequences the residual stream at a few positions after a few layers; of a
prefix with three candidates the difference of the label logits (yes minus no) at the last token after some layers. Each
candidate is computed as a plain sequence of its own, prefix first: what packing must not change.
"""

import json
import os
import random
import struct

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS = [0, 1, 3, 6]
EXITS = [1, 2, 3, 4, 5, 6]
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


class Reader:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.raw = file.read()
        self.at = 0
        magic, version, tensors, keys = self.take("<4sIQQ")
        assert magic == b"GGUF" and version == 3
        self.keys = {self.text(): self.value(self.one("<I")) for _ in range(keys)}
        infos = [self.info() for _ in range(tensors)]
        start = -(-self.at // 32) * 32
        self.tensors = {name: self.tensor(shape, kind, start + offset) for name, shape, kind, offset in infos}

    def take(self, form):
        values = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return values

    def one(self, form):
        return self.take(form)[0]

    def text(self):
        return self.one("%ds" % self.one("<Q")).decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            element, count = self.take("<IQ")
            return [self.value(element) for _ in range(count)]
        return self.one(SCALARS[kind])

    def info(self):
        name = self.text()
        shape = self.take("<%dQ" % self.one("<I"))
        kind, offset = self.take("<IQ")
        return name, shape[::-1], kind, offset

    def tensor(self, shape, kind, offset):
        count = int(numpy.prod(shape))
        if kind in (0, 1):
            flat = numpy.frombuffer(self.raw, "<f4" if kind == 0 else "<f2", count, offset)
        elif kind == 8:
            blocks = numpy.frombuffer(self.raw, [("d", "<f2"), ("q", "i1", 32)], count // 32, offset)
            flat = blocks["d"].astype(float)[:, None] * blocks["q"]
        else:
            assert kind == 3, kind
            blocks = numpy.frombuffer(self.raw, [("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)], count // 32, offset)
            q = numpy.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1)
            flat = blocks["d"].astype(float)[:, None] * q + blocks["m"].astype(float)[:, None]
        return numpy.asarray(flat, dtype=float).reshape(shape)


def normalise(rows, gain, epsilon):
    return rows / numpy.sqrt((rows**2).mean(axis=-1, keepdims=True) + epsilon) * gain


def rotate(heads, base):
    """(tokens, heads, size): the pair (2i, 2i + 1) as a complex number, turned by position * base^(-2i / size)."""
    tokens, _, size = heads.shape
    angle = numpy.arange(tokens)[:, None] * base ** (-numpy.arange(0, size, 2) / size)
    turned = (heads[..., 0::2] + 1j * heads[..., 1::2]) * numpy.exp(1j * angle)[:, None, :]
    return numpy.stack([turned.real, turned.imag], axis=-1).reshape(heads.shape)


def states(model, ids):
    """The residual stream (tokens, width) after layer 0, 1, ..., N."""
    keys, tensors = model.keys, model.tensors
    heads, key_heads = keys["llama.attention.head_count"], keys["llama.attention.head_count_kv"]
    epsilon, base = keys["llama.attention.layer_norm_rms_epsilon"], keys["llama.rope.freq_base"]
    x = tensors["token_embd.weight"][ids]
    size = keys["llama.embedding_length"] // heads
    mask = numpy.triu(numpy.full((len(ids), len(ids)), -numpy.inf), 1)
    out = [x]
    for layer in range(keys["llama.block_count"]):
        weight = lambda name: tensors["blk.%d.%s.weight" % (layer, name)]
        normed = normalise(x, weight("attn_norm"), epsilon)
        query = rotate((normed @ weight("attn_q").T).reshape(len(ids), heads, size), base)
        key = rotate((normed @ weight("attn_k").T).reshape(len(ids), key_heads, size), base)
        value = (normed @ weight("attn_v").T).reshape(len(ids), key_heads, size)
        mixed = numpy.empty((len(ids), heads, size))
        for head in range(heads):
            shared = head * key_heads // heads
            scores = query[:, head] @ key[:, shared].T / numpy.sqrt(size) + mask
            share = numpy.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, head] = share / share.sum(axis=1, keepdims=True) @ value[:, shared]
        x = x + mixed.reshape(len(ids), -1) @ weight("attn_output").T
        normed = normalise(x, weight("ffn_norm"), epsilon)
        gate = normed @ weight("ffn_gate").T
        x = x + (gate / (1 + numpy.exp(-gate)) * (normed @ weight("ffn_up").T)) @ weight("ffn_down").T
        out.append(x)
    return out


def rounded(values):
    return [float("%.7g" % value) for value in values]


def main():
    model = Reader(os.path.join(HERE, "tiny.gguf"))
    tokens = model.keys["tokenizer.ggml.tokens"]
    yes, no = tokens.index("Yes"), tokens.index("No")
    source = random.Random(20250301)
    draw = lambda count: [source.randrange(len(tokens)) for _ in range(count)]

    sequences = []
    for length in (7, 90):
        ids = draw(length)
        streams = states(model, ids)
        positions = [0, length // 2, length - 1]
        sequences.append({
            "tokens": ids,
            "positions": positions,
            "hidden": {str(layer): [rounded(streams[layer][p]) for p in positions] for layer in LAYERS},
        })

    prefix, candidates, differences = draw(53), [draw(n) for n in (1, 12, 75)], []
    labels = model.tensors.get("output.weight", model.tensors["token_embd.weight"])
    epsilon = model.keys["llama.attention.layer_norm_rms_epsilon"]
    for candidate in candidates:
        streams = states(model, prefix + candidate)
        last = [normalise(streams[layer][-1], model.tensors["output_norm.weight"], epsilon) for layer in EXITS]
        differences.append(rounded(h @ (labels[yes] - labels[no]) for h in last))

    with open(os.path.join(HERE, "tiny_states.json"), "w") as file:
        json.dump({
            "yes": yes,
            "no": no,
            "sequences": sequences,
            "prompt": {"prefix": prefix, "candidates": candidates, "exits": EXITS, "differences": differences},
        }, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
