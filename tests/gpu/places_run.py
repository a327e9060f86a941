"""On a GPU: a document's line has the same bytes alone or packed, in steps of any size, on 1, 2 or 4
ranks that share the device."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "run"))

from harness import DTYPE, RunTest, by_id, main, need_shared, random_tokens, score, write_jsonl  # noqa: E402

LENGTHS = {"long": 20000, "middle": 3000, "chunk": 1024, "short": 65, "one": 1}


class Places(RunTest):
    def lines(self, names, step_tokens, count):
        model = need_shared("models", "passkey-1.8m")
        source, output = self.folder / "in.jsonl", self.folder / "out.jsonl"
        write_jsonl(source, [{"id": name, "tokens": random_tokens(name, LENGTHS[name], 256)} for name in names])
        score("--model", model, "--input", source, "--output", output, "--token-nll", "--step-tokens",
              step_tokens, count=count)
        return by_id(output)

    def test_places_change_no_byte(self):
        expected = {}
        for name in LENGTHS:
            expected.update(self.lines([name], 32768, 1))
        for count in (1, 2, 4):
            for step_tokens in (1024, 4096, 32768):
                for names in (list(LENGTHS), list(reversed(LENGTHS))):
                    with self.subTest(dtype=DTYPE, ranks=count, step_tokens=step_tokens, first=names[0]):
                        self.assertEqual(self.lines(names, step_tokens, count), expected)


if __name__ == "__main__":
    main()
