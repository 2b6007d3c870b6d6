"""Sends readings by Confluent's own serializers, the first half by one version of a schema and the second by the next, and
writes what has to be stored.

Usage: send.py avro|protobuf|json BOOTSTRAP REGISTRY TOPIC EXPECTED.ndjson [--faults] [--wait]

With --faults, messages with an id that is not registered, cut ones and one without a frame follow (FAULTS below). With --wait,
the second half is sent when a line arrives on stdin; it is serialized before, so that no registry is needed then.
"""

import datetime
import decimal
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import uuid

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.serialization import MessageField, SerializationContext

HERE = pathlib.Path(__file__).parent
COUNT = 2_000
UNKNOWN, CUT, BARE = 7, 2, 1
# As docs/mapping.md says.
NAMESPACE = uuid.UUID("3b1f6c0a-8f6e-4d53-a1c7-0d2e94b85f66")
START = datetime.datetime(2026, 3, 7, tzinfo=datetime.timezone.utc)

PLACE = {"type": "record", "name": "Place", "namespace": "plant", "fields": [{"name": "site", "type": "string"}]}
MODE = {"type": "enum", "name": "Mode", "symbols": ["OFF", "HEAT"]}


def avro_schema(version: int) -> dict:
    time = "timestamp-millis" if version == 1 else "timestamp-micros"
    fields = [
        {"name": "device", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": time}},
        {"name": "temperature", "type": ["null", "double"], "default": None},
        {"name": "humidity", "type": "float"},
        {"name": "mode", "type": MODE},
        # The second version has it from another subject.
        {"name": "place", "type": PLACE if version == 1 else "plant.Place"},
    ]
    if version == 2:
        price = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
        # A new first field moves all others.
        fields.insert(0, {"name": "battery", "type": ["null", price], "default": None})
        fields.append({"name": "extra", "type": {"type": "map", "values": "long"}, "default": {}})
    return {"type": "record", "name": "Reading", "namespace": "plant", "fields": fields}


def json_schema(version: int) -> dict:
    properties = {"device": {"type": "string"}, "at": {"type": "string"}, "humidity": {"type": "number"}}
    if version == 2:
        properties["extra"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Reading", "type": "object",
            "properties": properties, "required": ["device", "at"]}


def readings(version: int):
    """Half of them, as dictionaries."""
    chance = random.Random(version)
    for number in range(COUNT // 2):
        reading = {
            "device": f"probe-{number % 20}",
            "at": START + datetime.timedelta(minutes=number, milliseconds=500, hours=100 * version),
            "temperature": None if number % 7 == 0 else chance.randrange(-2000, 4000) / 100,
            "humidity": chance.randrange(0, 400) / 4,
            "mode": ["OFF", "HEAT"][number % 2],
            "place": {"site": f"hall-{number % 3}"},
        }
        if version == 2:
            reading["battery"] = None if number % 5 == 0 else decimal.Decimal(chance.randrange(0, 9999)) / 100
            reading["extra"] = {"rssi": -chance.randrange(30, 120), "uptime": 2**40 + number}
        yield reading


def stored(reading: dict) -> dict:
    others = {name: float(value) for name, value in reading.get("extra", {}).items()}
    if reading.get("battery") is not None:
        others["battery"] = float(reading["battery"])
    return {
        "location": reading["place"]["site"],
        "device_type": "probe",
        "sensor": str(uuid.uuid5(NAMESPACE, reading["device"])),
        "at": round(reading["at"].timestamp() * 1000),
        "temperature": reading["temperature"],
        "humidity": reading["humidity"],
        "other_metrics": others,
        "states": {"mode": reading["mode"]},
    }


def avro(registry, topic):
    from confluent_kafka.schema_registry.avro import AvroSerializer

    subject = f"{topic}-place"
    registry.register_schema(subject, Schema(json.dumps(PLACE), "AVRO"))
    for version in (1, 2):
        references = [SchemaReference("plant.Place", subject, 1)] if version == 2 else []
        serializer = AvroSerializer(registry, Schema(json.dumps(avro_schema(version)), "AVRO", references))
        yield [serializer(reading, SerializationContext(topic, MessageField.VALUE)) for reading in readings(version)]


def protobuf(registry, topic):
    from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

    for version in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "set"
            subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", "--include_imports",
                            f"--descriptor_set_out={out}", f"reading_v{version}.proto"], check=True)
            files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("plant.Envelope.Reading"))
        serializer = ProtobufSerializer(kind, registry, {"use.deprecated.format": False})
        half = []
        for reading in readings(version):
            plain = {name: value for name, value in reading.items() if value is not None}
            plain["at"] = reading["at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            if "battery" in plain:
                plain["battery"] = float(plain["battery"])
            message = json_format.ParseDict(plain, kind())
            half.append(serializer(message, SerializationContext(topic, MessageField.VALUE)))
        yield half


def json_(registry, topic):
    from confluent_kafka.schema_registry.json_schema import JSONSerializer

    def plain(reading, _):
        reading = dict(reading, at=reading["at"].isoformat())
        if reading.get("battery") is not None:
            reading["battery"] = float(reading["battery"])
        return reading

    for version in (1, 2):
        serializer = JSONSerializer(json.dumps(json_schema(version)), registry, to_dict=plain)
        yield [serializer(reading, SerializationContext(topic, MessageField.VALUE)) for reading in readings(version)]


def main() -> None:
    family, bootstrap, url, topic, expected = sys.argv[1:6]
    registry = SchemaRegistryClient({"url": url})
    halves = list({"avro": avro, "protobuf": protobuf, "json": json_}[family](registry, topic))
    with open(expected, "w") as file:
        for version in (1, 2):
            file.writelines(json.dumps(stored(reading)) + "\n" for reading in readings(version))
    producer = Producer({"bootstrap.servers": bootstrap})

    def send(payloads):
        for number, payload in enumerate(payloads):
            producer.produce(topic, payload, key=f"probe-{number % 20}")
        assert producer.flush(60) == 0

    send(halves[0])
    if "--wait" in sys.argv:
        print("half", flush=True)
        sys.stdin.readline()
    send(halves[1])
    if "--faults" in sys.argv:
        whole = halves[1][0]
        send([b"\0" + (4_000_000).to_bytes(4, "big") + whole[5:]] * UNKNOWN + [whole[:-3]] * CUT + [b"{" + whole[6:]] * BARE)
    print("sent", flush=True)


main()
