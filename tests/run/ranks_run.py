"""Real MPI processes, 1 to 8 of them: random exchanges of 4 MiB states, and the same scores on any number."""
import os
import subprocess
import unittest

from harness import BUILD, HAVE_MPI, PROGRAM, SOURCE, RunTest, longscan, main, score

MODEL = SOURCE / "tests" / "models" / "passkey-1.8m"


@unittest.skipUnless(HAVE_MPI, "built without MPI")
class Ranks(RunTest):
    def test_exchanges_over_mpi(self):
        for count, transport in ((2, "vader,self"), (4, "vader,self"), (8, "vader,self"), (4, "tcp,self")):
            with self.subTest(count=count, transport=transport):
                environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                                   OMPI_MCA_btl_tcp_if_include="lo", OMPI_MCA_pml="ob1", OMPI_MCA_btl=transport)
                subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(count),
                                BUILD / "mpi_link_check"], check=True, timeout=240, env=environment)

    def test_branches_over_mpi(self):
        for count in (1, 2, 4):
            with self.subTest(count=count):
                environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                                   OMPI_MCA_btl_tcp_if_include="lo", OMPI_MCA_pml="ob1", OMPI_MCA_btl="vader,self")
                subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(count),
                                BUILD / "branches_check"], check=True, timeout=240, env=environment)

    def test_one_to_eight_processes_give_the_same_bytes(self):
        model = SOURCE / "tests" / "models" / "passkey-1.8m"
        texts = self.folder / "texts"
        texts.mkdir()
        for path in (SOURCE / "LICENSE", SOURCE / "README.md", SOURCE / "CHANGELOG.md"):
            (texts / path.name).write_bytes(path.read_bytes())
        expected = None
        for count in range(1, 9):
            with self.subTest(count=count):
                output = self.folder / f"{count}"
                output.mkdir()
                score("--model", model, "--input", texts, "--output", output, "--token-nll", "--step-tokens", 1024,
                      "--threads", 1, count=count, mpi=True)
                got = {path.name: path.read_bytes() for path in sorted(output.iterdir())}
                expected = expected or got
                self.assertEqual(len(got), 3)
                self.assertEqual(got, expected)

    def test_ranks_of_a_machine_share_one_copy_of_the_weights(self):
        """In every dtype, as processes and as threads; where too few addresses may be taken, each has its own."""
        text = self.folder / "text.txt"
        text.write_bytes((SOURCE / "LICENSE").read_bytes()[:5000])
        for dtype in ("f32", "bf16x3", "bf16"):
            lines = []
            for count, mpi, limit in ((1, False, ""), (3, False, ""), (3, True, ""), (3, True, "ulimit -v 8000000;")):
                front = ["run", "-n", str(count)] if mpi else []
                back = [] if mpi else ["--ranks", str(count)]
                command = [str(PROGRAM), *front, "score", "--model", str(MODEL), "--input", str(text), "--step-tokens",
                           "1024", "--backend", "cpu", "--threads", "1", "--dtype", dtype, "--no-progress", *back]
                done = subprocess.run(["bash", "-c", limit + '"$@"', "bash", *command], capture_output=True, text=True,
                                      timeout=240)
                self.assertEqual(done.returncode, 0, done.stderr)
                lines.append(done.stdout)
                said = "one copy of" in done.stderr and f"for the {count} ranks" in done.stderr
                self.assertEqual(said, count > 1 and not limit, done.stderr)
                self.assertEqual("every rank keeps a copy of the weights" in done.stderr, limit != "", done.stderr)
            self.assertEqual(len(set(lines)), 1)

    def test_two_groups_share_the_inputs(self):
        model = SOURCE / "tests" / "models" / "passkey-1.8m"
        texts = self.folder / "texts"
        texts.mkdir()
        for index in range(5):
            (texts / f"{index}.txt").write_bytes((SOURCE / "LICENSE").read_bytes()[: 3000 * (index + 1)])
        outputs = []
        for name, size in (("one", 0), ("two", 2)):
            output = self.folder / name
            output.mkdir()
            longscan("run", "-n", 4, "score", "--model", model, "--input", texts, "--output", output, "--group-size",
                     size, "--step-tokens", 1024, "--no-progress")
            outputs.append({path.name: path.read_bytes() for path in sorted(output.iterdir())})
        self.assertEqual(len(outputs[0]), 5)
        self.assertEqual(outputs[0], outputs[1])


if __name__ == "__main__":
    main()
