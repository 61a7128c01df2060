#!/usr/bin/env python3
"""Writes tokenizers.json beside this script: two small vocabularies, texts, and their ids under each convention.

The byte-level ids come from the PyPI package `tokenizers`, the others from `sentencepiece`; neither shares code with
ours: pip install tokenizers sentencepiece
"""

import io
import json
import os
import random

import sentencepiece
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from make_tiny import TEXT, byte_alphabet
from make_tiny_tokens import TEXTS, random_texts

HERE = os.path.dirname(os.path.abspath(__file__))

# What the vocabularies should have seen besides make_tiny's text: numerals in a row, line ends, other scripts.
MORE = """\
In 1995 and 1996, 1997 and 2001: 100 films, 250 series, 12345 episodes, 999 reviews, 10 of 10, 007.


WE'LL SEE. They'LL GO. It'S 12:30; don't.\r\n\t\tif (a[i] != b->c) { return -1; }\n\n  Amélie, naïve, Ångström, Çelik.
Сталкер смотрел фильм. Фильм понравился зрителю. 天気の子 映画 映画 기생충 영화 영화.
"""

# The expressions of the models' tokenizer.json; GPT-2's and smollm's are known to `tokenizers` by name.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS_AND_SPACE = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {
    "llama-bpe": CONTRACTIONS + r"\p{N}{1,3}" + SIGNS_AND_SPACE,
    "qwen2": CONTRACTIONS + r"\p{N}" + SIGNS_AND_SPACE,
}

# Words whose last merge is left out of the file: only where pieces are looked up whole are they one token.
UNREACHABLE = ["Ġliked", "Ġmovie", "199"]

CASES = TEXTS + [
    "WE'LL 'Re don'T 'ſ 'S's x'tY",
    " \n \n\n \t x\n\n\n  y \r\n\r\nz \x85\n \u2028 \n",
    "!?\n\n...\r\n -\n- {\n\t}\n",
    "1 12 123 1234 12345 123456 ١٢٣٤ ⅷⅸ 1a22b333c4444",
    "\tliked\u00a0movie _liked movie-liked (liked)",
    "liked movie 1995 1990 199 0199",
    "\n", "  ", " ", "   a", "a   ", "\r\n", "\n ", " \n", "x \n y",
    "<s> </s> <unk> <0x41> <|im_start|>",
    "\u2581liked \u2581 \u2581\u2581",
    "天気の映画 Сталкер 기생충 ✓ 😀",
]


def separators(name):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name not in EXPRESSIONS)
    if name in EXPRESSIONS:
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(EXPRESSIONS[name]), "isolated"), byte_level])
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return byte_level


def encoded(texts, encode):
    return [{"utf8": text.encode().hex(), "ids": encode(text)} for text in texts]


def byte_level(texts):
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = separators("llama-bpe")
    trainer = trainers.BpeTrainer(
        vocab_size=720, initial_alphabet=sorted(byte_alphabet().values()), show_progress=False
    )
    learner.train_from_iterator([TEXT + MORE], trainer)
    model = json.loads(learner.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(merge) for merge in model["merges"]]
    assert all(word in model["vocab"] for word in UNREACHABLE)
    merges = [merge for merge in merges if "".join(merge) not in UNREACHABLE]
    cases = {}
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"]:
        whole = name == "llama-bpe"
        tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=whole))
        tokenizer.pre_tokenizer = separators(name)
        cases[name] = encoded(texts, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    return {"tokens": tokens, "merges": [" ".join(merge) for merge in merges], "cases": cases}


def pieces(texts):
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT + MORE).splitlines()),
        model_writer=trained,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        max_sentence_length=1 << 20,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    ids = range(processor.get_piece_size())
    # As GGUF files number them.
    types = [
        2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1 for i in ids
    ]
    return {
        "tokens": [processor.id_to_piece(i) for i in ids],
        "scores": [processor.get_score(i) for i in ids],
        "types": types,
        "bos": processor.bos_id(),
        "cases": encoded([text for text in texts if text], processor.encode),
    }


def mixed_texts():
    """Sentences of the vocabulary's own words, so that long merges happen, with what breaks them in between."""
    source = random.Random(5)
    words = (TEXT + MORE).split(" ")
    for _ in range(60):
        yield "".join(
            source.choice(words) + source.choice([" ", " ", " ", "  ", "\n", "\t", ", ", "12", " 345 ", "é", "'ll ", ""])
            for _ in range(source.randrange(1, 12))
        )


def main():
    texts = CASES + list(mixed_texts()) + list(random_texts())[:60]
    golden = json.dumps({"byte_level": byte_level(texts), "sentencepiece": pieces(texts)}, separators=(",", ":"))
    with open(os.path.join(HERE, "tokenizers.json"), "w") as file:
        file.write(golden.replace('{"utf8"', '\n{"utf8"') + "\n")


if __name__ == "__main__":
    main()
