"""Each sensor's metrics by hour (UTC): count, min, max, sum, mean and standard deviation."""

import iot


def main() -> None:
    options = iot.arguments(__doc__).parse_args()
    spark = iot.session("hourly_aggregates")
    rows = iot.readings(spark, options.keyspace, options.start, options.end)
    result = iot.aggregates(iot.values(rows), "hour")
    iot.write(spark, result, options, ["location", "device_type", "hour"], ["iot_sensor_id", "metric"])
    spark.stop()


if __name__ == "__main__":
    main()
