"""`longscan run -n N`: exit codes, signals, lost ranks, and nothing left behind."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from harness import HAVE_MPI, PROGRAM, RunTest, longscan, main, need_shared, random_tokens, write_jsonl

SHARED_MEMORY = pathlib.Path("/dev/shm")


def ranks_of(launcher):
    """Process ids of the ranks below `longscan run`: those whose command is `score`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes() if words[1:2] == [b"score"] else b""
        except (OSError, IndexError):
            continue
        if f"LONGSCAN_TEST_MARK={launcher}".encode() in environment:
            found.append(int(entry.name))
    return found


class Launch(RunTest):
    def setUp(self):
        super().setUp()
        self.model = need_shared("models", "passkey-1.8m")
        self.before = set(SHARED_MEMORY.glob("longscan-ranks-*"))

    def nothing_is_left(self):
        self.assertEqual(set(SHARED_MEMORY.glob("longscan-ranks-*")) - self.before, set())

    def long_job(self):
        """Two ranks with more work than the test has patience for; back once they have begun."""
        source = self.folder / "long.jsonl"
        tokens = random_tokens(1, 20_000, 256)
        write_jsonl(source, [{"id": str(i), "tokens": tokens} for i in range(300)])
        self.output = self.folder / "out.jsonl"
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        environment = dict(os.environ, LONGSCAN_TEST_MARK=self.mark,
                           LONGSCAN_MPIRUN_ARGS="-x LONGSCAN_TEST_MARK")
        log = open(self.folder / "log", "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [PROGRAM, "run", "-n", "2", "score", "--model", self.model, "--input", source,
             "--output", self.output, "--threads", "1", "--step-tokens", "1024"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=log)
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 60
        partial = self.folder / "out.jsonl.partial"
        while not partial.exists():  # made once the model is loaded and the ranks have agreed
            self.assertIsNone(process.poll(), (self.folder / "log").read_text())
            self.assertLess(time.monotonic(), deadline, "the job did not begin")
            time.sleep(0.05)
        return process

    def end(self, process):
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(1)

    def ended(self, process, expected):
        code = process.wait(60)
        self.assertEqual(code, expected, (self.folder / "log").read_text()[-4000:])
        self.nothing_is_left()

    def test_wrong_usage_is_said_before_any_rank_starts(self):
        for arguments in (["run", "score"], ["run", "-n", "2"], ["run", "-n", "2", "publish"],
                          ["run", "-n", "2", "score", "--modle", "x"],
                          ["run", "-n", "2", "score", "--model", "x", "--input", "-", "--ranks", "2"]):
            done = longscan(*arguments, expect=2)
            self.assertNotIn("mpirun detected", done.stderr)

    def test_the_ranks_own_code_comes_back(self):
        source = self.folder / "one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": [1, 2, 3]}])
        arguments = ["score", "--model", self.folder / "nothing", "--input", source]
        alone = longscan(*arguments, expect=None).returncode
        self.assertNotEqual(alone, 0)
        longscan("run", "-n", "2", *arguments, expect=alone)

    def test_output_that_is_no_terminal_gets_json(self):
        source = self.folder / "one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": random_tokens(1, 3000, 256)}])
        arguments = ["score", "--model", self.model, "--input", source, "--step-tokens", "1024"]
        alone = longscan(*arguments).stdout
        self.assertTrue(alone.startswith("{"))
        self.assertEqual(longscan("run", "-n", "2", *arguments).stdout, alone)

    def test_a_stop_signal_drains(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                process = self.long_job()
                process.send_signal(number)
                self.ended(process, 143)

    def test_a_killed_mpirun_leaves_nothing(self):
        process = self.long_job()
        mpirun = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True,
                                text=True, check=True).stdout.split()
        os.kill(int(mpirun[0]), signal.SIGKILL)
        self.ended(process, 142)
        deadline = time.monotonic() + 20
        while ranks_of(self.mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(ranks_of(self.mark), [])

    def test_a_dry_run_prints_a_command_for_the_shell(self):
        done = longscan("run", "-n", "3", "--dry-run", "score", "--model", "m", "--input", "-")
        self.assertIn(" mpirun -n 3 --bind-to none ", done.stdout)
        source = self.folder / "it's one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": random_tokens(1, 3000, 256)}])
        arguments = ["score", "--model", self.model, "--input", source, "--step-tokens", "1024"]
        secret = {"LONGSCAN_TOKEN_NLL": "yes", "LONGSCAN_PROPERTY": "sasl.password=hush"}
        line = longscan("run", "-n", "2", "--dry-run", *arguments, environment=secret).stdout
        self.assertNotIn("hush", line)
        pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(pasted.stdout, longscan(*arguments, "--token-nll").stdout)
        self.nothing_is_left()

    def test_a_configuration_file_serves_the_verb_too(self):
        source = self.folder / "one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": [1, 2, 3]}])
        (self.folder / "c.conf").write_text("token-nll = yes\nprocesses = 2\n")
        (self.folder / "d.conf").write_text("token-nll = no\n")
        arguments = ["score", "--model", self.model, "--input", source]
        front = ["run", "-C", self.folder / "c.conf", "-n", "2"]
        self.assertIn("token_nll", longscan(*front, *arguments).stdout)
        self.assertNotIn("token_nll", longscan(*front, *arguments, "-C", self.folder / "d.conf").stdout)
        self.assertIn("token-nll = yes  # " + str(self.folder / "c.conf"),
                      longscan(*front, *arguments, "--show-config").stdout)

    def test_the_last_word_is_ours(self):
        source = self.folder / "one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": [1, 2, 3]}])
        fails = ["run", "-n", "3", "score", "--model", self.folder / "nothing", "--input", source]
        done = longscan(*fails, expect=2)
        self.assertIn("run: exit code 2", done.stderr.splitlines()[-1])
        for word in ("MPI_ABORT", "----", "help message"):
            self.assertNotIn(word, done.stderr)
        self.assertIn("MPI_ABORT", longscan(*fails[:1], "--log-level", "debug", *fails[1:], expect=2).stderr)
        # What nobody knows beforehand passes.
        done = longscan(*fails, expect=142, environment={"LONGSCAN_MPIRUN_ARGS": "--mca btl_x 1 --no-such-option"})
        self.assertIn("no-such-option", done.stderr)

    def threads_of(self, *ranks, cores=None):
        """Threads a rank that a run on these cores says it takes."""
        source = self.folder / "one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": [1, 2, 3]}])
        done = subprocess.run([PROGRAM, *ranks, "score", "--model", self.model, "--input", source, "--no-progress"],
                              capture_output=True, text=True, timeout=120,
                              preexec_fn=lambda: os.sched_setaffinity(0, cores or self.cores))
        self.assertEqual(done.returncode, 0, done.stderr)
        return int(re.search(r"(\d+) threads? a rank", done.stderr).group(1))

    def test_each_rank_has_its_share_of_the_cores(self):
        self.cores = os.sched_getaffinity(0)
        granted = int(re.search(r"(\d+) used", longscan("doctor", "--print", "table").stdout).group(1))
        for ranks in (1, 2, 3):
            with self.subTest(ranks=ranks):
                self.assertEqual(self.threads_of("run", "-n", str(ranks)), max(1, granted // ranks))
        self.assertEqual(self.threads_of("run", "-n", "2", cores={min(self.cores)}), 1)
        source = self.folder / "one.jsonl"
        for threads in ("1", "3"):
            said = longscan("run", "-n", "2", "score", "--model", self.model, "--input", source, "--threads", threads).stderr
            self.assertIn(f", {threads} thread", said)

    def test_ranks_may_use_all_the_cores_that_run_may(self):
        """No rank is bound to cores that another one is bound to, whatever Open MPI would do by itself."""
        mine = re.search(r"Cpus_allowed_list:\s*(\S+)", pathlib.Path("/proc/self/status").read_text()).group(1)
        bound = {"OMPI_MCA_hwloc_base_binding_policy": "core"}
        found = [json.loads(line) for line in longscan("run", "-n", "3", "doctor", environment=bound).stdout.splitlines()]
        self.assertEqual([entry["cores"] for entry in found if entry["kind"] == "rank"], [mine] * 3)

    def test_ranks_that_a_launcher_has_bound(self):
        """Each has the cores it is bound to, not its share of them once more."""
        self.cores = os.sched_getaffinity(0)
        if len(self.cores) < 4:
            self.skipTest("ranks on cores of their own: it takes four cores")
        ordered = sorted(self.cores)
        source = self.folder / "one.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": [1, 2, 3]}])
        words = ["mpirun", "--bind-to", "none", "--oversubscribe"] + ["--allow-run-as-root"] * (os.geteuid() == 0)
        for part in (ordered[:2], ordered[2:4]):
            words += ["-n", "1", "taskset", "-c", ",".join(map(str, part)), PROGRAM, "score", "--model", self.model,
                      "--input", source, "--no-progress", ":"]
        done = subprocess.run(words[:-1], capture_output=True, text=True, timeout=120)
        self.assertIn("2 threads a rank", done.stderr)

    def test_a_lost_rank_is_142_and_named(self):
        process = self.long_job()
        os.kill(ranks_of(self.mark)[1], signal.SIGKILL)
        self.ended(process, 142)
        self.assertFalse(self.output.exists())
        said = (self.folder / "log").read_text()
        self.assertIn("exit code 142: a rank was ended by signal 9", said.splitlines()[-1])
        self.assertRegex(said, "warn mpirun noticed that process rank [01] .* exited on signal 9")
        self.assertNotIn("----", said)


if __name__ == "__main__":
    if not HAVE_MPI:
        print("built without MPI")
        sys.exit(77)
    main()
