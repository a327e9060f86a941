"""`longscan verify`: right models are called right, by name of each check; texts, token files, refusals.
That it finds what is wrong is tested in verify_test.c, with backends that are."""
import json
import shutil
import struct
import unittest

from harness import BUILD, HAVE_BPE, PROGRAM, SOURCE, RunTest, longscan, main, signal, subprocess, time

MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"
CHECKS = ["float64", "cuts", "step size", "neighbours", "places"]


class Verify(RunTest):
    def verify(self, *arguments, expect=0):
        done = longscan("verify", "--backend", "cpu", *arguments, expect=expect)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return found[:-1], found[-1]

    def make_model(self, **shape):
        folder = self.folder / "model"
        options = [part for name, value in shape.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        subprocess.run([BUILD / "make_model", folder, *options], check=True, timeout=300)
        return folder

    def test_a_trained_model(self):
        checks, verdict = self.verify("--model", MODEL)
        self.assertEqual([check["check"] for check in checks], CHECKS)
        self.assertTrue(all(check["passed"] for check in checks) and verdict["passed"])
        self.assertEqual(checks[0]["tokens"], 2405)
        self.assertTrue(0 < checks[0]["nll_mean"] < 1e-5 and checks[0]["nll_most"] < 1e-4)
        self.assertTrue(0 < checks[0]["state"] < 1e-4)
        self.assertEqual(verdict["kind"], "verdict")

    def test_products_in_bf16(self):
        most = {}
        for dtype in ("bf16x3", "bf16"):
            checks, verdict = self.verify("--model", MODEL, "--dtype", dtype)
            self.assertTrue(all(check["passed"] for check in checks) and verdict["passed"])
            self.assertEqual([check["check"] for check in checks], CHECKS)
            self.assertEqual((verdict["dtype"], dtype in verdict["numerics"]), (dtype, True))
            most[dtype] = checks[0]["nll_most"]
        self.assertTrue(1e-5 < most["bf16x3"] < 2e-4 < 1e-2 < most["bf16"] < 0.1)

    def test_own_text_and_table(self):
        text = self.folder / "text.txt"
        text.write_bytes((SOURCE / "LICENSE").read_bytes()[:600])
        checks, _ = self.verify("--model", MODEL, "--input", text)
        self.assertEqual(checks[0]["tokens"], 600)
        table = longscan("verify", "--model", MODEL, "--input", text, "--print", "table", "--backend", "cpu").stdout
        self.assertIn("right on this machine", table)
        self.assertIn("equal bits", table)

    def test_token_files_groups_and_bf16_weights(self):
        """A model in bf16 with two groups: the oracle has to convert; ids in u16 and u32."""
        model = self.make_model(hidden=64, layers=2, vocab=300, state=16, head_dim=16, groups=2, dtype="bf16", seed=3)
        tokens = [(i * 97 + i * i) % 300 for i in range(1100)]
        for width, code in (("u16", "H"), ("u32", "I")):
            path = self.folder / f"tokens.{width}"
            path.write_bytes(struct.pack(f"<{len(tokens)}{code}", *tokens))
            checks, verdict = self.verify("--model", model, "--input", path)
            self.assertTrue(verdict["passed"])
            self.assertEqual(checks[0]["tokens"], 1100)
        path.write_bytes(struct.pack("<3I", 1, 2, 300))
        self.verify_refuses("token 300 is not in", "--model", model, "--input", path)
        self.verify_refuses("no tokenizer.json", "--model", model, "--input", SOURCE / "LICENSE", code=4)

    @unittest.skipUnless(HAVE_BPE, "built without tokenizer.json")
    def test_text_through_the_models_tokenizer(self):
        own = SOURCE / "tests" / "tokenizers" / "neox" / "tokenizer.json"
        text = self.folder / "text.md"
        text.write_text((SOURCE / "README.md").read_text()[:3000] + "\u00e9")
        ids = json.loads(longscan("tokenize", "--tokenizer", own, "--input", text).stdout)["tokens"]
        model = self.make_model(hidden=64, layers=1, vocab=self.ids_of(own) - 1, state=16, head_dim=16)
        shutil.copy(own, model)
        self.verify_refuses("ids, the model only", "--model", model, "--input", text, code=4)
        shutil.rmtree(model)
        model = self.make_model(hidden=64, layers=1, vocab=self.ids_of(own), state=16, head_dim=16)
        self.verify_refuses("no tokenizer.json", "--model", model, "--input", text, code=4)
        for arguments in (["--tokenizer", own], []):
            checks, verdict = self.verify("--model", model, "--input", text, *arguments)
            self.assertEqual((checks[0]["tokens"], verdict["passed"]), (len(ids), True))
            shutil.copy(own, model)
        text.write_bytes(b"not all \xff of it")
        self.verify_refuses("not UTF-8 at byte 8", "--model", model, "--input", text, code=3)
        checks, _ = self.verify("--model", model, "--input", text, "--errors", "replace")
        self.assertGreater(checks[0]["tokens"], 2)

    def ids_of(self, tokenizer):
        found = json.loads(tokenizer.read_text())
        return 1 + max([*found["model"]["vocab"].values(), *(added["id"] for added in found["added_tokens"])])

    def verify_refuses(self, words, *arguments, code=2):
        done = longscan("verify", "--backend", "cpu", *arguments, expect=code)
        self.assertIn(words, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_a_wrong_machine(self):
        """A plug-in whose products are a thousandth too large: found, said, and exit code 6."""
        plugin = BUILD / "libwrong_plugin.so"
        arguments = ("verify", "--model", MODEL, "--backend", "cuda", "--dtype", "f32")
        environment = {"LONGSCAN_PLUGIN": str(plugin)}
        done = longscan(*arguments, expect=6, environment=environment)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([check["check"] for check in found[:-1] if not check["passed"]], ["float64"])
        self.assertFalse(found[-1]["passed"])
        done = longscan(*arguments, "--print", "table", expect=6, environment=environment)
        self.assertIn("do not use its scores", done.stdout)
        output = self.folder / "verdict.jsonl"
        longscan(*arguments, "--output", output, expect=6, environment=environment)
        self.assertEqual(json.loads(output.read_text().splitlines()[-1])["passed"], False)

    def test_a_verdict_that_nobody_can_read(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "verify", "--model", MODEL, "--backend", "cpu", "--input", SOURCE / "README.md"],
                                  stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write to standard output", done.stderr)

    def test_a_stop(self):
        """One signal is enough, and leaves no half-written file."""
        output = self.folder / "verdict.jsonl"
        running = subprocess.Popen([PROGRAM, "verify", "--shape", "130m", "--backend", "cpu", "--output", output],
                                   stderr=subprocess.PIPE, text=True)
        for line in running.stderr:
            if "backend" in line:
                break
        time.sleep(2)
        running.send_signal(signal.SIGTERM)
        self.assertEqual(running.wait(60), 143)
        running.stderr.close()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_refusals(self):
        self.verify_refuses("--model DIR or --shape")
        self.verify_refuses("--model DIR or --shape", "--dry-run")
        self.verify_refuses("cannot open", "--model", self.folder)
        empty = self.folder / "empty.txt"
        empty.write_bytes(b"")
        self.verify_refuses("fewer than two tokens", "--model", MODEL, "--input", empty)
        broken = self.folder / "broken"
        shutil.copytree(MODEL, broken)
        config = json.loads((broken / "config.json").read_text())
        config["state_size"] = 32
        (broken / "config.json").write_text(json.dumps(config))
        self.verify_refuses("config.json says", "--model", broken, code=4)


if __name__ == "__main__":
    main()
