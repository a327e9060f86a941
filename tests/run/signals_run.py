"""Stop signals: to one process, to `longscan run`, to plain mpirun, to any one rank; and what a second one
and kill -9 leave behind. How soon a stop ends is bounded by the steps under way, so steps are small here."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

from failing import PASSKEY, FailureTest, wait_until
from harness import HAVE_MPI, PROGRAM, longscan, main, random_tokens
from launch_run import ranks_of

DRAIN_S = 10  # on a machine that is busy with other things: alone it is below one second
FOLDERS = [pathlib.Path("/dev/shm"), pathlib.Path("/tmp")]


def left_in_folders():
    """What ranks, mpirun and `run` leave in the folders for temporary things. A `run` of somebody else at the
    same time may have a folder of its own, but not for long."""
    names = ("longscan-ranks-*", "longscan-new-*", "ompi.*", "vader_segment*", "openmpi-sessions-*")
    return {path for folder in FOLDERS for name in names for path in folder.glob(name)}


class Signals(FailureTest):
    def setUp(self):
        super().setUp()
        self.before = left_in_folders()
        tokens = random_tokens(1, 20_000, 256)
        self.input = self.documents("in.jsonl", [{"id": str(i), "tokens": tokens} for i in range(200)])

    def job(self, *front, back=(), name="job", step="1024"):
        """Work for minutes; back once it has begun."""
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        output = self.folder / name / "out.jsonl"
        output.parent.mkdir()
        process = self.start(*front, "--model", PASSKEY, "--input", self.input, "--output", output, "--threads", "1",
                             "--step-tokens", step, *back, log=f"log-{name}",
                             environment={"LONGSCAN_TEST_MARK": self.mark, "LONGSCAN_MPIRUN_ARGS": "-x LONGSCAN_TEST_MARK"})
        mark = self.mark
        self.addCleanup(lambda: [os.kill(rank, signal.SIGKILL) for rank in ranks_of(mark)])
        process.output = output
        partial = output.with_name("out.jsonl.partial")
        wait_until(lambda: partial.exists() or process.poll() is not None, 60, "the start of the job")
        self.assertIsNone(process.poll(), process.log.read_text())
        return process

    def start(self, *arguments, **more):
        """With the program in front, or mpirun as it is."""
        if arguments[0] != "mpirun":
            return super().start(*arguments, **more)
        file = open(self.folder / more["log"], "wb")
        self.addCleanup(file.close)
        process = subprocess.Popen(list(map(str, arguments)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=file, env=dict(os.environ, **more["environment"]))
        process.log = self.folder / more["log"]
        self.addCleanup(self.kill, process)
        return process

    def drains(self, process):
        """143 in time, no half of a file, no rank, no folder."""
        began = time.monotonic()
        text = self.ended(process, 143, DRAIN_S)
        print(f"{time.monotonic() - began:.2f} s", end=" ", flush=True)
        self.assertIn("stopping: finishing the steps that are under way", text)
        self.assertEqual(self.leftovers(), [])
        self.nothing_is_left()

    def nothing_is_left(self):
        wait_until(lambda: ranks_of(self.mark) == [], 10, "the end of all ranks")
        wait_until(lambda: left_in_folders() <= self.before, 10, f"nothing left of {left_in_folders() - self.before}")

    def test_one_process_drains(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            with self.subTest(signal=number):
                process = self.job("score", back=["--ranks", "2"], name=f"s{number}")
                process.send_signal(number)
                self.drains(process)

    def test_a_signal_sent_twice_at_once_is_one(self):
        """As by `timeout`, which signals its child and then its whole group."""
        process = self.job("score")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        self.drains(process)

    def stuck(self, *front, name):
        """A job that cannot end within seconds: its steps are long ones."""
        return self.job(*front, back=["--queue-tokens", "1m"], name=name, step="128k")

    def test_a_second_signal_ends_one_process_at_once(self):
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM),
                              (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGINT)):
            with self.subTest(first=first, second=second):
                process = self.stuck("score", name=f"{first}-{second}")
                process.send_signal(first)
                time.sleep(0.4)
                self.assertIsNone(process.poll())
                process.send_signal(signal.SIGUSR1)  # asks once more, no more than that
                time.sleep(0.2)
                self.assertIsNone(process.poll())
                process.send_signal(second)
                self.assertIn("second signal", self.ended(process, -signal.SIGINT, 5))  # 130 in a shell
                self.assertFalse(process.output.exists())

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_a_second_signal_ends_run_at_once(self):
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
            with self.subTest(first=first, second=second):
                process = self.stuck("run", "-n", "2", "score", name=f"{first}-{second}")
                process.send_signal(first)
                time.sleep(0.4)
                self.assertIsNone(process.poll())
                process.send_signal(second)
                text = self.ended(process, 130, 10)
                self.assertIn("exit code 130", text.splitlines()[-1])
                self.assertFalse(process.output.exists())
                self.nothing_is_left()

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_run_drains(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            with self.subTest(signal=number):
                process = self.job("run", "-n", "2", "score", name=f"run{number}")
                process.send_signal(number)
                self.drains(process)
                self.assertIn("exit code 143", process.log.read_text().splitlines()[-1])

    def mpirun(self):
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        return ["mpirun", *root, "--oversubscribe", "--bind-to", "none", "--mca", "btl", "vader,self", "--mca", "pml",
                "ob1", "-x", "LONGSCAN_TEST_MARK", "-n"]

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_plain_mpirun_drains(self):
        process = self.job(*self.mpirun(), "3", PROGRAM, "score")
        process.send_signal(signal.SIGUSR1)
        self.drains(process)

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_a_signal_to_any_rank_drains_the_job(self):
        """As from a machine that is to end, whichever rank it has; in groups too."""
        for name, count, rank, back in (("member", 3, 2, []), ("leader", 3, 0, []),
                                        ("group", 4, 3, ["--group-size", "2"]), ("all", 3, None, [])):
            with self.subTest(name=name):
                process = self.job(*self.mpirun(), count, PROGRAM, "score", back=back, name=name)
                ranks = sorted(ranks_of(self.mark))
                self.assertEqual(len(ranks), count)
                for pid in ranks if rank is None else [ranks[rank]]:
                    os.kill(pid, signal.SIGTERM)
                self.drains(process)

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_hangups_are_nothing_under_nohup(self):
        process = self.job("run", "-n", "2", "score", name="nohup")
        process.send_signal(signal.SIGHUP)
        self.drains(process)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process = self.job("run", "-n", "2", "score", name="nohup-2")
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        self.assertNotIn("stopping", process.log.read_text())
        process.send_signal(signal.SIGTERM)
        self.drains(process)

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_what_a_killed_run_leaves_the_next_removes(self):
        process = self.job("run", "-n", "2", "score", name="killed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: ranks_of(self.mark) == [], 15, "the end of all ranks")
        left = left_in_folders() - self.before
        self.assertLessEqual(len(left), 1)
        time.sleep(2.5)  # mpirun may still be there, and holds the folder
        going = self.job("run", "-n", "2", "score", name="going")
        self.assertEqual(left & left_in_folders(), set())
        own = left_in_folders() - self.before - left
        self.assertEqual(len(own), 1)
        longscan("run", "-n", "2", "score", "--model", "nothing", "--input", self.input, expect=2)  # a failing start
        self.assertEqual(left_in_folders() - self.before, own)  # and no folder of a living job went with it
        going.send_signal(signal.SIGTERM)
        self.drains(going)


if __name__ == "__main__":
    main()
