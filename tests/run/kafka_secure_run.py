"""A broker that demands TLS and a password: what gets in, what does not, and what is said then."""
import subprocess
import time

from failing import FailureTest, VOCABULARY
from harness import by_id, longscan, random_tokens
from kafka_harness import Kafka, main

# Exit code, --broker-timeout, seconds until the end.
REFUSED = 2, "100s", 30  # told at once
SILENT = 140, "4s", 30   # a broker that hangs up gives no reason that is certain: tried until the time-out


class Secure(FailureTest):
    @classmethod
    def setUpClass(cls):
        cls.broker = Kafka(partitions=3, topics=["in", "out"], secure=True)
        cls.broker.__enter__()
        cls.addClassCleanup(cls.broker.__exit__)

    def setUp(self):
        super().setUp()
        self.source = self.documents("in.jsonl", [{"id": str(i), "tokens": random_tokens(i, 50 * i, VOCABULARY)}
                                                  for i in range(20)])

    def properties(self, **changed):
        """Those that the broker asks for, with a dot for each __ of what is changed; None: left out."""
        wanted = dict(pair.split("=", 1) for pair in self.broker.properties)
        wanted.update({key.replace("__", "."): value for key, value in changed.items()})
        return [part for key, value in wanted.items() if value is not None for part in ("-X", f"{key}={value}")]

    def test_the_right_credentials(self):
        """Publish, score and read, with the secrets on the command line, in a file and in the environment."""
        longscan("publish", "--input", self.source, "--topic", "in", "--record-tokens", "64", *self.broker.options)
        config = self.write("job.conf", "".join(f"property = \"{pair}\"\n" for pair in self.broker.properties))
        brokers = ["--brokers", self.broker.address]
        self.run_score("--input", "kafka:in", *brokers, "--config", config, output="kafka:out")
        read = self.folder / "read.jsonl"
        longscan("read", "--topic", "out", "--output", read, *brokers,
                 environment={"LONGSCAN_PROPERTY": "\n".join(self.broker.properties)})
        self.run_score("--input", self.source)
        scores = [{name: found[0] for name, found in by_id(path).items()} for path in (read, self.output)]
        self.assertEqual(len(scores[0]), 20)
        for name, line in scores[1].items():
            self.assertEqual(scores[0][name], line)

    def test_what_is_refused(self):
        other = self.folder / "other.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=other",
                        "-keyout", self.folder / "other.key", "-out", other], check=True, capture_output=True)
        cases = [(REFUSED, ["authentication failed", "sasl.password"], self.properties(sasl__password="wrong-pass")),
                 (REFUSED, ["authentication failed", "sasl.username"], self.properties(sasl__username="nobody")),
                 (REFUSED, ["authentication failed", "SCRAM-SHA-512"], self.properties(sasl__mechanism="SCRAM-SHA-512")),
                 (REFUSED, ["TLS failed", "certificate", "ssl.ca.location"], self.properties(ssl__ca__location=other)),
                 (REFUSED, ["TLS failed", "certificate", "ssl.ca.location"], self.properties(ssl__ca__location=None)),
                 (SILENT, ["SASL authentication", "security.protocol"],
                  self.properties(security__protocol="SSL", sasl__mechanism=None)),
                 (SILENT, ["SSL listener", "security.protocol"], self.properties(security__protocol="SASL_PLAINTEXT")),
                 (SILENT, ["SSL listener", "security.protocol"], [])]
        score = ["score", "--model", self.model, "--output", self.output, "--input", "kafka:in"]
        verbs = [score, ["read", "--topic", "in"], ["publish", "--input", self.source, "--topic", "in"],
                 ["score", "--model", self.model, "--input", self.source, "--output", "kafka:out"]]
        before = self.broker.ends("in")
        for batch in (REFUSED, SILENT):
            code, timeout, seconds = batch
            started = [(self.start(*verb, "--brokers", self.broker.address, "--broker-timeout", timeout, *properties,
                                   log=f"log-{code}-{i}-{verb[0]}-{len(verb)}"), verb, needles, properties)
                       for i, (kind, needles, properties) in enumerate(cases) if kind == batch for verb in verbs]
            deadline = time.monotonic() + seconds
            for process, verb, needles, properties in started:
                with self.subTest(properties=properties, verb=verb[0]):
                    said = self.ended(process, code, deadline - time.monotonic())
                    self.assert_said(said, self.broker.address, "topic", *needles)
                    self.assertNotIn("wrong-pass", said)
                    self.assertNotIn("longscan-password", said)
        self.assertEqual((self.broker.ends("in"), self.leftovers()), (before, []))

    def test_an_old_librdkafka_says_why_it_cannot_do_scram(self):
        """Kafka 4 refuses the SCRAM of librdkafka before 2.6.1: right credentials work, or it says so."""
        self.broker.create("scram")
        read = ["read", "--topic", "scram", "--brokers", self.broker.address,
                *self.properties(sasl__mechanism="SCRAM-SHA-256")]
        done = longscan(*read, expect=None, timeout=60)
        if done.returncode != 0:
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assert_said(done, "authentication failed", "SCRAM from librdkafka before 2.6.1")

    def test_secrets_are_not_told(self):
        """Not shown by --show-config, nor by debug lines, nor when they are mistyped."""
        secrets = {"sasl.password": "hunter-1", "ssl.key.password": "hunter-2", "ssl.keystore.password": "hunter-3"}
        pairs = [f"{key}={value}" for key, value in secrets.items()]
        read = ["read", "--topic", "in", "--brokers", self.broker.address, "--broker-timeout", "2s"]
        config = self.write("job.conf", "".join(f"property = {pair}\n" for pair in pairs))
        for options, environment in ((["--config", config], {}), ([], {"LONGSCAN_PROPERTY": "\n".join(pairs)}),
                                     ([part for pair in pairs for part in ("-X", pair)], {})):
            shown = longscan(*read, *options, "--show-config", environment=environment).stdout
            for key in secrets:
                self.assertIn(f'property = "{key}=***"', shown)
            done = longscan(*read, *options, "--log-level", "debug", "-X", "debug=all", expect=140, timeout=60,
                            environment=environment)
            self.assertIn("librdkafka", done.stderr)
            self.assertNotIn("hunter", shown + done.stderr)
        for wrong in ("sasl.pasword=hunter", "hunter", "=hunter"):
            done = longscan(*read, "-X", wrong, expect=2)
            self.assertNotIn("hunter", done.stderr)
            config.write_text(f"property = {wrong}\n")
            self.assertNotIn("hunter", longscan(*read, "--config", config, expect=2).stderr)


if __name__ == "__main__":
    main()
