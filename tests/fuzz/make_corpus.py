#!/usr/bin/env python3
"""Writes the files under corpus/ beside this script: what the fuzzers start from. Needs nothing but Python 3."""

import json
import os
import random
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))

from make_tiny import BOOL, FLOAT32, INT32, STRING, UINT32, array, byte_alphabet, key, string  # noqa: E402

# Number of the type, values and bytes of a block.
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
         "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
         "Q6_K": (14, 256, 210), "BF16": (30, 1, 2)}
WIDTH, HIDDEN, TOKENS = 8, 16, 3
LAYER = {"attn_norm": (1, WIDTH), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH),
         "attn_output": (WIDTH, WIDTH), "ffn_norm": (1, WIDTH), "ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH),
         "ffn_down": (WIDTH, HIDDEN)}
TEXTS = ["User: liked Heat (1995)\n\n  we'll 'LL 12345", "Am\u00e9lie \u5929\u6c17 \u2581 \u00bd\u0663 \U0001f600",
         "<s> <|im_start|> <0x41> </s>", " \n \r\n\t x  ", "\x00\x7f\u0085\u3000\u200b"]


def tensor(name, rows, columns, kind="F32", source=random.Random(1)):
    number, values, size = TYPES[kind]
    if kind == "F32":
        raw = struct.pack("<%df" % (rows * columns), *(source.uniform(0.5, 1.5) for _ in range(rows * columns)))
    else:
        raw = bytes(source.randrange(256) for _ in range(rows * (columns // values) * size))
    return name, (columns, rows) if rows > 1 else (columns,), number, raw


def model(architecture, extra_keys=(), extra_tensors=()):
    at = architecture + "."
    keys = [
        key("general.architecture", STRING, architecture),
        key(at + "block_count", UINT32, 1),
        key(at + "embedding_length", UINT32, WIDTH),
        key(at + "feed_forward_length", UINT32, HIDDEN),
        key(at + "attention.head_count", UINT32, 2),
        key(at + "context_length", UINT32, 32),
        key(at + "attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        *extra_keys,
    ]
    tensors = [tensor("token_embd.weight", TOKENS, WIDTH), tensor("output_norm.weight", 1, WIDTH)]
    tensors += [tensor(f"blk.0.{name}.weight", *shape) for name, shape in LAYER.items()]
    return keys, tensors + list(extra_tensors)


def vocabulary(kind, tokens, types, *more):
    return [
        key("tokenizer.ggml.model", STRING, kind),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", INT32, types),
        *more,
    ]


def byte_level(pre):
    tokens = ["<s>"] + sorted(byte_alphabet().values()) + ["li", "ke", "like", "\u0120like", "12", "\u010a\u010a"]
    merges = ["l i", "k e", "li ke", "\u0120 like", "1 2", "\u010a \u010a"]
    return vocabulary("gpt2", tokens, [3] + [1] * (len(tokens) - 1), key("tokenizer.ggml.pre", STRING, pre),
                      array("tokenizer.ggml.merges", STRING, merges), key("tokenizer.ggml.bos_token_id", UINT32, 0))


def pieces():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["\u2581", "l", "i", "k", "e", "li", "ke", "like", "\u2581like", "\u00e9", "1"]
    types = [2, 3, 3] + [6] * 256 + [1] * len(words)
    scores = [0.0] * 259 + [-float(len(words) - i) for i in range(len(words))]
    return vocabulary("llama", tokens + words, types, array("tokenizer.ggml.scores", FLOAT32, scores),
                      key("tokenizer.ggml.bos_token_id", UINT32, 1), key("tokenizer.ggml.add_space_prefix", BOOL, True))


def adapter():
    keys = [
        key("general.type", STRING, "adapter"),
        key("general.architecture", STRING, "llama"),
        key("adapter.type", STRING, "lora"),
        key("adapter.lora.alpha", FLOAT32, 4.0),
    ]
    tensors = []
    for name in ["attn_q", "ffn_down"]:
        rows, columns = LAYER[name]
        tensors += [tensor(f"blk.0.{name}.weight.lora_a", 2, columns), tensor(f"blk.0.{name}.weight.lora_b", rows, 2)]
    return keys, tensors


def gguf(keys, tensors, version=3):
    infos, data = [], b""
    for name, dimensions, kind, raw in tensors:
        head = string(name) + struct.pack("<I%dQ" % len(dimensions), len(dimensions), *dimensions)
        infos.append(head + struct.pack("<IQ", kind, len(data)))
        data += raw + bytes(-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    return head + bytes(-len(head) % 32) + data


def write(target, name, raw):
    directory = os.path.join(HERE, "corpus", target)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "wb") as file:
        file.write(raw)


def write_wire():
    """Messages behind the number of their writer, and a registry's answers behind a byte for their status."""
    with open(os.path.join(HERE, "..", "golden", "evolution.json")) as file:
        cases = [case for case in json.load(file) if case["record"] is not None and case["reader"] is None]
    for number in range(0, len(cases), 9):
        write("codec", "message_%03d" % number, bytes([number % 256]) + bytes.fromhex(cases[number]["bytes"]))
    for number in (0, 40, 80):
        answer = {"schema": cases[number]["writer"], "schemaType": "AVRO", "references": []}
        write("registry", "schema_%d" % number, b"\x08" + json.dumps(answer).encode())
        write("registry", "bare_%d" % number, b"\x08" + cases[number]["writer"].encode())
    write("registry", "id", b'\x08{"subject":"scores-value","version":1,"id":7}')
    write("registry", "unknown", b'\x0a{"error_code":40403,"message":"Schema not found"}')
    write("registry", "incompatible", b'\x0b{"error_code":409,"message":"incompatible"}')


def main():
    scaling = [key("llama.rope.scaling.type", STRING, "linear"), key("llama.rope.scaling.factor", FLOAT32, 4.0)]
    biases = [tensor(f"blk.0.attn_{part}.bias", 1, WIDTH) for part in "qkv"]
    write("gguf", "llama", gguf(*model("llama", scaling, [tensor("rope_freqs.weight", 1, 2)])))
    write("gguf", "llama_untied", gguf(*model("llama", (), [tensor("output.weight", TOKENS, WIDTH)]), version=2))
    write("gguf", "qwen2", gguf(*model("qwen2", (), biases)))
    write("gguf", "adapter", gguf(*adapter()))
    write("gguf", "types", gguf([], [tensor(name, 2, max(32, TYPES[name][1]), name) for name in TYPES]))
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"]:
        write("gguf", "vocabulary_" + pre, gguf(byte_level(pre), []))
    write("gguf", "vocabulary_pieces", gguf(pieces(), []))
    for i, text in enumerate(TEXTS):
        write("tokenizer", "text_%d" % i, text.encode())
    write_wire()
    write("config", "demo", open(os.path.join(HERE, "..", "..", "config", "demo.yaml"), "rb").read())
    write("config", "kinds", b'roles: [ingest]\nkafka: {bootstrap.servers: "a:1,b:2", linger.ms: 5}\n'
          b"graph:\n  weights: 1,2,3\n  push_threshold: 1e-2\n  edges: all\n  normalise: true\n")
    write("config", "set", b"kafka.sasl.password=a=b")
    write("config", "variable", b"EXIT_LAYERS=1,3,5")
    write("tokenizer", "bytes", bytes(range(128, 256)) + b" a\xe2\x96b\xff")


if __name__ == "__main__":
    main()
