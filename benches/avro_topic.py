"""Readings of the wire format on stdin become the Avro messages of benches/avro.toml in a topic: avro_topic.py SERVERS TOPIC.
Needs confluent-kafka and fastavro (tests/registry/requirements.txt)."""
import io
import json
import sys
from datetime import datetime
from pathlib import Path

from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer

servers, topic = sys.argv[1:]
schema = parse_schema(json.loads((Path(__file__).parent / "reading.avsc").read_text()))
producer = Producer({"bootstrap.servers": servers, "compression.type": "lz4", "linger.ms": 50})
METRICS = "temperature", "humidity", "pressure", "light_level"
for line in sys.stdin:
    reading = json.loads(line)
    moment = reading["recorded_timestamp"]
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    others = {name: float(value) for name, value in (reading.get("other_metrics") or {}).items()}
    # The schema has no fields of their own for these.
    for name in "gas_concentration", "motion_detected":
        if reading.get(name) is not None:
            others[name] = float(reading[name])
    record = {name: reading.get(name) for name in METRICS}
    record |= {"location": reading["location"], "device_type": reading["device_type"], "others": others}
    record |= {"sensor": reading["iot_sensor_id"], "at": moment}
    payload = io.BytesIO()
    schemaless_writer(payload, schema, record)
    while True:
        try:
            producer.produce(topic, key=reading["iot_sensor_id"], value=payload.getvalue())
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)
left = producer.flush(60)
if left:
    sys.exit(f"{left} messages were not sent")
