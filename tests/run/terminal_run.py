"""What a terminal shows: the bar in a real pseudo terminal, wide, narrow, and made narrow in the middle."""
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import unittest

from failing import PASSKEY, FailureTest
from harness import HAVE_KAFKA, HAVE_MPI, PROGRAM, Broker, longscan, main, random_tokens


def set_columns(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


class Terminal(FailureTest):
    def shown(self, *arguments, columns=80, then=None, ranks=1):
        """Everything that a terminal of so many columns is sent; after a second it has `then`."""
        ours, theirs = pty.openpty()
        set_columns(ours, columns)
        launcher = ["run", "-n", str(ranks)] if ranks > 1 else []
        process = subprocess.Popen([str(PROGRAM), *launcher, "score", "--model", str(PASSKEY), "--threads", "1", "--step-tokens",
                                    "1024", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=theirs,
                                   stderr=theirs)
        os.close(theirs)
        self.addCleanup(self.kill, process)
        began, data = time.monotonic(), b""
        while True:
            if then is not None and time.monotonic() - began > 1:
                set_columns(ours, then)
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    data += os.read(ours, 65536)
                except OSError:  # all have closed it
                    break
            self.assertLess(time.monotonic() - began, 120)
        os.close(ours)
        self.assertEqual(process.wait(10), 0, data.decode())
        return data.decode()

    def bars(self, shown):
        return [bar for bar in re.findall(r"\r([^\r\n]*?)\x1b\[K", shown) if bar]

    def check(self, bars):
        shares = [int(bar.split("%")[0]) for bar in bars if "%" in bar]
        self.assertGreaterEqual(len(shares), 2)
        self.assertEqual(shares, sorted(shares))
        self.assertEqual(shares[-1], 100)
        self.assertLess(shares[0], 90, "what is read is shown, not what is done")

    def input(self):
        return self.documents("in.jsonl", [{"id": str(i), "tokens": random_tokens(i, 20_000, 256)} for i in range(6)])

    def test_a_bar_that_is_made_narrow(self):
        shown = self.shown("--input", self.input(), "--output", self.output, then=40)
        bars = self.bars(shown)
        self.check(bars)
        for bar in bars[-1:]:
            self.assertLess(len(bar), 40)
            self.assertFalse(bar.endswith(","), bar)
        self.assertIn("info done: 6 documents, 120k tokens", shown)
        self.assertRegex(shown, r"info time: ranks compute \d+%, wait \d+%; leader ingest")
        self.assertTrue(shown.endswith("\r\n"), "the bar is taken away")

    def test_a_table_and_a_bar(self):
        shown = self.shown("--input", self.input(), columns=20)
        rows = [line for line in re.sub(r"\r[^\n]*\x1b\[K", "", shown).splitlines() if " 20000 " in line]
        self.assertEqual(len(rows), 6)
        for bar in self.bars(shown):
            self.assertLess(len(bar), 20)

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_ranks_through_mpirun(self):
        """A bar, unless a table goes to the same terminal, for mpirun carries the two apart."""
        shown = self.shown("--input", self.input(), "--output", self.output, columns=77, ranks=2)
        self.check(self.bars(shown))
        self.assertLess(max(map(len, self.bars(shown))), 77)
        self.assertIn("info [0] done: 6 documents, 120k tokens in", shown)
        self.assertEqual(self.bars(self.shown("--input", self.input(), ranks=2)), [])

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_topic(self):
        source = self.input()
        with Broker(partitions=2, topics=["t"]) as broker:
            longscan("publish", "--input", source, "--topic", "t", "--brokers", broker.address, "--record-tokens", "2k")
            bars = self.bars(self.shown(*broker.topic("t"), "--output", self.output))
        self.check(bars)
        self.assertRegex(bars[-1], "lag 0")

    def test_the_summary_on_standard_error(self):
        source = self.documents("one.jsonl", [{"id": "a", "tokens": [1, 2, 3]}])
        done = longscan("score", "--model", PASSKEY, "--input", source, "--output", self.output, "--summary", "-")
        self.assertIn("done: 1 document, 3 tokens", done.stderr)
        self.assertEqual(done.stdout, "")
        summary = json.loads(done.stderr.splitlines()[-1])
        for name in ("ingest", "plan", "emit", "commit", "run", "compute", "wait"):
            self.assertGreaterEqual(summary[f"{name}_seconds"], 0)
        self.assertGreater(summary["compute_seconds"], 0)
        self.assertLessEqual(summary["compute_seconds"] + summary["wait_seconds"], summary["run_seconds"])
        self.assertEqual(summary["rows"], 3)
        if summary["seconds"] < 0.1:
            self.assertNotIn("time: ranks", done.stderr)
        self.assertFalse((self.folder / "-").exists() or os.path.exists("-"))

    def test_the_peak_is_of_this_program(self):
        """Not of what the process was before it: here a Python with 200 MiB."""
        source = self.documents("one.jsonl", [{"id": "a", "tokens": [1, 2, 3]}])
        command = [str(PROGRAM), "score", "--model", str(self.model), "--input", str(source), "--output",
                   str(self.output), "--summary", str(self.folder / "summary")]
        code = f"import os; held = b'x' * (200 << 20); os.execv({command[0]!r}, {command!r})"
        subprocess.run(["python3", "-c", code], check=True, stderr=subprocess.DEVNULL, timeout=60)
        peak = json.loads((self.folder / "summary").read_text())["peak_bytes"]
        self.assertIn(peak, range(1 << 20, 100 << 20))

    def test_lines_by_hand(self):
        """Whoever types documents gets each result before the next."""
        process = subprocess.Popen([str(PROGRAM), "score", "--model", str(self.model), "--input", "-", "--threads", "1"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(self.kill, process)
        for name in "abc":
            process.stdin.write(json.dumps({"id": name, "tokens": [1, 2, 3]}).encode() + b"\n")
            process.stdin.flush()
            self.assertTrue(select.select([process.stdout], [], [], 4.5)[0], "no result before the next document")
            self.assertEqual(json.loads(process.stdout.readline())["id"], name)
        process.stdin.close()
        self.assertEqual(process.wait(10), 0)
        process.stdout.close()


if __name__ == "__main__":
    main()
