"""Bad documents, inputs and outputs: what is wrong is named, the exit code is the right one, and
nothing half-written stays."""
import array
import json
import os
import resource
import subprocess

from failing import PASSKEY, VOCABULARY, FailureTest, said
from harness import PROGRAM, by_id, lines, main

GOOD = [{"id": f"good-{i}", "tokens": [1, 2, 3]} for i in range(3)]


class Documents(FailureTest):
    def bad_document(self, name, data, *needles):
        """One bad among three good ones: too many by default, put up with, or told by --strict."""
        source = self.write(name, data)
        for options, code in (([], 3), (["--max-bad", "100%"], 0), (["--max-bad", "100%", "--strict"], 5)):
            done = self.run_score("--input", source, *options, expect=code)
            self.assert_said(done, *needles)
        return by_id(self.output)

    def test_bad_lines_of_jsonl(self):
        good = "".join(json.dumps(document) + "\n" for document in GOOD)
        for line, needle in (('{"id":"x","tokens":[1,%d]}' % VOCABULARY, "not in the vocabulary"),
                             ('{"id":"x","tokens":[1,-1]}', "token 1 is not an integer"),
                             ('{"id":"x","tokens":[0.5]}', "token 0 is not an integer"),
                             ('{"id":"x","tokens":[99999999999]}', "token 0 is not an integer"),
                             ('{"id":"x"}', "neither"), ('{"id":[],"tokens":[1]}', '"id"'),
                             ('{"id":"x","text":"a","tokens":[1]}', "both"), ("nonsense", "not a JSON object"),
                             ('{"id":"x","tokens":[1]} more', "more after the end"), ('{"id":"x","tok', "JSON"),
                             (b'{"id":"\xff","tokens":[1]}', "not UTF-8"), (b'{"id":"x","text":"\xc3"}', "not UTF-8")):
            with self.subTest(line=line):
                line = line if isinstance(line, bytes) else line.encode()
                place = "document x" if needle == "not in the vocabulary" else "bad.jsonl:2"
                first, rest = good.encode().split(b"\n", 1)
                found = self.bad_document("bad.jsonl", first + b"\n" + line + b"\n" + rest, place, needle)
                self.assertEqual(sorted(found), ["good-0", "good-1", "good-2"])

    def test_a_line_over_max_line(self):
        documents = [GOOD[0], {"id": "long", "tokens": [1] * 2000}, GOOD[1]]
        source = self.documents("in.jsonl", documents)
        done = self.run_score("--input", source, "--max-line", "1k", "--max-bad", "50%")
        self.assert_said(done, "in.jsonl:2", "--max-line")
        self.assertEqual(list(by_id(self.output)), ["good-0", "good-1"])
        self.run_score("--input", source)

    def test_raw_tokens(self):
        for name, data, needles in (("a.u16", array.array("H", [1, VOCABULARY]), ["a.u16", "position 1"]),
                                    ("a.u32", array.array("I", [1, 1 << 31]), ["a.u32", "token 1 is larger"]),
                                    ("a.u32", array.array("I", [1, (1 << 31) - 1]), ["a.u32", "position 1"]),
                                    ("a.u16", b"\1\0\2", ["a.u16", "cut off"]), ("a.u32", b"\1\0\0\0\2", ["cut off"])):
            with self.subTest(name=name, needles=needles):
                found = self.bad_document(name, bytes(data), *needles)
                self.assertEqual(found, {})

    def test_documents_without_predictions_are_scored(self):
        source = self.documents("in.jsonl", [{"id": "empty", "tokens": []}, {"id": "one", "tokens": [5]}])
        self.run_score("--input", source, "--token-nll", "--score-every", "64", "--strict")
        for line, tokens in zip(lines(self.output), (0, 1)):
            result = json.loads(line)
            self.assertEqual((result["tokens"], result["scored"], result["nll"]), (tokens, 0, 0))
            self.assertEqual((result["token_nll"], result["windows"], result["perplexity"]), ([], [], None))
        for name in ("empty.u16", "empty.u32"):
            self.run_score("--input", self.write(name, b""), "--strict")
            self.assertEqual(json.loads(lines(self.output)[0])["tokens"], 0)
        self.run_score("--input", self.write("empty.jsonl", b""), "--strict")
        self.assertEqual(lines(self.output), [])

    def test_text_that_is_not_utf8_is_bytes(self):
        self.model = PASSKEY
        self.run_score("--input", self.write("bytes.txt", b"\xff\xfe\x00\x80a"), "--strict")
        result = json.loads(lines(self.output)[0])
        self.assertEqual((result["id"], result["tokens"], result["scored"]), ("bytes.txt", 5, 4))

    def test_text_without_a_tokenizer(self):
        self.refused(4, ["no tokenizer", "token ids"], "--input", self.write("a.txt", "abc"))
        self.refused(4, ["byte", str(VOCABULARY)], "--input", self.write("a.txt", "abc"), "--tokenizer", "byte")
        self.refused(2, ["in.jsonl", "--tokenizer"], "--input", self.write("in.jsonl", '{"id":"a","text":"b"}\n'))


