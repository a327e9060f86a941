"""What the failure tests share: a tiny model made here, and what every refusal must look like."""
import functools
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

from harness import BUILD, PROGRAM, SOURCE, RunTest, longscan, write_jsonl

VOCABULARY = 96
PASSKEY = SOURCE / "tests" / "models" / "passkey-1.8m"  # slow enough to be stopped in the middle


@functools.lru_cache(maxsize=None)
def tiny_model():
    """A random model of two layers, made once a process."""
    holder = tempfile.TemporaryDirectory(prefix="longscan-tiny-")
    tiny_model.holder = holder  # lives as long as the process
    folder = pathlib.Path(holder.name) / "tiny"
    subprocess.run([BUILD / "make_model", folder, "--hidden", "32", "--layers", "2", "--vocab", str(VOCABULARY),
                    "--state", "16", "--head-dim", "16"], check=True, timeout=60)
    return folder


def said(process_or_text):
    """Standard error as text, of a finished process or as it was read from a log."""
    text = getattr(process_or_text, "stderr", process_or_text)
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


class FailureTest(RunTest):
    """A folder with a model, and checks of what is said and what is left."""

    def setUp(self):
        super().setUp()
        self.model = tiny_model()
        self.output = self.folder / "out.jsonl"

    def write(self, name, data):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def documents(self, name, documents):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, documents)
        return path

    def leftovers(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.partial"))

    def assert_said(self, process, *needles):
        """Every needle stands in one and the same warning or error."""
        lines = [line for line in said(process).splitlines() if re.search(r"\b(error|warn)\b", line)]
        for line in lines:
            if all(str(needle) in line for needle in needles):
                return
        self.fail(f"no warning or error with {needles} in:\n{said(process)}")

    def run_score(self, *arguments, expect=0, output=None, **more):
        done = longscan("score", "--model", self.model, "--output", output or self.output, "--no-progress",
                        *arguments, expect=expect, timeout=60, **more)
        self.assertEqual(self.leftovers(), [])
        return done

    def refused(self, code, needles, *arguments, **more):
        """The run ends with this code, says so, and leaves no output."""
        self.output.unlink(missing_ok=True)
        done = self.run_score(*arguments, expect=code, **more)
        self.assert_said(done, *needles)
        self.assertFalse(self.output.exists())
        return done

    def start(self, *arguments, log="log", environment=None):
        """The program in the background; it is killed at the end of the test if it still runs."""
        file = open(self.folder / log, "wb")
        self.addCleanup(file.close)
        process = subprocess.Popen([str(PROGRAM), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=file, env=dict(os.environ, **(environment or {})))
        process.log = self.folder / log
        self.addCleanup(self.kill, process)
        return process

    def kill(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def ended(self, process, code, seconds):
        """Ends by itself within these seconds, with this code. Returns what it said."""
        try:
            self.assertEqual(process.wait(seconds), code, process.log.read_text())
        except subprocess.TimeoutExpired:
            self.fail(f"still there after {seconds} s:\n{process.log.read_text()}")
        return process.log.read_text()
