"""A real Kafka broker (KRaft, one node) on loopback. Its jars come from Maven Central once.

    python kafka.py jars        fetches them and says where they lie
"""

import functools
import pathlib
import subprocess
import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

import java
import maven

VERSION = "3.9.2"
SHA256 = pathlib.Path(__file__).with_name("kafka.sha256")
CLUSTER_ID = "aGVhZHJhY2Utc2NlbmFyaQ"  # any 16 bytes in URL-safe base64
SOON = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TRANSPORT, KafkaError._TIMED_OUT)
# Without a logger behind slf4j the broker says nothing, not even why it stops.
POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId><artifactId>scenarios</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def jars():
    """The directory with the broker's jars."""
    def fill(made, scratch):
        (scratch / "pom.xml").write_text(POM)
        maven.maven(scratch, "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={made}")
        maven.check(made, {name: digest for digest, name in map(str.split, SHA256.read_text().splitlines())})

    return maven.fetched(f"kafka-{VERSION}", fill)


class Broker(java.Server):
    """A broker whose data lies in `directory`: what was in it is there again after stop() or kill() and start().

    properties   lines of server.properties that overrule ours
    listeners    security protocols, each on a port of its own; clients of the first one use .address
    scram        user -> password, for listeners with SASL
    quick        starts soon, and compiles less well than a bench wants it
    """

    def __init__(self, directory, properties=None, listeners=("PLAINTEXT",), scram=None, heap="384m", quick=True):
        super().__init__(directory)
        self.jars, self.heap, self.scram, self.quick = jars(), heap, scram or {}, quick
        self.ports = {protocol: java.free_port() for protocol in listeners}
        self.controller = java.free_port()
        self.address = self.address_of(listeners[0])
        self.properties = {**self._defaults(), **(properties or {})}

    def address_of(self, protocol):
        return f"127.0.0.1:{self.ports[protocol]}"

    def _defaults(self):
        """One node, so one replica; few partitions and no delay of a rebalance, for a quick start; a short session of
        the broker itself, or a start after a kill waits for the dead one's to expire."""
        listeners = ",".join(f"{protocol}://127.0.0.1:{port}" for protocol, port in self.ports.items())
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self.controller}",
            "listener.security.protocol.map": ",".join(
                ["CONTROLLER:PLAINTEXT", *[f"{protocol}:{protocol}" for protocol in self.ports]]),
            "inter.broker.listener.name": next(iter(self.ports)),
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        }

    def _java(self, heap, *arguments):
        return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", *(["-XX:TieredStopAtLevel=1"] if self.quick else []), "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-cp", f"{self.jars}/*", *arguments]

    def command(self):
        return self._java(self.heap, "kafka.Kafka", str(self.directory / "server.properties"))

    def ready(self, log):
        return b"Kafka Server started" in log

    def start(self):
        file = self.directory / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()))
        if not (self.directory / "data/meta.properties").exists():
            users = [flag for user, password in self.scram.items()
                     for flag in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")]
            subprocess.run(self._java("128m", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(file),
                                      *users), check=True, capture_output=True)
        super().start()

    def reset(self, topics):
        """As new, but for the time that a start takes: only these topics (name -> partitions). Groups stay: their
        offsets went with the topics, and a name of its own is cheaper than to wait until a killed member is given up."""
        if self.process is None or self.process.poll() is not None:
            self.process = None
            self.start()
        names = [name for name in self.admin.list_topics(timeout=30).topics if not name.startswith("__")]
        if names:
            self.delete_topics(*names)
        self.create_topics(topics)

    @functools.cached_property
    def admin(self):
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    @staticmethod
    def _all(ask):
        """Waits for what the broker does; right behind a topic's creation its leaders may not be known yet."""
        end = time.monotonic() + 30
        while True:
            try:
                for future in ask().values():
                    future.result(30)
                return
            except KafkaException as failure:
                if failure.args[0].code() not in SOON or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def create_topics(self, topics, **config):
        """`topics` is name -> partitions; `config` their properties, with underscores for dots."""
        properties = {name.replace("_", "."): str(value) for name, value in config.items()}
        self._all(lambda: self.admin.create_topics([NewTopic(name, count, 1, config=properties)
                                                    for name, count in topics.items()]))

    def delete_topics(self, *names):
        self._all(lambda: self.admin.delete_topics(list(names)))

    def add_partitions(self, topic, total):
        self._all(lambda: self.admin.create_partitions([NewPartitions(topic, total)]))

    def delete_records(self, topic, before):
        """What is earlier than the offset in `before` (partition -> offset) is gone, as if its time were over."""
        places = [TopicPartition(topic, p, offset) for p, offset in before.items()]
        self._all(lambda: self.admin.delete_records(places))


if __name__ == "__main__":
    print(jars())