class Files(FailureTest):
    def setUp(self):
        super().setUp()
        self.input = self.documents("in.jsonl", GOOD)

    def test_inputs_that_are_not_there(self):
        gone = self.folder / "gone.jsonl"
        self.refused(2, [str(gone)], "--input", gone)
        self.refused(2, ["gone*.jsonl"], "--input", self.folder / "gone*.jsonl")
        self.refused(2, [str(gone)], "--input", f"@{gone}")
        (self.folder / "nothing").mkdir()
        self.refused(2, ["nothing"], "--input", self.folder / "nothing")
        self.refused(3, ["in.jsonl.gz", "cut off", "byte 2"], "--input", self.write("in.jsonl.gz", b"\x1f\x8b"))

    def test_a_listed_file_that_is_not_there(self):
        gone = self.folder / "gone.jsonl"
        listed = self.write("list", f"{self.input}\n{gone}\n")
        done = self.run_score("--input", f"@{listed}", output=self.folder / "out", expect=3)
        self.assert_said(done, str(gone))
        self.assertEqual(os.listdir(self.folder / "out"), ["in.jsonl"])

    def test_outputs_that_cannot_be(self):
        self.refused(2, ["no folder"], "--input", self.input, output=self.folder / "no" / "where.jsonl")
        self.refused(2, ["in.jsonl", "would replace the input"], "--input", self.input, output=self.input)
        self.refused(2, ["replace the input"], "--input", self.input, output=self.folder)
        if os.geteuid() == 0:
            locked = "/proc"
        else:
            locked = self.folder / "locked"
            locked.mkdir(mode=0o555)
        self.refused(1, [f"{locked}/out.jsonl"], "--input", self.input, output=f"{locked}/out.jsonl")
        self.assertEqual(len(lines(self.input)), 3)

    def test_no_clobber(self):
        self.write("old.jsonl", "old")
        done = self.run_score("--input", self.input, "--no-clobber", output=self.folder / "old.jsonl", expect=2)
        self.assert_said(done, "old.jsonl", "--no-clobber")
        self.assertEqual((self.folder / "old.jsonl").read_text(), "old")
        self.run_score("--input", self.input, output=self.folder / "old.jsonl")
        self.assertEqual(len(lines(self.folder / "old.jsonl")), 3)

    def test_two_inputs_of_one_output(self):
        self.documents("in/x.jsonl", GOOD)
        self.write("in/x.u16", b"\1\0")
        self.refused(2, ["x.jsonl", "x.u16", "both"], "--input", self.folder / "in", output=self.folder / "out")
        self.assertFalse((self.folder / "out").exists())

    def test_a_bad_shard_among_good_ones(self):
        for name in ("a", "c"):
            self.documents(f"in/{name}.jsonl", [{"id": name, "tokens": [1, 2]}])
        self.write("in/b.jsonl", "nonsense\n")
        self.write("in/d.u16", b"\1")
        os.symlink("/nonexistent", self.folder / "in" / "e.jsonl")
        done = self.run_score("--input", self.folder / "in", "--max-bad", "50%", output=self.folder / "out")
        self.assert_said(done, "b.jsonl:1")
        self.assert_said(done, "d.u16", "cut off")
        self.assert_said(done, "1 entries")
        counts = {name: len(lines(self.folder / "out" / f"{name}.jsonl")) for name in "abcd"}
        self.assertEqual(counts, {"a": 1, "b": 0, "c": 1, "d": 0})

    def big(self):
        return self.documents("big.jsonl", [{"id": str(i), "tokens": [1] * 3000} for i in range(60)])

    def test_a_disk_that_is_full(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        done = subprocess.run([PROGRAM, "score", "--model", self.model, "--input", self.big(), "--output", self.output,
                               "--token-nll"], capture_output=True, timeout=60, preexec_fn=limit)
        self.assertEqual(done.returncode, 1, said(done))
        self.assert_said(done, "out.jsonl", "File too large")
        self.assertEqual((self.leftovers(), self.output.exists()), ([], False))
        self.refused(1, ["/dev/full", "No space left"], "--input", self.input, output="/dev/full")

    def test_a_file_system_that_is_full(self):
        small = self.folder / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("no file system may be mounted here")
        try:
            self.refused(1, ["cannot write", "out.jsonl", "No space left"], "--input", self.big(), "--token-nll",
                         output=small / "out.jsonl")
            self.assertEqual(os.listdir(small), [])
        finally:
            subprocess.run(["umount", small], check=True)

    def test_standard_input_and_output(self):
        self.run_score("--input", self.input)
        done = self.run_score("--input", "-", output="-", stdin=self.input.read_bytes())
        self.assertEqual(done.stdout, self.output.read_bytes())

    def test_a_closed_pipe(self):
        reading, writing = os.pipe()
        os.close(reading)
        for target, needle in ((writing, "Broken pipe"), ("closed", "standard output")):
            command = [PROGRAM, "score", "--model", self.model, "--input", self.input]
            if target == "closed":
                command, target = ["sh", "-c", 'exec "$@" >&-', "sh", *command], None
            done = subprocess.run(command, stdout=target, stderr=subprocess.PIPE, timeout=60)
            self.assertEqual(done.returncode, 1, said(done))
            self.assert_said(done, "standard output", needle)
        os.close(writing)


if __name__ == "__main__":
    main()
