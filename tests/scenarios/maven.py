"""Files from Maven Central, each checked by the SHA-256 that we know, kept for the next run."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

CACHE = pathlib.Path(os.environ.get("SCENARIO_CACHE", pathlib.Path.home() / ".cache/headrace"))


class Unavailable(Exception):
    """What is missing on this machine, or cannot be reached from it."""


def need_java():
    if shutil.which("java") is None:
        raise Unavailable("there is no Java: apt-get install openjdk-17-jre-headless")


def maven(directory, *arguments):
    if shutil.which("mvn") is None:
        raise Unavailable("there is no Maven, which fetches the jars once: apt-get install maven")
    done = subprocess.run(["mvn", "-B", "-q", *arguments], cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        telling = [line for line in done.stdout.splitlines() if "ERROR" in line][:3]
        raise Unavailable("Maven could not fetch it: " + " ".join(telling))


def check(directory, expected):
    """`expected` is file name -> SHA-256. Another file is as wrong as another content: it would be on the class path."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    for name in found.keys() | expected.keys():
        assert found.get(name) == expected.get(name), f"{name} is not the file that we know: nothing was kept"


def fetched(name, fill):
    """The directory CACHE/name, which `fill` fills where it is not there; it is in place whole or not at all."""
    directory = CACHE / name
    if directory.exists():
        return directory
    CACHE.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
    try:
        made = scratch / "made"
        made.mkdir()
        fill(made, scratch)
        if not directory.exists():
            made.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory
