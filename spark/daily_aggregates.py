"""Each sensor's metrics by day (UTC): count, min, max, sum, mean and standard deviation."""

import iot


def main() -> None:
    options = iot.arguments(__doc__).parse_args()
    spark = iot.session("daily_aggregates")
    rows = iot.readings(spark, options.keyspace, options.start, options.end)
    result = iot.aggregates(iot.values(rows), "day")
    iot.write(spark, result, options, ["location", "device_type", "day"], ["iot_sensor_id", "metric"])
    spark.stop()


if __name__ == "__main__":
    main()
