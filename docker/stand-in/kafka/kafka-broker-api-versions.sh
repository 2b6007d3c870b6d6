#!/bin/sh
# Another command that asks the broker: the jars of `iotctl up` are without Kafka's tools.
exec java -Xmx64m -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' kafka.admin.ConfigCommand --describe --entity-type brokers "$@"
