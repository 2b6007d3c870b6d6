"""What the jobs share: the session, the stored readings, and where results go.

The readings are read from the real table by token ranges, in parallel on all executors. A value that was not measured
is null and enters no aggregate. A reading that is stored in two buckets, because the bucket's width was changed, is
taken once, from the narrowest, as `iotctl query` does it.
"""

import argparse
import os
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

CASSANDRA = "org.apache.spark.sql.cassandra"
# The columns of the table that are metrics; all others are in the map `other_metrics`.
METRICS = ["temperature", "humidity", "pressure", "light_level", "gas_concentration"]
SENSOR = ["location", "device_type", "iot_sensor_id"]


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that `iotctl batch run` gives to every job."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--keyspace", default="sensor_data_schema")
    parser.add_argument("--from", dest="start", type=moment, help="RFC 3339; from this moment on")
    parser.add_argument("--to", dest="end", type=moment, help="RFC 3339; up to this moment, without it")
    parser.add_argument("--output", help="a folder for Parquet files; replaced where it exists")
    parser.add_argument("--table", help="a table of the keyspace, made where it does not exist")
    return parser


def moment(text: str) -> datetime:
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset (write 2026-01-31T12:00:00Z)")
    return at


def session(name: str) -> SparkSession:
    builder = (
        SparkSession.builder.appName(f"iotctl {name}")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.catalog.iot", "com.datastax.spark.connector.datasource.CassandraCatalog")
    )
    # Not as arguments, which every user of the machine can read.
    for variable, key in [
        ("IOTCTL_SPARK_USERNAME", "spark.cassandra.auth.username"),
        ("IOTCTL_SPARK_PASSWORD", "spark.cassandra.auth.password"),
        ("IOTCTL_SPARK_TRUST_STORE_PASSWORD", "spark.cassandra.connection.ssl.trustStore.password"),
    ]:
        if variable in os.environ:
            builder = builder.config(key, os.environ[variable])
    return builder.getOrCreate()


def table(spark: SparkSession, keyspace: str, name: str) -> DataFrame:
    return spark.read.format(CASSANDRA).options(keyspace=keyspace, table=name).load()


def readings(spark: SparkSession, keyspace: str, start: datetime | None, end: datetime | None) -> DataFrame:
    """The readings recorded in [start, end), each once."""
    rows = table(spark, keyspace, "iot_sensor_metrics")
    if start:
        rows = rows.where(F.col("recorded_timestamp") >= F.lit(start))
    if end:
        rows = rows.where(F.col("recorded_timestamp") < F.lit(end))
    partitions = table(spark, keyspace, "sensor_partitions")
    # Buckets of one width cannot overlap, so only groups with several widths may hold copies: mostly none.
    group = ["location", "device_type"]
    mixed = (
        partitions.groupBy(*group).agg(F.countDistinct("bucket_seconds").alias("widths")).where("widths > 1").select(*group)
    ).cache()
    if mixed.isEmpty():
        return rows.drop("bucket")
    # Buckets that start together share a partition, which is as wide as the widest.
    width = partitions.groupBy(*group, "bucket").agg(F.max("bucket_seconds").alias("width"))
    copies = Window.partitionBy(*SENSOR, "recorded_timestamp").orderBy(F.col("width").asc_nulls_last(), "bucket")
    once = (
        rows.join(F.broadcast(mixed), group, "left_semi")
        .join(width, [*group, "bucket"], "left")
        .withColumn("copy", F.row_number().over(copies))
        .where("copy = 1")
        .drop("copy", "width")
    )
    return rows.join(F.broadcast(mixed), group, "left_anti").unionByName(once).drop("bucket")


def values(rows: DataFrame) -> DataFrame:
    """One row for each value that was measured: (sensor, recorded_timestamp, metric, value as a double)."""
    columns = [F.struct(F.lit(name).alias("metric"), decimal(F.col(name)).alias("value")) for name in METRICS]
    # A table that was created by the first version of iotctl has 32-bit floats in other_metrics, and what was written
    # later in other_metrics_64.
    maps = [name for name in ("other_metrics_64", "other_metrics") if name in rows.columns]
    others = F.coalesce(*(entries(rows, name) for name in maps), F.array())
    return (
        rows.select(*SENSOR, "recorded_timestamp", F.explode(F.concat(F.array(*columns), others)).alias("measured"))
        .select(*SENSOR, "recorded_timestamp", "measured.metric", "measured.value")
        .where("value is not null")
    )


def decimal(number: Column) -> Column:
    """A 32-bit float as the decimal that it stands for: 21.3, and not 21.299999237060547, as everywhere in iotctl."""
    return number.cast("string").cast("double")


def entries(rows: DataFrame, name: str) -> Column:
    """A map of metrics as an array of (metric, value); null where there is none."""
    is_float = rows.schema[name].dataType.valueType.typeName() == "float"
    value = decimal if is_float else lambda number: number
    return F.transform(
        F.map_entries(name), lambda entry: F.struct(entry["key"].alias("metric"), value(entry["value"]).alias("value"))
    )


def aggregates(measured: DataFrame, unit: str) -> DataFrame:
    """Count, extremes, sum, mean and population deviation of each sensor's metrics by `unit` (hour, day), in UTC."""
    return (
        measured.groupBy(*SENSOR, "metric", F.date_trunc(unit, "recorded_timestamp").alias(unit))
        .agg(
            F.count("value").alias("count"),
            F.min("value").alias("min"),
            F.max("value").alias("max"),
            F.sum("value").alias("sum"),
            F.avg("value").alias("mean"),
            F.stddev_pop("value").alias("stddev"),
        )
    )


def write(
    spark: SparkSession, result: DataFrame, options: argparse.Namespace, partition_key: list[str], clustering: list[str]
) -> None:
    """Writes the result where the options say; the keys are those of the table, if it is made."""
    if not options.output and not options.table:
        raise SystemExit("give --output DIR or --table NAME")
    if options.output and options.table:
        result = result.cache()
    if options.output:
        result.write.mode("overwrite").parquet(options.output)
    if options.table:
        if not options.table.isidentifier():
            raise SystemExit(f"{options.table!r} is no name of a table (letters, digits and _)")
        types = {"timestamp": "timestamp", "string": "string", "double": "double", "bigint": "bigint", "int": "int", "float": "float"}
        columns = ", ".join(f"{field.name} {types[field.dataType.simpleString()]}" for field in result.schema)
        spark.sql(
            f"CREATE TABLE IF NOT EXISTS iot.{options.keyspace}.{options.table} ({columns}) USING cassandra "
            f"PARTITIONED BY ({', '.join(partition_key)}) TBLPROPERTIES (clustering_key='{','.join(clustering)}')"
        )
        (
            result.write.format(CASSANDRA)
            .mode("append")
            # A null would be a tombstone.
            .option("spark.cassandra.output.ignoreNulls", "true")
            .options(keyspace=options.keyspace, table=options.table)
            .save()
        )
