"""Hours in seconds: a stream at full rate with 1% bad documents of every kind. Memory stays flat, the job keeps up,
every bad record is accounted for, and good documents are what a clean run gives, bit for bit.

LONGSCAN_SOAK=SECONDS makes it long; its figures stand in docs/streams-performance.md.
"""
import collections
import json
import os
import time

from failing import FailureTest, wait_until
from flow import Collector, Flow, Sender
from harness import main
from kafka_harness import Kafka

SECONDS = float(os.environ.get("LONGSCAN_SOAK", "20"))
LAG_MOST = 20000   # records, above which the producer waits
DOCUMENTS_LEAST = 500  # of a slow machine: every kind of them is among so many
PARTITIONS = 6
VOCABULARY = 96


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


class Soak(FailureTest):
    def test_a_stream_with_bad_documents(self):
        lengths = [int(10 ** (1.5 + 2.8 * i / 199)) for i in range(200)]  # 31 to 20,000 tokens
        flow = Flow(VOCABULARY, lengths, bad_every=20 if SECONDS < 60 else 100)
        flow.score_bodies(self.folder, self.model)
        # a topic that must not fill the disk, however long it goes on
        small = ["segment.bytes=16777216", "retention.ms=300000"]
        with Kafka(settings=["log.retention.check.interval.ms=30000"]) as broker:
            broker.create("in", "out", "letters", partitions=PARTITIONS, settings=small)
            self.soak(broker, flow)

    def soak(self, broker, flow):
        summary = self.folder / "summary.json"
        self.seen, self.wrong, self.letters = collections.Counter(), [], collections.Counter()
        self.flow = flow
        results = Collector(broker, "out", self.take_result)
        letters = Collector(broker, "letters", self.take_letter)
        job = self.start("score", "--model", self.model, *broker.topic("in"), "--output", "kafka:out", "--dead-letters",
                         "kafka:letters", "--follow", "--commit-interval", "500ms", "--max-bad", "100%", "--summary",
                         summary, "--ranks", "2", "--threads", "1", "--step-tokens", "2048",
                         "-X", "queued.max.messages.kbytes=2048")
        sender = Sender(broker, "in")
        self.committed, self.lag_most, self.memory, self.next_look = 0, 0, [], 0.0
        begin = time.monotonic()
        messages = flow.messages()
        allowed = lambda: self.look(broker, job, results)
        sender.pump(flow, messages, begin + SECONDS, allowed=allowed)
        while min(flow.letters.values()) == 0 or flow.documents < DOCUMENTS_LEAST:
            sender.pump(flow, messages, time.monotonic() + 1.0, allowed=allowed)
        seconds = time.monotonic() - begin
        flow.open_most = 0
        sender.pump(flow, messages, time.monotonic() + 300)
        sender.close()
        self.assertIsNone(job.poll(), job.log.read_text())
        letters_sent = sum(flow.letters.values())
        self.assertTrue(results.wait_for(flow.good), f"{results.count} of {flow.good} results")
        self.assertTrue(letters.wait_for(letters_sent), f"{letters.count} of {letters_sent} letters")
        wait_until(lambda: self.committed_of(broker) == flow.records, 300, f"a commit of all {flow.records} records")
        self.memory.append(resident(job.pid))
        job.terminate()
        self.ended(job, 143, 30)
        results.close()
        letters.close()
        counts = json.loads(summary.read_text())
        self.check(flow, counts, seconds)

    def committed_of(self, broker):
        return sum(offset or 0 for offset in broker.offsets("longscan", "in", PARTITIONS))

    def look(self, broker, job, results):
        """May more be sent? Not if it could be too far ahead of what was committed a second ago."""
        now = time.monotonic()
        if now >= self.next_look:
            self.next_look = now + 1.0
            self.assertIsNone(job.poll(), job.log.read_text()[-4000:])
            self.committed = self.committed_of(broker)
            self.lag_most = max(self.lag_most, self.flow.records - self.committed)
            if results.count > 0:  # it has begun
                self.memory.append(resident(job.pid))
        return self.flow.records - self.committed < LAG_MOST

    def take_result(self, message):
        name, value = message["key"], message["value"]
        number, body, kind = name.split("-", 2)
        self.seen[number] += 1
        if kind != "good" or value is None or value["nll"] != self.flow.expected[int(body)]:
            self.wrong.append(message)

    def take_letter(self, message):
        reason = message["value"]["reason"].split(":")[0]
        self.letters[reason] += 1

    def check(self, flow, counts, seconds):
        bad = {reason: counts["bad_reasons"][reason] for reason in flow.letters}
        warm = len(self.memory) // 4
        first, last = max(self.memory[:warm + 1]), max(self.memory)
        print(f"\n{flow.documents} documents, {flow.records} records, {flow.tokens} tokens in {seconds:.0f} s "
              f"({flow.tokens / seconds:.0f} tokens/s); bad {bad}; {counts['duplicates']} duplicates, "
              f"{counts['replaced']} replaced, {counts['swallowed']} swallowed; lag at most {self.lag_most} records; "
              f"memory {first / 2**20:.0f} MiB in the first quarter, {last / 2**20:.0f} MiB at most")
        self.assertEqual(self.wrong[:3], [])
        self.assertEqual(len(self.seen), flow.good)
        self.assertEqual(set(self.seen.values()), {1})
        self.assertEqual((bad, dict(self.letters)), (flow.letters, flow.letters))
        self.assertEqual(counts["documents"], flow.good)
        self.assertGreater(min(flow.letters.values()), 0)
        self.assertGreater(min(counts["duplicates"], counts["replaced"], counts["swallowed"]), 0)
        # what grows on purpose, up to a bound: 65,536 finished documents a partition, of 100 bytes each here
        grown = min(flow.documents, PARTITIONS * 65536) * 200
        # and the consumer's queues, 4 MiB a partition, which fill up when the sender gets ahead later on
        grown += PARTITIONS * 4 * 2**20
        self.assertLess(last, first + 0.1 * first + grown)


if __name__ == "__main__":
    main()
