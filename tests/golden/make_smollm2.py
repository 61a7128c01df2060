#!/usr/bin/env python3
"""Golden data for SmolLM2-135M-Instruct, made by other people's implementations.

Token ids come from Hugging Face `tokenizers`, hidden states and label logits from `transformers` (torch, float32, CPU) on
the very GGUF file that headrace loads. Run once, in a virtual environment:

    pip install torch transformers accelerate gguf tokenizers
    python make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2.json
"""

import json
import sys

import gguf
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM

STRINGS = [
    "", " ", "  ", "   \n", "\n", "\n\n", "\t", "\r\n", "a", "A", "Yes", "No", " Yes", " No", "yes", "no",
    "Hello, world!", "hello world", " hello  world ", "It's what we've said: they'll go, I'm sure you'd agree.",
    "IT'S WHAT WE'VE SAID", "don't", "rock'n'roll", "O'Brien's", "''''", "'s's", "l'été", "s'il vous plaît",
    "Toy Story (1995)", "GoldenEye (1995)", "Twelve Monkeys (1995)", "Shanghai Triad (Yao a yao yao dao waipo qiao) (1995)",
    "Cité des enfants perdus, La (1995)", "Misérables, Les (1995)", "Léon", "Amélie", "Das Boot (1981)",
    "Wings of Desire (Der Himmel über Berlin)", "Crouching Tiger, Hidden Dragon (卧虎藏龙)", "Восхождение", "Сталкер (1979)",
    "七人の侍", "기생충", "ปอบ", "मदर इंडिया", "الرسالة", "הבלתי רגילים", "Ψυχώ", "Żywot", "Þór", "Ærø", "ﬁlm", "Ⅷ",
    "naïve café", "naïve café (decomposed)", "ǅ", "ß", "İstanbul", "ıspanak",
    "1", "12", "123", "1234567890", "3.14159", "1,000,000", "12 of 34", "x1y2z3", "２０２６", "①②③", "½", "10²", "٣٤",
    "0x1F", "1e-5", "-1", "+1", "50%", "$9.99", "€5", "#1", "№5", "1995-03-01T12:00:00Z", "v1.2.3", "2+2=4",
    "🎬", "🎬🍿", "👨‍👩‍👧‍👦", "👍🏽", "🇩🇪", "❤️", "(╯°□°）╯︵ ┻━┻", "😀 happy", "a😀b", "\U0001f9d1\u200d\U0001f680",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_", "|im_end|>", "<<|im_end|>>",
    "<b>bold</b>", "<div class=\"x\">&amp;</div>", "[INST] hi [/INST]", "<s>", "</s>", "<unk>", "{{title}}", "{% if %}",
    "# Heading\n\n* item\n* item 2\n", "```c\nint main(void)\n{\n    return 0;\n}\n```", "a_b_c", "snake_case_name", "camelCaseName",
    "http://example.com/a?b=c&d=e#f", "user@example.com", "C:\\Windows\\System32", "/usr/lib/x86_64-linux-gnu",
    "a\tb\tc", "a  b", "a   b", "a    b", " leading", "trailing ", "  two leading", "two trailing  ", "mid  dle", "\n lead", "x\n",
    "x\n\ny", "x \n y", " \n", "\n ", " \n ", "\t\n\t", "x\u00a0y", "x\u2003y", "x\u200by", "x\u3000y", "\ufeffbom", "a\u2028b",
    "...", "…", "--", "—", "–", "!?", "?!?!", "()", "[]{}", "\"quoted\"", "“curly”", "«guillemets»", "‘single’", "`tick`",
    "a,b;c:d", "a.b.c", "e.g.", "U.S.A.", "Mr. Smith", "well-known", "mother-in-law", "AT&T", "R&B", "50/50", "and/or",
    "liked", "disliked", " liked", " disliked", "The viewer liked", "Would the viewer like", "watched", "rated 5 of 5",
    "120 people rated it, 98 liked it.", "of the 4 most similar viewers, 3 liked it", "Drama|Comedy", "Sci-Fi", "Children's",
    "supercalifragilisticexpialidocious", "Donaudampfschifffahrtsgesellschaft", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababab", "xyzzy", "qwertyuiop", "ZZZZ", "tHiS iS wEiRd", "ALL CAPS TITLE", "MiXeD", "lorem ipsum dolor sit amet",
    "The quick brown fox jumps over the lazy dog.", "Pack my box with five dozen liquor jugs.", "To be, or not to be",
    "SELECT * FROM films WHERE year > 1990;", "if (a && b || !c) { d++; }", "for i in range(10): print(i)", "x = y ** 2",
    "\u0301", "e\u0301", "a\u0308o\u0308", "z̸̢͎͎̑̾a̴", "\u202eabc", "\u2066abc\u2069", "\u00ad", "A\u00ad", "\u0007bell", "\u001b[31m", "\u007f",
]

PREFIX = "The viewer liked Star Wars (1977), Fargo (1996) and Contact (1997), and disliked Scream (1996).\n"
QUESTIONS = [
    "Will the viewer like Raiders of the Lost Ark (1981)? Answer Yes or No.",
    "Will the viewer like Scream 2 (1997)? Answer Yes or No.",
    "Will the viewer like Léon (1994)? Answer Yes or No.",
    "Is Paris the capital of France? Answer Yes or No.",
    "Is two larger than three? Answer Yes or No.",
]
HIDDEN_PROMPTS = 2  # of the questions: hidden states are stored for these
HIDDEN_LAYERS = [1, 5, 30]


def read_tokenizer(reader):
    fields = reader.fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, tokens


def main():
    path = sys.argv[1]
    reader = gguf.GGUFReader(path)
    tokenizer, tokens = read_tokenizer(reader)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    special = {t: tokens.index(t) for t in ("<|im_start|>", "<|im_end|>")}
    yes, no = encode("Yes"), encode("No")
    assert len(yes) == len(no) == 1

    model = AutoModelForCausalLM.from_pretrained(".", gguf_file=path, dtype=torch.float32)
    model.eval()
    caught = {}
    for number in HIDDEN_LAYERS:
        def keep(_module, _inputs, output, number=number):
            caught[number] = (output[0] if isinstance(output, tuple) else output).detach()
        model.model.layers[number - 1].register_forward_hook(keep)

    prompts = []
    for number, question in enumerate(QUESTIONS):
        ids = [special["<|im_start|>"], *encode("user\n" + PREFIX + question), special["<|im_end|>"], *encode("\n"),
               special["<|im_start|>"], *encode("assistant\n")]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        prompt = {"ids": ids, "yes": logits[yes[0]].item(), "no": logits[no[0]].item()}
        if number < HIDDEN_PROMPTS:
            prompt["hidden"] = {str(n): [float(f"{v:.7g}") for v in caught[n].reshape(len(ids), -1)[-1].tolist()] for n in HIDDEN_LAYERS}
        prompts.append(prompt)

    assert len(STRINGS) >= 200, len(STRINGS)
    json.dump({"strings": [{"text": s, "ids": encode(s)} for s in STRINGS], "yes": yes[0], "no": no[0], "prompts": prompts},
              sys.stdout, ensure_ascii=True, separators=(",", ":"))
    print()


main()
