"""The program built without MPI, without Kafka, without BPE, without CUDA and without all of them: each scores
a golden document with the bits of the full build, and says what it has not."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import BUILD, HAVE_BPE, HAVE_KAFKA, HAVE_MPI, SOURCE, RunTest, main, need_shared, within_golden, write_jsonl
from harness import longscan as full

PARTS = ("MPI", "KAFKA", "BPE", "CUDA")
MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"
HAS = {"MPI": HAVE_MPI, "KAFKA": HAVE_KAFKA, "BPE": HAVE_BPE, "CUDA": True}  # the full build; here, the program alone is built
PLUGINLESS = {name: value for name, value in os.environ.items() if name != "LONGSCAN_PLUGIN"}


def run(*words, expect=0, environment=None, timeout=600):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=timeout,
                          env=dict(PLUGINLESS, **(environment or {})))
    if done.returncode != expect:
        raise AssertionError(f"{words}: {done.returncode}, expected {expect}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done


def configure(folder, *options, **more):
    return run("cmake", "-S", SOURCE, "-B", folder, "-G", "Ninja", "-DLONGSCAN_TESTS=OFF", *options, **more)


def need_tools():
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"{tool} is not installed")


class Builds(RunTest):
    """Optimised as little as makes the run short: the bits are the same."""

    def setUp(self):
        super().setUp()
        need_tools()

    def build(self, *off):
        folder = BUILD / "builds" / ("no-" + "-".join(off).lower())
        configure(folder, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1", "-DLONGSCAN_WERROR=ON",
                  *(f"-DLONGSCAN_{part}={'OFF' if part in off or not HAS[part] else 'AUTO'}" for part in PARTS))
        run("ninja", "-C", folder, "longscan")
        return folder / "longscan"

    def check_golden(self, program):
        golden = json.loads(need_shared("golden", "passkey-1.8m", "text.json").read_text())
        source = self.folder / "golden.jsonl"
        write_jsonl(source, [{"id": "golden", "tokens": golden.get("tokens") or list(golden["text"].encode())}])
        arguments = ["score", "--model", MODEL, "--input", source, "--token-nll", "--backend", "cpu", "-q"]
        lines = run(program, *arguments, "--ranks", "2", "--step-tokens", "1024").stdout
        self.assertEqual(lines, full(*arguments).stdout)
        within_golden(json.loads(lines)["token_nll"], golden["token_nll"], dtype="f32")

    def check_mpi(self, program, has):
        some = ["score", "--model", MODEL, "--input", SOURCE / "CHANGELOG.md", "--format", "text", "--backend", "cpu"]
        if has:
            run(program, "run", "-n", "2", *some)
            return
        self.assertIn("this build has no MPI; use longscan score --ranks N",
                      run(program, "run", "-n", "2", *some, expect=2).stderr)
        self.assertIn("--ranks N", run(program, *some, "--transport", "mpi", expect=2).stderr)
        # what an mpirun starts all the same must not do the work several times
        launched = {"OMPI_COMM_WORLD_SIZE": "2"}
        self.assertIn("OMPI_COMM_WORLD_SIZE=2: this build has no MPI", run(program, *some, expect=2, environment=launched).stderr)
        run(program, "doctor", expect=2, environment=launched)

    def check_kafka(self, program, has):
        brokers = ["--brokers", "127.0.0.1:1", "--broker-timeout", "500ms", "-q"]
        text = ["--input", SOURCE / "CHANGELOG.md", "--format", "text"]
        score = ["score", "--model", MODEL, "--backend", "cpu"]
        for arguments in ([*score, "--input", "kafka:t"], [*score, *text, "--output", "kafka:t"],
                          ["publish", *text, "--tokenizer", "byte", "--topic", "t"], ["read", "--topic", "t"]):
            said = run(program, *arguments, *brokers, expect=140 if has else 2).stderr
            self.assertEqual("this build has no Kafka: install librdkafka-dev" in said, not has, said)
        if not has:
            self.assertIn("no Kafka", run(program, "broker", expect=2).stderr)

    def check_bpe(self, program, has):
        file = self.folder / "tokenizer.json"
        file.write_text('{"model": {"type": "BPE"}}')
        said = run(program, "tokenize", "--tokenizer", file, "--input", SOURCE / "LICENSE", "--format", "text",
                   expect=4 if has else 2).stderr
        self.assertIn("pre_tokenizer is null" if has else "Debian: libpcre2-dev libutf8proc-dev", said)

    def check(self, *off):
        if not all(HAS[part] for part in off):
            self.skipTest("the build that is tested has not all parts")
        program = self.build(*off)
        build = re.search(r"(?m)^  build +(.*)$", run(program, "--version").stdout).group(1)
        self.assertEqual("MPI on" in build, HAVE_MPI and "MPI" not in off)
        self.assertEqual("Kafka on" in build, HAVE_KAFKA and "KAFKA" not in off)
        self.assertEqual("BPE on" in build, HAVE_BPE and "BPE" not in off)
        if "CUDA" in off:
            self.assertIn("CUDA off", build)
        needed = run("ldd", program).stdout
        self.assertEqual("libmpi" in needed, "MPI on" in build)
        self.assertEqual("rdkafka" in needed, "Kafka on" in build)
        self.assertEqual("pcre2" in needed, "BPE on" in build)
        self.check_golden(program)
        self.check_mpi(program, "MPI on" in build)
        self.check_kafka(program, "Kafka on" in build)
        self.check_bpe(program, "BPE on" in build)
        done = run(program, "score", "--model", MODEL, "--input", SOURCE / "LICENSE", "--backend", "cuda", expect=2)
        self.assertIn("--backend cuda: liblongscan_cuda.so is not beside the program; use --backend cpu", done.stderr)

    def test_without_mpi(self):
        self.check("MPI")

    def test_without_kafka(self):
        self.check("KAFKA")

    def test_without_bpe(self):
        self.check("BPE")

    def test_without_cuda(self):
        self.check("CUDA")

    def test_without_all(self):
        self.check(*PARTS)


class Configure(RunTest):
    """What is asked for and not there ends the configuration; AUTO goes on without."""

    def setUp(self):
        super().setUp()
        need_tools()

    def packages(self, *names):
        """A pkg-config that knows these alone."""
        folder = self.folder / "pkgconfig"
        folder.mkdir(exist_ok=True)
        for name in names:
            where = run("pkg-config", "--variable=pcfiledir", name).stdout.strip()
            (folder / f"{name}.pc").symlink_to(pathlib.Path(where) / f"{name}.pc")
        return {"PKG_CONFIG_LIBDIR": str(folder), "PKG_CONFIG_PATH": ""}

    def refused(self, words, *options, environment=None):
        done = configure(self.folder / "build", *options, expect=1, environment=environment)
        self.assertIn(words, " ".join(done.stderr.split()))

    def test_mpi(self):
        options = ["-DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON", "-DLONGSCAN_KAFKA=OFF", "-DLONGSCAN_CUDA=OFF"]
        self.refused("no MPI was found: install libopenmpi-dev", "-DLONGSCAN_MPI=ON", *options)
        self.assertIn("MPI OFF", configure(self.folder / "auto", "-DLONGSCAN_MPI=AUTO", *options).stdout)

    def test_kafka(self):
        environment = self.packages("zlib", "libzstd")
        options = ["-DLONGSCAN_MPI=OFF", "-DLONGSCAN_CUDA=OFF"]
        self.refused("install librdkafka-dev libprotobuf-c-dev protobuf-c-compiler", "-DLONGSCAN_KAFKA=ON", *options,
                     environment=environment)
        done = configure(self.folder / "auto", "-DLONGSCAN_KAFKA=AUTO", *options, environment=environment)
        self.assertIn("Kafka OFF", done.stdout)

    def test_cuda(self):
        options = ["-DLONGSCAN_MPI=OFF", "-DLONGSCAN_KAFKA=OFF"]
        environment = {"CUDACXX": str(self.folder / "nvcc")}
        self.refused("no nvcc was found: set CUDACXX or install CUDA 13", "-DLONGSCAN_CUDA=ON", *options,
                     environment=environment)
        done = configure(self.folder / "auto", "-DLONGSCAN_CUDA=AUTO", *options, environment=environment)
        self.assertIn("CUDA OFF", done.stdout)

    def test_what_no_build_can_do_without(self):
        self.refused("zlib was not found: install zlib1g-dev", "-DLONGSCAN_CUDA=OFF", environment=self.packages())
        self.refused("libzstd was not found: install libzstd-dev", "-DLONGSCAN_CUDA=OFF",
                     environment=self.packages("zlib"))


if __name__ == "__main__":
    main()
