"""`longscan bench`: every section is there and its numbers agree with each other; ranks; refusals."""
import json
import unittest

from harness import HAVE_MPI, SOURCE, RunTest, longscan, main

MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"
LITTLE = ["--repeat", "3", "--step-tokens", "1k", "--backend", "cpu", "--threads", "1"]
STAGES = ["begin", "project", "tail", "prepare", "pass", "scan", "project_back", "head"]


def sections(text):
    found = {}
    for line in text.splitlines():
        entry = json.loads(line)
        found.setdefault(entry["kind"], []).append(entry)
    return found


class Bench(RunTest):
    def check_stages(self, found):
        stages = found["stage"]
        self.assertEqual([stage["stage"] for stage in stages], STAGES)
        floor = found["floor"][0]
        self.assertAlmostEqual(sum(stage["seconds"] for stage in stages), floor["stages_seconds"], delta=1e-5)
        self.assertAlmostEqual(sum(stage["floor_seconds"] for stage in stages), floor["seconds"], delta=1e-5)
        ceilings = found["ceilings"][0]
        for stage in stages:
            rest = stage["stage"] in ("prepare", "scan")
            expected = max(stage["bytes"] / ceilings["copy_bytes_per_second"],
                           stage["flops"] / ceilings["rest_flops_per_second" if rest else "product_flops_per_second"])
            self.assertAlmostEqual(stage["floor_seconds"] / expected, 1, delta=1e-3)
        lost = {stage["stage"]: stage["seconds"] - stage["floor_seconds"] for stage in stages}
        self.assertAlmostEqual(floor["furthest_seconds"], max(lost.values()), delta=1e-6)
        # 1024 tokens, 4 layers, hidden 256: norm and in_proj, 2 T d P
        project = stages[STAGES.index("project")]
        self.assertAlmostEqual(project["flops"], 4 * 2 * 1024 * 256 * (2 * 512 + 2 * 64 + 16), delta=1e6)

    def test_every_section(self):
        done = longscan("bench", "--model", MODEL, *LITTLE, "--tokens", "5000", "--simulate", "5")
        found = sections(done.stdout)
        setting = found["setting"][0]
        self.assertEqual((setting["model"], setting["step_tokens"], setting["ranks"]), ("passkey-1.8m", 1024, 1))
        self.assertFalse(setting["random_weights"])
        self.assertEqual([step["documents"] for step in found["step"]], ["one", "short"])
        for step in found["step"]:
            self.assertLessEqual(step["least_seconds"], step["seconds"])
            self.assertLessEqual(step["seconds"], step["most_seconds"])
            self.assertAlmostEqual(step["tokens_per_second"] * step["seconds"], 1024, delta=1)
        self.check_stages(found)
        programs = found["program"]
        self.assertEqual([(each["documents"], each["ranks"], each["tokens"]) for each in programs],
                         [("one", 1, 5000), ("short", 1, 5000)])
        self.assertEqual(programs[0]["count"], 1)
        self.assertGreater(programs[1]["count"], 1)
        self.assertNotIn("scaling", found)
        guesses = found["simulated"]
        self.assertEqual([guess["ranks"] for guess in guesses], [1, 2, 4, 5])
        self.assertEqual([guess["steps"] for guess in guesses], [5, 3, 2, 1])
        self.assertEqual(guesses[0]["skew_seconds"], 0)
        self.assertAlmostEqual(guesses[0]["efficiency"], 1, delta=1e-3)
        self.assertTrue(all(guess["hop"].startswith("assumed") for guess in guesses))

    def test_products_in_bf16(self):
        done = longscan("bench", "--model", MODEL, *LITTLE, "--dtype", "bf16")
        found = sections(done.stdout)
        self.check_stages(found)
        self.assertEqual(found["setting"][0]["dtype"], "bf16")
        self.assertTrue(found["ceilings"][0]["product"].startswith("bf16"))
        self.assertNotEqual(found["ceilings"][0]["product_flops_per_second"],
                            found["ceilings"][0]["rest_flops_per_second"])

    def check_ranks(self, *front, back=()):
        done = longscan(*front, "bench", "--model", MODEL, *LITTLE, "--tokens", "8k", *back)
        found = sections(done.stdout)
        self.assertEqual([(each["documents"], each["ranks"]) for each in found["program"]],
                         [("one", 2), ("short", 2), ("one", 1)])
        scaling = found["scaling"][0]
        self.assertEqual((scaling["ranks"], scaling["tokens"]), (2, 8192))
        self.assertEqual(scaling["hop_bytes"], 4 * 16 * 64 * 32)  # heads, state, head_dim, f32
        self.assertTrue(0 < scaling["hop_seconds"] < 1)
        self.assertAlmostEqual(scaling["speed_up"], scaling["alone_seconds"] / scaling["seconds"], delta=1e-2)
        self.assertAlmostEqual(scaling["efficiency"], scaling["speed_up"] / 2, delta=1e-2)
        return found

    def test_ranks_as_threads(self):
        found = self.check_ranks(back=["--ranks", "2", "--simulate", "4", "--hop-us", "20"])
        self.assertEqual([(guess["hop"], guess["hop_seconds"]) for guess in found["simulated"]], [("given", 2e-5)] * 3)

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_ranks_as_processes(self):
        self.check_ranks("run", "-n", "2")

    @unittest.skipUnless(HAVE_MPI, "built without MPI")
    def test_a_world_that_is_not_what_was_promised(self):
        done = longscan("bench", "--model", MODEL, *LITTLE, expect=2, environment={"OMPI_COMM_WORLD_SIZE": "2"})
        self.assertIn("promises 2 ranks", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_a_folder_with_an_odd_name(self):
        model = self.folder / 'a "model"\\n'
        model.symlink_to(MODEL)
        done = longscan("bench", "--model", model, *LITTLE)
        self.assertEqual(sections(done.stdout)["setting"][0]["model"], model.name)

    def test_a_table_and_a_file(self):
        table = longscan("bench", "--model", MODEL, *LITTLE, "--print", "table", "--simulate", "2",
                         "--hop-us", "20").stdout
        for word in ("ceilings", "project_back", "of floor", "tokens/s", "hop 20.0 us (given)"):
            self.assertIn(word, table)
        output = self.folder / "bench.jsonl"
        done = longscan("bench", "--model", MODEL, *LITTLE, "--output", output)
        self.assertEqual(done.stdout, "")
        self.assertIn("ceilings", sections(output.read_text()))
        self.assertFalse((self.folder / "bench.jsonl.partial").exists())

    def test_refusals(self):
        for wrong in ([], ["--dry-run"], ["--shape", "3b"], ["--shape", "130m", "--model", MODEL],
                      ["--model", MODEL, "--step-tokens", "1500"], ["--model", self.folder],
                      ["--model", MODEL, "--output", self.folder / "none" / "out"]):
            done = longscan("bench", *wrong, expect=None)
            self.assertEqual(done.returncode, 2, (wrong, done.stderr))
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    main()
