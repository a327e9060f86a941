"""A real Apache Kafka in a folder of its own, with the interface of harness.Broker; see tests/kafka.

    with Kafka(partitions=12, topics=["in", "out"]) as broker:
        longscan("publish", ..., "--topic", "in", *broker.options)
        broker.stop(); broker.start()        the same address, all data kept
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import harness
from harness import BUILD, HAVE_KAFKA, SOURCE

SCRIPT = SOURCE / "tests" / "kafka" / "kafka"
START_SECONDS = 150  # the script's own deadline is 90 s a try


def need_kafka():
    """Skips by name where there is no Apache Kafka and none can be had."""
    if not HAVE_KAFKA:
        raise unittest.SkipTest("built without Kafka")
    done = subprocess.run([SCRIPT, "install"], capture_output=True, text=True, timeout=400)
    if done.returncode == 77:
        why = done.stdout.splitlines()[-1].removeprefix("skipped: ")
        raise unittest.SkipTest(f"Apache Kafka is not here: {why}")
    if done.returncode != 0:
        raise AssertionError(f"{SCRIPT} install\n{done.stdout}{done.stderr}")


class Kafka:
    """For the time of a with block. Topics are made at once; `settings` are "key=value" of the broker."""

    def __init__(self, partitions=1, topics=(), secure=False, settings=()):
        self.partitions, self.topics = partitions, topics
        self.arguments = ["--with", str(os.getpid()), *(["--secure"] if secure else []), *settings]
        self.secure = secure

    def __enter__(self):
        need_kafka()
        self.holder = tempfile.TemporaryDirectory(prefix="longscan-kafka-", ignore_cleanup_errors=True)
        self.folder = pathlib.Path(self.holder.name).resolve()
        try:
            self.address = self.start(*self.arguments)
            self.properties = []
            if self.secure:
                self.properties = (self.folder / "secure" / "client.properties").read_text().split("\n")[:-1]
            self.create(*self.topics)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        self.holder.cleanup()

    def script(self, command, *arguments):
        done = subprocess.run([SCRIPT, command, self.folder, *arguments], capture_output=True, text=True,
                              timeout=3 * START_SECONDS)
        if done.returncode != 0:
            raise AssertionError(f"{SCRIPT} {command}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout.strip()

    def start(self, *arguments):
        """Again after stop or kill: the same address, all data kept."""
        return self.script("start", *(arguments or self.arguments[:2]))

    def stop(self):
        self.script("stop")

    def kill(self):
        self.script("kill")

    def pause(self):
        self.script("pause")

    def resume(self):
        self.script("continue")

    @property
    def options(self):
        """What a verb needs to talk to this broker."""
        return ["--brokers", self.address, *(part for pair in self.properties for part in ("-X", pair))]

    def topic(self, name):
        return ["--input", f"kafka:{name}", *self.options]

    def admin(self, *arguments):
        """kafka_admin, see tests/kafka/admin.c; returns what it printed."""
        properties = [part for pair in self.properties for part in ("-X", pair)]
        done = subprocess.run([BUILD / "kafka_admin", self.address, *properties, *map(str, arguments)],
                              capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"kafka_admin {' '.join(map(str, arguments))}\n{done.stderr}")
        return done.stdout

    def create(self, *topics, partitions=None, settings=()):
        for topic in topics:
            self.admin("create", topic, partitions or self.partitions, *settings)

    def offsets(self, group, topic, partitions=None):
        """What a group has committed, a partition each; None: nothing."""
        found = [line.split(" ", 2) for line in
                 self.admin("offsets", group, topic, partitions or self.partitions).splitlines()]
        return [int(offset) if int(offset) >= 0 else None for _, offset, _ in found]

    def ends(self, topic, partitions=None):
        """The offset after the last record, a partition each."""
        return [int(line.split()[2]) for line in
                self.admin("ends", topic, partitions or self.partitions).splitlines()]


def main():
    """For files of which every test needs Kafka: skipped as a whole."""
    try:
        need_kafka()
    except unittest.SkipTest as why:
        print(f"skipped '{why}'")
        sys.exit(77)
    harness.main()
