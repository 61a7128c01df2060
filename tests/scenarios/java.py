"""A Java server on loopback as a process of ours: started, found ready, stopped, killed, by its own process id."""

import ctypes
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import maven

PR_SET_PDEATHSIG = 1


def free_port():
    """Below the range from which the system gives ports to clients, so that it is free again after a kill."""
    for _ in range(100):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise maven.Unavailable("no free port on the loopback interface")


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """`command()` gives what to run, `ready()` whether it serves."""

    START_SECONDS = 120

    def __init__(self, directory):
        maven.need_java()
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "server.log"
        self.process = None

    def start(self):
        assert self.process is None, "it runs already"
        start = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        end = time.monotonic() + self.START_SECONDS
        while not self.ready(self.log.read_bytes()[start:]):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"{self.directory.name} {'stopped while it started' if ended else 'was not ready'}:\n"
                                   + self.log.read_text(errors="replace")[-4000:])
            time.sleep(0.1)

    def _end(self, number):
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)
