"""Input that cannot be used, over a real Apache Kafka: dead letters, what is taken back, versions, ends that
never come, and what a restart makes of the tails of finished documents."""
import base64
import json
import time

from failing import PASSKEY, VOCABULARY, FailureTest, wait_until
from harness import longscan, lines, main, random_tokens
from kafka_harness import Kafka
from messages import record, send

GOOD = record("good", [1, 2, 3], last=True)


class Bad(FailureTest):
    @classmethod
    def setUpClass(cls):
        cls.broker = Kafka(partitions=1)
        cls.broker.__enter__()
        cls.addClassCleanup(cls.broker.__exit__)

    def setUp(self):
        super().setUp()
        name = self.id().rsplit(".", 1)[1].replace("test_", "")[:60]
        self.topics = [f"{name}-{part}" for part in ("in", "out", "letters", "windows")]
        self.broker.create(*self.topics)

    def arguments(self, *more):
        source, results, letters, _ = self.topics
        return ["score", "--model", self.model, *self.broker.topic(source), "--output", f"kafka:{results}",
                "--dead-letters", f"kafka:{letters}", "--no-progress", "--max-bad", "100%", *more]

    def score(self, *more, expect=0):
        return longscan(*self.arguments(*more), expect=expect, timeout=60)

    def read(self, topic, *more):
        done = longscan("read", "--topic", topic, *self.broker.options, "--print", "json", *more, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def kept(self, topic):
        """What a compacted topic would keep: the newest value of each key."""
        newest = {}
        for message in self.read(topic, "--envelope"):
            newest[message["key"]] = message["value"]
        return {key: value for key, value in newest.items() if value is not None}

    def send(self, *messages):
        send(self.broker.address, self.topics[0], messages)

    def test_letters_say_what_where_and_why(self):
        faults = {0: ("a", b"\xff\xff"), 1: record("gap", [4], first=3, last=True),
                  2: record("token", [1, VOCABULARY], last=True), 3: ("b", record("c", [1], last=True)[1]),
                  4: record("width", b"abc", width=3, last=True)}
        self.send(*faults.values(), GOOD)
        summary = self.folder / "summary.json"
        self.score("--summary", summary)
        letters = {letter["offset"]: letter for letter in self.read(self.topics[2])}
        self.assertEqual(sorted(letters), sorted(faults))
        for offset, (key, value) in faults.items():
            letter = letters[offset]
            self.assertEqual((letter["topic"], letter["partition"]), (self.topics[0], 0))
            self.assertEqual(base64.b64decode(letter["record"]), value)
            self.assertEqual(letter["message_bytes"], len(value))
            self.assertEqual(letter["id"], None if key == "b" else key)
        self.assertEqual([letters[i]["reason"].split(":")[0] for i in sorted(letters)],
                         ["record", "gap", "token", "record", "record"])
        self.assertEqual((letters[1]["expected_first"], letters[1]["found_first"]), (0, 3))
        self.assertEqual([result["id"] for result in self.read(self.topics[1])], ["good"])
        counts = json.loads(summary.read_text())
        self.assertEqual((counts["bad"], counts["bad_reasons"]["record"]), (5, 3))
        self.assertEqual(self.broker.offsets("longscan", self.topics[0]), [6])

    def test_letters_in_a_file(self):
        self.send(record("gap", [4], first=3, last=True), GOOD)
        path = self.folder / "letters.jsonl"
        longscan("score", "--model", self.model, *self.broker.topic(self.topics[0]), "--output", self.output,
                 "--dead-letters", path, "--max-bad", "100%", "--job", "file", timeout=60)
        self.assertEqual([json.loads(line)["id"] for line in lines(path)], ["gap"])
        self.assertEqual(len(lines(self.output)), 1)

    def test_a_kill_loses_nothing_that_went_into_files(self):
        """Files that are not complete begin anew, so what lies in them is read again."""
        self.send(record("gap", [4], first=3, last=True), GOOD)
        path = self.folder / "letters.jsonl"
        arguments = ["score", "--model", self.model, *self.broker.topic(self.topics[0]), "--output", self.output,
                     "--dead-letters", path, "--max-bad", "100%", "--commit-interval", "50ms", "--no-progress"]
        job = self.start(*arguments, "--follow")
        partials = [self.folder / f"{file.name}.partial" for file in (path, self.output)]
        wait_until(lambda: all(file.exists() and file.stat().st_size > 0 for file in partials), 30, "the lines")
        time.sleep(0.5)
        self.kill(job)
        longscan(*arguments, timeout=60)
        self.assertEqual([json.loads(line)["id"] for line in lines(path)], ["gap"])
        self.assertEqual([json.loads(line)["id"] for line in lines(self.output)], ["good"])
        self.assertEqual(self.broker.offsets("longscan", self.topics[0]), [2])

    def test_windows_arise_and_are_taken_back(self):
        """bad turns bad behind 20 windows; new is replaced by a shorter version behind as many."""
        long, short = random_tokens(1, 3000, VOCABULARY), random_tokens(2, 450, VOCABULARY)
        self.send(record("whole", long, last=True), record("bad", long), record("new", long))
        job = self.start(*self.arguments("--score-every", "100", "--windows", f"kafka:{self.topics[3]}", "--follow"))

        def windows_of(name):
            return sum(key.startswith(f"{name}#") for key in self.kept(self.topics[3]))

        wait_until(lambda: windows_of("whole") == 30 and windows_of("bad") == windows_of("new") == 20, 30, "the windows")
        self.assertEqual(set(self.kept(self.topics[1])), {"whole"}, "open documents have windows and no score")
        self.send(record("bad", [1], first=3001), record("new", short, version=1, last=True))
        wait_until(lambda: "new" in self.kept(self.topics[1]), 30, "the new version")
        wait_until(lambda: windows_of("bad") == 0, 30, "the retraction")
        job.terminate()
        self.ended(job, 143, 20)
        kept = self.kept(self.topics[3])
        self.assertEqual({key for key in kept if key.startswith("new#")}, {f"new#{i}" for i in range(0, 450, 100)})
        self.assertEqual([kept[f"whole#{i}"]["first"] for i in range(0, 3000, 100)], list(range(0, 3000, 100)))
        results = self.kept(self.topics[1])
        self.assertAlmostEqual(sum(kept[f"whole#{i}"]["nll"] for i in range(0, 3000, 100)), results["whole"]["nll"])
        self.assertNotIn("windows", results["whole"])
        # the same windows stand in a file's line
        source = self.documents("in.jsonl", [{"id": "new", "tokens": short}])
        self.run_score("--input", source, "--score-every", "100")
        line = json.loads(lines(self.output)[0])
        self.assertEqual([kept[f"new#{w['first']}"]["nll"] for w in line["windows"]], [w["nll"] for w in line["windows"]])
        self.assertEqual(line["nll"], results["new"]["nll"])

    def test_open_documents_stay_open_or_are_closed(self):
        self.send(record("open", random_tokens(3, 1500, VOCABULARY)), GOOD)
        said = self.score("--job", "a").stderr
        self.assertIn("1 left open", said)
        self.assertEqual(self.broker.offsets("a", self.topics[0]), [0])
        self.assertEqual({key: value["truncated"] for key, value in self.kept(self.topics[1]).items()}, {"good": False})
        self.score("--job", "b", "--close-open")
        kept = self.kept(self.topics[1])
        self.assertEqual({key: value["truncated"] for key, value in kept.items()}, {"good": False, "open": True})
        self.assertEqual(kept["open"]["scored"], 1499)
        self.assertEqual(self.broker.offsets("b", self.topics[0]), [2])

    def test_a_restart_takes_no_tail_for_a_gap(self):
        """a holds the commit back at its first record; b began before it and ended behind it."""
        tokens = random_tokens(4, 2000, VOCABULARY)
        self.send(record("b", tokens[:1000]), record("a", tokens[:10]), record("b", tokens[1000:], first=1000, last=True))
        self.score()
        self.assertEqual(self.broker.offsets("longscan", self.topics[0]), [1])
        self.send(record("a", tokens[10:], first=10, last=True), record("c", [3], first=7, last=True))
        self.score()
        found = [letter["id"] for letter in self.read(self.topics[2])]
        self.assertEqual(found, ["c"])
        results = self.read(self.topics[1])
        self.assertEqual([result["id"] for result in results], ["b", "a"])
        self.assertEqual(results[0]["nll"], results[1]["nll"])

    def test_nothing_but_bad_input_is_not_read(self):
        """As when another --input-format was meant: the same job can be started again."""
        self.send(("a", b"some text"), ("b", b"more"))
        source, *_ = self.topics
        said = longscan("score", "--model", self.model, *self.broker.topic(source), "--output", self.output, "--job", "j",
                        expect=3, timeout=60).stderr
        self.assertIn("is not committed", said)
        self.assertEqual(self.broker.offsets("j", self.topics[0]), [None])
        longscan("score", "--model", PASSKEY, *self.broker.topic(self.topics[0]), "--input-format", "text", "--job", "j",
                 "--output", self.output, timeout=60)
        self.assertEqual(len(lines(self.output)), 2)

    def test_a_job_goes_on_with_its_model_only(self):
        self.send(GOOD)
        self.score()
        self.send(record("other", [1, 2], last=True))
        done = longscan("score", "--model", PASSKEY, *self.broker.topic(self.topics[0]), "--output", self.output, expect=4,
                        timeout=60)
        self.assert_said(done, "another model or other settings", "--job")
        self.score()
        self.assertEqual([result["id"] for result in self.read(self.topics[1])], ["good", "other"])

    def test_a_text_that_changed_needs_a_version(self):
        """However far the first one has come."""
        for name, count in (("a", 0), ("b", 3000)):
            others = [record(f"{name}{i}", [1] * 20, last=True) for i in range(count)]
            self.send(record(name, [1, 2, 3], last=True), *others, record(name, [4, 5, 6, 7], last=True))
        self.score()
        letters = self.read(self.topics[2])
        self.assertEqual([letter["id"] for letter in letters], ["a", "b"])
        self.assertIn("ended at 3", letters[0]["reason"])
        found = self.kept(self.topics[1])
        self.assertEqual((found["a"]["tokens"], found["b"]["tokens"]), (3, 3))

    def test_lower_versions_are_dropped_and_higher_ones_replace(self):
        first = [record("a", [1, 2], version=5), record("a", [9], first=2, version=4, last=True),
                 record("a", [3], first=2, version=5, last=True), record("a", [1, 2, 3, 4], version=4, last=True)]
        self.send(*first)
        summary = self.folder / "summary.json"
        self.score("--summary", summary)
        self.assertEqual([(score["tokens"], score["version"]) for score in self.read(self.topics[1])], [(3, 5)])
        counts = json.loads(summary.read_text())
        self.assertEqual((counts["duplicates"], counts["bad"]), (2, 0))
        self.send(record("a", [1, 2, 3, 4, 5], version=6, last=True))
        self.score()
        self.assertEqual(self.kept(self.topics[1])["a"]["tokens"], 5)

    def test_idle_states_go_to_files_and_come_back(self):
        tokens = random_tokens(6, 2500, VOCABULARY)
        self.send(*[record(f"open{i}", tokens[:1500]) for i in range(5)])
        summary = self.folder / "summary.json"
        job = self.start(*self.arguments("--follow", "--idle", "500ms", "--spill", self.folder, "--summary", summary))
        wait_until(lambda: list(self.folder.glob("longscan-*/*")), 30, "a state in a file")
        self.send(*[record(f"open{i}", tokens[1500:], first=1500, last=True) for i in range(5)])
        wait_until(lambda: len(self.kept(self.topics[1])) == 5, 30, "the results")
        job.terminate()
        self.ended(job, 143, 20)
        self.assertGreaterEqual(json.loads(summary.read_text())["spills"], 1)
        source = self.documents("in.jsonl", [{"id": "whole", "tokens": tokens}])
        self.run_score("--input", source)
        whole = json.loads(lines(self.output)[0])["nll"]
        self.assertEqual({value["nll"] for value in self.kept(self.topics[1]).values()}, {whole})

    def test_results_carry_the_time_of_their_source(self):
        before = int(time.time() * 1000)
        self.send(GOOD)
        self.score()
        message, = self.read(self.topics[1], "--envelope")
        self.assertTrue(before <= message["source_time_ms"] <= message["time_ms"] <= int(time.time() * 1000))

    def test_results_and_letters_in_json(self):
        """For those who index them: the value is the line that a file would have."""
        self.send(GOOD, record("gap", [4], first=3, last=True))
        self.score("--encoding", "json", "--job", "json", "--score-every", "2", "--windows", f"kafka:{self.topics[3]}")
        self.score("--job", "protobuf", "--score-every", "2", "--windows", f"kafka:{self.topics[3]}")
        for topic, count in zip(self.topics[1:], (1, 1, 2)):
            read = self.read(topic)
            self.assertEqual(len(read), 2 * count)
            self.assertEqual(read[:count], read[count:])
        done = longscan("read", "--topic", self.topics[1], *self.broker.options, "--print", "table", timeout=60)
        self.assertEqual([json.loads(line)["id"] for line in done.stdout.splitlines() if line[0] == "{"], ["good"])

    def test_a_topic_of_text(self):
        self.send(("a", "naïve text".encode()), ("b", b"y" * 200000), ("", b"no key"))
        longscan("score", "--model", PASSKEY, *self.broker.topic(self.topics[0]), "--input-format", "text",
                 "--output", self.output, timeout=60)
        found = {json.loads(line)["id"]: json.loads(line)["tokens"] for line in lines(self.output)}
        self.assertEqual(found, {"a": 11, "b": 200000, f"{self.topics[0]}:0:2": 6})
        longscan("publish", "--input", self.write("x.txt", "x"), "--topic", self.topics[3], *self.broker.options,
                 "--tokenizer", "byte")
        done = longscan("score", "--model", PASSKEY, *self.broker.topic(self.topics[3]), "--input-format", "text",
                        "--output", self.output, expect=3, timeout=60)
        self.assert_said(done, "--input-format tokens")

    def test_a_message_too_large_to_be_a_record(self):
        """The topic allows it, and nobody else would take it."""
        self.broker.create("large", settings=["max.message.bytes=8000000"])
        self.topics[0] = "large"
        value = b"\x2a" + b"\0" * 3_000_000
        send(self.broker.address, "large", [("big", value)], "message.max.bytes=8000000")
        self.send(GOOD)
        self.score()
        letter, = self.read(self.topics[2])
        self.assertEqual((letter["message_bytes"], "record" in letter), (len(value), False))
        self.assertEqual([result["id"] for result in self.read(self.topics[1])], ["good"])


if __name__ == "__main__":
    main()
