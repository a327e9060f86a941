"""A job that is killed at any moment and started again, over a real Apache Kafka, until it has read a topic to its end:
every good document has its result, all of them bit-equal, and nothing good is ever called bad."""
import collections
import json
import random
import time
import unittest

from failing import FailureTest
from flow import BAD, Flow, Sender
from harness import HAVE_MPI, longscan
from kafka_harness import Kafka, main

DOCUMENTS = 4000


class Restart(FailureTest):
    def read(self, broker, topic):
        done = longscan("read", "--topic", topic, *broker.options, "--envelope", timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def killed_again_and_again(self, front, back):
        lengths = [int(10 ** (1.5 + 2.3 * i / 49)) for i in range(50)]  # 31 to 6,300 tokens
        flow = Flow(96, lengths, record_tokens=500, open_most=200, bad_every=20)
        flow.score_bodies(self.folder, self.model)
        draw = random.Random(5)
        with Kafka(partitions=3, topics=["in", "out", "letters"]) as broker:
            sender = Sender(broker, "in")
            messages = flow.messages()
            while flow.documents < DOCUMENTS:
                sender.send(next(messages))
            flow.open_most = 0
            for message in messages:
                sender.send(message)
            sender.close()
            job = [*front, "score", "--model", self.model, *broker.topic("in"), "--output", "kafka:out",
                   "--dead-letters", "kafka:letters", "--commit-interval", "50ms", "--max-bad", "100%", "--step-tokens",
                   "1024", "--threads", "1", "--queue-tokens", "4k", *back]
            starts = 0
            while True:
                starts += 1
                process = self.start(*job, log=f"log-{starts}")
                deadline = time.monotonic() + (draw.uniform(0.35, 1.1) if starts < 8 else 120)
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.01)
                if process.poll() is not None:
                    break
                self.kill(process)
            self.assertEqual(process.returncode, 0, process.log.read_text())
            results = collections.defaultdict(set)
            for message in self.read(broker, "out"):
                results[message["key"]].add(message["value"]["nll"])
            letters = {message["key"] for message in self.read(broker, "letters")} - {None}
            self.assertEqual(sum(broker.offsets("longscan", "in")), flow.records)
        self.assertGreater(starts, 3, "the job was too fast to be killed")
        self.assertEqual(len(results), flow.good)
        for name, nlls in results.items():
            self.assertEqual(nlls, {flow.expected[int(name.split("-")[1])]}, name)
        self.assertEqual({name.split("-", 2)[2] for name in letters}, set(BAD))
        self.assertEqual(letters & set(results), set())

    def test_threads(self):
        self.killed_again_and_again([], ["--ranks", "2"])

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_processes(self):
        self.killed_again_and_again(["run", "-n", "3"], ["--group-size", "1"])


if __name__ == "__main__":
    main()
