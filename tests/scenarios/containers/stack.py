"""docker/compose.yaml on podman, with images, volumes and networks in a storage of its own.

The images that the stack takes from a registry are made here instead, from Debian's packages and Maven Central: they are
kept in CACHE/containers for the next run. Nothing outside of it is touched, no daemon stays.
"""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time

import java
import kafka
import maven
import registry

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
STORE = maven.CACHE / "containers"
RUN = pathlib.Path("/run/headrace-containers")  # podman remembers it, so it is the same every time
PODMAN = ("podman", "--root", STORE / "storage", "--runroot", RUN / "root", "--tmpdir", RUN / "tmp",
          "--network-config-dir", STORE / "networks")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"  # iptables lies there
TOOLS = ("podman", "runc", "conmon", "docker-compose", "mmdebstrap", "iptables")
PACKAGES = "podman runc netavark aardvark-dns iptables mmdebstrap docker-compose"
KAFKA_TOOLS = {f"kafka-tools-{kafka.VERSION}.jar": "3e6844711c3f5c9148f76ac96dfbf1de0aeeba11249e142e084b6de68e0ed05e"}
BASE = "localhost/headrace-test-base"
IMAGES = {"HEADRACE_IMAGE": "localhost/headrace:test", "HEADRACE_FETCH_IMAGE": "localhost/headrace-fetch:test",
          "KAFKA_IMAGE": "localhost/headrace-test-kafka", "REGISTRY_IMAGE": "localhost/headrace-test-registry",
          "PROMETHEUS_IMAGE": "localhost/headrace-test-prometheus"}


def missing():
    """Why no container can run here; empty: nothing speaks against it."""
    if os.geteuid() != 0:
        return "containers are started as root here"
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    return f"{', '.join(lacking)} missing: apt-get install {PACKAGES}" if lacking else ""


def kafka_tools():
    def fill(made, scratch):
        maven.maven(scratch, "dependency:copy", f"-DoutputDirectory={made}",
                    f"-Dartifact=org.apache.kafka:kafka-tools:{kafka.VERSION}")
        maven.check(made, KAFKA_TOOLS)

    return maven.fetched(f"kafka-tools-{kafka.VERSION}", fill)


class Stack:
    """Services of the compose file, at free ports."""

    def __init__(self, directory, **variables):
        self.directory = directory
        self.project = "headrace-test"
        self.ports = {name: java.free_port() for name in ("KAFKA_PORT", "REGISTRY_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}
        self.environment = {**os.environ, **IMAGES, "PATH": PATH, "CONTAINERS_CONF": str(HERE / "containers.conf"),
                            "DOCKER_HOST": f"unix://{directory}/podman.sock", "COMPOSE_PROJECT_NAME": self.project,
                            "HEADRACE_FILES": str(maven.CACHE), "COMPOSE_HTTP_TIMEOUT": "600",
                            **{name: str(port) for name, port in self.ports.items()}, **variables}
        STORE.mkdir(parents=True, exist_ok=True)
        self.lock = open(STORE / "lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # one at a time: the storage is shared
        self.service = None
        self.closing = threading.Event()

    def podman(self, *arguments, check=True):
        command = [*PODMAN, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=1800)
        assert not check or done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done

    def compose(self, *arguments, check=True):
        command = ["docker-compose", "--ansi", "never", "-f", ROOT / "docker/compose.yaml", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=1800)
        assert not check or done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def has_image(self, name):
        return self.podman("image", "exists", name, check=False).returncode == 0

    def make_base(self):
        """What debian:bookworm-slim has: no manuals, no translations, nearly no documents."""
        if self.has_image(BASE):
            return
        tar = self.directory / "base.tar"
        hook = 'mkdir -p "$1/usr/share/man/man1"'  # Java's package puts links there
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=Acquire::Languages \"none\"",
                        *[f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")],
                        f"--customize-hook={hook}", "bookworm", tar], check=True, capture_output=True, text=True)
        self.podman("import", "--quiet", "--change", 'CMD ["bash"]', tar, BASE)
        tar.unlink()

    def build(self, image, file, context, target, *flags):
        self.podman("build", "--format", "docker", "--layers", "--build-arg", f"BASE={BASE}", "-f", file, "-t", image,
                    "--target", target, *flags, context)

    def make_images(self):
        self.make_base()
        contexts = {"kafka-jars": kafka.jars(), "kafka-tools": kafka_tools(), "registry-app": registry.app()}
        flags = [flag for name, path in contexts.items() for flag in ("--build-context", f"{name}={path}")]
        for name in ("KAFKA", "REGISTRY", "PROMETHEUS"):
            self.build(IMAGES[f"{name}_IMAGE"], HERE / "Dockerfile", HERE, name.lower(), *flags)
        # Under a name of its own the compiled program outlives close(): the next run compiles only what is new.
        self.build("localhost/headrace-build:test", ROOT / "docker/Dockerfile", ROOT, "build")
        self.build(IMAGES["HEADRACE_FETCH_IMAGE"], ROOT / "docker/Dockerfile", ROOT, "fetch")
        self.build(IMAGES["HEADRACE_IMAGE"], ROOT / "docker/Dockerfile", ROOT, "headrace")

    def open(self):
        """The Docker interface for docker-compose, and somebody to run the health checks, which systemd does elsewhere."""
        RUN.mkdir(parents=True, exist_ok=True)
        with open(self.directory / "podman.log", "w") as log:
            self.service = subprocess.Popen([*PODMAN, "system", "service", "--time", "0", self.environment["DOCKER_HOST"]],
                                            env=self.environment, stdout=subprocess.DEVNULL, stderr=log,
                                            preexec_fn=java.die_with_parent)
        while not (self.directory / "podman.sock").exists():
            assert self.service.poll() is None, (self.directory / "podman.log").read_text()
            time.sleep(0.05)
        self.checker = threading.Thread(target=self.check_health)
        self.checker.start()

    def check_health(self):
        while not self.closing.wait(1):
            for container in self.containers():
                if container["State"] == "running":
                    self.podman("healthcheck", "run", container["Names"][0], check=False)

    def containers(self, service=None):
        label = [] if service is None else ["--filter", f"label=com.docker.compose.service={service}"]
        return json.loads(self.podman("ps", "--all", "--format", "json", *label, check=False).stdout or "[]")

    def down(self):
        self.compose("down", "--volumes", "--timeout", "30")

    def close(self):
        """Whatever has happened: no container, volume, network or process of ours is left."""
        self.closing.set()
        if self.service is not None:
            self.checker.join()
            self.service.terminate()
            self.service.wait()
        self.podman("rm", "--all", "--force", "--time", "5", check=False)
        self.podman("volume", "prune", "--force", check=False)
        self.podman("network", "prune", "--force", check=False)
        self.podman("image", "prune", "--force", check=False)
        self.lock.close()
