"""Checkpoints of every layout and shape that is read: the same weights give the same bytes whatever files they
stand in, and every token's NLL is that of float64, by the program's own oracle and by one in plain Python."""
import itertools
import json
import shutil

import layouts
import plain_mamba2
from harness import BUILD, DTYPE, RunTest, longscan, main, need_shared, random_tokens, score, subprocess, unittest, within_golden, write_jsonl

SMALL = dict(hidden=32, layers=3, vocab=97, state=16, head_dim=8, groups=2)
SHAPES = [  # what official models do not have: groups, heads, states, taps, layers, vocabularies, widths
    dict(hidden=32, layers=1, vocab=17, state=8, head_dim=8, groups=1, taps=2),
    dict(hidden=48, layers=2, vocab=97, state=16, head_dim=12, groups=8, taps=3),
    dict(hidden=64, layers=3, vocab=1000, state=24, head_dim=16, groups=4, dtype="bf16"),
    dict(hidden=60, layers=2, vocab=301, state=100, head_dim=40, groups=1),
    dict(hidden=64, layers=64, vocab=100, state=32, head_dim=32, groups=2),
    dict(hidden=128, layers=2, vocab=100000, state=128, head_dim=128, groups=2, untied=None),
    dict(hidden=128, layers=2, vocab=50277, state=256, head_dim=64, groups=4, taps=3, dtype="f16"),
    dict(hidden=128, inner=192, layers=3, vocab=512, state=64, head_dim=96, groups=2, bias=None),
    dict(hidden=64, inner=384, layers=2, vocab=33, state=40, head_dim=24, groups=8, taps=2, no_conv_bias=None),
]


