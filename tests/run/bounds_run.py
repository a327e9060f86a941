"""Memory is bounded by the settings: not by a document's length, nor by how many documents are open
(but for the tokens of their open chunks), nor by what waits in a topic or in a file.

Peaks are those of each rank as the kernel keeps them (VmHWM), ranks being processes where the build
has MPI and threads of one process otherwise. What the bounds are made of stands in
pipeline/README.md, "Memory". The in-memory broker keeps 5 MiB a partition, so what is longer is
published while it is read, never further ahead than the broker can keep.
"""
import array
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from broker_run import record
from failing import wait_until
from harness import BUILD, HAVE_KAFKA, HAVE_MPI, PROGRAM, SLOW, Broker, RunTest, by_id, longscan, main, ranks, score, write_jsonl

KIB, MIB = 1024, 1024 * 1024
PATTERN = bytes((i * i + i // 7) % 251 for i in range(65521))  # repeats at no border of ours
LONG = 100_000_000 if SLOW else 10_000_000
OPEN = 50_000 if SLOW else 10_000
CHUNK = 1024
STEP = 4096  # --step-tokens, the default on CPUs
PREFETCH = 2 * MIB  # of records that librdkafka reads ahead, at most; and a fetch of the same again


def tokens_of(first, count):
    """A document's tokens at [first, first + count), as a file of one byte a token has them."""
    whole, start = PATTERN * (count // len(PATTERN) + 2), first % len(PATTERN)
    return whole[start:start + count]


def wide(data):
    """The same, two bytes a token."""
    return array.array("H", data).tobytes()


class Job:
    """`score` on two ranks in the background, and the peak of each."""

    def __init__(self, test, *arguments):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=test.folder))
        self.output, self.summary_file = self.folder / "out.jsonl", self.folder / "summary.json"
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        front, back = ranks(2, HAVE_MPI)
        environment = dict(os.environ, LONGSCAN_TEST_MARK=self.mark, LONGSCAN_MPIRUN_ARGS="-x LONGSCAN_TEST_MARK")
        self.log = open(self.folder / "log", "w+b")
        self.process = subprocess.Popen(
            [str(part) for part in [PROGRAM, *front, "--model", test.model, *arguments, "--output", self.output,
                                    "--summary", self.summary_file, "--threads", 1, "--no-progress", *back]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log, env=environment)
        test.addCleanup(self.end)
        self.peaks, self.pids = {}, {}
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def find(self):
        """Process ids of the ranks, by rank."""
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                values = (entry / "environ").read_bytes().split(b"\0") if words[1:2] == [b"score"] else []
            except OSError:
                continue
            if f"LONGSCAN_TEST_MARK={self.mark}".encode() in values:
                own = [value for value in values if value.startswith(b"OMPI_COMM_WORLD_RANK=")]
                self.pids[int(own[0].split(b"=")[1]) if own else 0] = int(entry.name)

    def watch(self):
        while self.process.poll() is None:
            if len(self.pids) < (2 if HAVE_MPI else 1):
                self.find()
            for rank, pid in self.pids.items():
                try:
                    status = pathlib.Path(f"/proc/{pid}/status").read_text()
                    self.peaks[rank] = int(status.split("VmHWM:")[1].split()[0]) * KIB
                except (OSError, IndexError):
                    pass  # it has ended; the kernel's mark only rises, so the last one read will do
            time.sleep(0.01)

    def said(self):
        self.log.flush()
        return (self.folder / "log").read_text()[-4000:]

    def finished(self, code=0):
        """Its summary. Waits for the end; a wrong exit code fails with what it said."""
        got = self.process.wait(600)
        self.watcher.join()
        if got != code:
            raise AssertionError(f"exit code {got}, expected {code}\n{self.said()}")
        return json.loads(self.summary_file.read_text())

    def stopped(self):
        self.process.send_signal(signal.SIGTERM)
        return self.finished(code=143)

    def wait_for_lines(self, count):
        """Until so many results are written. They are, each commit interval."""
        partial = self.output.with_name("out.jsonl.partial")

        def there():
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}\n{self.said()}")
            return partial.exists() and partial.read_bytes().count(b"\n") >= count
        wait_until(there, 300, f"{count} results")

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self.watcher.join()
        self.log.close()


class Publisher:
    """Messages into a topic, as they are given."""

    def __init__(self, broker, topic):
        self.process = subprocess.Popen([BUILD / "raw_publish", broker.address, topic], stdin=subprocess.PIPE)

    def __enter__(self):
        return self

    def send(self, name, first, data, last):
        key, value = record(name, wide(data), first=first, last=last)
        self.process.stdin.write(f"{key} {value.hex()}\n".encode())

    def flush(self):
        self.process.stdin.flush()

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        if self.process.wait(60) != 0 and kind is None:
            raise AssertionError("messages were not published")


def mib(peaks):
    return " + ".join(f"{peak / MIB:.1f}" for _, peak in sorted(peaks.items())) + " MiB"


class Bounds(RunTest):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory(prefix="longscan-bounds-")
        cls.addClassCleanup(holder.cleanup)
        cls.model = pathlib.Path(holder.name) / "model"
        # as small as can be: what is measured is what is not the model
        subprocess.run([BUILD / "make_model", cls.model, "--hidden", "32", "--layers", "1", "--vocab", "256",
                        "--state", "16", "--head-dim", "32"], check=True, timeout=60)

    def no_higher(self, peaks, reference, share, what):
        print(f"{what}: {mib(peaks)}, compared with {mib(reference)}", flush=True)
        self.assertEqual(sorted(peaks), sorted(reference))
        for rank, peak in peaks.items():
            self.assertLess(peak, share * reference[rank], f"rank {rank}: {what}")

    # One long document

    def file_of(self, count, kind):
        path = self.folder / f"{count}.{kind}"
        with open(path, "wb") as file:
            for first in range(0, count, MIB):
                data = tokens_of(first, min(MIB, count - first))
                file.write(data if kind == "txt" else wide(data))
        return path

    def peaks_of_file(self, count, kind):
        path = self.file_of(count, kind)
        job = Job(self, "--input", path)
        self.assertEqual(job.finished()["tokens"], count)
        path.unlink()
        return job.peaks

    def long_file(self, kind):
        short, middle, long = (self.peaks_of_file(count, kind) for count in (100_000, 2_000_000, LONG))
        self.no_higher(long, short, 1.1, f"{LONG:,} tokens in a .{kind} file and 100,000")
        self.no_higher(long, middle, 1.05, f"{LONG:,} tokens in a .{kind} file and 2,000,000")

    def test_a_long_text(self):
        self.long_file("txt")

    def test_a_long_file_of_tokens(self):
        self.long_file("u16")

    # Topics

    def job_on(self, broker, *arguments):
        return Job(self, *broker.topic("t"), "--follow", "--commit-interval", "100ms",
                   "-X", f"queued.max.messages.kbytes={PREFETCH // KIB}", *arguments)

    def peaks_of_topic(self, lengths, burst=2_000_000):
        """Documents one after another, published a burst at a time. Behind each burst goes a document
        of two tokens: its result says that the burst has been read."""
        markers = 0
        with Broker(partitions=1, topics=["t"]) as broker, Publisher(broker, "t") as publisher:
            job = self.job_on(broker)
            room = burst
            for index, length in enumerate(lengths):
                for first in range(0, length, 65536):
                    count = min(65536, length - first)
                    publisher.send(f"d{index}", first, tokens_of(first, count), first + count == length)
                    room -= count
                    if room > 0 and (first + count < length or index + 1 < len(lengths)):
                        continue
                    room = burst
                    publisher.send(f"marker{markers}", 0, b"ab", True)
                    publisher.flush()
                    markers += 1
                    job.wait_for_lines(markers)
            job.wait_for_lines(markers + len(lengths))
            self.assertEqual(job.stopped()["tokens"], sum(lengths) + 2 * markers)
        return job

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_long_document_from_a_topic(self):
        alone = self.peaks_of_topic([100_000])
        short = self.peaks_of_topic(20 * [100_000])
        long = self.peaks_of_topic([LONG])
        print(f"100,000 tokens in a topic, alone: {mib(alone.peaks)}")
        self.no_higher(long.peaks, short.peaks, 1.1, f"{LONG:,} tokens in a topic and 20 times 100,000")


if __name__ == "__main__":
    main()
