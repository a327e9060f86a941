#!/usr/bin/env python3
"""Makes golden.txt: samples of the passkey task for a tokenizer whose tokens are bytes, computed anew in
Python from the published wordings and from what the headers say of counts, places and keys.

    tests/passkey/make.py > tests/passkey/golden.txt

A line `task` has the settings: style, lengths, depths, positions, samples, seed, digits, filler, sentences
before, BOS. A line `sample` has the id, key, units before the key, units in all, and the prompt's bytes
and CRC-32; `-` is nothing.
"""

import os
import re
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
PAPER = {
    "prefix": "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it.\n\n",
    "key": lambda k, w: f"The passkey is {k}. Remember it. {k} is the passkey.\n",
    "question": lambda w: "\nWhat is the pass key? The passkey is",
    "digits": 5, "least": 0, "room": 0,
}
# "{prompt}\n\n{context}\n{input}\nThe pass key is", the prompt without a line's end
INFINITEBENCH = {
    "prefix": "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
              "I will quiz you about the important information there." + "\n\n",
    "key": lambda k, w: f"The pass key is {k}. Remember it. {k} is the pass key.\n",
    "question": lambda w: "\n" + "What is the pass key?" + "\nThe pass key is",
    "digits": 5, "least": 0, "room": 0,
}
TEMPLATE = ("Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize it. "
            "I will quiz you about the {type_needle_v} afterwards.\n{context}\n"
            "What are all the special magic {type_needle_v} for {query} mentioned in the provided text?"
            " The special magic {type_needle_v} for {query} mentioned in the provided text are")
SINGULAR = (TEMPLATE.replace("Some", "A").replace("are all", "is").replace("are", "is")
            .replace("{type_needle_v}", "number"))
BEFORE, AFTER = SINGULAR.split("{context}")
NIAH = {  # lines are joined by \n; here each has its own, and the question none before it
    "prefix": BEFORE,
    "key": lambda k, w: f"One of the special magic numbers for {w} is: {k}.\n",
    "question": lambda w: AFTER[1:].replace("{query}", w),
    "digits": 7, "least": 1, "room": 128,
}
STYLES = {"paper": PAPER, "infinitebench": INFINITEBENCH, "niah": NIAH}
ADJECTIVES = ("amber brave calm dusty early faint gentle hollow icy jolly keen late mild noble odd plain quiet "
              "rapid silent tidy upper vivid warm young ample bold crisp deep eager fresh grand humble").split()
NOUNS = ("anchor basket candle desert engine feather garden hammer island jacket kettle ladder meadow needle "
         "orchard pebble quarry ribbon saddle temple umpire valley window yard bridge castle dinner forest harbor "
         "lantern market pencil").split()

MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def draw(seed, kind, a, b, style, digits):
    least = 10 ** (digits - 1) if style["least"] else 0
    count = 10 ** digits - least
    s = mix((mix((mix(mix((seed + STEP) & MASK) ^ kind) + a) & MASK) + b) & MASK)
    t = 0
    while True:
        x = mix((s + (t + 1) * STEP) & MASK)
        if x >= 2**64 % count:
            return str(least + x % count).zfill(digits)
        t += 1


def word(key):
    bits = mix(int(key))
    return f"{ADJECTIVES[bits % 32]}-{NOUNS[bits // 32 % 32]}"


def units_of_file(path):
    text = open(os.path.join(HERE, path), encoding="utf-8", newline="").read().lstrip(" \n\t\r")
    if text[-1] not in " \n\t\r":
        text += "\n"
    units = re.findall(r"(?:.|\n)*?(?:\n|[.!?](?= ))[ \n\t\r]*|(?:.|\n)+$", text)
    assert "".join(units) == text
    return [unit for unit in units if unit]


