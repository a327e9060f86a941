"""The whole program compiled for aarch64, run under qemu: golden cases, and the bits of this machine.

A prefix of a golden document is enough: a token's NLL does not depend on what comes after it."""
import json
import os
import re
import shutil
import subprocess
import unittest

from golden_run import CASES
from harness import BUILD, SOURCE, RunTest, longscan, main, need_shared, within_golden, write_jsonl

FOLDER = BUILD / "aarch64"
COMPILER = "aarch64-linux-gnu-gcc"
LOADER = "/usr/aarch64-linux-gnu"
TOKENS = 1100  # more than a chunk
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def run(*words, timeout=600, expect=0):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == expect, (words, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done


def build():
    """The program for aarch64, made anew where a source is newer."""
    for tool in (COMPILER, "cmake", "ninja"):
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"{tool} is not installed")
    sysroot = FOLDER / "sysroot"
    got = subprocess.run([SOURCE / "tests" / "aarch64" / "sysroot", sysroot], capture_output=True, text=True, timeout=600)
    if got.returncode == 77:
        raise unittest.SkipTest(got.stdout.strip())
    assert got.returncode == 0, got.stderr
    run("cmake", "-S", SOURCE, "-B", FOLDER / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_TOOLCHAIN_FILE={SOURCE}/cmake/aarch64.cmake", f"-DLONGSCAN_SYSROOT={sysroot}", "-DLONGSCAN_WERROR=ON",
        "-DLONGSCAN_CUDA=OFF", "-DLONGSCAN_MPI=OFF", "-DLONGSCAN_KAFKA=OFF", "-DLONGSCAN_TESTS=OFF")
    run("ninja", "-C", FOLDER / "build", timeout=1100)
    return FOLDER / "build" / "longscan"


class Aarch64(RunTest):
    @classmethod
    def setUpClass(cls):
        cls.program = build()

    def emulated(self, *arguments):
        if QEMU is None:
            self.skipTest("qemu-aarch64-static is not installed")
        return run(QEMU, "-L", LOADER, self.program, *arguments, timeout=1100)

    def test_it_is_for_aarch64(self):
        header = self.program.read_bytes()[:20]
        self.assertEqual((header[:4], header[18]), (b"\x7fELF", 183))

    def test_its_kernels(self):
        text = self.emulated("--version").stdout
        self.assertRegex(text, r"(?m)^  build .* aarch64; MPI off, Kafka off, BPE off, CUDA off$")
        self.assertRegex(text, r"(?m)^  kernels +neon scalar; this machine runs neon scalar$")

    def score(self, model, source, *more):
        arguments = ["score", "--model", model, "--input", source, "--print", "json", "--token-nll", "-q", *more]
        return self.emulated(*arguments).stdout

    def test_golden_cases(self):
        for model_parts, golden_parts in CASES:
            with self.subTest(golden=golden_parts[1:]):
                model = need_shared(*model_parts)
                golden = json.loads(need_shared(*golden_parts).read_text())
                tokens = (golden.get("tokens") or list(golden["text"].encode()))[:TOKENS]
                source = self.folder / "golden.jsonl"
                write_jsonl(source, [{"id": "golden", "tokens": tokens}])
                here = longscan("score", "--model", model, "--input", source, "--print", "json", "--token-nll",
                                "--backend", "cpu").stdout
                there = self.score(model, source, "--ranks", "2", "--step-tokens", "1024")
                self.assertEqual(there, here)
                kind = "random" if golden_parts[1].startswith("tiny") else "trained"
                within_golden(json.loads(there)["token_nll"], golden["token_nll"][:len(tokens) - 1], kind)

    def test_scalar_has_the_same_bits(self):
        model = SOURCE / "tests" / "models" / "passkey-1.8m"
        source = self.folder / "text.jsonl"
        write_jsonl(source, [{"id": "a", "text": (SOURCE / "LICENSE").read_text()[:200]}])
        self.assertEqual(self.score(model, source, "--cpu-isa", "scalar"), self.score(model, source, "--cpu-isa", "neon"))

    def test_info_and_doctor(self):
        self.assertEqual(json.loads(self.emulated("info", "--shape", "370m").stdout)["parameters"], 368_346_624)
        self.assertIn('"neon on ', self.emulated("doctor", "--print", "json").stdout)

    def test_pages_are_made_by_the_emulator(self):
        if QEMU is None:
            self.skipTest("qemu-aarch64-static is not installed")
        page = (FOLDER / "build" / "pages" / "longscan-score.1").read_text()
        self.assertTrue(re.search(r"\\-\\-step\\-tokens", page))
        self.assertEqual(page, longscan("man", "score").stdout)


if __name__ == "__main__":
    os.environ.pop("LONGSCAN_PLUGIN", None)
    main()
