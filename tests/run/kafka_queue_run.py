"""Jobs that share one queue of samples over a real Apache Kafka: whatever is killed, stopped or added, every sample has
its result, and only what was under way is answered twice. The jobs run no model (tests/passkey_queue_driver.c)."""
import json
import signal
import subprocess
import time

from harness import BUILD, RunTest, longscan
from kafka_harness import Kafka, main

SAMPLES = 200
BATCH = 8  # of the driver
SECONDS = 60


class Job:
    """The driver, and what it says that it has answered."""

    def __init__(self, folder, broker, name, until="end", job="shared", think_ms=100, output="results"):
        self.out, self.log = folder / f"{name}.out", folder / f"{name}.log"
        with open(self.out, "w") as out, open(self.log, "w") as log:
            self.process = subprocess.Popen([BUILD / "passkey_queue_driver", broker.address, "samples", output, until, job,
                                             str(think_ms)], stdout=out, stderr=log)

    def answered(self):
        return self.out.read_text().split()

    def wait(self):
        return self.process.wait(SECONDS)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Queue(RunTest):
    def setUp(self):
        super().setUp()
        self.jobs = []

    def tearDown(self):
        for job in self.jobs:
            job.end()
        super().tearDown()

    def job(self, *arguments, **options):
        self.jobs.append(Job(self.folder, *arguments, **options))
        return self.jobs[-1]

    def fill(self, broker, samples=SAMPLES, more=""):
        lines = "".join(f"key-{i} " + (f'{{"id":"s{i}","length":{i + 1},"depth":0.5{more}}}').encode().hex() + "\n"
                        for i in range(samples))
        subprocess.run([BUILD / "raw_publish", broker.address, "samples"], input=lines, text=True, check=True, timeout=60)

    def until(self, true, what):
        deadline = time.monotonic() + SECONDS
        while not true():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def kafka(self):
        return Kafka(partitions=4, topics=["samples", "results"])

    def check(self, broker, job="shared"):
        """Every sample has its result, under its id, and all is committed."""
        done = longscan("read", "--topic", "results", *broker.options, "--envelope", timeout=60)
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        for message in messages:
            self.assertEqual(message["key"], message["value"]["id"])
        self.assertEqual({message["key"] for message in messages}, {f"s{i}" for i in range(SAMPLES)})
        self.assertEqual(broker.offsets(job, "samples"), broker.ends("samples"))
        return len(messages)

    def test_one_is_killed_and_the_other_does_the_rest(self):
        with self.kafka() as broker:
            self.fill(broker)
            a, b = self.job(broker, "a"), self.job(broker, "b")
            self.until(lambda: len(a.answered()) > 20 and len(b.answered()) > 20, "both have some")
            b.end()
            self.assertEqual(a.wait(), 0, a.log.read_text())
            self.assertEqual(set(a.answered()) | set(b.answered()), {f"s{i}" for i in range(SAMPLES)})
            self.check(broker)
            late = self.job(broker, "late")
            self.assertEqual(late.wait(), 0, late.log.read_text())
            self.assertEqual(late.answered(), [])
            other = self.job(broker, "other", job="another", think_ms=1)
            self.assertEqual(other.wait(), 0, other.log.read_text())
            self.assertEqual(len(other.answered()), SAMPLES)

    def test_more_jobs_than_partitions(self):
        with self.kafka() as broker:
            self.fill(broker)
            jobs = [self.job(broker, f"job-{i}", think_ms=50) for i in range(6)]
            for job in jobs:
                self.assertEqual(job.wait(), 0, job.log.read_text())
            self.check(broker)
            for job in jobs:
                self.assertNotIn("error", job.log.read_text())

    def test_jobs_come_and_go(self):
        with self.kafka() as broker:
            self.fill(broker)
            first = self.job(broker, "first", until="follow", think_ms=300)
            self.until(lambda: len(first.answered()) > 10, "the first has some")
            second = self.job(broker, "second", until="idle:4s", think_ms=300)
            self.until(lambda: len(second.answered()) > 10, "the second has some")
            first.process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            self.assertEqual(first.wait(), 143, first.log.read_text())
            self.assertLess(time.monotonic() - start, 5)
            self.assertEqual(second.wait(), 0, second.log.read_text())
            # twice: what was under way in either when partitions went to the other
            self.assertLessEqual(self.check(broker), SAMPLES + 4 * BATCH)

    def test_a_wrong_task_takes_nothing(self):
        with self.kafka() as broker:
            self.fill(broker, more=',"digits":9')
            wrong = self.job(broker, "wrong")
            self.assertEqual(wrong.wait(), 3, wrong.log.read_text())
            self.assertIn("digits is 9, and 5 in this job", wrong.log.read_text())
            self.assertEqual(broker.offsets("shared", "samples"), [None] * 4)

    def test_a_broker_that_restarts_and_one_that_does_not(self):
        with self.kafka() as broker:
            self.fill(broker)
            job = self.job(broker, "job", until="follow", think_ms=200)
            self.until(lambda: len(job.answered()) > 20, "some are answered")
            broker.kill()
            broker.start()
            self.until(lambda: len(set(job.answered())) == SAMPLES, "all are answered")
            self.until(lambda: broker.offsets("shared", "samples") == broker.ends("samples"), "all is committed")
            self.check(broker)
            broker.kill()
            self.assertEqual(job.wait(), 140, job.log.read_text())


if __name__ == "__main__":
    main()
