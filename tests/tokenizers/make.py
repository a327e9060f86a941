#!/usr/bin/env python3
"""Makes the tokenizers of this folder and their golden ids, with Hugging Face's tokenizers (0.23.2).

Usage: make.py [GPT-NEOX-TOKENIZER-JSON]    (needs the package; the tests need only what it has made)
Texts are this repository's own. golden.jsonl: {"id", "text", and by tokenizer its ids, or if they are many how
many and the CRC-32 of all, as 32 bits each, little-endian}.
"""
import json
import pathlib
import random
import struct
import sys
import zlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
SOURCE = HERE.parent.parent
LLAMA = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = [
    "the", "The", " a", "don't", "we'll", "I'M", "you've", "'s", "'S", "''s", " 's", "'re", "'r", "'", "' ",
    "\u2019s", "hello world", "<|endoftext|>", "<|padding|>", "<|endoftext", "|>", "<|", "<", "  ", "   ",
    " " * 23, " " * 24, " " * 25, " " * 49, " \n", " \n ", "\n\n", "\r\n", "\t", "\t ", "\u00a0", "\u3000",
    "\u2028", "\u0085", "\u180e", "\u200b", "\ufeff", "123", "1,234.56", "\u00b2", "\u0663", "\u2167",
    "\u4e00\u4e8c", "\uac00\uac01", "\u1100\u1161\u11a8", "\u1100\u1161", "\u11a8", "e\u0301", "\u0301",
    "\u0301\u0327", "a\u0327\u0301\u0323", "\u0958", "\ufb2c", "\u1e9b\u0323", "\u212b", "\u2126", "\u0344",
    "\u0f73", "\U0001d15e", "\U0001f600", "\U0001f468\u200d\U0001f469", "\u0378", "\U000e0001", "\U0010ffff",
    "\ufffd", "\0", "\u0001", "\u017f", "\u00df", "\u212a", "def f(x):\n        return x", "\u05d0\u05b8",
    "\u0e01\u0e33", "\u0928\u093c", ">\u0338", "<|endoftext|>\u0338", "=\u0338", " \u0301", "\u1161" * 3,
    "ab" * 40, "a" * 300, "=" * 200, "-" * 100, " -" * 10, ".\n" * 5, "\n" * 37, "caf\u00e9", "cafe\u0301",
    "\u202f", "x\u2029y", "\uff11\uff12\uff13", "\u00bd", "\u01c5", "\u1b06\u1b35", "\U000105c0", "\u1c89",
]


def texts():
    for name in ("README.md", "LICENSE", "docs/performance.md", "docs/streams.md", "pipeline/bpe_tokenizer.c",
                 "tests/run/harness.py"):
        yield name, (SOURCE / name).read_text()[:12000]


def hostile():
    draw = random.Random(5)
    for i, word in enumerate(WORDS):
        yield f"word-{i}", word
    for i in range(300):
        parts = []
        for _ in range(draw.choice([2, 3, 5, 8, 20, 60])):
            kind = draw.random()
            if kind < 0.7:
                parts.append(draw.choice(WORDS))
            elif kind < 0.8:
                parts.append(chr(draw.randrange(0x20, 0x7F)))
            else:  # no marks younger than the tables of Hugging Face's NFC
                parts.append(chr(draw.choice([draw.randrange(0xA0, 0x7B1), draw.randrange(0x1100, 0x1200),
                                              draw.randrange(0x3041, 0xA000), draw.randrange(0xAC00, 0xD7A4),
                                              draw.randrange(0x1F300, 0x1F650), draw.randrange(0x40000, 0x10FFFE)])))
        yield f"drawn-{i}", "".join(parts)
    for i, (piece, times) in enumerate([("a", 5000), ("\n", 9001), ("0", 6000), ("ab", 3000), ("=", 7000),
                                        (" \n", 3000), ("\t", 5000), ("x y", 2000), ("'", 5000), ("aA", 3000),
                                        ("\u4e00", 3000), (" ", 5001)]):
        yield f"long-{i}", piece * times
    for i, letters in enumerate(["ACGT", "0123456789", "abcdefghijklmnopqrstuvwxyz", "01", "thes", "=-_+"]):
        yield f"unbroken-{i}", "".join(draw.choice(letters) for _ in range(6000))


def trained(pre_tokenizer, normalizer, special, size=700):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text for _, text in texts()] +
                                  ["\n" * n for n in range(2, 9)] + ["aaaa", "abab", "ACGTTGCA"], trainer)
    return tokenizer


def make_all():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2 = trained(byte_level, None, ["<|endoftext|>"])
    neox = trained(byte_level, normalizers.NFC(), ["<|endoftext|>", "<|padding|>"])
    neox.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)] +
                    [AddedToken("cafe\u0301", normalized=True)])
    llama = trained(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), None, [])
    llama.add_special_tokens(["<|endoftext|>"])
    llama.model.ignore_merges = True
    for name, tokenizer in (("gpt2", gpt2), ("neox", neox), ("llama", llama)):
        (HERE / name).mkdir(exist_ok=True)
        tokenizer.save(str(HERE / name / "tokenizer.json"), pretty=False)
    # The two ways to write a merge.
    path = HERE / "gpt2" / "tokenizer.json"
    old = json.loads(path.read_text())
    old["model"]["merges"] = [" ".join(merge) for merge in old["model"]["merges"]]
    del old["model"]["type"]
    path.write_text(json.dumps(old, ensure_ascii=False, separators=(",", ":")))
    return {name: Tokenizer.from_file(str(HERE / name / "tokenizer.json")) for name in ("gpt2", "neox", "llama")}


def short(ids):
    if len(ids) <= 16:
        return ids
    return {"count": len(ids), "crc32": zlib.crc32(struct.pack(f"<{len(ids)}I", *ids))}


def main():
    tokenizers = make_all()
    if len(sys.argv) > 1:
        tokenizers["gpt-neox-20b"] = Tokenizer.from_file(sys.argv[1])
    with open(HERE / "golden.jsonl", "w") as out:
        for name, text in list(texts()) + list(hostile()):
            line = {"id": name, "text": text}
            for which, tokenizer in tokenizers.items():
                line[which] = short(tokenizer.encode(text, add_special_tokens=False).ids)
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
