"""What a run refuses before it begins: models and options. What is wrong is named, the exit code is the
right one, and no output is made."""
import json
import os
import struct
import unittest
import zipfile

import layouts
from failing import FailureTest, tiny_model
from harness import HAVE_KAFKA, longscan, main

GOOD = [{"id": f"good-{i}", "tokens": [1, 2, 3]} for i in range(3)]
WEIGHT = "backbone.layers.1.mixer.in_proj.weight"


class Models(FailureTest):
    def setUp(self):
        super().setUp()
        raw = (self.model / "model.safetensors").read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        self.raw = raw
        self.header = json.loads(raw[8:8 + length])
        self.data = raw[8 + length:]
        self.config = json.loads((self.model / "config.json").read_text())
        self.input = self.documents("in.jsonl", GOOD)

    def model_of(self, weights, config):
        self.model = self.folder / "model"
        self.model.mkdir(exist_ok=True)
        for name, data in (("model.safetensors", weights), ("config.json", config)):
            if data is None:
                (self.model / name).unlink(missing_ok=True)
            else:
                self.write(f"model/{name}", data)

    def build(self, header, data=None):
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + (self.data if data is None else data)

    def refuses(self, code, needles, weights, config=None):
        self.model_of(weights, config or json.dumps(self.config))
        self.refused(code, needles, "--input", self.input)

    def test_a_file_that_is_no_safetensors(self):
        huge = struct.pack("<Q", 1 << 62)
        for weights, needle in ((b"", "0 bytes"), (self.raw[:5], "5 bytes"), (self.raw[:300], "truncated"),
                                (self.raw[:-64], "data_offsets outside the file"), (huge + self.raw[8:], "header"),
                                (self.raw + bytes(16), "16 bytes after"), (struct.pack("<Q", 8) + b"x" * 99, "'{'")):
            with self.subTest(needle=needle):
                self.refuses(4, ["model.safetensors", needle], weights)

    def test_headers_that_lie(self):
        start, end = self.header[WEIGHT]["data_offsets"]
        rows, columns = self.header[WEIGHT]["shape"]
        lies = {
            "outside the file": {"data_offsets": [start, end + (1 << 40)]},
            "data_offsets outside": {"data_offsets": [end, start]},
            "do not fit the shape": {"shape": [rows, columns + 1]},
            "more than 2^63": {"shape": [1 << 62, 4]},
            "negative": {"shape": [-rows, -columns]},
            "has shape [%d, %d]" % (columns, rows): {"shape": [columns, rows]},
            "neither F32": {"dtype": "I32"},
            "is missing": {"dtype": None},
        }
        for needle, lie in lies.items():
            with self.subTest(lie=lie):
                tensor = {key: value for key, value in {**self.header[WEIGHT], **lie}.items() if value is not None}
                self.refuses(4, [WEIGHT, needle], self.build({**self.header, WEIGHT: tensor}))

    def test_tensors_that_are_missing_too_many_or_overlap(self):
        other = "backbone.layers.0.mixer.in_proj.weight"
        renamed = {("x" if name == WEIGHT else name): tensor for name, tensor in self.header.items()}
        self.refuses(4, [WEIGHT, "missing"], self.build(renamed))
        for layers, needles in ((1, ["backbone.layers.1.", "no part"]), (3, ["backbone.layers.2.", "missing"])):
            self.refuses(4, needles, self.raw, json.dumps({**self.config, "num_hidden_layers": layers}))
        self.refuses(4, ["tensor"], self.build({**self.header, WEIGHT: self.header[other]}))

    def test_a_weight_that_is_no_number(self):
        for value in (float("nan"), float("inf")):
            name = "backbone.layers.1.mixer.D"
            at = self.header[name]["data_offsets"][0] + 4
            data = self.data[:at] + struct.pack("<f", value) + self.data[at + 4:]
            self.refuses(4, [name, "element 1", "NaN or infinite"], self.build(self.header, data))

    def test_configs(self):
        for needles, config in ((["vocab_size"], {"vocab_size": 0}), (["embeddings", "shape"], {"vocab_size": 97}),
                                (["model_type", "llama"], {"model_type": "llama"}), (["in_proj"], {"state_size": 8}),
                                (["quantization_config"], {"quantization_config": {"bits": 4}})):
            with self.subTest(config=config):
                self.refuses(4, needles, self.raw, json.dumps({**self.config, **config}))
        self.refuses(4, ["config.json", "byte"], self.raw, '{"model_type":')
        self.refuses(4, ["config.json"], self.raw, b"\0" * 100)

    def test_no_model_there(self):
        self.model_of(self.raw, None)
        self.refused(2, ["config.json", "No such file"], "--input", self.input)
        self.model_of(None, json.dumps(self.config))
        self.refused(2, ["holds no weights", "model.safetensors"], "--input", self.input)
        self.model = self.input
        self.refused(2, [str(self.input)], "--input", self.input)

    def test_no_weights_in_a_folder(self):
        self.model_of(None, json.dumps(self.config))
        self.write("model/model.gguf", "GGUF")
        self.refused(2, ["holds no weights"], "--input", self.input)

    def test_other_models(self):
        """By the field that told it, and by what the tensors are called."""
        original = {"d_model": 32, "n_layer": 2, "vocab_size": 96, "ssm_cfg": {"layer": "Mamba2", "headdim": 16}}
        for needles, config in (
                (["model_type", "bamba", "hybrid"], {**self.config, "model_type": "bamba"}),
                (["model_type", "\"mamba\"", "Mamba-1"], {**self.config, "model_type": "mamba"}),
                (["model_type", "rwkv", "RWKV"], {**self.config, "model_type": "rwkv"}),
                (["quantization_config", "bits"], {**self.config, "quantization_config": {"bits": 4}}),
                (["attn", "[3]"], {**self.config, "attn_layer_idx": [3]}),
                (["ssm_cfg.layer", "Mamba1"], {**original, "ssm_cfg": {"layer": "Mamba1"}}),
                (["ssm_cfg.layer is missing", "Mamba-1"], {**original, "ssm_cfg": {}}),
                (["attn_layer_idx", "[1]"], {**original, "attn_layer_idx": [1]}),
                (["d_intermediate", "512"], {**original, "d_intermediate": 512}),
                (["ssm_cfg.D_has_hdim"], {**original, "ssm_cfg": {"layer": "Mamba2", "D_has_hdim": True}}),
                (["ssm_cfg.rmsnorm"], {**original, "ssm_cfg": {"layer": "Mamba2", "rmsnorm": False}}),
                (["ssm_cfg.headdim", "0"], {**original, "ssm_cfg": {"layer": "Mamba2", "headdim": 0}})):
            with self.subTest(config=config):
                self.refuses(4, ["config.json", *needles], self.raw, json.dumps(config))
        for name, what in (("backbone.layers.0.mixer.x_proj.weight", "Mamba-1"), ("layers.0.self_attn.q_proj.weight", "attention"),
                           ("backbone.layers.1.mlp.fc1.weight", "MLP"), ("blocks.0.att.key.weight", "RWKV"),
                           ("backbone.layers.1.mixer.in_proj.qweight", "quantised")):
            with self.subTest(name=name):
                renamed = {(name if old == WEIGHT else old): tensor for old, tensor in self.header.items()}
                self.refuses(4, [name, what], self.build(renamed))

    def test_a_head_that_is_not_the_embedding(self):
        embedding = self.header["backbone.embeddings.weight"]
        size = embedding["data_offsets"][1] - embedding["data_offsets"][0]
        head = {"dtype": "F32", "shape": embedding["shape"], "data_offsets": [len(self.data), len(self.data) + size]}
        self.refuses(4, ["lm_head.weight", "tied", "tie_word_embeddings"],
                     self.build({**self.header, "lm_head.weight": head}, self.data + bytes(size)))

    def test_torch_files(self):
        self.model_of(None, json.dumps(self.config))
        _, tensors = layouts.read_hf(tiny_model())
        good = self.folder / "good.bin"
        layouts.write_torch(good, tensors)
        raw = good.read_bytes()
        packed = self.folder / "packed.bin"
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        evil = self.folder / "evil.bin"
        with zipfile.ZipFile(evil, "w") as file:
            file.writestr("x/data.pkl", b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch /evil\x85R.")
        long = self.folder / "long.bin"
        with zipfile.ZipFile(long, "w") as file:
            file.writestr("x/data.pkl", b"\x80\x02" + b"N0" * (5 << 19) + b"N.")
        spoilt = long.read_bytes().replace(b"N0N.", b"N0N\x2d", 1)  # refused for its length before its CRC is made
        for needles, data in ((["no zip"], b""), (["a pickle of 5242884 bytes, more than"], spoilt), (["does not end as a zip"], raw[:-1]), (["does not end as a zip"], raw + b"x"),
                              (["does not end as a zip"], raw[:5000]), (["data.pkl", "compressed"], packed.read_bytes()),
                              (["posix.system", "nothing was executed"], evil.read_bytes()),
                              (["before 1.6", "save it again"], b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
                              (["data.pkl", "CRC"], raw.replace(b"mixer.dt_bias", b"mixer.dt_bium", 1))):
            with self.subTest(needles=needles):
                self.write("model/pytorch_model.bin", data)
                self.refused(4, ["pytorch_model.bin", *needles], "--input", self.input)

    def test_shards(self):
        self.model_of(None, json.dumps(self.config))
        config, tensors = layouts.read_hf(tiny_model())
        self.model = self.folder / "shards"
        layouts.write_shards(self.model, config, tensors, 2)
        index = self.model / "model.safetensors.index.json"
        good = index.read_text()
        for needles, text in ((["../../x.safetensors", "same folder"], good.replace("model-00001-of-00002", "../../x", 1)),
                              (["/x.safetensors", "same folder"], good.replace("model-00002-of-00002", "/x", 1)),
                              (["byte", "index.json"], good[:-9]), (["weight_map"], "{}")):
            with self.subTest(needles=needles):
                index.write_text(text)
                self.refused(4, ["index.json", *needles], "--input", self.input)
        index.write_text(good)
        second = self.model / "model-00002-of-00002.safetensors"
        second.unlink()
        self.refused(2, [second.name, "no such file", "index.json", "fetch it"], "--input", self.input)


class Options(FailureTest):
    def setUp(self):
        super().setUp()
        self.input = self.documents("in.jsonl", GOOD)

    def wrong(self, needles, *arguments, **more):
        self.refused(2, needles, "--input", self.input, *arguments, **more)

    def test_options(self):
        for needles, *arguments in (
                (["--modle", "--model?"], "--modle", "x"),
                (["--bootstrap-server", "--brokers?"], "--bootstrap-server", "x"),
                (["--bogus-thing", "--help"], "--bogus-thing"), (["--partitions", "score"], "--partitions", "2"),
                (["--threads", '"-1"'], "--threads", "-1"), (["--threads", '"two"'], "--threads", "two"),
                (["--backend", "auto|cpu|cuda"], "--backend", "gpu"), (["--max-bad", '"2"'], "--max-bad", "2"),
                (["--peer-timeout", "unit"], "--peer-timeout", "3"), (["--until", '"idle:5"'], "--until", "idle:5"),
                (["--step-tokens", "multiple of 1024"], "--step-tokens", "1500"),
                (["--step-tokens", '"9"'], "--step-tokens", "9"),
                (["--step-tokens", '"9999999999g"'], "--step-tokens", "9999999999g"), (["--limit"], "--limit", "-1"),
                (["--slots 3", "too few"], "--slots", "3"), (["--tokenizer bpe"], "--tokenizer", "bpe"),
                (["--group-size 3", "--ranks 4"], "--ranks", "4", "--group-size", "3"), (["extra"], "extra"),
                (["--transport mpi"], "--transport", "mpi"), (["--model needs a value"], "--model")):
            with self.subTest(arguments=arguments):
                self.wrong(needles, *arguments)
        self.assert_said(longscan("scroe", expect=2), "scroe")
        self.assert_said(longscan("score", "--input", "-", expect=2), "--model")
        self.assert_said(longscan("run", "-n", "4", "score", "--group-size", "3", "--model", self.model,
                                  "--input", self.input, expect=2), "--group-size 3", "-n 4")

    def test_formats_that_a_cpu_has_not(self):
        for dtype in ("tf32", "f16"):
            self.refused(2, ["--dtype", dtype, "--backend cuda"], "--input", self.input, "--backend", "cpu", "--dtype",
                         dtype)
        self.refused(2, ["--dtype bf16x3", "--backend cpu"], "--input", self.input, "--backend", "cuda", "--dtype",
                     "bf16x3")

    def test_an_option_that_is_given_twice(self):
        for needles, *arguments in ((["--input", "@list", "glob"], "--input", self.input), (["--threads"], "--threads",
                                    "1", "--threads", "2"), (["--follow: --until"], "--until", "end", "--follow"),
                                    (["--until: --follow"], "--follow", "--until", "end")):
            with self.subTest(arguments=arguments):
                self.wrong(["given already", *needles], *arguments)
        self.run_score("--input", self.input, "--threads", "1", "-q", "-q", environment={"LONGSCAN_THREADS": "2"})

    def test_verbs(self):
        for needles, *arguments in ((["scroe", "did you mean score?"], "scroe"), (["zzz", "--help"], "zzz"),
                                    (["bash, zsh or fish"], "completion", "tcsh"), (['"foo"'], "man", "foo"),
                                    (["publsh", "did you mean publish?"], "help", "publsh"),
                                    (["--model", "a verb comes first"], "--model", "x")):
            with self.subTest(arguments=arguments):
                done = longscan(*arguments, expect=2)
                self.assert_said(done, *needles)
                self.assertEqual(done.stdout, "")

    def test_help_fits_a_terminal(self):
        for verb in ("score", "run", "publish", "read", "info", "bench", "verify", "doctor", "broker", None):
            text = longscan(*([verb] if verb else []), "--help").stdout
            self.assertEqual([line for line in text.splitlines() if len(line) > 80], [])

    def test_options_without_effect_are_told(self):
        source = self.input
        for needles, *arguments in ((["--brokers", "no topic"], "--brokers", "x:1"),
                                    (["--property", "no topic"], "-X", "a=b"),
                                    (["--follow has", "no topic"], "--follow"),
                                    (["--until has", "no topic"], "--until", "end"),
                                    (["--encoding", "no topic"], "--encoding", "json"),
                                     (["--print", "--output"], "--print", "table")):
            with self.subTest(arguments=arguments):
                self.assert_said(self.run_score("--input", source, *arguments), "no effect", *needles)
        if not HAVE_KAFKA:
            return
        topic = longscan("score", "--model", self.model, "--input", source, "--output", "kafka:t", "--brokers", "x:1",
                         "--encoding", "json", "--no-clobber", "--dry-run")
        self.assert_said(topic, "--no-clobber has no effect", "topic")
        self.assertNotIn("--encoding", topic.stderr)
        quiet = self.run_score("--input", source, environment={"LONGSCAN_BROKERS": "x:1"})
        self.assertNotIn("no effect", quiet.stderr)

    def test_a_model_that_is_not_here(self):
        self.model = "state-spaces/mamba2-370m"
        self.refused(2, ["--model state-spaces/mamba2-370m", "local folder", "model.safetensors", "not downloaded"],
                     "--input", self.input)

    def test_dead_letters_replace_nothing(self):
        before = self.input.read_bytes()
        other = self.folder / "." / ".." / self.folder.name / self.input.name
        self.refused(2, ["--dead-letters", "would replace the input"], "--input", self.input, "--dead-letters", other)
        self.assertEqual(self.input.read_bytes(), before)
        letters = self.write("letters.jsonl", "kept")
        self.refused(2, ["letters.jsonl exists"], "--input", self.input, "--dead-letters", letters, "--no-clobber")
        self.assertEqual(letters.read_text(), "kept")

    def test_a_model_that_is_a_file(self):
        self.model = self.model / "model.safetensors"
        self.refused(2, [f"--model {self.model} is a file", "folder it is in"], "--input", self.input)

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_outputs_that_read_does_not_take(self):
        (self.folder / "old").mkdir()
        for output, needle in (("kafka:dead", "read writes lines to a file"), (self.folder / "old", "is a folder"),
                               (f"{self.folder / 'new'}/", "is a folder")):
            with self.subTest(output=output):
                done = longscan("read", "-t", "scores", "-b", "127.0.0.1:1", "-o", output, expect=2)
                self.assert_said(done, f"--output {output}", needle)
        self.assertFalse(os.path.exists("kafka:dead"))
        self.assertNotIn("kafka:", longscan("read", "--help").stdout)
        self.assertIn("kafka:TOPIC", longscan("score", "--help").stdout)
        self.assertNotIn("what the model says", longscan("publish", "--help").stdout)

    def test_places_in_the_source_are_for_debugging(self):
        self.model = "gone"
        plain = self.refused(2, ["gone"], "--input", self.input)
        self.assertNotIn(".c:", plain.stderr)
        self.assertIn(".c:", self.refused(2, ["gone"], "--input", self.input, "--log-level", "debug").stderr)
        self.assertIn(".c:", self.refused(2, ["gone"], "--input", self.input, "--log-format", "json").stderr)

    def test_values_that_are_chosen_say_what_they_are(self):
        shown = longscan("score", "--show-config", "--threads", "2", "--model", "m", "--input", "-").stdout
        self.assertIn("slots = 0  # 0: what steps need  # default", shown)
        self.assertIn("threads = 2  # command line", shown)
        again = longscan("score", "--show-config", "--config", self.write("c", shown)).stdout
        values = [[line.split("#")[0] for line in text.splitlines() if line[0] != "#"] for text in (shown, again)]
        self.assertEqual(values[0], values[1])

    def test_configuration_files(self):
        self.wrong(["--config", "gone.conf", "No such file"], "--config", self.folder / "gone.conf")
        self.wrong(["--config", str(self.folder)], "--config", self.folder)
        for text, needles in (("threads = many", [":1: threads", '"many"']), ("\nthread = 1", [":2:", "threads?"]),
                              ("threads", [":1:", "name = value"]), (b"threads = \xff", ["UTF-8"]),
                              ("threads = 1\nthreads = 2", [":2:", "line 1"]), ('job = "a', [":1:", '"'])):
            with self.subTest(text=text):
                self.wrong(["it.conf", *needles], "--config", self.write("it.conf", text))

    def test_the_environment(self):
        self.wrong(["LONGSCAN_THREADS", '"many"'], environment={"LONGSCAN_THREADS": "many"})
        self.wrong(["gone.conf"], environment={"LONGSCAN_CONFIG": str(self.folder / "gone.conf")})
        done = self.run_score("--input", self.input, environment={"LONGSCAN_THREDS": "1"})
        self.assert_said(done, "LONGSCAN_THREDS", "--threads")


if __name__ == "__main__":
    main()
