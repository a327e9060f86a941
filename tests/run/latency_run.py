"""From a document's last record to its result, over a real Apache Kafka: at half load p99 is at most two steps and the
commit interval, also for 10-token documents beside one of 10 million tokens. Figures: docs/streams-performance.md.

Whatever else a machine does only adds to a latency, and any of it to the worst ones: of three tries one has to meet the
bound. Where none does although a median did, or full load has become slower meanwhile, the machine was not alone, and
nothing is said of the program. LONGSCAN_SLOW=1 insists."""
import json
import statistics
import time

from failing import PASSKEY, FailureTest
from flow import Collector, Flow, Sender
from harness import SLOW, longscan, main
from kafka_harness import Kafka
from messages import record

COMMIT_SECONDS = 0.5
PARTITIONS = 4


class Latency(FailureTest):
    @classmethod
    def setUpClass(cls):
        cls.broker = Kafka(partitions=PARTITIONS)
        cls.broker.__enter__()
        cls.addClassCleanup(cls.broker.__exit__)

    def arguments(self, model, step_tokens):
        return ["score", "--model", model, "--output", "kafka:out", "--ranks", "2", "--threads", "1", "--step-tokens",
                step_tokens, "--commit-interval", f"{int(1000 * COMMIT_SECONDS)}ms", "--max-bad", "0%"]

    def full_load(self):
        """Tokens a second and seconds a step of a stream that is always there: self.backlog tokens of documents
        of self.body, scored with self.options."""
        flow = Flow(*self.body, bad_every=1 << 60)
        self.broker.create("backlog", "out")
        sender = Sender(self.broker, "backlog")
        flow.open_most = 4
        sender.pump(flow, flow.messages(), time.monotonic() + 1.0, allowed=lambda: flow.tokens < self.backlog)
        sender.close()
        summary = self.folder / "full.json"
        longscan(*self.options, *self.broker.topic("backlog"), "--job", f"full-{time.monotonic_ns()}", "--summary", summary,
                 "--no-progress", timeout=300)
        counts = json.loads(summary.read_text())
        self.broker.admin("delete", "backlog")
        self.broker.admin("delete", "out")
        return counts["tokens"] / counts["run_seconds"], counts["run_seconds"] / counts["steps"]

    def latencies(self, send):
        """Of each document, by its id, in seconds; send(sender) sends them, and says how many."""
        self.broker.create("in", "out")
        found, self.partition = {}, {}

        def take(message):
            found[message["key"]] = (message["time_ms"] - message["source_time_ms"]) / 1000
            self.partition[message["key"]] = message["partition"]

        job = self.start(*self.options, *self.broker.topic("in"), "--follow", "--job", f"follow-{time.monotonic_ns()}")
        results = Collector(self.broker, "out", take)
        sender = Sender(self.broker, "in")
        count = send(sender)
        sender.close()
        self.assertTrue(results.wait_for(count), f"{results.count} of {count} results\n{job.log.read_text()}")
        job.terminate()
        self.ended(job, 143, 30)
        results.close()
        self.broker.admin("delete", "in")
        self.broker.admin("delete", "out")
        return found

    def check(self, what, latencies, step, steps=2):
        """Whether the median and the 99th percentile are within so many steps and the commit interval."""
        ordered = sorted(latencies)
        p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        print(f"\n{what}: {len(ordered)} documents, latency p50 {p50 * 1000:.0f} ms, p99 "
              f"{p99 * 1000:.0f} ms, worst {ordered[-1] * 1000:.0f} ms; a step {step * 1000:.0f} ms, commits each "
              f"{COMMIT_SECONDS * 1000:.0f} ms")
        bound = steps * step + COMMIT_SECONDS
        return p50 <= bound, p99 <= bound

    def best_of_three(self, attempt):
        disturbed = False
        for _ in range(3):
            median, most = attempt()
            if most:
                return
            disturbed = disturbed or median or self.full_load()[0] < 0.7 * self.rate
        if disturbed and not SLOW:
            self.skipTest("p99 above its bound three times: the machine is not alone")
        self.fail("above its bound three times")

    def test_at_half_load(self):
        self.best_of_three(self.half_load)

    def half_load(self):
        lengths = [int(10 ** (1.7 + 1.9 * i / 49)) for i in range(50)]  # 50 to 4,000 tokens
        self.options, self.body, self.backlog = self.arguments(PASSKEY, "2k"), (256, lengths), 120_000
        self.rate, step = self.full_load()
        flow = Flow(256, lengths, open_most=4, bad_every=1 << 60)

        def send(sender):
            messages = flow.messages()
            sender.pump(flow, messages, time.monotonic() + (60 if SLOW else 12), tokens_a_second=self.rate / 2)
            flow.open_most = 0
            sender.pump(flow, messages, time.monotonic() + 10, tokens_a_second=self.rate / 2)
            return flow.good

        found = self.latencies(send)
        return self.check(f"half load, {self.rate / 2:.0f} tokens/s", found.values(), step)

    def test_beside_a_long_document(self):
        self.best_of_three(self.beside_a_long_document)

    def beside_a_long_document(self):
        self.options, self.body, self.backlog = self.arguments(self.model, "4k"), (96, [200_000], 50_000), 4_000_000
        self.rate, step = self.full_load()
        tokens, size = (10_000_000 if SLOW else 3_000_000), 20000
        body = b"\x01\x00" * size

        def send(sender):
            begin, short = time.monotonic(), 0
            for first in range(0, tokens, size):
                sender.send(record("long", body, first=first, last=first + size >= tokens))
                sender.send(record(f"short-{short}", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], last=True))
                sender.process.stdin.flush()
                short += 1
                time.sleep(max(0.0, begin + (first + size) / (self.rate / 2) - time.monotonic()))
            return short + 1

        found = self.latencies(send)
        long = found.pop("long")
        self.check("the long one", [long], step)
        return self.check(f"10 tokens beside {tokens}, {self.rate / 2:.0f} tokens/s", found.values(), step)

    def test_behind_a_backlog(self):
        self.best_of_three(self.behind_a_backlog)

    def behind_a_backlog(self):
        """A backlog of one partition holds the others back by the queues at most: eight steps and a record between
        reader and leader, the same that wait for a plan, and two steps under way; not by all that was read ahead."""
        self.options, self.body, self.backlog = self.arguments(self.model, "4k"), (96, [200_000], 50_000), 4_000_000
        self.rate, step = self.full_load()
        tokens, size = 24_000_000, 2 * 2 * 4096
        body = b"\x01\x00" * size

        def send(sender):
            for first in range(0, tokens, size):
                sender.send(record("long", body, first=first, last=first + size >= tokens))
            for short in range(40):
                sender.send(record(f"short-{short}", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], last=True))
                sender.process.stdin.flush()
                time.sleep(0.1)
            return 41

        found = self.latencies(send)
        others = [seconds for name, seconds in found.items() if self.partition[name] != self.partition["long"]]
        self.check("the long one", [found["long"]], step)
        self.check("in the same partition", [found[name] for name in found if self.partition[name] == self.partition["long"]], step)
        return self.check(f"10 tokens in another partition than {tokens}", others, step, steps=24)


if __name__ == "__main__":
    main()
