"""`longscan doctor` and --version: what is there, what is amiss, exit codes; ranks that differ."""
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import unittest

from harness import BUILD, HAVE_KAFKA, HAVE_MPI, PROGRAM, Broker, RunTest, longscan, main

JSON = ["doctor", "--print", "json"]  # a rank that mpirun starts has a terminal
PLUGIN = BUILD / "libwrong_plugin.so"


def findings(done):
    """Those of a run by what they are about, its ranks, and the verdict."""
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    found = {}
    for entry in entries:
        if entry["kind"] == "finding":
            found.setdefault(entry["what"], []).append(entry)
    return found, [entry for entry in entries if entry["kind"] == "rank"], entries[-1]


def copy_of_other_version(folder):
    """The program as if it were a release later."""
    version = re.search(r"longscan ([0-9.]+)", longscan("--version").stdout).group(1).encode()
    other = version[:-1] + (b"9" if version[-1:] != b"9" else b"8")
    path = folder / "longscan"
    path.write_bytes(PROGRAM.read_bytes().replace(version, other))
    path.chmod(0o755)
    return path, other.decode()


class Doctor(RunTest):
    def test_nothing_is_asked_for(self):
        found, ranks, verdict = findings(longscan("doctor", environment={"LONGSCAN_PLUGIN": str(self.folder / "none")}))
        for what in ("kernels", "cores", "memory", "/dev/shm", "locked memory", "open files", "world", "longscan",
                     "glibc", "zlib", "zstd", "MPI", "librdkafka", "NVIDIA driver", "CUDA plug-in"):
            self.assertEqual(len(found[what]), 1, what)
        self.assertIn("alone", found["world"][0]["value"])
        self.assertEqual(ranks, [])
        counted = [entry["verdict"] for entries in found.values() for entry in entries]
        self.assertEqual([verdict["ok"], verdict["warn"], verdict["bad"]],
                         [counted.count(name) for name in ("ok", "warn", "bad")])

    def test_a_table(self):
        text = longscan("doctor", "--print", "table").stdout
        self.assertRegex(text, r"(?m)^ok +cores +\d+ used")
        self.assertRegex(text, r"\d+ ok, \d+ to look at, \d+ bad\n$")

    def test_cores_are_those_it_is_bound_to(self):
        one = min(os.sched_getaffinity(0))
        done = subprocess.run([PROGRAM, "doctor"], capture_output=True, text=True, timeout=60,
                              preexec_fn=lambda: os.sched_setaffinity(0, {one}))
        self.assertRegex(findings(done)[0]["cores"][0]["value"], rf"^1 used: bound to (them|1) \({one}\)")

    def test_limits(self):
        def less():
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        done = subprocess.run([PROGRAM, "doctor"], capture_output=True, text=True, timeout=60, preexec_fn=less)
        self.assertEqual(done.returncode, 0)  # a warning is no failure
        files = findings(done)[0]["open files"][0]
        self.assertEqual((files["verdict"], files["value"][:4]), ("warn", "256,"))
        self.assertIn("ulimit", files["advice"])

    def test_a_gpu_that_is_not_there(self):
        nowhere = {"LONGSCAN_PLUGIN": str(self.folder / "none.so")}
        found, _, _ = findings(longscan("doctor", "--backend", "cuda", expect=2, environment=nowhere))
        self.assertEqual(found["CUDA plug-in"][0]["verdict"], "bad")
        longscan("doctor", "--transport", "nccl", expect=2, environment=nowhere)

    def test_a_plugin(self):
        environment = {"LONGSCAN_PLUGIN": str(PLUGIN)}
        found, _, _ = findings(longscan("doctor", "--backend", "cuda", environment=environment))
        self.assertRegex(found["CUDA plug-in"][0]["value"], re.escape(str(PLUGIN)) + r", ABI \d+$")
        self.assertEqual(found["GPU 0"][0]["value"], "wrong device 0")
        self.assertEqual(found["wrong"][0]["verdict"], "warn")  # runs 1.0, built with 2.0
        broken = self.folder / "broken.so"
        broken.write_bytes(b"no library")
        found, _, _ = findings(longscan("doctor", environment={"LONGSCAN_PLUGIN": str(broken)}))
        self.assertEqual(found["CUDA plug-in"][0]["verdict"], "bad")
        self.assertIn("broken.so", found["CUDA plug-in"][0]["value"])
        if HAVE_KAFKA:  # any library that is none of ours
            foreign = {"LONGSCAN_PLUGIN": "librdkafka.so.1"}
            found, _, _ = findings(longscan("doctor", "--backend", "cuda", expect=2, environment=foreign))
            self.assertIn("is no plug-in", found["CUDA plug-in"][0]["value"])

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_broker(self):
        with Broker(partitions=3, topics=("texts", "scores")) as broker:
            found, _, _ = findings(longscan("doctor", "--brokers", broker.address))
            self.assertEqual(found["broker"][0]["verdict"], "ok")
            self.assertRegex(found["broker"][0]["value"], r"1 broker, answered in \d+ ms; speaks as Kafka \d")
            self.assertRegex(found["topics"][0]["value"], r"^2: (texts|scores) \(3\), (texts|scores) \(3\)$")
        done = longscan("doctor", "--brokers", "127.0.0.1:1", "--broker-timeout", "1s", expect=140)
        self.assertEqual(findings(done)[0]["broker"][0]["verdict"], "bad")
        self.assertIn("Connection refused", done.stderr)
        longscan("doctor", "--brokers", "127.0.0.1:1", "-X", "no.such=1", expect=2)

    def test_a_world_that_is_not_what_was_promised(self):
        done = longscan("doctor", expect=2, environment={"OMPI_COMM_WORLD_SIZE": "3"})
        self.assertEqual(findings(done)[0]["world"][0]["verdict"], "bad")
        self.assertIn("OMPI_COMM_WORLD_SIZE=3", findings(done)[0]["world"][0]["value"])
        done = longscan("doctor", "--transport", "mpi", expect=2)
        self.assertIn("no ranks", findings(done)[0]["world"][0]["value"])
        done = longscan("doctor", expect=2, environment={"LONGSCAN_WORLD": "3"})  # of a manifest, without a launcher
        self.assertEqual(findings(done)[0]["world"][0]["verdict"], "bad")

    def test_without_kafka_or_mpi(self):
        found, _, _ = findings(longscan("doctor"))
        if not HAVE_KAFKA:
            self.assertIn("not in this build", found["librdkafka"][0]["value"])
            done = longscan("doctor", "--brokers", "127.0.0.1:1", expect=2)
            self.assertIn("librdkafka-dev", findings(done)[0]["broker"][0]["advice"])
        if not HAVE_MPI:
            self.assertIn("--ranks", found["MPI"][0]["value"])
            self.assertIn("--ranks N", longscan("run", "-n", "2", "doctor", expect=2).stderr)


