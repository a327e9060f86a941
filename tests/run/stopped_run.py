"""Runs that are killed, stopped or lose a rank in the middle, and what starting them again gives."""
import json
import os
import signal
import time
import unittest

from failing import PASSKEY, FailureTest, wait_until
from harness import HAVE_KAFKA, HAVE_MPI, Broker, longscan, main, random_tokens
from launch_run import ranks_of

SHARDS = 4


class Stopped(FailureTest):
    def many(self, name, count, tokens):
        return self.documents(name, [{"id": f"{name}-{i}", "tokens": random_tokens(i, tokens, 256)}
                                     for i in range(count)])

    def texts(self, folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_killed_and_resumed(self):
        for shard in range(SHARDS):
            self.many(f"in/{shard}.jsonl", 8, 1500)
        score = ["score", "--model", PASSKEY, "--input", self.folder / "in", "--threads", "1", "--step-tokens", "1024"]
        output = self.folder / "out"
        longscan(*score, "--output", self.folder / "whole", timeout=60)
        process = self.start(*score, "--output", output)
        wait_until(lambda: output.exists() and len(os.listdir(output)) > 2, 30, "the third shard")
        process.send_signal(signal.SIGKILL)
        process.wait()
        partial = self.leftovers()
        self.assertEqual(len(partial), 1, "the kill came too late or left more than one file behind")
        done = [path for path in output.iterdir() if path.suffix == ".jsonl"]
        times = {path: path.stat().st_mtime_ns for path in done}
        self.assertIn(len(done), range(1, SHARDS))
        longscan(*score, "--output", output, "--resume", timeout=60)
        self.assertEqual(self.texts(output), self.texts(self.folder / "whole"))
        self.assertEqual({path: path.stat().st_mtime_ns for path in done}, times)

    def test_stopped_in_the_middle_of_files(self):
        """What is complete has its name, what is not leaves nothing."""
        for shard in range(SHARDS):
            self.many(f"in/{shard}.jsonl", 8, 1500)
        score = ["score", "--model", PASSKEY, "--input", self.folder / "in", "--threads", "1", "--step-tokens", "1024"]
        output = self.folder / "out"
        process = self.start(*score, "--ranks", "2", "--queue-tokens", "2k", "--output", output)
        wait_until(lambda: output.exists() and len(os.listdir(output)) > 1, 30, "the second shard")
        process.send_signal(signal.SIGTERM)
        self.ended(process, 143, 20)
        self.assertEqual(self.leftovers(), [])
        complete = self.texts(output)
        self.assertIn(len(complete), range(1, SHARDS))
        for text in complete.values():
            self.assertEqual(text.count(b"\n"), 8)
        longscan(*score, "--output", output, "--resume", timeout=60)
        self.assertEqual(len(self.texts(output)), SHARDS)

    def results(self, broker):
        read = longscan("read", "--topic", "results", "--brokers", broker.address, timeout=60, expect=None)
        return [json.loads(line) for line in read.stdout.splitlines()]

    def stopped_job(self, front, back):
        """Stopped once the first results are out, and started again under the same name."""
        count = 60
        source = self.many("in.jsonl", count, 2000)
        whole = self.folder / "whole.jsonl"
        longscan("score", "--model", PASSKEY, "--input", source, "--output", whole, timeout=60)
        with Broker(partitions=3, topics=["t", "results"]) as broker:
            longscan("publish", "--input", source, "--topic", "t", "--brokers", broker.address,
                     "--record-tokens", "1000")
            job = [*front, "score", "--model", PASSKEY, *broker.topic("t"), "--output", "kafka:results", "--job", "j",
                   "--commit-interval", "200ms", "--step-tokens", "1024", "--queue-tokens", "6k", "--threads", "1",
                   *back]
            process = self.start(*job)
            wait_until(lambda: len(self.results(broker)) >= 3, 30, "the first results")
            process.send_signal(signal.SIGTERM)
            self.ended(process, 143, 20)
            before = self.results(broker)
            self.assertLess(len(before), count)
            self.ended(self.start(*job, log="again"), 0, 60)
            after = self.results(broker)
        self.assertEqual(len({result["id"] for result in after}), count)
        self.assertLess(len(after) - len(before), count, "it began anew")
        expected = {result["id"]: result for result in map(json.loads, whole.read_text().splitlines())}
        for result in after:
            self.assertEqual(result["nll"], expected[result["id"]]["nll"])

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_job_on_threads_stopped_and_started_again(self):
        self.stopped_job([], ["--ranks", "3"])

    @unittest.skipUnless(HAVE_KAFKA and HAVE_MPI, "built without Kafka or MPI")
    def test_a_job_on_processes_stopped_and_started_again(self):
        self.stopped_job(["run", "-n", "3"], [])

    def begin(self, name):
        """Four ranks with more work than the test has patience for; back once they have begun."""
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        output = self.folder / name / "out.jsonl"
        output.parent.mkdir()
        process = self.start("run", "-n", "4", "score", "--model", PASSKEY, "--input", self.folder / "in.jsonl",
                             "--output", output, "--threads", "1", "--step-tokens", "1024", "--peer-timeout", "3s",
                             log=f"log-{name}", environment={"LONGSCAN_TEST_MARK": mark,
                                                             "LONGSCAN_MPIRUN_ARGS": "-x LONGSCAN_TEST_MARK"})
        self.addCleanup(lambda: [os.kill(rank, signal.SIGKILL) for rank in ranks_of(mark)])
        partial = output.with_name("out.jsonl.partial")
        wait_until(lambda: partial.exists() or process.poll() is not None, 30, "the ranks' start")
        return process, output, mark

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_a_rank_that_is_killed_or_stands_still(self):
        """Three jobs at once: 142 within seconds, no output, and nothing of the job goes on."""
        self.many("in.jsonl", 300, 3000)
        lost = [("killed", 2, signal.SIGKILL, ["signal 9", "142"]),
                ("stopped", 2, signal.SIGSTOP, ["rank 2 is lost", "--peer-timeout"]),
                ("leader", 0, signal.SIGSTOP, ["rank 0 is lost", "--peer-timeout"])]
        jobs = []
        for name, rank, number, needles in lost:
            process, output, mark = self.begin(name)
            ranks = sorted(ranks_of(mark))
            self.assertEqual(len(ranks), 4, process.log.read_text())
            os.kill(ranks[rank], number)
            jobs.append((process, output, mark, needles))
        for process, output, mark, needles in jobs:
            self.assert_said(self.ended(process, 142, 15), *needles)
            self.assertFalse(output.exists())
            wait_until(lambda: ranks_of(mark) == [], 10, "the end of all ranks")
        # A leader that lives removes what it has begun.
        self.assertEqual([name for name in self.leftovers() if name.startswith("stopped")], [])


if __name__ == "__main__":
    main()
