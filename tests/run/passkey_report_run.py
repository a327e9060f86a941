"""Reports of the passkey evaluation: figures against Python's own, pictures and pages that are well-formed
whatever stands in the results, the same to a browser, and files as lm-evaluation-harness reads them."""
import csv
import html.parser
import json
import math
import os
import random
import re
import shutil
import struct
import subprocess
import unittest
import xml.etree.ElementTree as ET

from harness import BUILD, RunTest, lines, main

SVG = "{http://www.w3.org/2000/svg}"
XHTML = "{http://www.w3.org/1999/xhtml}"
BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
Z = 1.959963984540054
HOSTILE = ["<script>alert(1)</script>", '" onload="alert(1)', "</code></td></tr></table></svg><h1>out</h1>",
           "\u202e back \u2066", "\x00\x01\t\r\n\x7f\x85", "\ufffe\uffff\U0001f600", "&amp;&lt;%s%n", "'''", "]]>",
           "<!-- --", "x" * 250, ""]


def result(length, depth, number, correct, **more):
    return {"id": f"{length}-{number}", "length": length, "depth": depth, "number": number,
            "position": int(depth * length), "units": length // 25 + 1, "key": f"{number:05d}", "tokens": length,
            "answer_tokens": 3, "prediction": f" {number:05d}." if correct else " 99999", "correct": bool(correct),
            "exact": bool(correct), "answer_nll": number / 7, "margin": 5 - number / 3, "style": "paper",
            "model": "xxh3:0123456789abcdef", "settings": "xxh3:0000000000000001",
            "numerics": "xxh3:0000000000000002", **more}


def grid(lengths, depths, samples, seed=1):
    """Forgets what lies further back than about 16k tokens."""
    draw = random.Random(seed)
    return [result(length, (i % depths + 0.5) / depths, i,
                   draw.random() < 1 / (1 + ((1 - (i % depths + 0.5) / depths) * length / 16384) ** 3))
            for length in lengths for i in range(samples)]


POWERS = [1024 << i for i in range(9)]
GRIDS = {
    "default": grid(POWERS, 10, 200),
    "one sample": [result(1756, 0.5, 0, True)],
    "one length": grid([4096], 10, 50),
    "one depth": grid(POWERS, 1, 20),
    "many": grid([1024 * (i + 1) for i in range(40)], 100, 250),  # 10,000 samples
    "positions": [result(length, place / length, i, i != 2) for length in POWERS
                  for i, place in enumerate([500, 1000, 8000, 60000]) if place < length],
    "stopped": grid(POWERS, 10, 200)[:1207],
    "none": [result(length, depth, i, False) for length in POWERS for i, depth in enumerate([0, 0.5, 1])],
    "all": [result(length, depth, i, True) for length in POWERS for i, depth in enumerate([0, 0.5, 1])],
    "no numbers": [result(664, 0, 0, True, answer_nll=None, margin=None)],
}


def wilson(correct, n):
    if n == 0:
        return 0, 1
    share, over = correct / n, 1 + Z * Z / n
    half = Z / over * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    middle = (share + Z * Z / (2 * n)) / over
    return middle - half, middle + half