@unittest.skipUnless(HAVE_MPI, "built without MPI")
class Ranks(RunTest):
    def test_ranks_agree(self):
        found, ranks, _ = findings(longscan("run", "-n", "3", "doctor"))
        self.assertEqual([rank["rank"] for rank in ranks], [0, 1, 2])
        self.assertEqual([rank["local_rank"] for rank in ranks], [0, 1, 2])
        self.assertEqual(found["agreement"][0]["verdict"], "ok")
        self.assertIn("LONGSCAN_WORLD=3", found["world"][0]["value"])

    def mpirun(self, *ranks):
        words = ["mpirun", "--oversubscribe"] + (["--allow-run-as-root"] if os.geteuid() == 0 else [])
        for rank in ranks:
            words += ["-n", "1", *map(str, rank), ":"]
        return subprocess.run(words[:-1], capture_output=True, text=True, timeout=120)

    def test_ranks_of_other_versions(self):
        other, version = copy_of_other_version(self.folder)
        done = self.mpirun((PROGRAM, *JSON), (other, *JSON))
        self.assertEqual(done.returncode, 4, done.stderr)
        agreement = findings(done)[0]["agreement"]
        said = [entry for entry in agreement if version in entry["value"]]  # the copy has no plug-in beside it either
        self.assertEqual([entry["verdict"] for entry in said], ["bad"])
        self.assertIn("rank 1", said[0]["value"])

    def test_ranks_of_which_one_has_a_plugin(self):
        none = self.folder / "none.so"
        wanted = [PROGRAM, *JSON, "--backend", "auto"]
        done = self.mpirun(("env", f"LONGSCAN_PLUGIN={none}", *wanted), ("env", f"LONGSCAN_PLUGIN={PLUGIN}", *wanted))
        self.assertEqual(done.returncode, 4, done.stderr)
        text = " ".join(entry["value"] for entry in findings(done)[0]["agreement"])
        self.assertIn("ABI", text)
        self.assertIn("wrong 1.0", text)

    def test_plugins_that_nobody_wants(self):
        """With --backend cpu it does not matter what GPUs and plug-ins there are, nor their libraries."""
        none = self.folder / "none.so"
        done = self.mpirun(("env", f"LONGSCAN_PLUGIN={none}", PROGRAM, *JSON, "--backend", "cpu"),
                           ("env", f"LONGSCAN_PLUGIN={PLUGIN}", PROGRAM, *JSON, "--backend", "cpu"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([entry["verdict"] for entry in findings(done)[0]["agreement"]], ["ok"])
        self.assertNotIn("sharing", findings(longscan("run", "-n", "2", "doctor", "--backend", "cpu",
                                                      environment={"LONGSCAN_PLUGIN": str(PLUGIN)}))[0])

    def hanging_mpirun(self, seconds):
        """A PATH with an mpirun that takes its time."""
        folder = self.folder / "slow"
        folder.mkdir()
        (folder / "mpirun").write_text(f"#!/bin/sh\nsleep {seconds}\n")
        (folder / "mpirun").chmod(0o755)
        return f"PATH={folder}:{os.environ['PATH']}"

    def test_a_rank_that_is_late(self):
        """The others wait for it as long as --peer-timeout says."""
        done = self.mpirun((PROGRAM, *JSON, "--peer-timeout", "1s"),
                           ("env", self.hanging_mpirun(15), PROGRAM, *JSON, "--peer-timeout", "1s"))
        self.assertEqual(done.returncode, 142, done.stderr)

    def test_an_mpirun_that_does_not_answer(self):
        """It is given up, with what it started."""
        path = self.hanging_mpirun(1234567)
        done = subprocess.run(["env", path, PROGRAM, *JSON], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([(entry["verdict"], entry["value"]) for entry in findings(done)[0]["mpirun"]],
                         [("warn", "does not answer")])
        self.assertNotIn(b"sleep\x001234567", b" ".join(self.command_lines()))

    def command_lines(self):
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield entry.read_bytes()
            except OSError:
                pass  # it has ended

    def test_ranks_that_share_a_gpu(self):
        done = longscan("run", "-n", "2", "doctor", environment={"LONGSCAN_PLUGIN": str(PLUGIN), "LONGSCAN_BACKEND": "auto"})
        self.assertIn("ranks 0 and 1", findings(done)[0]["sharing"][0]["value"])

    def test_a_broker_that_is_not_there_ends_all_ranks_alike(self):
        if not HAVE_KAFKA:
            self.skipTest("built without Kafka")
        asked = ["doctor", "--brokers", "127.0.0.1:1", "--broker-timeout", "1s"]
        longscan("run", "-n", "2", *asked, expect=140)
        keep = f'"$@"; code=$?; echo $code >{self.folder}/$OMPI_COMM_WORLD_RANK; exit $code'
        self.mpirun(*[["sh", "-c", keep, "sh", PROGRAM, *asked]] * 2)
        self.assertEqual([(self.folder / str(rank)).read_text() for rank in range(2)], ["140\n"] * 2)


class Version(RunTest):
    def test_every_library(self):
        text = longscan("--version").stdout
        self.assertRegex(text, r"^longscan \d+\.\d+\.\d+ \(")
        for name in ["build", "kernels", "glibc", "xxHash", "zlib", "zstd"] + ["MPI"] * HAVE_MPI + [
                "librdkafka", "protobuf-c"] * HAVE_KAFKA:
            self.assertRegex(text, rf"(?m)^  {name} +\S")
        self.assertRegex(text, r"(?m)^  build .*(gcc|clang) \d+")
        self.assertEqual(longscan("version").stdout, text)
        self.assertEqual(longscan("score", "-V").stdout, text)

    def test_the_plugin(self):
        beside = self.folder / "bin"
        beside.mkdir()
        shutil.copy2(PROGRAM, beside / "longscan")
        plugin = self.folder / "lib" / "longscan" / "liblongscan_cuda.so"
        plugin.parent.mkdir(parents=True)
        shutil.copy2(PLUGIN, plugin)
        environment = {name: value for name, value in os.environ.items() if name != "LONGSCAN_PLUGIN"}
        text = subprocess.run([beside / "longscan", "--version"], capture_output=True, text=True, timeout=60,
                              env=environment).stdout
        self.assertIn("lib/longscan/liblongscan_cuda.so\n", text)
        self.assertRegex(text, r"(?m)^  wrong +1.0 \(built with 2.0\)$")


if __name__ == "__main__":
    main()
