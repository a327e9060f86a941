"""Topics that change, end or go away while they are read, against a real Apache Kafka."""
import json
import signal
import subprocess
import sys
import threading
import time
import unittest

from failing import PASSKEY, VOCABULARY, FailureTest, said, wait_until
from harness import BUILD, HAVE_KAFKA, PROGRAM, lines, longscan, main
from kafka_harness import Kafka, need_kafka

BACKLOG = 500, 4000  # documents, and tokens of each: more than the model is done with in the time of a test


def setUpModule():
    need_kafka()
    broker = Kafka()
    TopicTest.broker = broker.__enter__()
    unittest.addModuleCleanup(broker.__exit__)


class TopicTest(FailureTest):
    """One broker for all; every test has topics of its own."""

    def publish(self, topic, first, count, tokens=3):
        text = "".join(f"{i} {document(i, tokens).encode().hex()}\n" for i in range(first, first + count))
        subprocess.run([BUILD / "raw_publish", self.broker.address, topic], input=text, text=True, check=True,
                       timeout=60)

    def topic(self, name, partitions=1, count=0, settings=()):
        self.broker.create(name, partitions=partitions, settings=settings)
        if count:
            self.publish(name, 0, count)
        return name

    def job(self, topic, *options, job=None, model=None, output=None):
        """A score command over this topic; its output and offsets go by the job's name."""
        job = job or topic
        output = output or self.folder / f"{job}.jsonl"
        return ["score", "--model", model or self.model, *self.broker.topic(topic), "--input-format", "jsonl",
                "--job", job, "--output", output, "--no-progress", "--commit-interval", "200ms", "--log-level", "info",
                *options]

    def begin(self, topic, *options, **more):
        process = self.start(*self.job(topic, *options, **more), log=f"log-{more.get('job') or topic}")
        process.output = self.folder / f"{more.get('job') or topic}.jsonl"
        return process

    def run_job(self, topic, *options, expect=0, **more):
        return longscan(*self.job(topic, *options, **more), expect=expect, timeout=90)

    def committed(self, job, topic, partitions=1):
        return [offset or 0 for offset in self.broker.offsets(job, topic, partitions)]

    def wait_committed(self, job, topic, total, partitions=1):
        def all_committed():
            try:
                return sum(self.committed(job, topic, partitions)) == total
            except AssertionError as error:  # a broker that has just started looks for its coordinator
                if "oordinator" in str(error):
                    return False
                raise

        wait_until(all_committed, 40, f"{job}: {total} committed")

    def wait_scored(self, process, total):
        partial = process.output.with_name(f"{process.output.name}.partial")
        wait_until(lambda: partial.exists() and len(lines(partial)) == total, 40, f"{partial.name}: {total} scored")

    def backlog(self, name):
        """A topic of more than can be scored while a test lasts, and a job that reads it behind a full queue."""
        self.topic(name)
        self.publish(name, 0, *BACKLOG)
        return self.begin(name, "--until", "follow", "--threads", "1", "--step-tokens", "1k", "--queue-tokens", "4k",
                          model=PASSKEY)

    def wait_started(self, *processes):
        for process in processes:
            wait_until(lambda: "backend:" in process.log.read_text() or process.poll() is not None, 30, "start")
        time.sleep(1.5)


def document(number, tokens=3):
    return json.dumps({"id": str(number), "tokens": [(number + i) % VOCABULARY for i in range(tokens)]})


