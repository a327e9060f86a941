"""`longscan info`: sizes, state, work and the capacity laws, against what is published and what runs."""
import json
import subprocess

from harness import BUILD, SOURCE, RunTest, longscan, main

MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"
# parameters, million floats of state with three columns of the convolution (reference: Stuffed Mamba, Table 2)
OFFICIAL = {"130m": (128_989_632, 4.848), "370m": (368_346_624, 12.915), "780m": (780_161_280, 19.354),
            "1.3b": (1_343_757_312, 25.793), "2.7b": (2_702_599_680, 42.975)}


def info(*arguments):
    return json.loads(longscan("info", *arguments).stdout)


class Info(RunTest):
    def test_official_shapes(self):
        for shape, (parameters, floats) in OFFICIAL.items():
            with self.subTest(shape=shape):
                found = info("--shape", shape)
                self.assertEqual(found["parameters"], parameters)
                self.assertEqual(found["bytes"], {"f32": 4 * parameters, "bf16": 2 * parameters, "f16": 2 * parameters})
                self.assertAlmostEqual(found["capacity"]["million_floats"], floats, delta=5e-4)
                self.assertEqual(found["state"]["bytes"], round(4e6 * found["capacity"]["million_floats"]))
                self.assertEqual(found["unusual"], [])
                self.assertEqual(found["capacity"]["in_fitted_range"], shape in ("130m", "370m"))
                self.assertTrue(found["capacity"]["fitted_head_shape"])

    def test_capacity(self):
        """By hand: 370m, n = 12.914688; K = 1024 tokens."""
        capacity = info("--shape", "370m")["capacity"]
        self.assertAlmostEqual(capacity["forget_tokens"], 1024 * (5.172 * 12.914688 - 4.469), delta=1)
        self.assertAlmostEqual(capacity["recall_tokens"], 1024 * (4.756 * (1.365 ** 12.914688 - 1) - 0.742), delta=1)
        self.assertTrue(capacity["recall_tokens"] > 256 * 1024)  # what the paper shows for it
        small = info("--model", MODEL)["capacity"]
        self.assertEqual((small["forget_tokens"], small["recall_tokens"]), (None, None))
        self.assertFalse(small["in_fitted_range"] or small["fitted_head_shape"])
        table = longscan("info", "--shape", "780m", "--print", "table").stdout
        self.assertIn("outside the fitted range", table)
        self.assertNotIn("outside", longscan("info", "--shape", "370m", "--print", "table").stdout)

    def test_work(self):
        """370m: 48 layers, d 1024, i 2048, state 128, 64 by 64 tiles below the diagonal."""
        work = info("--shape", "370m")["flops_per_token"]
        self.assertEqual(work["projections"], 48 * (2 * 1024 * 4384 + 2 * 2048 * 1024))
        self.assertEqual(work["convolution"], 48 * 2 * 2304 * 4)
        self.assertEqual(work["scan"], 48 * (4 * 2048 * 128 + 64 * 128 + 64 * 2048))
        self.assertEqual(work["head"], 2 * 1024 * 50288)
        self.assertEqual(work["total"], sum(work[part] for part in ("projections", "convolution", "scan", "head")))

    def test_a_model(self):
        found = info("--model", MODEL)
        self.assertEqual(found["bytes"]["disk"], (MODEL / "model.safetensors").stat().st_size)
        self.assertEqual(sum(found["stored"].values()), found["parameters"])
        self.assertRegex(found["hash"], "^xxh3:[0-9a-f]{16}$")
        self.assertIn("byte", found["tokenizer"])
        self.assertIn("a vocabulary of bytes", found["unusual"])
        text = self.folder / "text.jsonl"
        text.write_text('{"id":"a","text":"abc"}\n')
        score = json.loads(longscan("score", "--model", MODEL, "--input", text).stdout)
        self.assertEqual(found["hash"], score["model"])
        self.assertEqual(longscan("info", "--model", MODEL, "--dry-run").stdout, "")

    def test_groups_that_are_not_told(self):
        """8 are assumed, as transformers does, and who wonders why nothing fits is told."""
        folder = self.folder / "model"
        subprocess.run([BUILD / "make_model", folder, "--hidden", "64", "--layers", "1", "--vocab", "64", "--state", "16",
                        "--head-dim", "16", "--groups", "8"], check=True, timeout=60)
        self.assertNotIn("n_groups", longscan("info", "--model", folder).stderr)
        config = json.loads((folder / "config.json").read_text())
        del config["n_groups"]
        (folder / "config.json").write_text(json.dumps(config))
        done = longscan("info", "--model", folder)
        self.assertEqual(json.loads(done.stdout)["groups"], 8)
        self.assertIn("n_groups is missing", done.stderr)

    def test_an_unusual_model(self):
        folder = self.folder / "model"
        subprocess.run([BUILD / "make_model", folder, "--hidden", "64", "--layers", "2", "--vocab", "300", "--state", "16",
                        "--head-dim", "16", "--groups", "2", "--dtype", "bf16", "--seed", "3"], check=True, timeout=60)
        config = json.loads((folder / "config.json").read_text().replace("Infinity", "1e999"))
        config.pop("bos_token_id", None)
        found = info("--model", folder)
        self.assertEqual(found["groups"], 2)
        said = " ".join(found["unusual"])
        self.assertIn("2 groups", said)
        self.assertIn("head_dim 16", said)
        self.assertGreater(found["stored"]["BF16"], 0)
        self.assertEqual(sum(found["stored"].values()), found["parameters"])
        self.assertTrue(found["tokenizer"].startswith("none"))
        (folder / "tokenizer.json").write_text("{}")
        self.assertEqual(info("--model", folder)["tokenizer"], "tokenizer.json, 2 bytes")

    def test_refusals(self):
        for wrong in ([], ["--shape", "3b"], ["--shape", "130m", "--model", MODEL], ["--model", self.folder]):
            done = longscan("info", *wrong, expect=2)
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    main()
