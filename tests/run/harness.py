"""What the whole-run tests share: where things are, how the program is started, what is compared.

Each *_run.py is one ctest (label run). They drive the built program as a user would: files, an
in-memory broker, ranks as threads (--ranks) and as processes (longscan run -n N).
"""
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = pathlib.Path(os.environ.get("LONGSCAN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("LONGSCAN_BUILD", SOURCE / "build" / "release"))
PROGRAM = BUILD / "longscan"
SHARED = pathlib.Path(os.environ.get("LONGSCAN_SHARED", SOURCE.parent / "shared"))
# The CPU unless the environment says otherwise, so that a GPU in the machine changes no test.
BACKEND = os.environ.setdefault("LONGSCAN_BACKEND", "cpu")
DTYPE = os.environ.get("LONGSCAN_DTYPE", "f32" if BACKEND == "cpu" else "bf16")
SLOW = os.environ.get("LONGSCAN_SLOW") == "1"  # minutes instead of seconds, see tests/README.md


def features():
    """MPI, Kafka and the instruction sets, as the program itself says."""
    text = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=30).stdout
    return text.lower()


HAVE_MPI = "mpi" in features() and "no mpi" not in features()
HAVE_BPE = "no bpe" not in features()
HAVE_KAFKA = "librdkafka" in features() and "no librdkafka" not in features()


def need_shared(*parts):
    path = SHARED.joinpath(*parts)
    if not path.exists():
        raise unittest.SkipTest(f"{path} is not here")
    return path


def longscan(*arguments, expect=0, timeout=600, stdin=None, environment=None):
    """Runs the program; returns the finished process. A wrong exit code fails with its stderr."""
    env = dict(os.environ, **(environment or {}))
    done = subprocess.run([str(PROGRAM), *map(str, arguments)], capture_output=True, input=stdin,
                          timeout=timeout, env=env, text=not isinstance(stdin, bytes))
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"longscan {' '.join(map(str, arguments))}\nexit code {done.returncode}, "
                             f"expected {expect}\n{done.stderr[-4000:]}")
    return done


def ranks(count, mpi):
    """The start of a score command on this many ranks: as processes or as threads."""
    if mpi:
        return ["run", "-n", count, "score"], []
    return ["score"], ["--ranks", count]


def score(*arguments, count=1, mpi=False, **more):
    front, back = ranks(count, mpi)
    return longscan(*front, *arguments, *back, "--no-progress", **more)


def lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def by_id(path):
    """Result lines of a file by document id; a document in pieces has several."""
    found = {}
    for line in lines(path):
        found.setdefault(json.loads(line)["id"], []).append(line)
    return found


def write_jsonl(path, documents):
    with open(path, "w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps(document) + "\n")


def random_tokens(seed, count, vocabulary):
    draw = random.Random(seed)
    return [draw.randrange(vocabulary) for _ in range(count)]


# Nats a token in the mean, where the inputs of products are rounded: of a trained model, and of random
# ones, whose NLLs are ten times as large. Rounding the weights alone costs the latter 0.015 in bf16 and
# 0.002 in tf32; twice that is allowed for weights and rows.
MEAN_ERROR = {"trained": {"tf32": 1e-3, "f16": 1e-3, "bf16": 4.5e-3},
              "random": {"tf32": 4e-3, "f16": 4e-3, "bf16": 3e-2}}


# Of each token in bf16x3; measured 6.8e-5 and 2.7e-4.
X3_ERROR = {"trained": 1e-4, "random": 5e-4}


def within_golden(nlls, golden, model="trained", dtype=DTYPE):
    """The published tolerance: in f32 1e-4 absolute, relative 1e-5 where the NLL is above 10."""
    assert len(nlls) == len(golden), (len(nlls), len(golden))
    worst = 0.0
    if dtype in MEAN_ERROR[model]:
        errors = [abs(got - want) for got, want in zip(nlls, golden)]
        mean = sum(errors) / len(errors)
        assert mean <= MEAN_ERROR[model][dtype], (dtype, mean)
        return max(errors)
    for got, want in zip(nlls, golden):
        allowed = max(1e-4, 1e-5 * want) if dtype == "f32" else X3_ERROR[model]
        worst = max(worst, abs(got - want))
        assert abs(got - want) <= allowed, (got, want)
    return worst


class Broker:
    """The program's in-memory broker, for the time of a with block."""

    def __init__(self, partitions=1, topics=()):
        self.arguments = ["--partitions", str(partitions)]
        if topics:
            self.arguments += ["--topic", ",".join(topics)]

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        ready = os.path.join(self.folder.name, "address")
        self.process = subprocess.Popen([PROGRAM, "broker", "--ready-file", ready, *self.arguments],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.exists(ready):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError("the broker did not start")
            time.sleep(0.02)
        with open(ready, encoding="utf-8") as file:
            self.address = file.read().strip()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def topic(self, name):
        return ["--input", f"kafka:{name}", "--brokers", self.address]


class RunTest(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        self.holder = tempfile.TemporaryDirectory(prefix="longscan-test-")
        self.folder = pathlib.Path(self.holder.name)

    def tearDown(self):
        self.holder.cleanup()


def main():
    if not PROGRAM.exists():
        print(f"{PROGRAM} is not built")
        sys.exit(77)
    unittest.main(verbosity=2)