class Changes(TopicTest):
    def test_growing(self):
        for name, count in ("gf", 2000), ("gi", 10), ("ge", 20000):
            self.topic(name, partitions=2, count=count)
        follow, idle = self.begin("gf", "--follow"), self.begin("gi", "--until", "idle:50s")
        # Until its output is read, this one stands still, behind a full queue, for longer than a group's member may.
        log = self.folder / "slow.log"
        with open(log, "wb") as errors:
            slow = subprocess.Popen([PROGRAM, *map(str, self.job("ge", "--queue-tokens", "1k", "-X",
                                                             "max.poll.interval.ms=2000", "-X",
                                                             "session.timeout.ms=1000", output="-"))],
                                stdout=subprocess.PIPE, stderr=errors, text=True)
        self.addCleanup(self.kill, slow)
        self.wait_scored(follow, 2000)
        self.wait_started(follow, idle)
        for name in "gf", "gi", "ge":
            self.broker.admin("grow", name, 3)
        for process, name in (follow, "gf"), (idle, "gi"):
            self.assert_said(self.ended(process, 4, 10), f"topic {name}", "from 2 to 3 partitions", "same --job")
        wait_until(lambda: "from 2 to 3 partitions" in log.read_text(), 10, "a warning behind a full queue")
        output = slow.communicate(timeout=60)[0]
        self.assertEqual((slow.returncode, len(output.splitlines())), (0, 20000), log.read_text())
        self.assertEqual(log.read_text().count("from 2 to 3 partitions"), 1, log.read_text())
        self.publish("gf", 5000, 200)
        self.run_job("gf")  # all three partitions
        self.assertEqual(sum(self.committed("gf", "gf", 3)), 2200)

    def test_deleted(self):
        idle, flowing = self.topic("di", count=50), self.backlog("df")
        idle = self.begin("di", "--follow")
        self.wait_scored(idle, 50)
        self.wait_started(idle, flowing)
        for name in "di", "df":
            self.broker.admin("delete", name)
        for process, name in (idle, "di"), (flowing, "df"):
            self.assert_said(self.ended(process, 140, 10), f"topic {name} is gone", "deleted")
        self.assertEqual(self.leftovers(), [])

    def test_made_anew(self):
        """With less in it, with as much, and behind a full queue."""
        flowing = self.backlog("af")
        jobs = {name: self.begin(self.topic(name, count=50), "--follow") for name in ("ae", "am")}
        for process in jobs.values():
            self.wait_scored(process, 50)
        jobs["af"] = flowing
        self.wait_started(*jobs.values())
        for name in jobs:
            self.broker.admin("delete", name)
            self.broker.create(name)
        self.publish("am", 9000, 50)
        for name, process in jobs.items():
            log = self.ended_with(process, (4, 140), 12)
            self.assert_said(log, f"topic {name}")
            self.assertNotIn('"9000"', process.output.read_text() if process.output.exists() else "")

    def ended_with(self, process, codes, seconds):
        try:
            self.assertIn(process.wait(seconds), codes, process.log.read_text())
        except subprocess.TimeoutExpired:
            self.fail(f"still there after {seconds} s:\n{process.log.read_text()}")
        return process.log.read_text()

    def test_records_deleted_before_they_were_read(self):
        self.topic("rb", count=100)
        self.run_job("rb")
        self.publish("rb", 100, 100)
        self.broker.admin("delete-records", "rb", 0, 150)
        self.assert_said(self.run_job("rb", expect=4), "topic rb [0]", "offset 100", "150 to 200", "deleted before")
        running = self.topic("rr")
        self.publish("rr", 0, *BACKLOG)
        running = self.begin("rr", "--follow", "--threads", "1", "--step-tokens", "1k", "--queue-tokens", "4k", "-X",
                             "queued.min.messages=1", "-X", "queued.max.messages.kbytes=64", "-X",
                             "fetch.message.max.bytes=65536", model=PASSKEY)
        self.wait_started(running)
        self.broker.admin("delete-records", "rr", 0, 499)
        self.assert_said(self.ended(running, 4, 60), "topic rr [0]", "is gone", "deleted before")


class Outages(TopicTest):
    def test_outages(self):
        """Away twice, stopped and frozen: reading, committing and idle jobs go on, the impatient one ends."""
        self.topic("oi", partitions=2, count=100)
        self.topic("or")
        self.publish("or", 0, 200, tokens=1000)
        small = ["-X", "queued.min.messages=1", "-X", "queued.max.messages.kbytes=16", "-X",
                 "fetch.message.max.bytes=16384"]
        idle = self.begin("oi", "--until", "idle:7s", output=f"kafka:{self.topic('oi-scores')}")
        reading = self.begin("or", "--threads", "1", "--step-tokens", "1k", *small, model=PASSKEY)
        impatient = self.begin("oi", "--follow", "--broker-timeout", "3s", job="impatient")
        self.wait_committed("oi", "oi", 100, 2)
        self.publish("oi", 100, 100)
        self.broker.stop()
        self.assert_said(self.ended(impatient, 140, 12), "topic oi", "--broker-timeout")
        self.broker.start()
        wait_until(lambda: "answers again" in idle.log.read_text(), 20, "contact")
        self.publish("oi", 200, 100)
        self.wait_committed("oi", "oi", 300, 2)
        self.broker.pause()
        time.sleep(5)
        self.broker.resume()
        self.ended(idle, 0, 40)
        self.ended(reading, 0, 60)
        scores = longscan("read", "--topic", "oi-scores", *self.broker.options, timeout=60).stdout.splitlines()
        self.assertEqual((len(scores), len(lines(reading.output))), (300, 200))
        for process in idle, reading:
            log = process.log.read_text()
            self.assertLessEqual((log.count(" warn "), log.count(" error ")), (2, 0), log)
            self.assertLessEqual(log.count("answers again"), log.count("no answer"), log)
        self.assertIn(idle.log.read_text().count("no answer"), (1, 2), "a line for each time away, if it was long enough")


