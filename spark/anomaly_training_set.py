"""Each measured value with what came before it, as features for a detector of anomalies.

The features look back only: what a detector would have known when the value came. Null where there was nothing yet.
"""

import iot
from pyspark.sql import Window
from pyspark.sql import functions as F


def main() -> None:
    parser = iot.arguments(__doc__)
    parser.add_argument("--window", type=int, default=60, help="how many earlier values to look back (60)")
    parser.add_argument("--share", type=float, default=1.0, help="share of the sensors to take, the same ones each time (1.0)")
    options = parser.parse_args()
    spark = iot.session("anomaly_training_set")
    rows = iot.readings(spark, options.keyspace, options.start, options.end)
    if options.share < 1:
        rows = rows.where(F.pmod(F.xxhash64("iot_sensor_id"), F.lit(10_000)) < int(options.share * 10_000))
    series = Window.partitionBy(*iot.SENSOR, "metric").orderBy("recorded_timestamp")
    earlier = series.rowsBetween(-options.window, -1)
    previous = F.lag("value").over(series)
    previous_at = F.lag("recorded_timestamp").over(series)
    result = (
        iot.values(rows)
        .withColumn("previous", previous)
        .withColumn("seconds_since_previous", (F.unix_millis("recorded_timestamp") - F.unix_millis(previous_at)) / 1000.0)
        .withColumn("earlier_count", F.count("value").over(earlier))
        .withColumn("earlier_mean", F.avg("value").over(earlier))
        .withColumn("earlier_stddev", F.stddev_pop("value").over(earlier))
        .withColumn("change", F.col("value") - F.col("previous"))
        .withColumn(
            "z",
            F.when(F.col("earlier_stddev") > 0, (F.col("value") - F.col("earlier_mean")) / F.col("earlier_stddev")),
        )
        .withColumn("hour_of_day", F.hour("recorded_timestamp"))
        .withColumn("day_of_week", F.dayofweek("recorded_timestamp"))
    )
    iot.write(spark, result, options, ["location", "device_type", "iot_sensor_id"], ["metric", "recorded_timestamp"])
    spark.stop()


if __name__ == "__main__":
    main()
