"""Text through a tokenizer.json: as ids, as scores, over topics, and what is refused."""
import json
import math
import shutil
import sys
import unicodedata

from harness import BUILD, HAVE_KAFKA, SOURCE, Broker, RunTest, features, longscan, main, need_shared, score, \
    subprocess, write_jsonl
from messages import send

TOKENIZERS = SOURCE / "tests" / "tokenizers"
NEOX = TOKENIZERS / "neox" / "tokenizer.json"
GPT2 = TOKENIZERS / "gpt2" / "tokenizer.json"
# More bytes than its NFC, a space run that is a token, an added token, and no end of line.
TEXT = "Cafe\u0301s don't  close:\u3000\u1100\u1161\u11a8!\n\n    <|endoftext|> 12,345 \U0001f600 " * 40 + "e\u0327\u0301nd"


class Tokenizer(RunTest):
    def setUp(self):
        super().setUp()
        self.model = self.make_model(768)
        shutil.copy(NEOX, self.model)
        self.text = self.folder / "text.txt"
        self.text.write_text(TEXT, encoding="utf-8")
        self.output = self.folder / "out.jsonl"

    def make_model(self, vocab):
        folder = self.folder / f"model-{vocab}"
        subprocess.run([BUILD / "make_model", folder, "--hidden", "64", "--layers", "2", "--vocab", str(vocab),
                        "--state", "16"], check=True, timeout=100)
        return folder

    def tokenize(self, source, *options, **more):
        done = longscan("tokenize", "--input", source, "--output", self.folder / "ids.jsonl", *options, **more)
        self.said = done.stderr
        path = self.folder / "ids.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def score(self, source, *options, **more):
        """The one result; without its name."""
        done = score("--model", self.model, "--input", source, "--output", self.output, *options, **more)
        self.said = done.stderr
        if more.get("expect", 0) != 0:
            return None
        result = json.loads(self.output.read_text().splitlines()[-1])
        del result["id"]
        return result

    def test_ids_and_back(self):
        """Through a file of ids the text comes back as its NFC, but for what added tokens keep apart."""
        ids = self.tokenize(self.text, "--tokenizer", NEOX)[0]
        self.assertEqual(ids["id"], "text.txt")
        source = self.folder / "tokens.jsonl"
        write_jsonl(source, [dict(ids, colour="red")])
        back = self.tokenize(source, "--tokenizer", self.model, "--decode")[0]
        self.assertEqual(back, {"id": "text.txt", "colour": "red", "text": unicodedata.normalize("NFC", TEXT)})
        of_bytes = self.tokenize(self.text, "--tokenizer", "byte")[0]
        self.assertEqual(bytes(of_bytes["tokens"]), TEXT.encode())
        write_jsonl(source, [{"id": "a", "tokens": [5, 100000]}])
        self.tokenize(source, "--tokenizer", NEOX, "--decode", "--max-bad", "100%")
        self.assertIn("there is no token 100000", self.said)
        # of a document that comes in many records none is written after the one that cannot be
        write_jsonl(source, [{"id": "a", "tokens": [97] * 5 + [300] + [97] * 100000}, {"id": "b", "tokens": [98]}])
        self.assertEqual(self.tokenize(source, "--tokenizer", "byte", "--decode", "--max-bad", "100%"),
                         [{"id": "b", "text": "b"}])

    def test_back_from_what_is_no_utf8(self):
        """As --errors replace reads it, wherever tokens and records end; a dropped document counts for nothing."""
        source = self.folder / "tokens.jsonl"
        broken = b"good \xff\xe2\x82 text \xed\xa0\x80\xf0\x9f\x98x\xf0\x9f\x98\x80\xc3"
        texts = [broken, b"a" * 65534 + "\U0001f600".encode() + b"\xe2\x82", b"plain"]
        write_jsonl(source, [{"id": str(i), "tokens": list(text)} for i, text in enumerate(texts)])
        back = self.tokenize(source, "--tokenizer", "byte", "--decode")
        self.assertEqual([line["text"] for line in back], [text.decode("utf-8", "replace") for text in texts])
        write_jsonl(source, [{"id": "bad", "tokens": [97] * 100000 + [300]}, {"id": "b", "tokens": [98, 99]}])
        self.tokenize(source, "--tokenizer", "byte", "--decode", "--max-bad", "100%")
        self.assertIn(" 1 documents, 2 tokens of ", self.said)
        folder = self.folder / "in"
        folder.mkdir()
        (folder / "a.txt").write_bytes(b"word " * 30000 + b"\xff")
        (folder / "b.txt").write_bytes(b"word")
        ids = self.tokenize(folder, "--tokenizer", NEOX, "--max-bad", "50%")
        self.assertIn(f" 1 documents, {len(ids[0]['tokens'])} tokens of 4 bytes", self.said)
        self.assertIn("; 1 bad", self.said)

    def test_official_models(self):
        tokenizer = need_shared("data", "gpt-neox-20b", "tokenizer.json")
        ids = self.tokenize(self.text, "--tokenizer", tokenizer)[0]["tokens"]
        self.assertEqual(ids[:8], [36, 2320, 5069, 1053, 626, 50276, 10483, 27])
        source = self.folder / "newlines.txt"  # the prompt of the paper on state collapse
        source.write_text("\n" * 300000)
        self.assertEqual(self.tokenize(source, "--tokenizer", tokenizer)[0]["tokens"], [25330] * 37500)

    def test_scores_are_those_of_the_ids(self):
        """The tokenizer of the model's folder is taken, and bits are counted per byte of the file."""
        result = self.score(self.text)
        ids = self.tokenize(self.text, "--model", self.model)
        self.assertEqual(result["tokens"], len(ids[0]["tokens"]))
        bits = result["nll"] / math.log(2) / len(TEXT.encode())
        self.assertAlmostEqual(result["bits_per_byte"], bits, delta=1e-12)
        source = self.folder / "ids.jsonl"
        for other in (self.score(self.text, "--tokenizer", NEOX), self.score(self.text, count=2),
                      self.score(self.text, "--record-tokens", "1"), self.score(self.text, "--record-tokens", "7")):
            self.assertEqual(other, result)
        by_ids = self.score(source)
        self.assertEqual((by_ids["nll"], by_ids["settings"]), (result["nll"], result["settings"]))
        self.assertNotIn("bits_per_byte", by_ids)
        write_jsonl(source, [{"id": "a", "text": TEXT}])
        self.assertEqual(self.score(source), result)

    def test_another_tokenizer_is_noticed(self):
        ours = self.score(self.text)
        other = self.score(self.text, "--tokenizer", GPT2)
        self.assertNotEqual(ours["settings"], other["settings"])
        self.assertEqual(ours["model"], other["model"])
        self.score(self.text, "--resume", expect=4)
        self.score(self.text, "--resume", "--tokenizer", GPT2)
        again = self.folder / "tokenizer.json"  # the same, written otherwise
        again.write_text(json.dumps(json.loads(GPT2.read_text()), indent=2))
        self.score(self.text, "--resume", "--tokenizer", again)

    def test_a_vocabulary_too_small(self):
        self.model = self.make_model(700)
        self.score(self.text, "--tokenizer", NEOX, expect=4)
        self.assertIn("has 724 ids, the model only 700", self.said)
        self.score(self.text, expect=4)
        self.assertIn("has no tokenizer.json", self.said)

    def test_a_tokenizer_that_cannot_be_read(self):
        """Text is refused with the field; token ids need none."""
        (self.model / "tokenizer.json").write_text('{"pre_tokenizer":{"type":"Metaspace"}}')
        self.score(self.text, expect=4)
        self.assertIn('pre_tokenizer.type is "Metaspace"', self.said)
        source = self.folder / "ids.jsonl"
        write_jsonl(source, [{"id": "a", "tokens": [1, 2, 3]}])
        self.assertEqual(self.score(source)["tokens"], 3)
        self.assertIn("only token ids are taken", self.said)
        self.score(self.text, "--tokenizer", self.folder / "nowhere", expect=2)
        self.assertIn("nowhere: No such file", self.said)

    def test_text_that_is_not_utf8(self):
        self.text.write_bytes(b"good \xff\xe2\x82 text \xed\xa0\x80")
        self.score(self.text, expect=3)
        self.assertIn("it is not UTF-8 at byte 5", self.said)
        result = self.score(self.text, "--errors", "replace")
        replaced = self.folder / "replaced.txt"
        replaced.write_bytes(self.text.read_bytes().decode("utf-8", "replace").encode())
        other = self.score(replaced)
        self.assertEqual((other["tokens"], other["nll"]), (result["tokens"], result["nll"]))
        self.assertNotEqual(other["bits_per_byte"], result["bits_per_byte"])

    def test_a_bad_document_spoils_no_other(self):
        """Its first records are already out when it turns bad."""
        folder = self.folder / "in"
        folder.mkdir()
        (folder / "a.txt").write_bytes(b"word " * 30000 + b"\xff" + b"word " * 10)
        (folder / "b.txt").write_text(TEXT, encoding="utf-8")
        output = self.folder / "out"
        output.mkdir()
        done = score("--model", self.model, "--input", folder, "--output", output, "--max-bad", "50%",
                     "--record-tokens", "1k")
        self.assertIn("it is not UTF-8 at byte 150000", done.stderr)
        self.assertEqual([path.name for path in output.iterdir()], ["b.jsonl"])
        result = json.loads((output / "b.jsonl").read_text())
        self.assertEqual(result["nll"], self.score(self.text)["nll"])
        ids = self.tokenize(folder, "--tokenizer", NEOX, "--max-bad", "50%")
        self.assertEqual([line["id"] for line in ids], ["b.txt"])

    def test_topics(self):
        if not HAVE_KAFKA:
            self.skipTest("built without Kafka")
        want = self.score(self.text)
        with Broker(partitions=1, topics=["tokens", "texts", "lines"]) as broker:
            longscan("publish", "--input", self.text, "--tokenizer", NEOX, "--topic", "tokens", "--brokers",
                     broker.address, "--record-tokens", "100")
            send(broker.address, "texts", [("k", TEXT.encode()), ("bad", b"good " * 20000 + b"\xff"), ("k2", TEXT.encode())])
            send(broker.address, "lines", [("k", json.dumps({"id": "x", "text": TEXT}).encode())])
            for topic, form, count in (("tokens", "tokens", 1), ("texts", "text", 2), ("lines", "jsonl", 1)):
                done = score("--model", self.model, *broker.topic(topic), "--input-format", form, "--tokenizer", NEOX,
                             "--job", topic, "--output", self.output, "--max-bad", "50%")
                found = [json.loads(line) for line in self.output.read_text().splitlines()]
                self.assertEqual([result["nll"] for result in found], [want["nll"]] * count)
                if form != "tokens":
                    self.assertEqual(found[0]["bits_per_byte"], want["bits_per_byte"])
                if form == "text":
                    self.assertIn("it is not UTF-8 at byte 100000", done.stderr)


if __name__ == "__main__":
    if "no bpe" in features():
        print("skipped 'tokenizer_run: built without PCRE2 or utf8proc'")
        sys.exit(77)
    main()