class Ends(TopicTest):
    def test_placement(self):
        """Every partition is read by one group; groups without any wait for nobody."""
        for partitions, groups in (1, 3), (12, 3), (12, 5), (64, 1):
            with self.subTest(partitions=partitions, groups=groups):
                name = self.topic(f"p{partitions}-{groups}", partitions, count=300)
                results = self.topic(f"{name}-scores")
                self.run_job(name, "--until", "idle:2s", "--ranks", groups, "--group-size", 1, "--threads", 1,
                             "--peer-timeout", "1s", output=f"kafka:{results}")
                self.assertEqual(sum(self.committed(name, name, partitions)), 300)
                found = longscan("read", "--topic", results, *self.broker.options, "--print", "json").stdout
                self.assertEqual(sorted(json.loads(line)["id"] for line in found.splitlines()),
                                 sorted(map(str, range(300))))
        self.topic("p65", 65)
        self.assert_said(self.run_job("p65", expect=2), "topic p65 has 65 partitions", "--group-size")

    def test_ends(self):
        """An end that is fixed, one that is silence, and one that is a signal; and nothing at all."""
        self.topic("ee")
        self.run_job("ee")
        self.assertEqual(lines(self.folder / "ee.jsonl"), [])
        self.topic("es", partitions=2, count=500)
        follow, idle = self.begin("es", "--follow", job="f"), self.begin("es", "--until", "idle:2s", job="i")
        stop = threading.Event()

        def keep_publishing():
            at = 500
            while not stop.is_set():
                self.publish("es", at, 20)
                at += 20

        thread = threading.Thread(target=keep_publishing)
        thread.start()
        try:
            time.sleep(0.5)
            self.run_job("es", job="e", output=self.folder / "e.jsonl")
            self.assertGreaterEqual(len(lines(self.folder / "e.jsonl")), 500)
            self.assertIsNone(idle.poll(), "idle, although records came")
        finally:
            stop.set()
            thread.join()
        self.ended(idle, 0, 20)
        total = len(lines(idle.output))
        self.wait_scored(follow, total)
        follow.send_signal(signal.SIGTERM)
        self.ended(follow, 143, 20)
        self.assertEqual(len(lines(follow.output)) if follow.output.exists() else total, total)

    def wait_readable(self, topic, count):
        """A transaction's mark is written a moment after its end was acknowledged."""
        read = ["read", "--topic", topic, *self.broker.options]
        wait_until(lambda: len(longscan(*read).stdout.splitlines()) == count, 30, f"{topic}: {count} to be read")

    def transact(self, topic, count, end):
        return [BUILD / "kafka_transact", self.broker.address, topic, "0", str(count), end]

    def test_transactions(self):
        """Ends behind transactions' marks; an open one ends the readable part of the topic."""
        for name, ends in ("tc", ["commit"]), ("ta", ["commit", "abort"]), ("tx", ["abort"]):
            self.topic(name)
            for end in ends:
                subprocess.run(self.transact(name, 5, end), check=True, timeout=60)
            self.wait_readable(name, 5 * ends.count("commit"))
            self.run_job(name, "--broker-timeout", "10s")
            self.assertEqual(len(lines(self.folder / f"{name}.jsonl")), 5 * ends.count("commit"))
            self.run_job(name, "--broker-timeout", "10s", output=self.folder / "again.jsonl")  # from the marks on
        self.topic("to", count=7)
        with subprocess.Popen(self.transact("to", 5, "open"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
            self.addCleanup(self.kill, held)
            self.assertEqual(held.stdout.readline(), b"open\n")
            self.publish("to", 7, 3)
            done = self.run_job("to", "--broker-timeout", "10s")
            self.assertEqual(len(lines(self.folder / "to.jsonl")), 7, said(done))
            self.assertEqual(self.committed("to", "to"), [7])
            self.run_job("to", "-X", "isolation.level=read_uncommitted", job="dirty")
            self.assertEqual(len(lines(self.folder / "dirty.jsonl")), 15)
        subprocess.run(self.transact("to", 4, "commit"), check=True, timeout=60)  # aborts the open one first
        self.wait_readable("to", 7 + 3 + 4)
        self.run_job("to", output=self.folder / "rest.jsonl")
        self.assertEqual(len(lines(self.folder / "rest.jsonl")), 3 + 4)


if __name__ == "__main__":
    if not HAVE_KAFKA:
        print("built without Kafka")
        sys.exit(77)
    main()