class Balance(html.parser.HTMLParser):
    """Every element that is opened is closed, in order; nothing that runs or comes from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.problems = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta",):
            self.open.append(tag)
        self.look(tag, attributes)

    def handle_startendtag(self, tag, attributes):
        self.look(tag, attributes)

    def look(self, tag, attributes):
        if tag in ("script", "link", "iframe", "object", "embed", "base", "img", "a", "form"):
            self.problems.append(tag)
        for name, value in attributes:
            if name.startswith("on") or name in ("src", "href", "style"):
                self.problems.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}>")


class Report(RunTest):
    def write(self, results, *arguments, colours=False):
        folder = self.folder / f"report-{len(os.listdir(self.folder))}" / "deep"
        folder.parent.mkdir()
        environment = dict(os.environ, **({"PASSKEY_COLOURS": "1", "COLORTERM": "truecolor"} if colours else {}))
        text = "".join(json.dumps(line) + "\n" for line in results)
        done = subprocess.run([BUILD / "passkey_report_write", folder, *arguments], input=text.encode(),
                              capture_output=True, timeout=120, env=environment, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertEqual([name for name in os.listdir(folder) if name.endswith(".partial")], [])
        return folder, done.stdout.decode()

    def pictures(self, folder):
        page = (folder / "report.html").read_text(encoding="utf-8")
        balance = Balance()
        balance.feed(page)
        self.assertEqual((balance.problems, balance.open), ([], []))
        self.assertNotRegex(page.replace("http://www.w3.org/", ""), "https?://|@import|url\\((?!#)")
        return ET.parse(folder / "heatmap.svg").getroot(), ET.fromstring(page)

    def check_summary(self, folder, results):
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        self.assertEqual([entry["length"] for entry in summary["lengths"]],
                         sorted({line["length"] for line in results}))
        for entry in summary["lengths"]:
            mine = [line for line in results if line["length"] == entry["length"]]
            margins = sorted(line["margin"] for line in mine if line["margin"] is not None)
            nlls = [line["answer_nll"] for line in mine if line["answer_nll"] is not None]
            correct = sum(line["correct"] for line in mine)
            self.assertEqual((entry["n"], entry["correct"]), (len(mine), correct))
            self.assertEqual(entry["exact"], sum(line["exact"] for line in mine))
            low, high = wilson(correct, len(mine))
            self.assertAlmostEqual(entry["low"], low, 12)
            self.assertAlmostEqual(entry["high"], high, 12)
            if margins:
                middle = (margins[(len(margins) - 1) // 2] + margins[len(margins) // 2]) / 2
                self.assertAlmostEqual(entry["margin"], middle, 12)
                self.assertAlmostEqual(entry["answer_nll"], sum(nlls) / len(nlls), 10)
            else:
                self.assertIsNone(entry["margin"])
                self.assertIsNone(entry["answer_nll"])
        cells = summary["cells"]
        self.assertEqual(sum(cell["n"] for cell in cells), len(results))
        with open(folder / "summary.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([(int(row["length"]), float(row["depth"]), int(row["n"]), int(row["correct"])) for row in rows],
                         [(cell["length"], cell["depth"], cell["n"], cell["correct"]) for cell in cells])
        for row, cell in zip(rows, cells):
            self.assertEqual(row["accuracy"] == "", cell["n"] == 0)
            self.assertEqual(cell["accuracy"] is None, cell["n"] == 0)
            if cell["n"] > 0:
                self.assertEqual(float(row["accuracy"]), cell["correct"] / cell["n"])
        return summary

    def check_last_k(self, summary, results):
        """As the paper's script has it: the last int(k / T * rows) rows of a length."""
        rows = len({cell["depth"] for cell in summary["cells"]})
        for curve in summary["last_k"]:
            for point in curve["points"]:
                last = int(curve["k"] * rows / point["length"])
                self.assertGreaterEqual(last, 1)
                cells = [cell for cell in summary["cells"] if cell["length"] == point["length"]][-last:]
                self.assertEqual((point["n"], point["correct"]),
                                 (sum(cell["n"] for cell in cells), sum(cell["correct"] for cell in cells)))

    def check_heat(self, svg, summary):
        width, height = float(svg.get("width")), float(svg.get("height"))
        self.assertEqual(svg.get("viewBox"), f"0 0 {width:.0f} {height:.0f}")
        tips = [group.find(SVG + "title").text for group in svg.iter(SVG + "g") if group.find(SVG + "title") is not None]
        cells = [tip for tip in tips if "correct" in tip or "no samples" in tip]
        self.assertEqual(len(cells), len(summary["cells"]) + len(summary["lengths"]))
        self.assertEqual(sum("no samples" in tip for tip in cells), sum(cell["n"] == 0 for cell in summary["cells"]))
        for rect in svg.iter(SVG + "rect"):
            if rect.get("x") is not None:
                self.assertLessEqual(float(rect.get("x")) + float(rect.get("width")), width)
                self.assertLessEqual(float(rect.get("y")) + float(rect.get("height")), height)
                self.assertGreater(min(float(rect.get("width")), float(rect.get("height"))), 0)
        for text in svg.iter(SVG + "text"):
            if text.get("x") is not None:
                self.assertTrue(0 <= float(text.get("x")) < width and 0 < float(text.get("y")) < height, text.text)

    def test_grids(self):
        for name, results in GRIDS.items():
            with self.subTest(name):
                folder, shown = self.write(results, "8192")
                summary = self.check_summary(folder, results)
                if summary["depths"] == "asked":
                    self.check_last_k(summary, results)
                svg, page = self.pictures(folder)
                self.check_heat(svg, summary)
                self.assertLessEqual(max(map(len, shown.splitlines())), 80)
                failed = sum(not line["correct"] for line in results)
                tables = page.findall(f".//{XHTML}tbody")
                self.assertEqual(len(tables), 2 if failed else 1)
                if failed:
                    self.assertEqual(len(tables[1]), min(failed, 50))
                lowest = min(entry["accuracy"] for entry in summary["lengths"])
                self.assertEqual(float(re.search("lowest (\\S+) of", shown)[1]), lowest)

    def test_nothing(self):
        folder, _ = self.write([])
        self.pictures(folder)

    def test_parts(self):
        folder, _ = self.write(GRIDS["positions"])
        summary = json.loads((folder / "summary.json").read_text())
        self.assertEqual(summary["depths"], "parts")
        self.assertEqual(len(summary["cells"]), 90)

    def test_default_curves(self):
        folder, shown = self.write(GRIDS["default"], "8192")
        summary = json.loads((folder / "summary.json").read_text())
        spans = {curve["k"]: [point["length"] for point in curve["points"]] for curve in summary["last_k"]}
        self.assertEqual(spans[1024], [1024, 2048, 4096, 8192])  # of 16k it is not one row of ten
        self.assertEqual(spans[131072], [131072, 262144])
        self.assertEqual(len(shown.splitlines()), 13)
        page = self.pictures(folder)[1]
        charts = [svg.get("aria-label") for svg in page.iter(SVG + "svg")]
        self.assertEqual(len(charts), 5)
        command = "".join(page.find(f".//{XHTML}pre").itertext())
        self.assertIn("--lengths 1k,2k,4k,8k,16k,32k,64k,128k,256k --samples 200", command)
        self.assertIn("--filler 'a <file> & '\\''more'\\''.txt'", command)
        self.assertNotIn("--seed", command)  # the default

    def test_hostile(self):
        results = [result(1024, 0.5, i, False, prediction=text, key="<b>&\"'" if i % 2 else "\u202e]]>",
                          id=f"<{i}>&\"'") for i, text in enumerate(HOSTILE)]
        name = "/very/long/" * 30 + "<script>alert('&\")</script>\udcff\x01"
        folder, _ = self.write(results, "8192", os.fsencode(name))
        svg, page = self.pictures(folder)
        table = page.findall(f".//{XHTML}tbody")[1]
        for row, text in zip(table, HOSTILE):
            self.assertEqual(len(row), 7)
            shown = "".join(row[4].itertext())
            wanted = "".join(chr(0x2400 + ord(c)) if c < " " else "\u2421" if c == "\x7f" else
                             "\ufffd" if "\x7f" < c < "\xa0" or c in "\ufffe\uffff" else c for c in text)
            self.assertEqual(shown, wanted)
        heading = "".join(page.find(f".//{XHTML}h1").itertext())
        self.assertEqual(heading, name.replace("\udcff", "\ufffd").replace("\x01", "\u2401"))
        title = next(text for text in svg.iter(SVG + "text") if text.get("font-size") == "20")
        self.assertTrue(title.text.startswith("\u2026") and title.text.endswith("</script>\ufffd\u2401"))
        self.assertLess(len(title.text), 80)

    def test_table(self):
        _, plain = self.write(GRIDS["default"])
        _, coloured = self.write(GRIDS["default"], colours=True)
        self.assertNotIn("\x1b", plain)
        self.assertEqual(re.sub("\x1b\\[[0-9;]*m", "", coloured), plain)
        self.assertEqual(coloured.count("\x1b[48;2;"), 99)
        self.assertEqual(plain.splitlines()[0].split(), ["depth", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "256k"])
        self.assertEqual(len({len(line) for line in plain.splitlines()[:12]}), 1)

    def test_lm_eval(self):
        results = GRIDS["default"]
        folder, _ = self.write(results)
        [name] = [name for name in os.listdir(folder) if name.startswith("results_")]
        date = name[len("results_"):-len(".json")]
        self.assertRegex(date, r"^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}$")
        report = json.loads((folder / name).read_text(encoding="utf-8"))
        tasks = [f"passkey_{length}" for length in POWERS]
        for member in ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
            self.assertEqual(list(report[member]), tasks, member)
        for member in ("config", "git_hash", "date", "model_source", "model_name", "model_name_sanitized", "start_time",
                       "end_time", "total_evaluation_time_seconds"):
            self.assertIn(member, report)
        self.assertEqual(report["model_name_sanitized"], "models__passkey-1.8m")
        self.assertEqual(float(report["total_evaluation_time_seconds"]), 123.5)
        for task, length in zip(tasks, POWERS):
            mine = [line for line in results if line["length"] == length]
            scores = [float(line["correct"]) for line in mine]
            mean = sum(scores) / len(scores)
            error = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1) / len(scores))
            self.assertAlmostEqual(report["results"][task]["acc,none"], mean, 14)
            self.assertAlmostEqual(report["results"][task]["acc_stderr,none"], error, 14)
            self.assertEqual(report["n-samples"][task], {"original": 200, "effective": 200})
            samples = [json.loads(line) for line in lines(folder / f"samples_{task}_{date}.jsonl")]
            self.assertEqual([sample["acc"] for sample in samples], scores)
            for number, (sample, line) in enumerate(zip(samples, mine)):
                self.assertEqual(list(sample), ["doc_id", "doc", "target", "arguments", "resps", "filtered_resps",
                                                "filter", "metrics", "doc_hash", "prompt_hash", "target_hash", "acc"])
                self.assertEqual((sample["doc_id"], sample["target"]), (number, line["key"]))
                self.assertEqual(sample["resps"], [[line["prediction"]]])
                self.assertEqual(sample["doc"]["id"], line["id"])
        folder, _ = self.write(GRIDS["one sample"])
        [name] = [name for name in os.listdir(folder) if name.startswith("results_")]
        one = json.loads((folder / name).read_text())
        self.assertEqual(one["results"]["passkey_1756"]["acc_stderr,none"], "N/A")

    def browse(self, *arguments):
        return subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                               f"--user-data-dir={self.folder / 'profile'}", *map(str, arguments)],
                              capture_output=True, timeout=120, check=True).stdout.decode()

    @unittest.skipUnless(BROWSER, "needs chromium")
    def test_browser(self):
        """It sees the same elements as an XML parser, and draws something, light and dark."""
        hostile = [result(1024, 0.5, i, False, prediction=text) for i, text in enumerate(HOSTILE)]
        for results in (GRIDS["default"], GRIDS["many"], hostile):
            folder, _ = self.write(results, "8192", "<b>models/passkey-1.8m")
            page = self.pictures(folder)[1]
            seen = self.browse("--dump-dom", f"file://{folder}/report.html")
            for tag in ("tr", "td", "h1", "h2", "dt", "b"):
                self.assertEqual(len(re.findall(f"<{tag}[ >]", seen)), len(list(page.iter(XHTML + tag))), tag)
            for tag in ("svg", "rect", "text", "circle", "path", "title"):
                drawn = len(list(page.iter(SVG + tag))) + (len(list(page.iter(XHTML + tag))))
                self.assertEqual(len(re.findall(f"<{tag}[ >]", seen)), drawn, tag)
            self.assertNotIn("<script", seen)
        folder, _ = self.write(GRIDS["default"], "8192")
        pictures = set()
        for name in ("heatmap.svg", "report.html"):
            for mode in (0, 1):  # dark, light
                picture = self.folder / f"{name}-{mode}.png"
                self.browse(f"--screenshot={picture}", "--window-size=1000,700",
                            f"--blink-settings=preferredColorScheme={mode}", f"file://{folder}/{name}")
                pictures.add(picture.read_bytes())
                self.assertEqual(struct.unpack(">II", picture.read_bytes()[16:24]), (1000, 700))
        self.assertEqual(len(pictures), 4)  # none the same


if __name__ == "__main__":
    main()
