"""What the memory tests share: tokens of any length, a job whose ranks are watched, a publisher."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

from broker_run import record
from failing import wait_until
from harness import BUILD, HAVE_MPI, PROGRAM, ranks

KIB, MIB = 1024, 1024 * 1024
BATCH = 16 * KIB  # of messages that a broker keeps, and hands out, as one
PATTERN = bytes((i * i + i // 7) % 251 for i in range(65521))  # repeats at no border of ours


def tokens_of(first, count):
    """A document's tokens at [first, first + count), as a file of one byte a token has them."""
    whole, start = PATTERN * (count // len(PATTERN) + 2), first % len(PATTERN)
    return whole[start:start + count]


def wide(data):
    """The same, two bytes a token."""
    both = bytearray(2 * len(data))
    both[::2] = data
    return bytes(both)


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
        self.read, self.lines = 0, 0  # of its output
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
            if partial.exists():
                with open(partial, "rb") as file:
                    file.seek(self.read)
                    data = file.read()
                self.read += len(data)
                self.lines += data.count(b"\n")
            return self.lines >= count
        wait_until(there, 300, f"{count} results")

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self.watcher.join()
        self.log.close()


class Publisher:
    """Messages into a topic, as they are given. By default a producer's batches are as large as what came
    to it while the broker was busy, up to 1 MB, and a consumer gets whole ones, however little it asks for:
    what it reads ahead would depend on the speed of this machine (measured: 38 to 60 MiB in place of 30)."""

    def __init__(self, broker, topic):
        self.process = subprocess.Popen([BUILD / "raw_publish", broker.address, topic, f"batch.size={BATCH}"],
                                        stdin=subprocess.PIPE)

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
