"""The passkey evaluation as a whole: its samples, what it says of them, and that neither ranks, nor how
prompts are read together, nor a stop on the way changes a result."""
import json
import math
import signal
import struct
import subprocess
import time
import unittest

import layouts
import plain_mamba2
from harness import BUILD, HAVE_BPE, HAVE_KAFKA, HAVE_MPI, PROGRAM, SOURCE, Broker, RunTest, lines, longscan, main, write_jsonl

MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"
PREFIX = ("There is an important info hidden inside a lot of irrelevant text. Find it and memorize it.\n\n")
BLOCK = ("The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n")
KEY = "The passkey is {0}. Remember it. {0} is the passkey.\n"
QUESTION = "\nWhat is the pass key? The passkey is"


def passkey(*arguments, ranks=(), **more):
    front = ranks or ["passkey"]
    return longscan(*front, "--model", MODEL, "--no-progress", *arguments, **more)


def results(done):
    return sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda line: line["id"])


def plain(length, key, position):
    """A prompt of the paper's, in bytes, from what a result line says."""
    units = (length - len(PREFIX) - len(QUESTION)) // len(BLOCK)
    blocks = [BLOCK] * units
    blocks[position] = KEY.format(key)
    return PREFIX + "".join(blocks) + QUESTION


class Passkey(RunTest):
    def test_a_line_a_sample(self):
        found = results(passkey("--samples", 10, "--lengths", "1k,4k"))
        self.assertEqual(len(found), 20)
        self.assertEqual(len({line["id"] for line in found}), 20)
        for line in found:
            prompt = plain(line["length"], line["key"], line["position"])
            self.assertEqual(line["tokens"], len(prompt))
            self.assertLessEqual(len(prompt), line["length"])
            self.assertEqual(line["answer_tokens"], 6)
            self.assertEqual(line["correct"], line["key"] in line["prediction"])
            shown = passkey("--samples", 10, "--lengths", "1k,4k", "--show-sample", line["id"])
            self.assertEqual(shown.stdout, prompt)
            self.assertIn(line["key"], shown.stderr)
        self.assertGreaterEqual(sum(line["correct"] for line in found), 19)

    def test_answers_are_what_score_says(self):
        """The NLL of each answer is that of the same text scored as a document: the same bits."""
        documents, found = [], {}
        # the last two end at a chunk's border and just behind one
        for options in (["--samples", 5, "--lengths", "1k,3000,6k", "--seed", 7],
                        ["--samples", 4, "--lengths", "3k,6k", "--depths", "even:2", "--filler", SOURCE / "LICENSE"],
                        ["--samples", 1, "--lengths", 5300, "--depths", "0.5", "--style", "niah", "--digits", 6],
                        ["--samples", 1, "--lengths", 5300, "--depths", "0.5", "--style", "niah", "--digits", 4, "--seed", 2]):
            for line in results(passkey(*options)):
                prompt = passkey(*options, "--show-sample", line["id"]).stdout
                self.assertEqual(len(prompt.encode()), line["tokens"])
                name = f"{len(found)}"
                found[name] = line
                documents.append({"id": name, "text": f"{prompt} {line['key']}"})
        self.assertEqual([found[name]["tokens"] % 1024 for name in list(found)[-2:]], [0, 1])
        write_jsonl(self.folder / "in.jsonl", documents)
        longscan("score", "--model", MODEL, "--input", self.folder / "in.jsonl", "--output", self.folder / "out.jsonl",
                 "--token-nll", "--no-progress")
        for line in map(json.loads, lines(self.folder / "out.jsonl")):
            total = 0.0
            for nll in line["token_nll"][-found[line["id"]]["answer_tokens"]:]:
                total += struct.unpack("<f", struct.pack("<f", nll))[0]  # nine digits of a float
            self.assertEqual(found[line["id"]]["answer_nll"], total, line["id"])

    def test_the_same_however_it_is_run(self):
        options = ["--samples", 7, "--lengths", "1k,2k,5k,9k"]
        expected = results(passkey(*options))
        ways = [(["--unbranched"], ()), (["--ranks", 3, "--step-tokens", "1k"], ()), (["--ranks", 2], ()),
                (["--step-tokens", "64k", "--threads", 1], ()),
                (["--step-tokens", "1k", "--slots", 12, "--host-slots-bytes", 0], ())]
        if HAVE_MPI:
            ways.append((["--step-tokens", "2k"], ["run", "-n", 4, "passkey"]))
        for more, ranks in ways:
            with self.subTest(more=more, ranks=ranks):
                self.assertEqual(results(passkey(*options, *more, ranks=ranks)), expected)

    def test_groups_share_the_samples(self):
        options = ["--samples", 9, "--lengths", "1k,2k,4k", "--depths", "even:3"]
        passkey(*options, "--output", self.folder / "one")
        expected = lines(self.folder / "one" / "results.jsonl")
        self.assertEqual(len(expected), 27)
        for name, more, ranks in [("threads", ["--ranks", 4, "--group-size", 2], ()),
                                  ("each", ["--ranks", 3, "--group-size", 1], ()),
                                  ("processes", ["--group-size", 1], ["run", "-n", 2, "passkey"])]:
            if ranks and not HAVE_MPI:
                continue
            with self.subTest(name=name):
                passkey(*options, *more, "--output", self.folder / name, ranks=ranks)
                self.assertEqual(lines(self.folder / name / "results.jsonl"), expected)
                self.assertEqual(sorted(path.name for path in (self.folder / name).iterdir()),
                                 ["heatmap.svg", "report.html", "results.jsonl", "summary.csv", "summary.json"])

    def test_lengths_share_what_they_can(self):
        """With --depths even a key is read once for several lengths."""
        options = ["--samples", 20, "--lengths", "2k,4k,8k,16k"]
        shares = []
        for index, more in enumerate((["--unbranched"], [], ["--depths", "even"])):
            passkey(*options, *more, "--output", self.folder / f"{index}")
            run = json.loads((self.folder / f"{index}" / "summary.json").read_text())["run"]
            shares.append(run["tokens_run"] / run["tokens_plain"])
        print("tokens run, of a prompt at a time:", shares)
        self.assertEqual(shares[0], 1)
        self.assertLess(shares[1], 0.60)  # half of each, and a chunk's part, which is much of 2k
        self.assertLess(shares[2], 0.52)

    def test_a_stopped_run_is_gone_on_with(self):
        options = ["--samples", 40, "--lengths", "2k,8k", "--seed", 3]
        passkey(*options, "--output", self.folder / "whole")
        expected = lines(self.folder / "whole" / "results.jsonl")
        output = self.folder / "out"
        for turn, (how, code) in enumerate([(signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGTERM, 143)]):
            before = self.parts(output)
            job = subprocess.Popen([PROGRAM, "passkey", "--model", MODEL, *map(str, options), "--output", output,
                                    "--resume", "--no-progress", "--step-tokens", "2k"], stderr=subprocess.PIPE)
            deadline = time.monotonic() + 120
            while len(self.parts(output)) < min(len(before) + 5, 75) and time.monotonic() < deadline:
                time.sleep(0.02)
            job.send_signal(how)
            said = job.communicate(timeout=120)[1]
            self.assertEqual(job.returncode, code, (turn, said))
        kept = self.parts(output)
        self.assertGreaterEqual(len(kept), 15)
        self.assertEqual(len({json.loads(line)["id"] for line in kept}), len(kept))
        with open(output / "results.part-0", "a", encoding="utf-8") as file:
            file.write('{"id":"cut sho')  # what a machine that loses power may leave
        done = passkey(*options, "--output", output, "--resume")
        self.assertIn(f"{len(kept)} samples are answered already", done.stderr)
        self.assertIn(f"{80 - len(kept)} samples to answer", done.stderr)
        self.assertEqual(lines(output / "results.jsonl"), expected)
        self.assertEqual(list(output.glob("results.part-*")), [])
        # longer: only what is new is answered
        passkey("--samples", 40, "--lengths", "1k,2k,8k", "--seed", 3, "--output", output, "--resume")
        self.assertEqual(lines(output / "results.jsonl")[40:], expected)
        for other in (["--seed", 4], ["--style", "niah"], ["--dtype", "bf16"]):
            with self.subTest(other=other):
                seed = [] if "--seed" in other else ["--seed", 3]
                said = passkey("--samples", 40, "--lengths", "1k,2k,8k", *seed, *other, "--output", output, "--resume",
                               expect=4).stderr
                self.assertIn({"--seed": '"seed":4', "--style": '"style":"niah"', "--dtype": "dtype"}[other[0]], said)
        self.assertIn("--resume", passkey(*options, "--output", output, expect=2).stderr)  # nothing is replaced
        self.assertEqual(lines(output / "results.jsonl")[40:], expected)

    @staticmethod
    def parts(output):
        return [line for path in output.glob("results.part-*") for line in lines(path) if line.endswith("}")]

    def test_greedy_decoding_of_a_model_that_fails(self):
        """Against a model in Python's floats that reads a token at a time."""
        for seed in (32, 114):  # they say letters, and others one after the other
            model = self.folder / f"{seed}"
            subprocess.run([BUILD / "make_model", model, "--hidden", "8", "--layers", "1", "--vocab", "256", "--state",
                            "4", "--head-dim", "4", "--expand", "1", "--seed", f"{seed}"], check=True, timeout=60)
            config, tensors = layouts.read_hf(model)
            found = results(longscan("passkey", "--model", model, "--samples", 2, "--lengths", "400,1200", "--no-progress"))
            self.assertEqual(len(found), 4)
            for line in found:
                prompt = list(plain(line["length"], line["key"], line["position"]).encode())
                expected = plain_mamba2.greedy(config, tensors, prompt, 6)
                self.assertEqual(list(line["prediction"].encode()), expected)
                self.assertGreater(len(set(expected)), 3)
                self.assertFalse(line["correct"] or line["exact"])
                self.assertLess(line["margin"], 0)
                answer = plain_mamba2.token_nll(config, tensors, prompt + list(f" {line['key']}".encode()))[-6:]
                self.assertAlmostEqual(line["answer_nll"], math.fsum(answer), delta=1e-3)

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_a_queue_of_samples(self):
        """Descriptions from a topic, lines of an earlier run among them; results to a topic, keyed by id."""
        earlier = results(passkey("--samples", 5, "--lengths", "1k,3k"))
        messages = [json.dumps(line) for line in earlier]
        messages += ['{"id":"mine","length":2000,"depth":0.3,"key":"00042"}', '{"id":"short","length":10,"depth":0.3}']
        with Broker(partitions=2, topics=["tasks", "results"]) as broker:
            subprocess.run([BUILD / "raw_publish", broker.address, "tasks"], check=True, timeout=60, text=True,
                           input="".join(f"k{i} {text.encode().hex()}\n" for i, text in enumerate(messages)))
            done = passkey("--input", "kafka:tasks", "--brokers", broker.address, "--output", "kafka:results",
                           "--max-bad", "50%", "--ranks", 2)
            self.assertIn("too short", done.stderr)
            self.assertIn("11 samples", done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertNotIn("nothing is kept", done.stderr)
            again = passkey("--input", "kafka:tasks", "--brokers", broker.address, "--output", "kafka:results")
            self.assertIn("0 samples", again.stderr)
            other = passkey("--input", "kafka:tasks", "--brokers", broker.address, "--job", "other", "--output",
                            self.folder / "out", "--max-bad", "50%")
            self.assertIn("11 samples", other.stderr)
            read = longscan("read", "--topic", "results", "--brokers", broker.address, "--envelope")
        found = {}
        for message in map(json.loads, read.stdout.splitlines()):
            self.assertEqual(message["key"], message["value"]["id"])
            found[message["key"]] = message["value"]
        kept = {line["id"]: line for line in map(json.loads, lines(self.folder / "out" / "results.jsonl"))}
        self.assertEqual(kept, found)
        self.assertEqual(found["mine"]["key"], "00042")
        for line in earlier:
            for name in ("key", "answer_nll", "margin", "prediction", "position", "tokens"):
                self.assertEqual(found[line["id"]][name], line[name], (line["id"], name))

    def test_refusals(self):
        short = passkey("--lengths", "100", "--samples", 1, expect=2).stderr
        self.assertIn("--lengths", short)
        for options, word in [(["--lengths", "1k,1k"], "--lengths"), (["--depths", "1.5,"], "--depths"),
                              (["--depths", "0"], "--depths"), (["--lengths", "1x"], "--lengths"),
                              (["--resume"], "--output"), (["--ranks", 2, "--group-size", 1], "--output"),
                              (["--filler", self.folder / "none"], "--filler"), (["--show-sample", "x"], "x")]:
            with self.subTest(options=options):
                self.assertIn(word, passkey("--samples", 1, *options, expect=2).stderr)

    @unittest.skipUnless(HAVE_BPE, "built without BPE")
    def test_a_tokenizer_of_another_model(self):
        tokenizer = SOURCE / "tests" / "tokenizers" / "neox" / "tokenizer.json"
        self.assertIn("ids", passkey("--samples", 1, "--lengths", "1k", "--tokenizer", tokenizer, expect=4).stderr)

    def test_one_job_a_folder(self):
        output = self.folder / "out"
        options = ["--samples", 200, "--lengths", "4k", "--output", output]
        job = subprocess.Popen([PROGRAM, "passkey", "--model", MODEL, *map(str, options), "--no-progress"],
                               stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self.parts(output) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertIn("another job", passkey(*options, "--resume", expect=2).stderr)
        job.send_signal(signal.SIGTERM)
        self.assertEqual(job.wait(60), 143)
        self.assertGreater(len(self.parts(output)), 0)

    def test_edges(self):
        for options, count in [(["--samples", 1, "--lengths", "1k"], 1),
                               (["--samples", 4, "--lengths", "2k", "--depths", "0,1"], 4),
                               (["--samples", 3, "--lengths", "2k,4k", "--positions", "0,1k"], 6),
                               (["--samples", 2, "--lengths", "2k", "--style", "infinitebench"], 2),
                               (["--samples", 2, "--lengths", "2k", "--style", "niah"], 2),
                               (["--samples", 2, "--lengths", "4k", "--add-prefix", "5", "--digits", "3"], 2),
                               (["--samples", 2, "--lengths", "4k", "--filler", SOURCE / "LICENSE"], 2),
                               (["--samples", 1, "--lengths", "2k", "--new-tokens", "1"], 1)]:
            with self.subTest(options=options):
                found = results(passkey(*options))
                self.assertEqual(len(found), count)
                for line in found:
                    self.assertTrue(math.isfinite(line["answer_nll"]))
        verdict = passkey("--samples", 1, "--lengths", "1k", "--new-tokens", 1, "--fail-below", "50%", expect=6)
        self.assertIn("--fail-below", verdict.stderr)


if __name__ == "__main__":
    main()