class Layouts(RunTest):
    def make_model(self, name="hf", **shape):
        folder = self.folder / name
        options = []
        for option, value in shape.items():
            options += [f"--{option.replace('_', '-')}"] + ([] if value is None else [str(value)])
        subprocess.run([BUILD / "make_model", folder, *options], check=True, timeout=300)
        return folder

    def documents(self, vocabulary, *lengths):
        path = self.folder / "in.jsonl"
        write_jsonl(path, [{"id": f"d{i}", "tokens": random_tokens(i, n, vocabulary)} for i, n in enumerate(lengths)])
        return path

    def scores(self, model, source, *options):
        output = self.folder / "out.jsonl"
        output.unlink(missing_ok=True)
        score("--model", model, "--input", source, "--output", output, "--token-nll", *options)
        return output.read_bytes()

    def same_bytes(self, hf, folders, vocabulary):
        source = self.documents(vocabulary, 1500, 3, 200)
        expected = self.scores(hf, source)
        self.assertEqual(expected.count(b"\n"), 3)
        for folder in folders:
            with self.subTest(layout=folder.name):
                self.assertEqual(self.scores(folder, source), expected)

    def test_torch_files(self):
        """Of each type, with the head kept as a copy and as the embedding's storage, with tensors in one storage,
        with parameters, and with a vocabulary that the config pads."""
        for dtype in ("f32", "f16", "bf16"):
            hf = self.make_model(f"hf-{dtype}", dtype=dtype, **{**SMALL, "vocab": 96})
            config, tensors = layouts.read_hf(hf)
            folders = []
            for name, how in (("copied", {}), ("tied", {"tied_storage": True}), ("parameters", {"parameters": True}),
                              ("flat", {"flat": True, "inside": "x"}),
                              ("padded", {"vocabulary": 90, "multiple": 16}),
                              ("unpadded", {"vocabulary": 96, "multiple": 64})):
                folders.append(self.folder / f"{name}-{dtype}")
                layouts.write_original(folders[-1], config, tensors, **how)
            self.same_bytes(hf, folders, 90)

    def test_shards_and_consolidated(self):
        """Codestral's layout leaves no choice of heads, states and taps but its own."""
        hf = self.make_model(hidden=256, layers=2, vocab=130, state=128, head_dim=64, groups=8, untied=None, dtype="bf16")
        config, tensors = layouts.read_hf(hf)
        folders = [self.folder / name for name in ("shards", "torch-shards", "consolidated", "original", "both")]
        layouts.write_shards(folders[0], config, tensors, 3)
        layouts.write_shards(folders[1], config, tensors, 2, torch=True)
        layouts.write_consolidated(folders[2], config, tensors)
        layouts.write_original(folders[3], config, tensors)
        shutil.copytree(folders[2], folders[4])  # as Codestral's own folder has them: params.json beside config.json
        shutil.copy(hf / "config.json", folders[4])
        self.same_bytes(hf, folders, 130)

    def test_what_configs_differ_in(self):
        """Biases, limits of dt, another expansion: each field by the name it has in either layout."""
        for turn, shape in enumerate((dict(bias=None), dict(no_conv_bias=None), dict(inner=48), dict(expand=3), dict(taps=3))):
            hf = self.make_model(f"hf-{turn}", **{**SMALL, **shape})
            config, tensors = layouts.read_hf(hf)
            if turn % 2 == 0:
                config["time_step_limit"] = [0.01, 0.05]
                (hf / "config.json").write_text(json.dumps(config))
            folder = self.folder / f"original-{turn}"
            layouts.write_original(folder, config, tensors)
            self.same_bytes(hf, [folder], 97)

    def test_the_trained_model(self):
        models = [need_shared("models", name) for name in ("passkey-1.8m", "passkey-1.8m-original")]
        source = self.folder / "text.txt"
        source.write_text("the pass key is 71432. Remember it. " * 100)
        first, second = (self.scores(model, source, "--format", "text") for model in models)
        self.assertEqual(first, second)

    def test_plain_python_agrees(self):
        """Grouped and whole norms, gate before and after, limits of dt, biases, as written from the formulas."""
        if DTYPE != "f32":
            self.skipTest("the tolerance is that of f32")
        shapes = [dict(SMALL), dict(SMALL, groups=4, bias=None, untied=None, dtype="f16"),
                  dict(SMALL, inner=48, groups=1, taps=2, no_conv_bias=None, dtype="bf16")]
        for turn, (shape, choice) in enumerate(itertools.product(shapes, ("auto", "whole", "before-gate"))):
            hf = self.make_model(f"hf-{turn}", **shape)
            config, tensors = layouts.read_hf(hf)
            config["time_step_limit"] = [0.005, 0.2]
            (hf / "config.json").write_text(json.dumps(config))
            source = self.documents(97, 40)
            result = json.loads(self.scores(hf, source, "--gated-norm", choice))
            expected = plain_mamba2.token_nll(config, tensors, random_tokens(0, 40, 97), choice)
            within_golden(result["token_nll"], expected)
            again = json.loads(self.scores(hf, source))
            same = choice == "auto" or (choice == "whole" and shape["groups"] == 1)
            self.assertEqual(again["model"] == result["model"], same)
            self.assertEqual(again["nll"] == result["nll"], same)

    def test_an_original_norm_before_the_gate_is_followed(self):
        """mamba_ssm follows norm_before_gate; transformers has the field in files and does not."""
        hf = self.make_model(**SMALL)
        config, tensors = layouts.read_hf(hf)
        original = self.folder / "original"
        layouts.write_original(original, config, tensors)
        changed = json.loads((original / "config.json").read_text())
        changed["ssm_cfg"]["norm_before_gate"] = True
        (original / "config.json").write_text(json.dumps(changed))
        source = self.documents(97, 100)
        plain = self.scores(hf, source)
        asked = self.scores(hf, source, "--gated-norm", "before-gate")
        self.assertNotEqual(plain, asked)
        self.assertEqual(self.scores(original, source), asked)
        (hf / "config.json").write_text(json.dumps({**config, "norm_before_gate": True}))
        done = score("--model", hf, "--input", source, "--output", self.folder / "again.jsonl", "--token-nll")
        self.assertIn("norm_before_gate is true", done.stderr)
        self.assertEqual((self.folder / "again.jsonl").read_bytes(), plain)

    @unittest.skipUnless(DTYPE == "f32", "the tolerance is that of f32")
    def test_shapes_against_float64(self):
        for turn, shape in enumerate(SHAPES):
            with self.subTest(**shape):
                model = self.make_model(f"shape-{turn}", seed=turn + 1, **shape)
                done = longscan("verify", "--model", model)
                checks = [json.loads(line) for line in done.stdout.splitlines()]
                self.assertTrue(checks[-1]["passed"])
                self.assertLess(checks[0]["nll_most"], 1e-4)
                self.assertGreaterEqual(checks[0]["tokens"], 500)
                print(f"{shape}: worst token {checks[0]['nll_most']:.1e} nats from float64", flush=True)
                shutil.rmtree(model)


if __name__ == "__main__":
    main()
