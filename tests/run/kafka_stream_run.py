"""Streams over a real Apache Kafka: every document once, with the bits of a file run, whatever happens."""
import json
import random
import subprocess
import time

from broker_run import record
from failing import PASSKEY, VOCABULARY, FailureTest, wait_until
from harness import BUILD, HAVE_MPI, by_id, longscan, need_shared, random_tokens, within_golden
from kafka_harness import Kafka, main

PARTITIONS = 12
DOWN_SECONDS = 20


class Streams(FailureTest):
    @classmethod
    def setUpClass(cls):
        cls.broker = Kafka(partitions=PARTITIONS)
        cls.broker.__enter__()
        cls.addClassCleanup(cls.broker.__exit__)

    def topic(self, name, **more):
        """A name of this test's own, so that tests need not clean up."""
        name = f"{self.id().rsplit('.', 1)[-1]}-{name}"
        self.broker.create(name, **more)
        return name

    def publish(self, source, topic, *arguments, **more):
        return longscan("publish", "--input", source, "--topic", topic, *self.broker.options, *arguments,
                        timeout=60, **more)

    def start_of(self, job, topic, results, groups=1):
        """The arguments of a job on three ranks: one group of them, or three groups."""
        front, back = (["run", "-n", "3", "score"], []) if HAVE_MPI else (["score"], ["--ranks", "3"])
        return [*front, "--job", job, "--input", f"kafka:{topic}", "--output", f"kafka:{results}",
                *self.broker.options, *back, "--group-size", 3 // groups, "--threads", "1", "--step-tokens", "1024",
                "--commit-interval", "200ms", "--no-progress"]

    def score_topic(self, model, job, topic, results, *arguments, groups=1):
        done = longscan(*self.start_of(job, topic, results, groups), "--model", model, *arguments, timeout=120)
        self.assert_committed(job, topic)
        return done

    def assert_committed(self, job, topic):
        """All that is there; a partition that never held a record may be without a commit."""
        ends = self.broker.ends(topic)
        self.assertEqual([offset or 0 for offset in self.broker.offsets(job, topic)], ends)
        self.assertGreater(sum(end > 0 for end in ends), PARTITIONS // 2)

    def read(self, topic):
        """Result lines by document."""
        read = self.folder / "read.jsonl"
        longscan("read", "--topic", topic, "--output", read, *self.broker.options, timeout=60)
        return by_id(read)

    def from_file(self, model, source, *arguments):
        output = self.folder / "file-out.jsonl"
        longscan("score", "--model", model, "--input", source, "--output", output, "--no-progress", *arguments,
                 timeout=120)
        return by_id(output)

    def many(self, name, count, tokens, vocabulary=VOCABULARY):
        return self.documents(name, [{"id": f"d{i}", "tokens": random_tokens(i, i % tokens, vocabulary)}
                                     for i in range(count)])

    def test_golden_however_it_is_cut_and_grouped(self):
        golden = json.loads(need_shared("golden", "passkey-1.8m", "passkey.json").read_text())
        tokens = golden.get("tokens") or list(golden["text"].encode())
        sizes = [0, 1, 2, 63, 64, 65, 500, 1023, 1024, 1025, 3000] + list(range(10, 40))
        source = self.documents("in.jsonl", [{"id": "golden", "tokens": tokens}] + [
            {"id": f"other-{i}", "tokens": random_tokens(i, n, 256)} for i, n in enumerate(sizes)])
        expected = self.from_file(PASSKEY, source, "--token-nll")
        within_golden(json.loads(expected["golden"][0])["token_nll"], golden["token_nll"])
        for record_tokens in (5, 700, 100000):
            topic = self.topic(record_tokens)
            self.publish(source, topic, "--record-tokens", record_tokens)
            for groups in (3, 1):
                with self.subTest(record_tokens=record_tokens, groups=groups):
                    job, results = f"job-{record_tokens}-{groups}", self.topic(f"out-{record_tokens}-{groups}")
                    self.score_topic(PASSKEY, job, topic, results, "--token-nll", groups=groups)
                    self.assertEqual(self.read(results), expected)
                    ends = self.broker.ends(results)
                    if record_tokens == 700:
                        done = self.score_topic(PASSKEY, job, topic, results, "--token-nll", groups=groups)
                        self.assertIn("nothing new", done.stderr)
                        self.assertEqual(self.broker.ends(results), ends)

    def test_a_producer_that_sends_all_again(self):
        source, topic, results = self.many("in.jsonl", 200, 150), self.topic("in"), self.topic("out")
        self.publish(source, topic, "--record-tokens", "40")
        once = sum(self.broker.ends(topic))
        self.publish(source, topic, "--record-tokens", "40")
        self.assertEqual(sum(self.broker.ends(topic)), 2 * once)
        summary = self.folder / "summary.json"
        self.score_topic(self.model, "twice", topic, results, "--summary", summary, "--strict")
        found = json.loads(summary.read_text())
        self.assertEqual((found["documents"], found["duplicates"], found["bad"], found["open"]), (200, once, 0, 0))
        self.assertEqual(self.read(results), self.from_file(self.model, source))
        self.publish(source, topic, "--record-tokens", "40")  # and once more, after the job has ended
        self.assertEqual(sum(self.broker.ends(topic)), 3 * once)

    def test_interleaved_documents(self):
        """Records of many documents in turn, of any size, also empty ones and such that come twice."""
        draw = random.Random(7)
        documents = [{"id": f"d{i}", "tokens": random_tokens(i, draw.randrange(1, 2500), VOCABULARY)}
                     for i in range(60)]
        at, messages = [0] * len(documents), []
        waiting = list(range(len(documents)))
        while waiting:
            i = draw.choice(waiting)
            name, tokens = documents[i]["id"], documents[i]["tokens"]
            first, at[i] = at[i], min(len(tokens), at[i] + draw.choice([0, 1, 63, 64, 65, 700]))
            last = at[i] == len(tokens)
            messages += [record(name, tokens[first:at[i]], first=first, last=last)] * draw.choice([1, 1, 1, 2])
            if last:
                waiting.remove(i)
        topic, results = self.topic("in"), self.topic("out")
        text = "".join(f"{name} {value.hex()}\n" for name, value in messages)
        subprocess.run([BUILD / "raw_publish", self.broker.address, topic], input=text, text=True, check=True, timeout=60)
        expected = self.from_file(self.model, self.documents("in.jsonl", documents))
        self.score_topic(self.model, "interleaved", topic, results, "--strict", groups=3)
        self.assertEqual(self.read(results), expected)

    def test_messages_above_the_topics_limit(self):
        topic, results = (self.topic(name, settings=["max.message.bytes=2000"]) for name in ("in", "out"))
        source = self.documents("in.jsonl", [{"id": "a", "tokens": random_tokens(1, 4000, VOCABULARY)}])
        score = ["score", "--model", self.model, "--input", source, "--output", f"kafka:{results}", "--token-nll",
                 *self.broker.options]
        started = time.monotonic()
        for code, more in ((2, []), (3, ["-X", "message.max.bytes=2000"])):  # refused by the broker; before
            self.assert_said(self.publish(source, topic, *more, expect=code), topic, "Message size too large")
            self.assert_said(longscan(*score, *more, expect=code, timeout=60), results, "Message size too large")
        self.assertLess(time.monotonic() - started, 30)  # no waiting for --broker-timeout, which is 60 s
        self.assertEqual((sum(self.broker.ends(topic)), sum(self.broker.ends(results))), (0, 0))
        self.publish(source, topic, *more, "--record-tokens", "500")
        self.assertEqual(sum(self.broker.ends(topic)), 8)

    def test_a_broker_that_is_away_for_a_while(self):
        """Stopped with results half written, and back on the same port: the job goes on."""
        source = self.documents("in.jsonl", [{"id": f"d{i}", "tokens": random_tokens(i, 1500, 256)}
                                             for i in range(150)])
        topic, results = self.topic("in"), self.topic("out")
        self.publish(source, topic, "--record-tokens", "200")
        process = self.start(*self.start_of("away", topic, results, groups=3), "--model", PASSKEY)
        wait_until(lambda: sum(self.broker.ends(results)) > 5, 60, "the first results")
        self.broker.stop()
        stopped = time.monotonic()
        expected = self.from_file(PASSKEY, source)
        time.sleep(max(0.0, stopped + DOWN_SECONDS - time.monotonic()))
        self.assertIsNone(process.poll(), process.log.read_text())
        self.broker.start()
        self.ended(process, 0, 60)
        self.assertEqual(self.read(results), expected)
        self.assert_committed("away", topic)


if __name__ == "__main__":
    main()
