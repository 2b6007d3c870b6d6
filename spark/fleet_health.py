"""How each sensor has been sending: readings, first and last, the usual interval, the longest gap, what is missing."""

import iot
from pyspark.sql import Window
from pyspark.sql import functions as F


def main() -> None:
    options = iot.arguments(__doc__).parse_args()
    spark = iot.session("fleet_health")
    rows = iot.readings(spark, options.keyspace, options.start, options.end)
    before = F.lag("recorded_timestamp").over(Window.partitionBy(*iot.SENSOR).orderBy("recorded_timestamp"))
    millis = F.unix_millis("recorded_timestamp")
    rows = rows.withColumn("interval", (millis - F.unix_millis(before)) / 1000.0)
    result = rows.groupBy(*iot.SENSOR).agg(
        F.count("*").alias("readings"),
        F.min("recorded_timestamp").alias("first_reading"),
        F.max("recorded_timestamp").alias("last_reading"),
        F.percentile("interval", 0.5).alias("median_interval_seconds"),
        F.max("interval").alias("longest_gap_seconds"),
        # The share of readings in which motion was seen, of those that tell.
        F.avg(F.col("motion_detected").cast("double")).alias("motion_share"),
        # Of what the sensor has ever measured, how much is missing; null where it never did.
        *[
            F.when(F.count(name) > 0, 1 - F.count(name) / F.count("*")).alias(f"{name}_missing_share")
            for name in iot.METRICS
        ],
    )
    iot.write(spark, result, options, ["location", "device_type"], ["iot_sensor_id"])
    spark.stop()


if __name__ == "__main__":
    main()
