"""Memory is bounded by the settings: not by a document's length, nor by how many documents are open
(but for the tokens of their open chunks), nor by what waits in a topic or in a file.

Peaks are those of each rank as the kernel keeps them (VmHWM), ranks being processes where the build
has MPI and threads of one process otherwise. What the bounds are made of stands in
pipeline/README.md, "Memory". The in-memory broker keeps 5 MiB a partition, so what is longer is
published while it is read, never further ahead than the broker can keep.

How full a queue gets depends on who is faster, so what the queues of the job with less may have lacked is
allowed to the one with more, by name: READ_AHEAD, QUEUES, REMEMBERED.
"""
import json
import pathlib
import subprocess
import tempfile
import unittest

from harness import BUILD, HAVE_KAFKA, HAVE_MPI, SLOW, Broker, RunTest, by_id, main, score
from watched import KIB, MIB, Job, Publisher, tokens_of, wide

LONG = 100_000_000 if SLOW else 10_000_000
OPEN = 50_000 if SLOW else 10_000
RECORD = 16384  # tokens of a long document's records
# What librdkafka reads ahead, and at most FETCH a partition beyond it. The smaller ones are a small part
# of what the process needs anyway, but librdkafka before 2.2 sleeps for a second whenever it has read
# that far.
PREFETCH, FETCH = (256 * KIB, 64 * KIB) if SLOW else (2 * MIB, 2 * MIB)
READ_AHEAD = PREFETCH + FETCH  # of all partitions
REMEMBERED = 200  # of a finished document: 80 bytes and its id, the allocator's, and room to grow
OPEN_BYTES = 5 * KIB  # of an open document on the leader, beside its id, and its attributes if any
QUEUE_TOKENS = 64 * KIB  # of --queue-tokens as it is by default here, and of a file's records
HELD = 96 * MIB  # results that wait for their turn: 64 MiB, and half of it for the allocator
STATE_BYTES = 128  # of its state on a rank, beside what --slots and --host-slots-bytes allow for


def queues(tokens):
    """Between reader and leader, and before a plan, at most."""
    return 13 * (tokens + QUEUE_TOKENS)


QUEUES = queues(QUEUE_TOKENS)


def mib(peaks):
    return " + ".join(f"{peak / MIB:.1f}" for _, peak in sorted(peaks.items())) + " MiB"


