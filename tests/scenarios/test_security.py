"""TLS and SASL by pass-through on the real broker, with a CA of our own; secrets from files, shown nowhere."""

import os
import pathlib
import subprocess

import pytest

import kafka
from conftest import PROGRAM, World, needed, wait_for
from state import edges_of, expected_edges, produce

USER, PASSWORD, KEYSTORE_PASSWORD = "worker", "hidden-Qx7.words", "keystore-Zt4"


def openssl(directory, *arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A directory with ca.pem, other-ca.pem and a key store for the broker on 127.0.0.1 that ca.pem vouches for."""
    directory = tmp_path_factory.mktemp("authority")
    for name in ("ca", "other-ca"):
        openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
                "-subj", f"/CN=scenario {name}")
    openssl(directory, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=127.0.0.1")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(directory, "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "broker.pem",
            "-days", "2", "-extfile", "names")
    openssl(directory, "pkcs12", "-export", "-in", "broker.pem", "-inkey", "broker.key", "-certfile", "ca.pem", "-out", "broker.p12",
            "-passout", f"pass:{KEYSTORE_PASSWORD}")
    return directory


@pytest.fixture(scope="module")
def secured_broker(tmp_path_factory, authority):
    """Wants TLS and SCRAM on one listener; the verifier and the broker itself use a plain one."""
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    made = needed(lambda: kafka.Broker(tmp_path_factory.mktemp("secured") / "kafka", listeners=("PLAINTEXT", "SASL_SSL"), scram={USER: PASSWORD},
                                       properties={
        "ssl.keystore.location": authority / "broker.p12", "ssl.keystore.type": "PKCS12", "ssl.keystore.password": KEYSTORE_PASSWORD,
        "sasl.enabled.mechanisms": "SCRAM-SHA-512", "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": jaas}))
    yield made
    made.kill()


@pytest.fixture
def secured(tmp_path, secured_broker):
    made = World(tmp_path)
    try:
        made.use_real_broker(secured_broker)
        yield made
    finally:
        made.close()


def write_config(world, authority, **changes):
    """A file with everything but the password."""
    kafka = {"bootstrap.servers": world.kafka.address_of("SASL_SSL"), "security.protocol": "SASL_SSL", "ssl.ca.location": authority / "ca.pem",
             "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": USER, "fetch.wait.max.ms": 10,
             "group.id": world.group, **changes}
    file = world.directory / "secured.yaml"
    file.write_text("instance_id: scenario\nroles: ingest\nengine:\n  backend: none\n"
                    f"state:\n  dir: {world.directory / 'state'}\nkafka:\n" + "".join(f"  {k}: \"{v}\"\n" for k, v in kafka.items()))
    return file


def start(world, file, password=PASSWORD, command=("run",)):
    """By a file of the password, as Docker and Kubernetes give secrets."""
    secret = world.directory / "password"
    secret.write_text(password + "\n")
    secret.chmod(0o600)
    log = open(world.directory / f"{command[0]}-{len(world.processes)}.log", "wb")
    process = subprocess.Popen([PROGRAM, command[0], "--config", str(file), *command[1:]], stdout=log, stderr=subprocess.STDOUT,
                               env={**os.environ, "HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(secret), "HEADRACE_LOG_LEVEL": "debug"})
    process.log_path = log.name
    log.close()
    world.processes.append(process)
    return process


def assert_hidden(world):
    """The password is in none of our logs; without what was looked for there, this would prove nothing."""
    logs = [path.read_text(errors="replace") for path in pathlib.Path(world.directory).glob("*.log")]
    assert logs and all(logs)
    assert not any(PASSWORD in log for log in logs)


def test_events_come_through_tls_and_scram_and_the_password_shows_nowhere(secured, authority, schemas):
    world = secured
    rows = [(f"u{i % 50}", f"i{i % 97}", float(1 + i % 5), 880_000_000_000 + i) for i in range(1000)]
    produce(world, schemas["Interaction"], rows)
    file = write_config(world, authority, debug="security,broker,conf,feature")
    worker = start(world, file)
    wait_for("all applied", lambda: worker.poll() is not None or world.applied("interactions") == len(rows))
    world.stop(worker)
    assert "SASL_SSL" in world.log(worker) or "sasl_ssl" in world.log(worker)
    assert edges_of(world) == expected_edges(rows)

    check = start(world, file, command=("check", "--connect"))
    assert check.wait(timeout=30) == 0, world.log(check)
    shown = world.log(check)
    assert "kafka.sasl.password" in shown and "********" in shown and "HEADRACE_KAFKA_SASL_PASSWORD_FILE" in shown
    assert_hidden(world)


def test_a_wrong_password_or_authority_is_said_and_read_from_nowhere(secured, authority):
    world = secured
    worker = start(world, write_config(world, authority), password="wrong-Password")
    wait_for("a refusal", lambda: "uthentication" in world.log(worker))
    world.stop(worker)
    assert "wrong-Password" not in world.log(worker)

    worker = start(world, write_config(world, authority, **{"ssl.ca.location": authority / "other-ca.pem"}))
    wait_for("a refusal", lambda: "certificate" in world.log(worker))
    world.stop(worker)

    check = start(world, write_config(world, authority, **{"ssl.ca.location": authority / "other-ca.pem"}), command=("check", "--connect"))
    assert check.wait(timeout=30) == 1, world.log(check)
    assert_hidden(world)
