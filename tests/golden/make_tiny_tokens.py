#!/usr/bin/env python3
"""Writes tiny_tokens.json beside this script: texts and their ids under tiny.gguf's vocabulary.

The ids come from the PyPI package `tokenizers` (0.20 or later), which shares no code with ours: pip install tokenizers
"""

import json
import os
import random
import struct

from tokenizers import Tokenizer, models, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 7

TEXTS = [
    "Yes",
    "No",
    " liked",
    "User: liked Heat (1995), disliked Alien 3. Answer: Yes",
    "The viewer liked The Lighthouse Keeper.\n\nQuestion: will she like it?\n",
    "we'll they're I'd it's I've don't 'til 'S 's",
    "  two leading blanks, three   inside, two at the end  ",
    "\t\ttabs\tand\n\n\nlines\r\n and \x0b\x0c others",
    "12 monkeys 101 dalmatians, 3.14 and  42  and 1,000,000",
    "a1b22c333 1a 2 b",
    "½ ² Ⅷ ٣ 五 are numerals of kinds",
    "Amélie naïve Ångström ﬁ ß",
    "天気の子 기생충 Сталкер الرسالة",
    "😀👍🏽 flags 🇵🇹 e\u0301 combined",
    "a\u00a0b\u2003c\u3000d\u0085e\u1680f\u180eg\u200bh\u2028i",
    "a \u00a0\u00a0b \u2003 1\u3000\u30002",
    "!!! ... -- -> <> <|im_star |> {}[]()",
    "\x00\x01\x7f\x1c\x1d\x1e\x1f control",
    "\ufffd \ufeff \uffff \U0010ffff",
    "x" * 70 + " " * 70 + "9" * 7,
    "",
]


def read_strings(path, wanted):
    """The arrays of strings of those keys; walks the keys of a GGUF file that is known to be sound."""
    fixed = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    with open(path, "rb") as file:

        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q")).decode()
            if kind == 9:
                element, count = number("I"), number("Q")
                return [value(element) for _ in range(count)]
            return file.read(fixed[kind])

        file.seek(16)
        keys = {}
        for _ in range(number("Q")):
            name = value(8)
            keys[name] = value(number("I"))
        return [keys[name] for name in wanted]


def random_texts():
    source = random.Random(SEED)
    blocks = [(0x20, 0x7F), (0x09, 0x0E), (0x30, 0x3A), (0x20, 0x21), (0xA0, 0x180), (0x2000, 0x2030), (0x660, 0x66A)]
    blocks += [(0x4E00, 0x4E40), (0x1F600, 0x1F640), (0x300, 0x310), (0x2150, 0x2190), (0x61, 0x7B), (0x27, 0x28)]
    for _ in range(120):
        yield "".join(chr(source.randrange(*source.choice(blocks))) for _ in range(source.randrange(1, 60)))


def main():
    tokens, merges = read_strings(
        os.path.join(HERE, "tiny.gguf"), ["tokenizer.ggml.tokens", "tokenizer.ggml.merges"]
    )
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # One entry a line: the text as hexadecimal UTF-8, so that a reader needs no unescaping, then the ids.
    lines = []
    for text in TEXTS + list(random_texts()):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        lines.append(json.dumps({"utf8": text.encode().hex(), "ids": ids}, separators=(",", ":")))
    with open(os.path.join(HERE, "tiny_tokens.json"), "w") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