class Bounds(RunTest):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory(prefix="longscan-bounds-")
        cls.addClassCleanup(holder.cleanup)
        cls.model = pathlib.Path(holder.name) / "model"
        cls.known = {}  # results of files, by their length
        # as small as can be: what is measured is what is not the model
        subprocess.run([BUILD / "make_model", cls.model, "--hidden", "32", "--layers", "1", "--vocab", "256",
                        "--state", "16", "--head-dim", "32"], check=True, timeout=60)

    def no_higher(self, peaks, reference, share, what, more=0):
        print(f"{what}: {mib(peaks)}, compared with {mib(reference)}", flush=True)
        self.assertEqual(sorted(peaks), sorted(reference))
        for rank, peak in peaks.items():
            self.assertLess(peak, share * reference[rank] + more, f"rank {rank}: {what}")

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
        self.known[count] = self.line_without_id(job.output, path.name)
        path.unlink()
        return job.peaks

    def long_file(self, kind):
        short, middle, long = (self.peaks_of_file(count, kind) for count in (100_000, 2_000_000, LONG))
        for less, count in (short, 100_000), (middle, 2_000_000):
            self.no_higher(long, less, 1.05, f"{LONG:,} tokens in a .{kind} file and {count:,}", more=QUEUES)

    def test_a_long_text(self):
        self.long_file("txt")

    def test_a_long_file_of_tokens(self):
        self.long_file("u16")

    def test_short_documents_behind_a_long_one(self):
        """They are done before it is and wait for their turn in the output: not too many of them."""
        alone, behind = (self.job_behind_a_long_one(count).peaks for count in (0, 900_000))
        self.no_higher(behind, alone, 1.0, "900,000 short documents behind a long one and none",
                       more=HELD + queues(MIB))

    def job_behind_a_long_one(self, count):
        path = self.folder / "behind.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps({"id": "long", "text": 500_000 * "ab"}) + "\n" + count * '{"text":"a"}\n')
        job = Job(self, "--input", path, "--queue-tokens", "1m")
        self.assertEqual(job.finished()["documents"], count + 1)
        return job

    # Topics

    def job_on(self, broker, *arguments, partitions=1):
        """Each partition may have its share of PREFETCH read ahead."""
        return Job(self, *broker.topic("t"), "--commit-interval", "100ms",
                   "-X", f"queued.max.messages.kbytes={max(1, PREFETCH // KIB // partitions)}",
                   "-X", f"fetch.message.max.bytes={FETCH // partitions}", *arguments)

    def job_on_documents(self, lengths, burst=2_000_000):
        """Documents one after another, published a burst at a time. Behind each burst goes a document
        of two tokens: its result says that the burst has been read."""
        markers, room = 0, burst
        with Broker(partitions=1, topics=["t"]) as broker, Publisher(broker, "t") as publisher:
            job = self.job_on(broker, "--follow", "--queue-tokens", RECORD)
            for index, length in enumerate(lengths):
                for first in range(0, length, RECORD):
                    count = min(RECORD, length - first)
                    ends = first + count == length
                    publisher.send(f"d{index}", first, tokens_of(first, count), ends)
                    room -= count
                    if room > 0 and not (ends and index + 1 == len(lengths)):
                        continue
                    publisher.send(f"marker{markers}", 0, b"ab", True)
                    publisher.flush()
                    markers, room = markers + 1, burst
                    job.wait_for_lines(markers)
            job.wait_for_lines(markers + len(lengths))
            self.assertEqual(job.stopped()["tokens"], sum(lengths) + 2 * markers)
        return job

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_topic_with_a_long_document(self):
        alone = self.job_on_documents([100_000])
        several = self.job_on_documents(20 * [100_000])
        long = self.job_on_documents([10_000_000])
        self.no_higher(long.peaks, several.peaks, 1.1, "10,000,000 tokens in a topic and 20 times 100,000",
                       more=READ_AHEAD)
        self.no_higher(long.peaks, alone.peaks, 1.1, "10,000,000 tokens in a topic and 100,000", more=READ_AHEAD)
        self.assertEqual(self.line_without_id(long.output, "d0"), self.line_of_file(10_000_000))

    def line_without_id(self, output, name):
        score_of = json.loads(by_id(output)[name][0])
        return {field: score_of[field] for field in ("tokens", "scored", "nll", "model", "settings", "numerics")}

    def line_of_file(self, count):
        if count in self.known:
            return self.known[count]
        path, output = self.file_of(count, "u16"), self.folder / "file.jsonl"
        score("--model", self.model, "--input", path, "--output", output)
        return self.line_without_id(output, path.name)

    def job_with_open(self, documents):
        """So many documents open at once, each with nearly a chunk of tokens that wait, then with a
        state, then closed. Behind each round go short documents, some for each partition: their
        results say that it has been read."""
        rounds, partitions = ((0, 1000), (1000, 60), (1060, 30)), OPEN // 1250
        markers = 16 * partitions
        with Broker(partitions=partitions, topics=["t"]) as broker, Publisher(broker, "t") as publisher:
            job = self.job_on(broker, "--follow", "--host-slots-bytes", "256k", "--spill", self.folder,
                              partitions=partitions)
            for turn, (first, count) in enumerate(rounds):
                data, last = tokens_of(first, count), turn + 1 == len(rounds)
                for index in range(documents):
                    publisher.send(f"open{index}", first, data, last)
                for index in range(markers):
                    publisher.send(f"marker{turn}-{index}", 0, b"ab", True)
                publisher.flush()
                job.wait_for_lines((turn + 1) * markers + (documents if last else 0))
            summary = job.stopped()
        self.assertEqual(summary["documents"], documents + len(rounds) * markers)
        self.assertEqual(summary["open"], 0)
        self.assertGreater(summary["spills"], documents * 8 // 10)  # nearly every state had to make room
        self.assertEqual(list(self.folder.glob("longscan-*")), [])  # where they went
        whole = self.line_of_file(sum(count for _, count in rounds))
        for index in (0, documents // 2, documents - 1):
            self.assertEqual(self.line_without_id(job.output, f"open{index}"), whole)
        return job.peaks

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_topic_with_open_documents(self):
        few, many = self.job_with_open(OPEN // 8), self.job_with_open(OPEN)
        more = OPEN - OPEN // 8
        per_document = {rank: (many[rank] - few[rank]) / more for rank in many}
        print(f"{OPEN:,} open documents: {mib(many)}, {OPEN // 8:,}: {mib(few)}, "
              f"{', '.join(f'{part:.0f}' for _, part in sorted(per_document.items()))} bytes each")
        bound = OPEN_BYTES + len(f"open{OPEN}") + STATE_BYTES
        self.assertLess(many[0] - few[0], more * bound + READ_AHEAD + QUEUES)
        if HAVE_MPI:
            self.assertLess(many[1] - few[1], more * STATE_BYTES + MIB)

    def job_with_backlog(self, documents):
        """So many documents wait before the job begins. It is stopped when it has scored a few; or all, if
        it is fast."""
        with Broker(partitions=16, topics=["t"]) as broker:
            with Publisher(broker, "t") as publisher:
                for index in range(documents):
                    publisher.send(f"d{index}", 0, tokens_of(index, 1000), True)
            job = self.job_on(broker, "--follow", partitions=16)
            job.wait_for_lines(3000)
            job.stopped()
        return job.peaks

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_topic_that_is_behind(self):
        few, many = 5000, 35_000  # 10 and 70 MB
        self.no_higher(self.job_with_backlog(many), self.job_with_backlog(few), 1.1,
                       f"{many:,} documents waiting in a topic and {few:,}",
                       more=READ_AHEAD + many * REMEMBERED)


if __name__ == "__main__":
    main()
