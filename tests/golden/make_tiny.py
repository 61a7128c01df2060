#!/usr/bin/env python3
"""Writes tiny.gguf beside this script: a Llama decoder with random weights, small enough to be checked in.

It has everything that the real model's file has (the same keys, a byte-level BPE vocabulary, a tied Q8_0 embedding,
Q4_1 matrices) and a few F16 and F32 matrices, so that every reader of weights is used. The answers of such a model mean
nothing; that they stay the same does.

Needs nothing but Python 3. The same script writes the same bytes everywhere: the only random source is
random.Random.random(), which Python keeps stable, and the only functions of reals are + - * / and sqrt.
"""

import math
import os
import random
import re
import struct

SEED = 20240229
LAYERS, WIDTH, HIDDEN, HEADS, KEY_HEADS, HEAD_SIZE, CONTEXT = 6, 64, 160, 4, 2, 16, 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = 445  # 3 + 256 + 445 = 704 tokens
MUST_BE_ONE_TOKEN = ["Yes", "No", "yes", "no", " Yes", " No", " liked", " disliked"]

TEXT = """\
The viewer liked The Lighthouse Keeper and A Winter in Lisbon. The viewer disliked Robots of the Red Desert.
Will the viewer like The Last Train to Marrakesh? Answer Yes or No.
Movies that this person watched, from the oldest to the newest, each with the rating that was given:
The Clockmaker's Daughter, drama, rated 5 of 5. Three Thieves and a Violin, comedy, rated 4 of 5.
Night of the Paper Lanterns, mystery, rated 2 of 5. Beyond the Harbor, adventure, rated 3 of 5.
People who liked Beyond the Harbor also liked The Old Man of the River and Songs for an Empty House.
Similar viewers liked this movie. Similar viewers did not like this movie. Nobody similar has watched it.
A quiet story about a family that moves from the city to the country and learns to live with the seasons.
An action movie with fast cars, loud music and a hero who never sleeps. The critics disliked it; the audience did not.
User: a student, 23 years old, who watches science fiction, thrillers and documentaries about space.
User: a teacher, 45 years old, who watches romance, musicals and children's films with her two sons.
The film is about two brothers who find a map in their father's workshop and follow it across the mountains.
It was directed with a steady hand, and the ending is one that we won't forget. I've seen it twice, and I'd see it again.
She's sure that they'll come back; he's not. We're told that it isn't over, and that they don't know who's there.
Question: would this user enjoy the candidate movie? Answer with one word, Yes or No.
Genre: comedy, horror, fantasy, animation, western, war, crime, musical, romance, thriller, documentary.
The history of this user: liked, liked, disliked, liked, disliked, disliked, liked. Answer: Yes. Answer: No.
Title: The Return of the Silver Fox. Title: Love in the Time of Rain. Title: The Man Who Counted Stars.
Title: A Day at the Market. Title: The House on Maple Street. Title: The Secret of the Blue Island.
Some people watch movies to laugh and some to think; the best of them make you do both, one after the other.
In the first part of the movie nothing happens; in the second part everything happens, and all of it at once.
You are given the ratings of a person. Say whether the person will like the next movie. Think of what they liked.
The evidence: twelve neighbors rated this movie, nine of them liked it and three of them disliked it.
The director of Beyond the Harbor made another movie with the same actors, and most of the viewers liked it more.
"""


def byte_alphabet():
    """GPT-2's printable character for every byte."""
    plain = list(range(ord("!"), ord("~") + 1)) + list(range(0xA1, 0xAC + 1)) + list(range(0xAE, 0xFF + 1))
    alphabet, free = {}, 0x100
    for byte in range(256):
        if byte in plain:
            alphabet[byte] = chr(byte)
        else:
            alphabet[byte] = chr(free)
            free += 1
    return alphabet


def pretokens(text):
    """The pre-tokeniser "smollm" for ASCII: digits apart, then GPT-2's expression."""
    expression = r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
    for piece in re.findall(r"[0-9]|[^0-9]+", text):
        yield from [piece] if piece.isdigit() else re.findall(expression, piece)


def learn_merges(alphabet):
    counts = {}
    for word in list(pretokens(TEXT)) + MUST_BE_ONE_TOKEN * 50:
        spelled = tuple(alphabet[byte] for byte in word.encode())
        counts[spelled] = counts.get(spelled, 0) + 1
    merges = []
    while len(merges) < MERGES:
        pairs = {}
        for word, count in counts.items():
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = {}
        for word, count in counts.items():
            joined, i = [], 0
            while i < len(word):
                if word[i : i + 2] == best:
                    joined.append(best[0] + best[1])
                    i += 2
                else:
                    joined.append(word[i])
                    i += 1
            merged[tuple(joined)] = merged.get(tuple(joined), 0) + count
        counts = merged
    for word in MUST_BE_ONE_TOKEN:
        assert (("".join(alphabet[byte] for byte in word.encode())),) in counts, word
    return merges