class Task:
    def __init__(self, name, lengths, depths="10", positions="-", samples=10, seed=1, digits=0, filler="-",
                 sentences=0, bos=-1):
        self.settings = (name, lengths, depths, positions, samples, seed, digits, filler, sentences, bos)
        self.style = STYLES[name]
        self.paper = name == "paper" and filler == "-"
        self.lines = name == "infinitebench" and filler == "-"
        self.digits = digits or self.style["digits"]
        self.units = [NOISE] if filler == "-" else units_of_file(filler)
        self.head = (bos >= 0) + sentences * len(NOISE) + len(self.style["prefix"])
        self.before = NOISE * sentences + self.style["prefix"]
        self.samples, self.seed = samples, seed
        self.lengths = [int(length) for length in lengths.split(",")]
        self.bos = bos
        keys = [draw(0, 0, 0, i, self.style, self.digits) for i in range(256)]
        self.tail = max(len(self.style["key"](k, word(k))) + len(self.style["question"](word(k))) for k in keys)
        self.depths, self.positions, self.even, self.count = None, None, False, 0
        if positions != "-":
            self.positions = sorted(int(p) for p in positions.split(","))
        elif depths.startswith("even"):
            self.even, self.count = True, int((depths + ":10").split(":")[1])
        elif "," in depths or "." in depths:
            self.depths = sorted(float(d) for d in depths.split(","))
        else:
            self.depths = [(i + 0.5) / int(depths) for i in range(int(depths))]

    def filler(self, first, count):
        return "".join(self.units[(first + i) % len(self.units)] for i in range(count))

    def size(self, count):
        return len(self.filler(0, count).encode())

    def places(self, length):  # of filler, the key's included
        if self.paper:
            question = len(self.style["question"](""))
            return (length - self.head - question) // len(NOISE)
        room = length - self.head - self.tail - self.style["room"]
        count = 0
        while self.size(count + 1) <= room:
            count += 1
        if self.lines:
            count = min(count, 1305 * length // 32768)
        return count + 1

    def grid(self, length):  # (depth or position for the id, units before the key)
        units = self.places(length)
        if self.positions is not None:
            reached = []
            for position in self.positions:
                count = 0
                while self.head + self.size(count + 1) <= position:
                    count += 1
                if count <= units - 1:
                    reached.append((f"p{position}", count))
            return reached
        if self.even:
            longest = max(self.lengths)
            most = self.places(longest)
            return [(f"d{i / self.count:.6g}", min(i * most * length // (self.count * longest), units - 1))
                    for i in range(self.count)]
        return [(f"d{depth:.6g}", int(depth * (units - 1))) for depth in self.depths]

    def lines_of(self):
        yield "task " + " ".join(str(value) for value in self.settings)
        for length in self.lengths:
            grid = self.grid(length)
            seen = {}
            for number in range(self.samples):
                name, place = grid[int((number + 0.5) * len(grid) / self.samples)]
                if self.even or self.positions is not None:
                    replicate = seen[place] = seen.get(place, -1) + 1
                    key = draw(self.seed, 1, place, replicate, self.style, self.digits)
                else:
                    key = draw(self.seed, 0, length, number, self.style, self.digits)
                units = self.places(length)
                after = units - 1 - place
                text = self.text(key, place, after)
                while len(text) + (self.bos >= 0) > length - self.style["room"]:
                    after -= 1
                    text = self.text(key, place, after)
                yield f"sample {length}-{name}-{number} {key} {place} {units} {len(text)} {zlib.crc32(text)}"

    def text(self, key, before, after):
        name = word(key)
        return (self.before + self.filler(0, before) + self.style["key"](key, name)
                + self.filler(before, after) + self.style["question"](name)).encode()


TASKS = [
    Task("paper", "664,1024,4096,16384"),
    Task("paper", "1024,2048,4096,8192", depths="even", samples=40, seed=7),
    Task("paper", "500,100000,700", depths="even:7", samples=23, seed=3),
    Task("paper", "4096,2048", depths="0.0,1,0.25", samples=7, seed=2, bos=0),
    Task("paper", "1000,5000", depths="1", samples=1, digits=18),
    Task("paper", "700", samples=150, digits=18, seed=6),
    Task("paper", "3000,9000", positions="0,300,1000,2800,7000", samples=12, seed=11),
    Task("paper", "3000", samples=3, sentences=12, bos=5),
    Task("paper", "1500,6000", filler="filler.txt", samples=10, seed=4),
    Task("paper", "1500,6000,3000", depths="even:5", filler="filler.txt", samples=11, seed=5),
    Task("infinitebench", "1024,32768", samples=10),
    Task("infinitebench", "4096", filler="filler.txt", samples=4, digits=6),
    Task("niah", "1024,4096", samples=40, seed=42),
    Task("niah", "900", depths="0.0,1", samples=30, digits=4, seed=9),
    Task("niah", "2000,4000", positions="1000,2000", samples=6, filler="filler.txt"),
]

for task in TASKS:
    for line in task.lines_of():
        print(line)
