"""Two machines on one: two network namespaces with a cable between, mpirun on the first, half of the ranks on
the second. The cable is cut, or all of the second machine stands still: every rank ends, with 142."""
import os
import shutil
import signal
import subprocess
import time
import unittest

from failing import PASSKEY, FailureTest, wait_until
from harness import HAVE_MPI, PROGRAM, main, random_tokens
from launch_run import ranks_of


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, timeout=20)


def two_hosts(name):
    """Makes the namespaces; the reason why not, or None."""
    if shutil.which("ip") is None:
        return "there is no ip (iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        for host in "ab":
            ip("netns", "add", name + host)
        ip("link", "add", "cable", "netns", name + "a", "type", "veth", "peer", "name", "cable", "netns", name + "b")
        for number, host in enumerate("ab", 1):
            ip("-n", name + host, "addr", "add", f"10.213.77.{number}/24", "dev", "cable")
            ip("-n", name + host, "link", "set", "lo", "up")
            ip("-n", name + host, "link", "set", "cable", "up")
        subprocess.run(["ip", "netns", "exec", name + "b", "unshare", "-u", "hostname", "other"], check=True,
                       capture_output=True, timeout=20)
    except (subprocess.CalledProcessError, OSError) as error:
        drop_hosts(name)
        return f"no network namespaces here: {getattr(error, 'stderr', b'').decode().strip() or error}"
    return None


def drop_hosts(name):
    for host in "ab":
        ip("netns", "delete", name + host, check=False)


@unittest.skipUnless(HAVE_MPI, "built without MPI")
class Hosts(FailureTest):
    def setUp(self):
        super().setUp()
        self.name = f"ls{os.getpid()}"
        why_not = two_hosts(self.name)
        if why_not is not None:
            self.skipTest(why_not)
        self.addCleanup(drop_hosts, self.name)
        self.addCleanup(self.end_all)
        # what mpirun believes to be ssh
        self.agent = self.write("agent", f'#!/bin/sh\nshift\nexec ip netns exec {self.name}b unshare -u '
                                         f'sh -c "hostname other; $*"\n')
        self.agent.chmod(0o755)
        tokens = random_tokens(1, 20_000, 256)
        self.input = self.documents("in.jsonl", [{"id": str(i), "tokens": tokens} for i in range(200)])

    def processes(self):
        """Of the second machine: process ids by what they are, ranks or not."""
        found = subprocess.run(["ip", "netns", "pids", self.name + "b"], capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]

    def end_all(self):
        for host in "ab":
            for pid in ip("netns", "pids", self.name + host, check=False).stdout.split():
                os.kill(int(pid), signal.SIGKILL)

    def begin(self):
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        output = self.folder / "out.jsonl"
        transport = "--mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include cable --mca oob_tcp_if_include cable"
        process = self.start("ip", "netns", "exec", self.name + "a", PROGRAM, "run", "-n", "4", "score", "--model", PASSKEY, "--input", self.input, "--output", output,
                             "--threads", "1", "--step-tokens", "1024", "--peer-timeout", "5s", environment={
                                 "LONGSCAN_TEST_MARK": mark,
                                 "LONGSCAN_MPIRUN_ARGS": "--host 10.213.77.1:2,10.213.77.2:2 --mca plm_rsh_agent "
                                                         f"{self.agent} {transport} -x LONGSCAN_TEST_MARK"})
        partial = self.folder / "out.jsonl.partial"
        wait_until(lambda: partial.exists() or process.poll() is not None, 60, "the start of the job")
        self.assertIsNone(process.poll(), process.log.read_text())
        self.assertEqual(len(ranks_of(mark)), 4)
        self.assertEqual(len(set(ranks_of(mark)) & set(self.processes())), 2)
        time.sleep(1)
        return process, mark, output

    def start(self, *arguments, environment):
        log = open(self.folder / "log", "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(list(map(str, arguments)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=log, env=dict(os.environ, **environment))
        process.log = self.folder / "log"
        self.addCleanup(self.kill, process)
        return process

    def lost(self, process, mark, output, seconds):
        began = time.monotonic()
        text = self.ended(process, 142, seconds)
        print(f"{time.monotonic() - began:.1f} s", end=" ", flush=True)
        self.assertIn("exit code 142", text.splitlines()[-1])
        self.assertFalse(output.exists())
        here = set(ranks_of(mark)) - set(self.processes())
        self.assertEqual(here, set(), "ranks of the first machine")
        return text

    def test_a_cut_cable(self):
        process, mark, output = self.begin()
        ip("-n", self.name + "a", "link", "set", "cable", "down")
        self.lost(process, mark, output, 40)
        wait_until(lambda: self.processes() == [], 20, "the end of all beyond the cable")

    def test_a_machine_that_stands_still(self):
        process, mark, output = self.begin()
        stopped = self.processes()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        self.assertIn("is lost: no sign of life", self.lost(process, mark, output, 40))
        for pid in set(stopped) & set(self.processes()):
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: self.processes() == [], 20, "the end of what stood still")


if __name__ == "__main__":
    main()
