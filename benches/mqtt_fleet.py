"""A fleet of MQTT clients by paho-mqtt, and the count of what reached Kafka. Used by benches/bridge.sh.

    mqtt_fleet.py publish HOST PORT CLIENTS RATE SECONDS   # RATE messages/s in total, QoS 1; prints how many were acknowledged
    mqtt_fleet.py count BROKERS TOPIC EXPECTED             # distinct messages, copies and missing ones

A client keeps what the broker has not acknowledged and sends it again after a reconnect. A payload is "CLIENT NUMBER".
"""
import heapq
import multiprocessing
import selectors
import sys
import time

PROCESSES = 2


class Device:
    """A client without a thread of its own."""

    def __init__(self, index, host, port, selector):
        import paho.mqtt.client as mqtt

        self.index, self.acknowledged, self.selector = index, 0, selector
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"device-{index}", clean_session=False)
        self.client.max_inflight_messages_set(100)
        self.client.on_publish = self.on_publish
        self.client.connect(host, port, keepalive=20)
        self.socket = self.client.socket()
        selector.register(self.socket, selectors.EVENT_READ, self)

    def on_publish(self, *_):
        self.acknowledged += 1

    def publish(self, number):
        self.client.publish(f"fleet/device-{self.index}", f"{self.index} {number}", qos=1)

    def tend(self):
        """Pings, and connects again; paho then sends again what is not acknowledged."""
        if self.client.socket() is not None:
            self.client.loop_misc()
            if self.client.want_write():
                self.client.loop_write()
        if self.client.socket() is self.socket and self.socket is not None:
            return
        if self.socket is not None:
            self.selector.unregister(self.socket)
            self.socket = None
        try:
            self.client.reconnect()
            self.socket = self.client.socket()
            self.selector.register(self.socket, selectors.EVENT_READ, self)
        except OSError:
            pass


def process(first, clients, host, port, interval, count, start, results):
    selector = selectors.DefaultSelector()
    devices = [Device(index, host, port, selector) for index in range(first, clients, PROCESSES)]
    due = [(start + position / len(devices) * interval, position, 0) for position in range(len(devices))]
    heapq.heapify(due)
    next_look, deadline = time.time() + 1, start + count * interval + 90
    while time.time() < deadline:
        now = time.time()
        while due and due[0][0] <= now:
            at, position, number = heapq.heappop(due)
            devices[position].publish(number)
            if number + 1 < count:
                heapq.heappush(due, (at + interval, position, number + 1))
        if now >= next_look:
            next_look = now + 1
            for device in devices:
                device.tend()
            if not due and all(device.acknowledged >= count for device in devices):
                break
        wait = min(due[0][0], next_look) if due else next_look
        for key, _ in selector.select(max(0, wait - time.time())):
            key.data.client.loop_read()
    results.put(sum(device.acknowledged for device in devices))


def publish(host, port, clients, rate, seconds):
    interval = clients / rate
    count = int(seconds / interval)
    results = multiprocessing.Queue()
    start = time.time() + 10
    processes = [
        multiprocessing.Process(
            target=process, args=(first, clients, host, port, interval, count, start, results)
        )
        for first in range(PROCESSES)
    ]
    for one in processes:
        one.start()
    total = sum(results.get() for _ in processes)
    for one in processes:
        one.join()
    print(f"published {clients * count}, acknowledged {total}, {time.time() - start:.0f} s")
    return 0 if total == clients * count else 1


def count(brokers, topic, expected):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "count", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    left = 0
    assigned = []
    for partition in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        left += high - low
        assigned.append(TopicPartition(topic, partition, low))
    consumer.assign(assigned)
    seen, read = set(), 0
    while read < left:
        for message in consumer.consume(5000, timeout=10):
            if message.error() is None:
                seen.add(message.value())
                read += 1
    print(f"in Kafka: {read} messages, {len(seen)} distinct, {read - len(seen)} copies, {expected - len(seen)} missing")
    return 0 if len(seen) == expected else 1


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "publish":
        sys.exit(publish(rest[0], int(rest[1]), int(rest[2]), float(rest[3]), float(rest[4])))
    sys.exit(count(rest[0], rest[1], int(rest[2])))
