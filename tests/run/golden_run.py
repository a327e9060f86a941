"""golden/*: every token's NLL against float64, and the same bytes however the document is cut.

The same line must come out for 1 to 4 ranks (threads or processes), every --step-tokens, record
size, number of threads, instruction set, packed alone or among others, from JSONL and from Kafka.
"""
import json
import unittest

from harness import (BACKEND, DTYPE, HAVE_KAFKA, HAVE_MPI, Broker, RunTest, by_id, longscan, main,
                     need_shared, random_tokens, score, within_golden, write_jsonl)

CASES = [  # folder of the model, golden file, name
    (("golden", "tiny-groups"), ("golden", "tiny-groups", "golden.json")),
    (("golden", "tiny-state128"), ("golden", "tiny-state128", "golden.json")),
    (("golden", "tiny-untied"), ("golden", "tiny-untied", "golden.json")),
    (("models", "passkey-1.8m"), ("golden", "passkey-1.8m", "passkey.json")),
    (("models", "passkey-1.8m"), ("golden", "passkey-1.8m", "text.json")),
]


def machine_isas():
    """Those the machine has: each is tried, without running anything. A GPU has none."""
    if BACKEND != "cpu":
        return []
    model = need_shared("models", "passkey-1.8m")
    return [isa for isa in ("amx", "avx512bf16", "avx512", "avx2", "neon", "scalar")
            if longscan("score", "--model", model, "--input", __file__, "--format", "text", "--dry-run",
                        "--cpu-isa", isa, expect=None).returncode == 0]


class Golden(RunTest):
    def documents(self, model, golden):
        """The golden document, and others to stand beside it."""
        vocabulary = json.loads((model / "config.json").read_text().replace("Infinity", "1e99"))["vocab_size"]
        tokens = golden.get("tokens") or list(golden["text"].encode())
        one = {"id": "golden", "tokens": tokens}
        others = [{"id": f"other-{i}", "tokens": random_tokens(i, n, vocabulary)}
                  for i, n in enumerate([1, 2, 63, 64, 65, 500, 1023, 1024, 1025, 2048, 5000, 0])]
        return one, others

    def line_of(self, output):
        return by_id(output)["golden"][0]

    def variants(self):
        yield dict(step_tokens=1024, threads=1, count=1)
        yield dict(step_tokens=8192, threads=4, count=1)
        yield dict(step_tokens=2048, threads=2, count=1, others=True)
        yield dict(step_tokens=1024, threads=1, count=2)
        yield dict(step_tokens=1024, threads=1, count=3, others=True)
        yield dict(step_tokens=4096, threads=1, count=4, others=True)
        yield dict(record_tokens=1, step_tokens=1024, count=2)
        yield dict(record_tokens=1000, step_tokens=1024, count=2, others=True)
        yield dict(record_tokens=100000, step_tokens=2048, count=1)
        for isa in machine_isas():
            yield dict(isa=isa, step_tokens=4096, count=1)
        if HAVE_MPI:
            yield dict(step_tokens=1024, threads=1, count=2, mpi=True)
            yield dict(step_tokens=1024, threads=1, count=4, mpi=True, others=True)

    def run_variant(self, model, one, others, variant, turn):
        documents = others[:6] + [one] + others[6:] if variant.get("others") else [one]
        source = self.folder / f"{turn}.jsonl"
        output = self.folder / f"{turn}-out.jsonl"
        write_jsonl(source, documents)
        options = ["--model", model, "--input", source, "--output", output, "--token-nll"]
        options += ["--step-tokens", variant["step_tokens"]]
        for name, option in (("threads", "--threads"), ("record_tokens", "--record-tokens"), ("isa", "--cpu-isa"),
                             ("dtype", "--dtype")):
            if name in variant:
                options += [option, variant[name]]
        score(*options, count=variant["count"], mpi=variant.get("mpi", False))
        return self.line_of(output)

    def test_every_cut_gives_the_same_line_within_tolerance(self):
        for model_parts, golden_parts in CASES:
            model = need_shared(*model_parts)
            golden = json.loads(need_shared(*golden_parts).read_text())
            one, others = self.documents(model, golden)
            first = None
            for turn, variant in enumerate(self.variants()):
                with self.subTest(golden=golden_parts[1:], **variant):
                    line = self.run_variant(model, one, others, variant, turn)
                    if first is None:
                        first = line
                        result = json.loads(line)
                        kind = "random" if golden_parts[1].startswith("tiny") else "trained"
                        worst = within_golden(result["token_nll"], golden["token_nll"], kind)
                        if DTYPE == "f32":
                            self.assertAlmostEqual(result["nll"], golden["nll"], delta=1e-5 * golden["nll"])
                        self.assertAlmostEqual(result["nll"], sum(result["token_nll"]), delta=1e-6 * golden["nll"])
                        self.assertEqual(result["scored"], result["tokens"] - 1)
                        print(f"{golden_parts[1]}, {DTYPE}: worst token {worst:.1e} nats from float64", flush=True)
                    self.assertEqual(line, first)

    @unittest.skipUnless(BACKEND == "cpu" and DTYPE == "f32", "of CPUs")
    def test_products_in_bf16(self):
        """A shorter round in the CPU's other dtypes, each on every instruction set."""
        for dtype in ("bf16x3", "bf16"):
            for model_parts, golden_parts in (CASES[0], CASES[-1]):
                model = need_shared(*model_parts)
                golden = json.loads(need_shared(*golden_parts).read_text())
                one, others = self.documents(model, golden)
                kind = "random" if golden_parts[1].startswith("tiny") else "trained"
                variants = [dict(step_tokens=1024, threads=1, count=1),
                            dict(step_tokens=8192, threads=3, count=1, others=True),
                            dict(step_tokens=1024, threads=1, count=2, others=True)]
                variants += [dict(step_tokens=4096, count=1, isa=isa) for isa in machine_isas()]
                found = [self.run_variant(model, one, others, dict(variant, dtype=dtype), f"{dtype}-{turn}")
                         for turn, variant in enumerate(variants)]
                worst = within_golden(json.loads(found[0])["token_nll"], golden["token_nll"], kind, dtype)
                print(f"{golden_parts[1]}, {dtype}: worst token {worst:.1e} nats from float64", flush=True)
                for variant, line in zip(variants, found):
                    with self.subTest(golden=golden_parts[1:], dtype=dtype, **variant):
                        self.assertEqual(line, found[0])

    @unittest.skipUnless(HAVE_KAFKA, "built without Kafka")
    def test_from_kafka_as_from_a_file(self):
        model = need_shared("models", "passkey-1.8m")
        golden = json.loads(need_shared("golden", "passkey-1.8m", "passkey.json").read_text())
        one, others = self.documents(model, golden)
        documents = self.folder / "all.jsonl"
        expected = self.folder / "expected.jsonl"
        write_jsonl(documents, others + [one])
        score("--model", model, "--input", documents, "--output", expected, "--token-nll")
        for record_tokens, count in ((1, 1), (700, 2), (100000, 4)):
            with self.subTest(record_tokens=record_tokens, count=count), Broker(partitions=4) as broker:
                longscan("publish", "--input", documents, "--topic", "t", "--brokers", broker.address,
                         "--record-tokens", record_tokens)
                output = self.folder / f"kafka-{record_tokens}.jsonl"
                score("--model", model, *broker.topic("t"), "--output", output, "--token-nll",
                      "--step-tokens", 1024, count=count)
                self.assertEqual(by_id(output), by_id(expected))


if __name__ == "__main__":
    main()
