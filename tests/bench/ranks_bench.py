#!/usr/bin/env python3
"""ranks_bench.py MODEL [TOKENS [PAIRS]]: one document over two ranks with a thread each, against one
rank with two threads, in turn in one run. Prints the median of the ratios of their run times (the
time from the first step sent to the last answer, as --summary says; loading is left out)."""
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build" / "release"


def run_seconds(folder, source, model, front, back):
    summary = folder / "summary.json"
    subprocess.run([BUILD / "longscan", *front, "score", "--model", model, "--input", source, "--output",
                    folder / "out.jsonl", "--summary", summary, "--no-progress", "--quiet", *back], check=True)
    return json.loads(summary.read_text())["run_seconds"], (folder / "out.jsonl").read_bytes()


def main():
    model = sys.argv[1]
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 32768
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    config = json.loads(pathlib.Path(model, "config.json").read_text().replace("Infinity", "1e99"))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "one.jsonl"
        draw = random.Random(1)
        ids = [draw.randrange(config["vocab_size"]) for _ in range(tokens)]
        source.write_text(json.dumps({"id": "one", "tokens": ids}) + "\n")
        ratios = []
        for pair in range(pairs):
            one, first = run_seconds(folder, source, model, [], ["--threads", "2"])
            two, second = run_seconds(folder, source, model, ["run", "-n", "2"], ["--threads", "1"])
            assert first == second, "the results differ"
            ratios.append(two / one)
            print(f"pair {pair}: one rank, two threads {one:.2f} s; two ranks, a thread each {two:.2f} s; "
                  f"ratio {two / one:.3f}", flush=True)
        print(f"{tokens} tokens, median ratio of {pairs} pairs: {statistics.median(ratios):.3f}")


main()