# The format: docs/gguf.md of ggml-org/ggml. Numbers of its value types and tensor types:
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
ALIGNMENT = 32


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def plain(kind, value):
    if kind == STRING:
        return string(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + plain(kind, value)


def array(name, kind, values):
    head = string(name) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(plain(kind, value) for value in values)


def half(value):
    return struct.pack("<e", value)


def q4_1(block):
    least = min(block)
    step = (max(block) - least) / 15
    steps = [min(15, int((value - least) / step + 0.5)) if step else 0 for value in block]
    return half(step) + half(least) + bytes(steps[i] | steps[i + 16] << 4 for i in range(16))


def q8_0(block):
    step = max(abs(value) for value in block) / 127
    return half(step) + struct.pack("<32b", *(round(value / step) if step else 0 for value in block))


def pack(kind, values):
    if kind == F32:
        return struct.pack("<%df" % len(values), *values)
    if kind == F16:
        return struct.pack("<%de" % len(values), *values)
    pack_block = {Q4_1: q4_1, Q8_0: q8_0}[kind]
    return b"".join(pack_block(values[i : i + 32]) for i in range(0, len(values), 32))


def tensors(vocabulary):
    """(name, dimensions in the file's order, type, values)"""
    source = random.Random(SEED)

    def spread(count, deviation, mean=0.0):
        width = deviation * math.sqrt(12)
        return [mean + width * (source.random() - 0.5) for _ in range(count)]

    def matrix(name, rows, columns, scale=1.0):
        kind = other_types.get(name, Q4_1)
        return name, (columns, rows), kind, spread(rows * columns, scale / math.sqrt(columns))

    other_types = {
        "blk.0.ffn_down.weight": Q8_0,
        "blk.1.attn_k.weight": F32,
        "blk.2.attn_v.weight": F16,
        "blk.4.attn_output.weight": F16,
        "blk.5.attn_q.weight": F32,
        "blk.5.ffn_up.weight": Q8_0,
    }
    yield "token_embd.weight", (WIDTH, vocabulary), Q8_0, spread(vocabulary * WIDTH, 0.2)
    for layer in range(LAYERS):
        at = "blk.%d." % layer
        yield at + "attn_norm.weight", (WIDTH,), F32, spread(WIDTH, 0.15, 1.0)
        yield matrix(at + "ffn_down.weight", WIDTH, HIDDEN, 0.7)
        yield matrix(at + "ffn_gate.weight", HIDDEN, WIDTH)
        yield matrix(at + "ffn_up.weight", HIDDEN, WIDTH)
        yield at + "ffn_norm.weight", (WIDTH,), F32, spread(WIDTH, 0.15, 1.0)
        yield matrix(at + "attn_k.weight", KEY_HEADS * HEAD_SIZE, WIDTH)
        yield matrix(at + "attn_output.weight", WIDTH, HEADS * HEAD_SIZE, 0.7)
        yield matrix(at + "attn_q.weight", HEADS * HEAD_SIZE, WIDTH)
        yield matrix(at + "attn_v.weight", KEY_HEADS * HEAD_SIZE, WIDTH)
    yield "output_norm.weight", (WIDTH,), F32, spread(WIDTH, 0.15, 1.0)


def main():
    alphabet = byte_alphabet()
    merges = learn_merges(alphabet)
    tokens = SPECIAL + sorted(alphabet.values()) + [left + right for left, right in merges]
    assert len(set(tokens)) == len(tokens)
    chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    keys = [
        key("general.architecture", STRING, "llama"),
        key("general.type", STRING, "model"),
        key("general.name", STRING, "tiny"),
        key("general.size_label", STRING, "300K"),
        array("general.languages", STRING, ["en"]),
        key("llama.block_count", UINT32, LAYERS),
        key("llama.context_length", UINT32, CONTEXT),
        key("llama.embedding_length", UINT32, WIDTH),
        key("llama.feed_forward_length", UINT32, HIDDEN),
        key("llama.attention.head_count", UINT32, HEADS),
        key("llama.attention.head_count_kv", UINT32, KEY_HEADS),
        key("llama.rope.freq_base", FLOAT32, 10000.0),
        key("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        key("general.file_type", UINT32, 3),
        key("llama.vocab_size", UINT32, len(tokens)),
        key("llama.rope.dimension_count", UINT32, HEAD_SIZE),
        key("tokenizer.ggml.add_space_prefix", BOOL, False),
        key("tokenizer.ggml.add_bos_token", BOOL, False),
        key("tokenizer.ggml.model", STRING, "gpt2"),
        key("tokenizer.ggml.pre", STRING, "smollm"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", INT32, [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))),
        array("tokenizer.ggml.merges", STRING, [left + " " + right for left, right in merges]),
        key("tokenizer.ggml.bos_token_id", UINT32, 1),
        key("tokenizer.ggml.eos_token_id", UINT32, 2),
        key("tokenizer.ggml.unknown_token_id", UINT32, 0),
        key("tokenizer.ggml.padding_token_id", UINT32, 2),
        key("tokenizer.chat_template", STRING, chat_template),
        key("general.quantization_version", UINT32, 2),
    ]
    infos, data = [], b""
    for name, dimensions, kind, values in tensors(len(tokens)):
        head = string(name) + struct.pack("<I%dQ" % len(dimensions), len(dimensions), *dimensions)
        infos.append(head + struct.pack("<IQ", kind, len(data)))
        data += pack(kind, values)
        data += bytes(-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    head += bytes(-len(head) % ALIGNMENT)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny.gguf")
    with open(path, "wb") as file:
        file.write(head + data)


if __name__ == "__main__":
    main()
