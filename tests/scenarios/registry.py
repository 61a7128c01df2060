"""A real schema registry (Apicurio, by its Confluent-compatible interface) on loopback; it comes from Maven Central once.

    python registry.py app      fetches it and says where it lies
"""

import tarfile

import java
import maven

VERSION = "3.0.9"  # the newest that Java 17 runs
ARCHIVE = f"apicurio-registry-app-{VERSION}-all.tar.gz"
SHA256 = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43"


def app():
    """The directory with the unpacked registry."""
    def fill(made, scratch):
        (scratch / "fetched").mkdir()
        maven.maven(scratch, "dependency:copy", f"-DoutputDirectory={scratch / 'fetched'}",
                    f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all")
        maven.check(scratch / "fetched", {ARCHIVE: SHA256})
        with tarfile.open(scratch / "fetched" / ARCHIVE) as archive:
            archive.extractall(made)

    return maven.fetched(f"registry-{VERSION}", fill)


class Registry(java.Server):
    """Keeps its schemas in `directory`, so that they are there again after stop() or kill() and start()."""

    def __init__(self, directory, heap="256m"):
        super().__init__(directory)
        self.app, self.heap, self.port = app(), heap, java.free_port()
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def command(self):
        jar = next(path for name in ("*-runner.jar", "quarkus-run.jar") for path in self.app.glob(name))
        return ["java", f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-Dquarkus.http.host=127.0.0.1",
                f"-Dquarkus.http.port={self.port}", "-Dquarkus.http.access-log.enabled=false",
                f"-Dapicurio.datasource.url=jdbc:h2:file:{self.directory / 'schemas'}", "-jar", str(jar)]

    def ready(self, log):
        return java.answers(f"{self.url}/subjects")


if __name__ == "__main__":
    print(app())
