"""Topics: records that are doubled, missing or no records at all, and brokers that are not there."""
import json
import sys
import time

from failing import PASSKEY, VOCABULARY, FailureTest
from harness import HAVE_KAFKA, HAVE_MPI, Broker, by_id, longscan, main, random_tokens
from messages import record, send


GOOD = [record("good", [1, 2, 3]), record("good", [4], first=3, last=True)]


class Records(FailureTest):
    """Topics of one partition, so that messages stay in the order in which they are sent."""

    @classmethod
    def setUpClass(cls):
        cls.topics = [f"t{i}" for i in range(50)]
        cls.broker = Broker(partitions=1, topics=cls.topics)
        cls.broker.__enter__()
        cls.addClassCleanup(cls.broker.__exit__)

    def results(self, messages, *arguments, code=0, needles=()):
        """Scores a new topic of these messages; a needle's TOPIC stands for its name."""
        topic = self.topics.pop()
        send(self.broker.address, topic, messages)
        done = self.run_score(*self.broker.topic(topic), *arguments, expect=code)
        if needles:
            self.assert_said(done, *[needle.replace("TOPIC", topic) for needle in needles])
        return {name: json.loads(found[0]) for name, found in by_id(self.output).items()}

    def bad(self, messages, *needles):
        """The bad document is counted and told, the good one scored."""
        with self.subTest(needles=needles):
            found = self.results(GOOD + messages, "--max-bad", "50%", needles=needles)
            self.assertEqual(list(found), ["good"])
            self.assertEqual(found["good"]["tokens"], 4)

    def test_doubled_records_count_once(self):
        whole = self.results([record("a", [1, 2, 3, 4], last=True)])["a"]
        begin, end = record("a", [1, 2, 3]), record("a", [4], first=3, last=True)
        overlap = record("a", [2, 3, 4], first=1, last=True)
        for messages in ([begin, begin, end], [begin, overlap], [begin, record("a", [3], first=2), end],
                         [begin, record("a"), end],
                         [begin, record("a", [4], first=3), record("a", first=4, last=True)]):
            self.assertEqual(self.results(messages, "--strict")["a"], whole)

    def test_doubled_documents_count_once(self):
        """Also when the first one is finished before the second one comes, which 500 others see to."""
        begin, end = record("a", [1, 2, 3]), record("a", [4], first=3, last=True)
        others = [record(f"other-{i}", [i % VOCABULARY] * 20, last=True) for i in range(500)]
        for again in ([end], [begin, end], [record("a", first=4, last=True)]):
            found = self.results([begin, end, *others, *again, *others], "--strict", "--step-tokens", "1k")
            self.assertEqual(len(found), 501)
            self.assertEqual(sum(len(lines) for lines in by_id(self.output).values()), 501)

    def test_a_file_published_twice(self):
        source = self.documents("in.jsonl", [{"id": str(i), "tokens": [i % VOCABULARY] * 40} for i in range(300)])
        topic = self.topics.pop()
        publish = ["publish", "--input", source, "--topic", topic, "--brokers", self.broker.address]
        longscan(*publish, "--record-tokens", "16")
        longscan(*publish, "--record-tokens", "9")
        self.run_score(*self.broker.topic(topic), "--strict")
        self.assertEqual(sorted(len(found) for found in by_id(self.output).values()), [1] * 300)

    def test_a_higher_version_is_published(self):
        topic = self.topics.pop()
        publish = ["publish", "--topic", topic, "--brokers", self.broker.address, "--input"]
        done = longscan(*publish, self.documents("one.jsonl", [{"id": "a", "tokens": [1, 2, 3]}]))
        self.assertIn(" 1 document, 1 record, 3 tokens published", done.stderr)
        longscan(*publish, self.documents("two.jsonl", [{"id": "a", "tokens": [1, 2]}]), "--document-version", "7")
        longscan(*publish, self.documents("old.jsonl", [{"id": "a", "tokens": [9]}]), "--document-version", "6")
        self.assertEqual([json.loads(line)["version"] for line in
                          longscan("read", "-t", topic, "-b", self.broker.address).stdout.splitlines()], [0, 7, 6])
        self.run_score(*self.broker.topic(topic), "--strict")
        self.assertEqual(json.loads(by_id(self.output)["a"][-1])["tokens"], 2)
        longscan(*publish, self.folder / "one.jsonl", "--document-version", "-1", expect=2)

    def test_lines_that_cannot_be_published(self):
        source = self.write("in.jsonl", '{"id":"a","tokens":[1]}\nnonsense\n{"id":"b","tokens":[-1]}\n')
        done = longscan("publish", "--topic", self.topics.pop(), "--brokers", self.broker.address, "--input", source,
                        "--max-bad", "5%", expect=3)
        self.assert_said(done, f"a document is left out: {source}:2: ")
        self.assert_said(done, f"a document is left out: {source}:3: ")
        self.assert_said(done, "2 of 3 documents are bad, more than --max-bad 5%")

    def test_missing_records(self):
        self.bad([record("a", [1, 2]), record("a", [4], first=3), record("a", [5], first=4, last=True)],
                 "document a", "starts at token 3, expected 2")
        self.bad([record("a", [4], first=3, last=True)], "document a", "starts at token 3, expected 0")

    def test_messages_that_are_no_records(self):
        place = "topic TOPIC [0] offset 2"
        for value, needle in ((b"\xff\xff", "no TokenRecord"), (b"", "empty"), (b'{"id":"a"}', "--input-format jsonl"),
                              (b"\0\0\0\0\1abc", "schema registry"), (record("b", [1], last=True)[1], "Kafka key"),
                              (record("", [1])[1], "no id"), (record("a", b"abc")[1], "multiple of its width"),
                              (record("a", b"abc", width=3)[1], "width is 3"),
                              (record("a", [1], first=-1)[1], "position is -1"),
                              (record("a", [1 << 31], width=4)[1], "token id of 2^31")):
            self.bad([("a", value)], place, needle)
        self.bad([record("a", [1, VOCABULARY], last=True)], "document a", "position 1", "vocabulary")

    def test_versions(self):
        found = self.results([record("a", [1, 2], version=1), record("a", [3], first=2, version=0),
                              record("a", [7, 8, 9], version=2, last=True), record("a", [1], version=1, last=True),
                              record("b", [5, 6], version=(1 << 64) - 1, last=True)], "--strict")
        self.assertEqual({name: result["tokens"] for name, result in found.items()}, {"a": 3, "b": 2})

    def test_a_higher_version_revives_a_bad_document(self):
        found = self.results([record("a", [4], first=3), record("a", [1, 2], version=1, last=True)], "--max-bad", "50%")
        self.assertEqual(found["a"]["tokens"], 2)

    def test_too_many_bad(self):
        messages = GOOD + [record("a", [4], first=3, last=True)]
        for options, code in (([], 3), (["--max-bad", "49%"], 3), (["--max-bad", "50%"], 0),
                              (["--max-bad", "50%", "--strict"], 5)):
            self.assertEqual(list(self.results(messages, *options, code=code)), ["good"])

    def test_bad_lines_in_a_topic_of_jsonl(self):
        messages = [("a", b'{"id":"a","tokens":[1,2]}'), ("b", b"nonsense"), ("c", b'{"tokens":[1]}')]
        found = self.results(messages, "--input-format", "jsonl", "--max-bad", "50%",
                             needles=["topic TOPIC [0] offset 1", "not a JSON object"])
        self.assertEqual(sorted(found), ["a", "c"])


class Brokers(FailureTest):
    def test_a_broker_that_is_not_there(self):
        source = self.documents("in.jsonl", [{"id": "a", "tokens": [1, 2]}])
        away = ["--brokers", "127.0.0.1:1", "--broker-timeout", "2s"]
        score = ["score", "--model", self.model, *away]
        runs = [[*score, "--input", "kafka:t", "--output", self.output],
                [*score, "--input", source, "--output", "kafka:t"],
                [*score, "--input", "kafka:t", "--output", self.output, "--ranks", "3"],
                ["publish", "--input", source, "--topic", "t", *away], ["read", "--topic", "t", *away]]
        if HAVE_MPI:
            runs.append(["run", "-n", "2", *score, "--input", "kafka:t", "--output", self.output])
        processes = [self.start(*run, log=f"log-{i}") for i, run in enumerate(runs)]
        for process in processes:
            self.assert_said(self.ended(process, 140, 15), "127.0.0.1:1", "topic t", "--broker-timeout")
        self.assertEqual((self.leftovers(), self.output.exists()), ([], False))

    def test_a_topic_that_is_not_there(self):
        with Broker() as broker:
            score = ["score", "--model", self.model, *broker.topic("nowhere"), "--output", self.output]
            read = ["read", "--topic", "nowhere", "--brokers", broker.address]
            runs = [[*score, "--broker-timeout", "1s"], score, read]
            for process in [self.start(*run, log=f"log-{i}") for i, run in enumerate(runs)]:
                self.assert_said(self.ended(process, 2, 20), "topic nowhere", "Unknown topic")
        self.assertEqual((self.leftovers(), self.output.exists()), ([], False))

    def test_settings_of_topics(self):
        self.refused(2, ["kafka:t", "--brokers"], "--input", "kafka:t")
        self.refused(2, ["-X foo:", "foo"], "--input", "kafka:t", "--brokers", "127.0.0.1:1", "-X", "foo=1")
        self.refused(2, ["-X enable.auto.commit=true"], "--input", "kafka:t", "--brokers", "127.0.0.1:1",
                     "-X", "enable.auto.commit=true")
        self.refused(2, ["--resume"], "--input", "kafka:t", "--brokers", "127.0.0.1:1", "--resume")

    def test_a_broker_that_dies_in_the_middle(self):
        """Every kind of rank at once: all lose the same broker."""
        source = self.documents("in.jsonl", [{"id": str(i), "tokens": random_tokens(i, 3000, 256)} for i in range(300)])
        with Broker(partitions=3) as broker:
            longscan("publish", "--input", source, "--topic", "t", "--brokers", broker.address)
            score = ["score", "--model", PASSKEY, "--brokers", broker.address, "--broker-timeout", "2s",
                     "--commit-interval", "100ms", "--step-tokens", "1024", "--threads", "1"]
            stream = [*score, "--input", "kafka:t"]
            runs = [[*stream, "--job", "a", "--output", "kafka:results"],
                    [*stream, "--job", "b", "--output", self.output],
                    [*stream, "--job", "c", "--output", "kafka:results", "--ranks", "2"],
                    [*score, "--input", source, "--output", "kafka:results"]]
            if HAVE_MPI:
                runs.append(["run", "-n", "2", *stream, "--job", "d", "--output", "kafka:results"])
            processes = [self.start(*run, log=f"log-{i}") for i, run in enumerate(runs)]
            time.sleep(2)
            for process in processes:
                self.assertIsNone(process.poll(), process.log.read_text())
            broker.process.kill()
            for process in processes:
                self.assert_said(self.ended(process, 140, 20), broker.address, "topic", "--broker-timeout")
        self.assertEqual((self.leftovers(), self.output.exists()), ([], False))


if __name__ == "__main__":
    if not HAVE_KAFKA:
        print("built without Kafka")
        sys.exit(77)
    main()
