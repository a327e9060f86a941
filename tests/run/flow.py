"""A flow of documents that never runs out: bodies of a pool, cut into records, many of them open at once, some of
them bad in every way there is. Who sends it knows what must come out."""
import json
import random
import struct
import subprocess
import threading
import time

from harness import BUILD, PROGRAM, lines, longscan, write_jsonl
from messages import record

# How a document is bad: reasons of its dead letters, in order. Its middle record is noise, ..., has another key.
BAD = {"noise": ["record"], "empty": ["record"], "gap": ["gap"], "headless": ["gap"], "token": ["token"],
       "width": ["record"], "key": ["record", "gap"], "noise-first": ["record", "gap"]}


class Flow:
    """Documents named NUMBER-BODY-KIND; messages() gives their records, `open_most` documents at a time."""

    def __init__(self, vocabulary, lengths, record_tokens=1000, open_most=32, bad_every=100, seed=1):
        draw = random.Random(seed)
        self.vocabulary, self.record_tokens, self.open_most, self.bad_every = vocabulary, record_tokens, open_most, bad_every
        self.draw = draw
        self.bodies = [[draw.randrange(vocabulary) for _ in range(length)] for length in lengths]
        self.packed = [struct.pack(f"<{len(body)}H", *body) for body in self.bodies]
        self.documents = 0
        self.tokens = 0   # of records sent
        self.records = 0
        self.good = 0     # documents whose last record was sent
        self.letters = {"record": 0, "gap": 0, "token": 0}
        self.expected = []  # NLL of each body

    def score_bodies(self, folder, model):
        """What a clean run gives: one file, one rank, whole documents."""
        write_jsonl(folder / "bodies.jsonl", [{"id": str(i), "tokens": body} for i, body in enumerate(self.bodies)])
        longscan("score", "--model", model, "--input", folder / "bodies.jsonl", "--output", folder / "bodies.out.jsonl",
                 "--no-progress", timeout=600)
        found = {result["id"]: result["nll"] for result in map(json.loads, lines(folder / "bodies.out.jsonl"))}
        self.expected = [found[str(i)] for i in range(len(self.bodies))]

    def cut(self, name, body, version=0):
        data, size = self.packed[body], 2 * self.record_tokens
        starts = range(0, max(len(data), 1), size)
        return [record(name, data[at:at + size], first=at // 2, last=at + size >= len(data), version=version)
                for at in starts]

    def spoil(self, name, kind, parts):
        middle = len(parts) // 2
        if kind in ("noise", "empty", "noise-first"):
            parts[0 if kind == "noise-first" else middle] = (name, b"" if kind == "empty" else b"\xff\xfe\xfd")
        elif kind == "gap":
            del parts[middle]
        elif kind == "headless":
            del parts[0]
        elif kind == "key":
            parts[middle] = (f"other-{name}", parts[middle][1])
        else:
            first = middle * self.record_tokens
            wrong = {"token": ([self.vocabulary], 2), "width": (b"abc", 3)}[kind]
            parts[middle] = record(name, wrong[0], first=first, width=wrong[1])
        return parts

    def next_document(self):
        """Its messages, the last of which counts."""
        self.documents += 1
        body = self.draw.randrange(len(self.bodies))
        if self.documents % self.bad_every == 0 and len(self.packed[body]) > 4 * self.record_tokens:
            kind = list(BAD)[self.documents // self.bad_every % len(BAD)]
            name = f"{self.documents}-{body}-{kind}"
            return self.spoil(name, kind, self.cut(name, body)), BAD[kind]
        name = f"{self.documents}-{body}-good"
        parts = self.cut(name, body)
        if self.documents % 50 == 7:  # a producer that sends again
            at = self.draw.randrange(len(parts))
            parts[at:at] = parts[max(0, at - 2):at]
        if self.documents % 50 == 13:  # a text that is replaced while it is open
            other = self.cut(name, self.draw.randrange(len(self.bodies)))
            parts = other[:-1] + self.cut(name, body, version=1)
        return parts, None

    def messages(self):
        """Without end; once open_most is 0, until what is open has ended."""
        going = []
        while True:
            while len(going) < self.open_most:
                parts, reasons = self.next_document()
                going.append((iter(parts), reasons))
            if not going:
                return
            at = self.draw.randrange(len(going))
            message = next(going[at][0], None)
            if message is not None:
                self.records += 1
                self.tokens += len(message[1]) // 2
                yield message
                continue
            reasons = going.pop(at)[1]
            self.good += reasons is None
            for reason in reasons or []:
                self.letters[reason] += 1


class Sender:
    """raw_publish, fed with messages at a rate, or as fast as `allowed` allows."""

    def __init__(self, broker, topic):
        self.process = subprocess.Popen([BUILD / "raw_publish", broker.address, topic], stdin=subprocess.PIPE)

    def send(self, message):
        self.process.stdin.write(f"{message[0]} {message[1].hex()}\n".encode())

    def pump(self, flow, messages, until, tokens_a_second=None, allowed=None):
        """Until the clock says so, or there are no more."""
        begin, base = time.monotonic(), flow.tokens
        for count, message in enumerate(messages):
            self.send(message)
            if count % 16:
                continue
            self.process.stdin.flush()
            now = time.monotonic()
            if now >= until:
                return
            if tokens_a_second is not None:
                time.sleep(max(0.0, begin + (flow.tokens - base) / tokens_a_second - now))
            while allowed is not None and not allowed() and time.monotonic() < until:
                time.sleep(0.05)

    def close(self):
        self.process.stdin.close()
        if self.process.wait(120) != 0:
            raise AssertionError("raw_publish failed")


class Collector(threading.Thread):
    """longscan read of a topic, line by line, for as long as it is followed."""

    def __init__(self, broker, topic, take):
        super().__init__(daemon=True)
        self.take, self.count = take, 0
        self.process = subprocess.Popen([PROGRAM, "read", "--topic", topic, *broker.options, "--envelope", "--follow",
                                         "--quiet"], stdout=subprocess.PIPE)
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.take(json.loads(line))
            self.count += 1

    def wait_for(self, count, seconds=300):
        """False once none came for so long: how many are on their way is the machine's business."""
        seen, deadline = self.count, time.monotonic() + seconds
        while self.count < count and time.monotonic() < deadline:
            time.sleep(0.05)
            if self.count > seen:
                seen, deadline = self.count, time.monotonic() + seconds
        return self.count >= count

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.join(30)
        self.process.stdout.close()
