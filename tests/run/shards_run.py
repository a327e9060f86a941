"""Folders of many shards, packed and plain: the same outputs whoever does which, one bad shard costs
itself, and what was complete when a job was killed stays as it is."""
import base64
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import time
import unittest

from failing import PASSKEY, VOCABULARY, FailureTest, wait_until
from harness import HAVE_KAFKA, HAVE_MPI, PROGRAM, SLOW, Broker, by_id, longscan, main, random_tokens, ranks
from launch_run import ranks_of

SHARDS = 10000 if SLOW else 1500
MIB = 1024 * 1024


def zstd(data):
    """A Zstandard frame of raw blocks: Python cannot pack, but this much is simple."""
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    pieces = [data[at:at + 65536] for at in range(0, len(data), 65536)] or [b""]
    for index, piece in enumerate(pieces):
        frame += (len(piece) << 3 | (index + 1 == len(pieces))).to_bytes(3, "little") + piece
    return frame


def unzstd(path):
    """None where no zstd is installed: then its tests are those of the C files."""
    if shutil.which("zstd") is None:
        return None
    return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True, timeout=60).stdout


PACKED = {"": bytes, ".gz": lambda data: gzip.compress(data, mtime=0), ".zst": zstd}


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Shards(FailureTest):
    def shard(self, name, documents, tokens, vocabulary=VOCABULARY):
        """A shard of JSONL, packed as its name says."""
        stem = name.rsplit("/", 1)[-1].split(".", 1)[0]
        text = "".join(json.dumps({"id": f"{stem}-{i}", "tokens": random_tokens(f"{stem}{i}", tokens, vocabulary)})
                       + "\n" for i in range(documents))
        packing = next(end for end in (".gz", ".zst", "") if name.endswith(end))
        return self.write(name, PACKED[packing](text.encode()))

    def fill(self, folder, count, documents=2, tokens=20, vocabulary=VOCABULARY):
        for index in range(count):
            self.shard(f"{folder}/{index:05d}.jsonl{list(PACKED)[index % 3]}", documents, tokens, vocabulary)
        return self.folder / folder

    def peak(self, source, output, descriptors):
        """Scores with so few file descriptors; the process's peak in bytes."""
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        log = open(self.folder / "log", "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen([PROGRAM, "score", "--model", self.model, "--input", source, "--output", output,
                                    "--threads", "1", "--no-progress"], stderr=log, preexec_fn=limit)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, (self.folder / "log").read_text())
        return usage.ru_maxrss * 1024

    def test_many_small_shards(self):
        """In bounded memory and with few files open; by threads, processes and groups the same."""
        source = self.fill("in", SHARDS)
        whole = self.folder / "whole"
        few = self.peak(self.fill("few", 100), self.folder / "few-out", 128)
        peak = self.peak(source, whole, 128)
        self.assertLess(peak - few, 8 * MIB + 2048 * SHARDS, "memory grows with the number of shards")
        expected = bytes_of(whole)
        self.assertEqual(sorted(expected), sorted(path.name for path in source.iterdir()))
        for name in ("00000.jsonl", "00001.jsonl.gz", "00002.jsonl.zst"):
            data = expected[name]
            text = gzip.decompress(data) if name.endswith(".gz") else unzstd(whole / name) if name.endswith(
                ".zst") else data
            if text is not None:
                results = [json.loads(line) for line in text.splitlines()]
                self.assertEqual([(result["id"], result["tokens"]) for result in results],
                                 [(f"{name[:5]}-0", 20), (f"{name[:5]}-1", 20)])
        for name, mpi, more in (("threads", False, []), ("groups", False, ["--group-size", "1"]),
                                ("processes", True, ["--group-size", "1"])):
            if mpi and not HAVE_MPI:
                continue
            front, back = ranks(3, mpi)
            with self.subTest(ranks=name):
                longscan(*front, "--model", self.model, "--input", source, "--output", self.folder / name, "--threads",
                         "1", "--no-progress", *more, *back, timeout=300)
                self.assertEqual(bytes_of(self.folder / name), expected)

    def spoil(self, source):
        """Bad shards among the good: what each is, as it is said."""
        whole = gzip.compress(b"".join(b'{"id":"%d","tokens":[1,2,3]}\n' % i for i in range(9000)), mtime=0)
        self.write("in/cut.jsonl.gz", whole[:-100])
        self.write("in/magic.jsonl.zst", b'{"id":"plain","tokens":[1]}\n')
        self.write("in/garbage.jsonl", b"\n".join(os.urandom(50).replace(b"\n", b"") for _ in range(300)))
        self.write("in/none.jsonl.gz", b"")
        (source / "folder.jsonl").mkdir()
        bad = {"cut.jsonl.gz": "cut off", "magic.jsonl.zst": "damaged at byte", "garbage.jsonl": "no JSONL",
               "none.jsonl.gz": "cut off", "folder.jsonl": "it is a folder", "gone.jsonl": "No such file"}
        names = sorted({path.name for path in source.iterdir()} | set(bad))
        return bad, self.write("list", "".join(f"{source / name}\n" for name in names))

    def test_what_is_complete_is_good(self):
        """A run that could put up with some bad shards can be resumed: they are the same share as before."""
        source, output = self.fill("in", 30, documents=1), self.folder / "out"
        names = [*source.iterdir(), *(source / f"gone-{i}.jsonl" for i in range(3))]
        listed = self.write("list", "".join(f"{name}\n" for name in names))
        for resume in ([], ["--resume"]):
            self.run_score("--input", f"@{listed}", "--max-bad", "10%", *resume, output=output)
        done = self.run_score("--input", f"@{listed}", "--max-bad", "9%", "--resume", output=output, expect=3)
        self.assert_said(done, "3 of 3 documents are bad (30 inputs were complete already)", "--max-bad 9%")

    def test_bad_shards(self):
        source = self.fill("in", 30)
        output, summary = self.folder / "out", self.folder / "summary.json"
        longscan("score", "--model", self.model, "--input", source, "--output", self.folder / "whole")
        expected = bytes_of(self.folder / "whole")
        bad, listed = self.spoil(source)
        self.write("out/cut.jsonl.gz.partial", "of a run that was killed")
        self.write("out/gone.jsonl.partial", "of a run that was killed")
        for options, code in ((["--max-bad", "50%"], 0), (["--max-bad", "0"], 3),
                              (["--max-bad", "50%", "--strict"], 5),
                              (["--max-bad", "50%", "--ranks", "2", "--group-size", "1"], 0)):
            with self.subTest(options=options):
                done = self.run_score("--input", f"@{listed}", "--summary", summary, *options, output=output,
                                      expect=code)
                for name, why in bad.items():
                    self.assert_said(done, "warn", f"{source / name} is left out", why)
                self.assert_said(done, f"{len(bad)}, because a file cannot be read")
                self.assertNotIn(" error ", done.stderr if code == 0 else "")
                said = json.loads(summary.read_text())
                self.assertEqual(said["bad_reasons"], {"record": 0, "gap": 0, "token": 0, "nll": 0,
                                                       "file": len(bad)})
                self.assertEqual(bytes_of(output), expected)
        # Mended, they alone are done.
        times = {path: path.stat().st_mtime_ns for path in output.iterdir()}
        (source / "folder.jsonl").rmdir()
        for name in bad:
            self.shard(f"in/{name}", 1, 5)
        self.run_score("--input", f"@{listed}", "--resume", output=output)
        self.assertEqual({path: path.stat().st_mtime_ns for path in times}, times)
        self.assertEqual(set(bytes_of(output)), set(expected) | set(bad))

    def test_a_damaged_file_alone(self):
        path = self.shard("in.jsonl.gz", 40, 20)
        path.write_bytes(path.read_bytes()[:-1])
        self.refused(3, ["in.jsonl.gz", "cut off"], "--input", path, "--max-bad", "100%")
        self.refused(3, ["in.jsonl.gz", "cut off"], "--input", path, output=self.folder / "out.jsonl.gz")
        wide = self.write("wide.u16.gz", gzip.compress(bytes(400000))[:-9])
        self.refused(3, ["wide.u16.gz", "cut off"], "--input", wide)
        done = self.run_score("--input", self.folder, "--max-bad", "100%", output=self.folder / "out")
        self.assert_said(done, "in.jsonl.gz is left out", "cut off")
        self.assertEqual(bytes_of(self.folder / "out"), {})

    def killed_and_resumed(self, front, back):
        """Every rank of the job is killed at once, when some shards are complete and some are not."""
        count = 24
        source = self.fill("in", count, 2, 1000, 256)
        score = [*front, "score", "--model", PASSKEY, "--input", source, "--threads", "1", "--step-tokens", "1024",
                 "--queue-tokens", "4k", "--no-progress", *back]
        output = self.folder / "out"
        longscan(*score, "--output", self.folder / "whole", timeout=120)
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        process = self.start(*score, "--output", output, environment={
            "LONGSCAN_TEST_MARK": mark, "LONGSCAN_MPIRUN_ARGS": "-x LONGSCAN_TEST_MARK"})
        def complete():
            return [path for path in output.glob("*") if path.suffix != ".partial"]
        wait_until(lambda: len(complete()) >= 3 and self.leftovers(), 60, "the third shard")
        for rank in ranks_of(mark):  # with threads the one process
            os.kill(rank, signal.SIGKILL)
        process.wait(30)
        wait_until(lambda: ranks_of(mark) == [], 10, "the end of all ranks")
        self.assertNotEqual(self.leftovers(), [])
        times = {path: path.stat().st_mtime_ns for path in complete()}
        self.assertIn(len(times), range(3, count), "the kill came too late")
        longscan(*score, "--output", output, "--resume", timeout=120)
        self.assertEqual(bytes_of(output), bytes_of(self.folder / "whole"))
        self.assertEqual({path: path.stat().st_mtime_ns for path in times}, times)

    def test_killed_and_resumed_on_threads(self):
        self.killed_and_resumed([], ["--ranks", "3", "--group-size", "1"])

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_killed_and_resumed_on_processes(self):
        self.killed_and_resumed(["run", "-n", "3"], [])

    def test_resume_refuses_what_another_run_made(self):
        source = self.fill("in", 6)
        output = self.folder / "out"
        self.run_score("--input", source, output=output)
        (output / "00005.jsonl.zst").unlink()
        self.write("out/00003.jsonl", "")  # an input without documents
        before = bytes_of(output)
        score = ["--input", source, "--resume"]
        needle = "00000.jsonl"
        for field, model, more, mpi in (("settings", self.model, ["--bos"], False), ("model", PASSKEY, [], False),
                                        ("model", PASSKEY, ["--ranks", "3", "--group-size", "1"], False),
                                        ("model", PASSKEY, [], True)):
            if mpi and not HAVE_MPI:
                continue
            with self.subTest(field=field, more=more, mpi=mpi):
                front = ["run", "-n", "2"] if mpi else []
                done = longscan(*front, "score", "--model", model, *score, "--output", output, *more, expect=4)
                self.assert_said(done, "--resume", f'"{field}"', needle, "choose another --output")
                self.assertEqual(bytes_of(output), before)
        for name, data in (("00001.jsonl.gz", before["00001.jsonl.gz"][:30]), ("00003.jsonl", b'{"id":"x"}\n'),
                           ("00002.jsonl.zst", b"none")):
            with self.subTest(name=name):
                self.write(f"out/{name}", data)
                done = self.run_score(*score, output=output, expect=4)
                self.assert_said(done, "--resume", name, "no output of score", "remove it")
                self.write(f"out/{name}", before[name])
        self.run_score(*score, output=output)
        self.assertEqual({name: data for name, data in bytes_of(output).items() if name in before}, before)
        self.assertIn("00005.jsonl.zst", bytes_of(output))

    def test_limit_and_resume(self):
        """A shard that --limit cuts is done again; what is left in the end is what one run gives."""
        source, output, single = self.fill("in", 4, documents=3), self.folder / "out", self.folder / "one.jsonl"
        self.run_score("--input", source, output=self.folder / "whole")
        whole = bytes_of(self.folder / "whole")
        for limit, more, complete in ((1, [], []), (4, [], ["00000.jsonl"]), (3, ["--resume"], ["00000.jsonl",
                                                                                              "00001.jsonl.gz"])):
            done = self.run_score("--input", source, "--limit", limit, *more, output=output)
            self.assertEqual(sorted(bytes_of(output)), complete)
            left_out = [line for line in done.stderr.splitlines() if " is left out" in line]
            self.assertEqual(len(left_out), limit != 3, done.stderr)  # 3 documents are all of a shard
            if left_out:
                self.assert_said(done, f"{output / ('00000.jsonl' if limit == 1 else '00001.jsonl.gz')} is left out",
                                 "--limit")
        done = self.run_score("--input", source, "--resume", output=output)
        self.assertIn("2 inputs were complete already", done.stderr)
        self.assertEqual(bytes_of(output), whole)
        # One alone is there to be looked at, but never for complete.
        for more in ([], ["--resume"]):
            self.run_score("--input", source / "00000.jsonl", "--limit", "1", *more, output=single)
            self.assertEqual(single.read_bytes(), whole["00000.jsonl"].splitlines(keepends=True)[0])
        for said, unsaid in (("1 output is older", "complete already"), ("1 input was complete already", "older")):
            done = self.run_score("--input", source / "00000.jsonl", "--resume", output=single)
            self.assertIn(said, done.stderr)
            self.assertNotIn(unsaid, done.stderr)
            self.assertEqual(single.read_bytes(), whole["00000.jsonl"])

    def test_resume_after_a_change(self):
        """An input that is newer than its output is scored again, and nothing else is."""
        source, output = self.fill("in", 6), self.folder / "out"
        self.run_score("--input", source, output=output)
        times = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
        changed = ["00001.jsonl.gz", "00003.jsonl"]
        for name in changed:
            self.shard(f"in/{name}", 1, 7)
            os.utime(source / name, ns=(0, times[name] + 1))
        self.assert_said(self.run_score("--input", source, "--resume", "--no-clobber", output=output, expect=2),
                         changed[0], "--no-clobber")
        done = self.run_score("--input", source, "--resume", "--log-level", "debug", output=output)
        self.assertIn("2 outputs are older than their inputs and are made again", done.stderr)
        for name in changed:
            self.assertIn(f"{output / name} is older than {source / name}", done.stderr)
        after = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
        self.assertEqual(sorted(name for name in times if after[name] != times[name]), changed)
        self.assertEqual(json.loads((output / changed[1]).read_text())["tokens"], 7)

    def test_packings_that_are_not_known(self):
        source = self.shard("in.jsonl", 1, 5)
        for end in ("bz2", "xz", "lz4", "br", "Z"):
            output = self.folder / f"out.jsonl.{end}"
            self.refused(2, [output, f".{end} is not supported"], "--input", source, output=output)
            path = self.write(f"in.jsonl.{end}", source.read_bytes())
            self.refused(2, [path, f".{end} is not supported"], "--input", path)

    def test_dead_letters_of_lines(self):
        letters = self.folder / "letters.jsonl"
        source = self.write("in.jsonl", '{"id":"a","tokens":[1,2,3]}\n{"id":"b","tokens":[}\n')
        self.run_score("--input", source, "--dead-letters", letters, "--max-bad", "100%")
        letter = json.loads(letters.read_text())
        self.assertEqual(base64.b64decode(letter["record"]), b'{"id":"b","tokens":[}')
        self.assertEqual((letter["found_first"], letter["message_bytes"], letter["offset"]), (-1, 21, 1))

    def test_resume_refuses_other_arrays(self):
        source, output = self.fill("in", 2), self.folder / "out"
        every = ["--score-every", "5"]
        for first, then, needles in (([], ["--token-nll"], ("no", '"token_nll"', "--token-nll")),
                                     ([], every, ("no", '"windows"', "--score-every")),
                                     (["--token-nll"], [], ('has "token_nll"', "--token-nll")),
                                     (every, ["--score-every", "6"], ("another length", "--score-every"))):
            with self.subTest(first=first, then=then):
                self.run_score("--input", source, *first, output=output)
                before = bytes_of(output)
                done = self.run_score("--input", source, "--resume", *then, output=output, expect=4)
                self.assert_said(done, "--resume", "00000.jsonl", *needles)
                self.run_score("--input", source, "--resume", *first, output=output)
                self.assertEqual(bytes_of(output), before)

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_topics_from_and_into_packed_files(self):
        source = self.shard("in.jsonl.zst", 20, 30)
        plain = self.run_score("--input", source) and by_id(self.output)
        with Broker(partitions=2, topics=["t", "results"]) as broker:
            longscan("publish", "--input", source, "--topic", "t", "--brokers", broker.address)
            longscan("score", "--model", self.model, *broker.topic("t"), "--output", self.folder / "scores.jsonl.gz")
            longscan("score", "--model", self.model, *broker.topic("t"), "--output", "kafka:results", "--job", "j")
            longscan("read", "--topic", "results", "--brokers", broker.address, "--output",
                     self.folder / "read.jsonl.gz")
        for name in ("scores.jsonl.gz", "read.jsonl.gz"):
            with gzip.open(self.folder / name, "rt", encoding="utf-8") as file:
                results = {result["id"]: result for result in map(json.loads, file)}
            self.assertEqual({name: result["nll"] for name, result in results.items()},
                             {name: json.loads(texts[0])["nll"] for name, texts in plain.items()})


if __name__ == "__main__":
    main()
