"""What `cmake --install` puts where, the Debian package, manual pages and completion, run from there."""
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import BUILD, HAVE_KAFKA, HAVE_MPI, SOURCE, longscan, main

MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"
PLUGIN = BUILD / "liblongscan_cuda.so"
STAND_IN = BUILD / "libwrong_plugin.so"  # one that loads without CUDA
# CPack wants the loader's cache made anew for every library, also for one that only we load.
SUPPRESSED = "maintscript-calls-ldconfig"
SHELLS = {"bash": "bash-completion/completions/longscan", "zsh": "zsh/site-functions/_longscan",
          "fish": "fish/vendor_completions.d/longscan.fish"}

COMPLETE_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _longscan; printf '%s\\n' "${COMPREPLY[@]}"
"""


def verbs():
    text = longscan("--help").stdout.split("\nVerbs\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in text.splitlines()]


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"{tool} is not installed")


def run(*words, **more):
    environment = {name: value for name, value in os.environ.items() if name != "LONGSCAN_PLUGIN"}
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300, env=environment, **more)
    assert done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory(prefix="longscan-test-")
        cls.addClassCleanup(holder.cleanup)
        cls.folder = pathlib.Path(holder.name)
        cls.place()
        cls.program = cls.prefix / "bin" / "longscan"

    @classmethod
    def place(cls):
        need("cmake")
        cls.prefix = cls.folder / "a prefix"
        for component in ["program"] + ["cuda"] * PLUGIN.exists():
            run("cmake", "--install", BUILD, "--prefix", cls.prefix, "--component", component)

    def check_runs(self, program):
        """It scores, with the bits of the build."""
        text = SOURCE / "CHANGELOG.md"
        arguments = ["score", "--model", MODEL, "--input", text, "--format", "text", "--backend", "cpu", "-q", "--print",
                     "json"]
        self.assertEqual(run(program, *arguments), longscan(*arguments).stdout)

    def test_the_program(self):
        self.check_runs(self.program)
        self.assertEqual(run(self.program, "--version").splitlines()[0], longscan("--version").stdout.splitlines()[0])

    def test_the_plugin_is_found_by_its_place(self):
        self.assertTrue(STAND_IN.exists())
        prefix = self.folder / "with a plug-in"
        plugin = prefix / "lib" / "longscan" / PLUGIN.name
        shutil.copytree(self.prefix, prefix)
        if not plugin.exists():
            self.assertNotIn("plug-in", run(prefix / "bin" / "longscan", "--version"))
            plugin.parent.mkdir(parents=True)
            shutil.copy2(STAND_IN, plugin)
        line = re.search(r"(?m)^  plug-in +(.*)$", run(prefix / "bin" / "longscan", "--version")).group(1)
        self.assertEqual(os.path.realpath(line.split(".so")[0] + ".so"), str(plugin))

    def test_pages_of_all_verbs(self):
        pages = self.prefix / "share" / "man" / "man1"
        self.assertEqual(sorted(page.name for page in pages.iterdir()),
                         sorted(["longscan.1"] + [f"longscan-{verb}.1" for verb in verbs()]))
        for page in pages.iterdir():
            verb = page.stem.removeprefix("longscan").removeprefix("-")
            self.assertEqual(page.read_text(), longscan("man", *([verb] if verb else [])).stdout)
        self.assertIn("\\-\\-step\\-tokens", (pages / "longscan-score.1").read_text())

    def test_pages_as_man_reads_them(self):
        need("groff")
        for page in (self.prefix / "share" / "man" / "man1").iterdir():
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", page], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.stderr, "", page.name)
            self.assertIn("SYNOPSIS", re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout))

    def test_license_and_documents(self):
        doc = self.prefix / "share" / "doc" / "longscan"
        self.assertEqual((doc / "LICENSE").read_bytes(), (SOURCE / "LICENSE").read_bytes())
        for name in ("README.md", "CHANGELOG.md", "docs/performance.md", "docs/streams.md"):
            self.assertTrue((doc / name).is_file(), name)

    def completed(self, *words):
        script = self.prefix / "share" / SHELLS["bash"]
        return run("bash", "-c", COMPLETE_BASH, "bash", script, "longscan", *words).split()

    def test_completion_for_bash(self):
        need("bash")
        self.assertEqual(set(self.completed("")) - {"man", "completion", "--help", "--version"}, set(verbs()))
        self.assertEqual(self.completed("sco"), ["score"])
        self.assertEqual(self.completed("score", "--backend", ""), ["auto", "cpu", "cuda"])
        self.assertEqual(self.completed("run", "-n", "4", "ben"), ["bench"])
        self.assertEqual(self.completed("run", "-n", "4", "score", "--step"), ["--step-tokens"])
        self.assertEqual(self.completed("read", "--step"), [])  # another verb's
        self.assertEqual(self.completed("score", "--model", str(MODEL.parent) + "/"), [str(MODEL)])
        for verb in verbs():  # exactly what the verb takes
            listed = re.findall(r"(?m)^\s+(?:-\w, )?(--[\w-]+)", longscan(verb, "--help").stdout)
            self.assertEqual(set(self.completed(verb, "--")), set(listed), verb)

    def test_completion_for_zsh(self):
        need("zsh")
        script = self.prefix / "share" / SHELLS["zsh"]
        run("zsh", "-n", script)
        stub = "_describe() { print -l $verbs }; _arguments() { print -l -- \"$@\" }; words=(longscan \"$@\"); CURRENT=$#words; . "
        self.assertIn("score:score documents from files or a topic",
                      run("zsh", "-fc", stub + f"'{script}'", "zsh", "").splitlines())
        said = run("zsh", "-fc", stub + f"'{script}'", "zsh", "info", "").splitlines()
        self.assertIn("--shape[random weights of an official shape, in place of --model]:shape:(130m 370m 780m 1.3b 2.7b)",
                      said)

    def test_completion_for_fish(self):
        need("fish")
        script = self.prefix / "share" / SHELLS["fish"]
        run("fish", "-n", script)
        def completed(line):
            said = run("fish", "--no-config", "-c", f"source '{script}'; complete -C '{line}'")
            return [entry.split("\t")[0] for entry in said.splitlines()]
        self.assertEqual(completed("longscan score --backend "), ["auto", "cpu", "cuda"])
        self.assertEqual(completed("longscan run -n 4 sco"), ["score"])
        self.assertEqual(completed("longscan score --step"), ["--step-tokens"])
        self.assertEqual(completed("longscan read --step"), [])


class Debian(Install):
    """The same from the package, unpacked. Pages are packed there, and zsh has a place of its own."""

    @classmethod
    def place(cls):
        need("cpack", "dpkg-deb", "dpkg-shlibdeps", "gzip")
        config = cls.folder / "CPackConfig.cmake"  # of the program alone: the plug-in may not be built
        text = (BUILD / "CPackConfig.cmake").read_text()
        config.write_text(re.sub(r'(set\(CPACK_COMPONENTS_ALL ")[^"]*', r"\1" + ("program;cuda" if PLUGIN.exists() else
                                                                                 "program"), text))
        run("cpack", "-G", "DEB", "-B", cls.folder / "made", "--config", config)
        cls.packages = {path.name.split("_")[0]: path for path in (cls.folder / "made").glob("*.deb")}
        run("dpkg-deb", "-x", cls.packages["longscan"], cls.folder / "root")
        cls.prefix = cls.folder / "root" / "usr"

    def field(self, package, name):
        return run("dpkg-deb", "-f", self.packages[package], name)

    def test_what_it_depends_on(self):
        depends = self.field("longscan", "Depends")
        for library, there in (("libc6", True), ("zlib1g", True), ("libzstd1", True), ("librdkafka1", HAVE_KAFKA),
                               ("libprotobuf-c1", HAVE_KAFKA), ("libopenmpi3", HAVE_MPI)):
            self.assertEqual(re.search(rf"\b{library}\b", depends) is not None, there, depends)
        self.assertEqual("openmpi-bin" in self.field("longscan", "Recommends"), HAVE_MPI)

    def test_the_plugin_needs_no_driver(self):
        if "longscan-cuda" not in self.packages:
            self.skipTest("the plug-in is not built")
        depends = self.field("longscan-cuda", "Depends")
        self.assertNotRegex(depends, "nvidia|cuda|cublas|nccl")
        self.assertIn("longscan (= ", depends)

    def test_pages_of_all_verbs(self):
        for verb in verbs():
            page = self.prefix / "share" / "man" / "man1" / f"longscan-{verb}.1.gz"
            self.assertEqual(gzip.decompress(page.read_bytes()).decode(), longscan("man", verb).stdout)

    def test_pages_as_man_reads_them(self):
        need("man")
        text = run("man", "--warnings", "-l", self.prefix / "share" / "man" / "man1" / "longscan.1.gz")
        self.assertIn("SYNOPSIS", text)

    def test_license_and_documents(self):
        doc = self.prefix / "share" / "doc" / "longscan"
        self.assertIn("Apache-2.0", (doc / "copyright").read_text())
        self.assertTrue((doc / "changelog.gz").is_file())

    def test_completion_for_zsh(self):
        self.assertTrue((self.prefix / "share" / "zsh" / "vendor-completions" / "_longscan").is_file())

    def test_lintian(self):
        need("lintian")
        for package in self.packages.values():
            done = subprocess.run(["lintian", "--allow-root", "--suppress-tags", SUPPRESSED, package],
                                  capture_output=True, text=True, timeout=120)
            self.assertNotRegex(done.stdout, r"(?m)^[EW]: ", package)


if __name__ == "__main__":
    main()
