//! SQL over the tables: `iotctl sql` and `iotctl serve`. Each answer equals what is computed from the messages that were sent.

use crate::support::Lab;

/// With the feature, each answer; without it, the sentence that says how to get it.
pub fn trials() -> Vec<libtest_mimic::Trial> {
    #[cfg(feature = "sql")]
    return [sql_answers::trials(), crate::sql_rollups::trials(), crate::sql_prompt::trials()]
        .into_iter()
        .flatten()
        .collect();
    #[cfg(not(feature = "sql"))]
    return sql_missing::trials();
}

#[cfg(not(feature = "sql"))]
mod sql_missing {
    use super::Lab;
    use crate::support::contains;

    crate::trials!(a_build_without_sql_says_how_to_get_it);

    fn a_build_without_sql_says_how_to_get_it() -> anyhow::Result<()> {
        let lab = Lab::bare("sql")?;
        for arguments in [["sql", "SELECT 1"], ["serve", "--pg=5433"]] {
            let said = lab.fails(2, &arguments.map(str::to_owned)[..])?;
            contains(&said, &["built without SQL", "--features sql"])?;
        }
        Ok(())
    }
}

#[cfg(feature = "sql")]
mod sql_answers {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, Instant};

    use anyhow::{Context as _, ensure};
    use chrono::{DateTime, SecondsFormat};
    use serde_json::{Value, json};

    use super::Lab;
    use crate::rollups::{age_marks, roll};
    use crate::support::{contains, message};

    crate::trials!(
        answers_equal_what_was_sent,
        conditions_choose_partitions_and_explain_says_so,
        an_order_by_time_with_a_limit_reads_only_what_it_needs,
        of_an_aggregate_the_first_periods_are_read_alone,
        rows_without_an_order_come_once_each_from_overlapping_buckets_and_by_sensor,
        hourly_and_daily_are_exact_with_and_without_rollups,
        functions_of_time_series_equal_brute_force,
        nothing_can_be_changed,
        statements_come_from_standard_input_and_errors_end_it,
        answers_are_files_and_pictures,
        a_statement_that_only_computes_ends_at_its_deadline_and_at_a_signal,
        registry_tables_hold_names_tags_and_groups,
        alerts_dead_letters_and_forecasts_are_tables,
    );

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    /// 2026-11-01T00:00:00Z.
    const START: i64 = 1_793_491_200_000;
    const STEPS: i64 = 30 * 12;

    #[derive(Debug, Clone)]
    struct Sent {
        location: &'static str,
        sensor: u128,
        at: i64,
        temperature: Option<f64>,
        counter: f64,
    }

    /// Four sensors at two locations, every five minutes for thirty hours. Each seventh temperature is missing; the counter of
    /// each sensor starts again after a hundred steps.
    fn sent() -> Vec<Sent> {
        (0..STEPS)
            .flat_map(|step| {
                (0..4_u128).map(move |sensor| Sent {
                    location: if sensor < 2 { "plant-1" } else { "plant-2" },
                    sensor,
                    at: START + step * 5 * MINUTE + sensor as i64,
                    temperature: (step % 7 != 3).then(|| ((step * 13 + sensor as i64 * 5) % 97) as f64 / 4.0),
                    counter: ((step % 100) * (sensor as i64 + 1)) as f64,
                })
            })
            .collect()
    }

    fn lab(name: &str) -> anyhow::Result<Lab> {
        let mut lab = Lab::bare(name)?;
        lab.set("IOTCTL_SCHEMA_TTL", "1000d");
        lab.set("IOTCTL_SCHEMA_BUCKET", "1h");
        lab.ok("-q schema apply")?;
        lab.send(sent().into_iter().map(|row| {
            let temperature =
                row.temperature.map(|value| format!(r#","temperature":{value}"#)).unwrap_or_default();
            let rest = format!(r#"{temperature},"other_metrics":{{"counter":{}}}"#, row.counter);
            message(row.location, row.sensor, row.at, &rest)
        }))?;
        lab.ingest()?;
        Ok(lab)
    }

    fn sql(lab: &Lab, statement: &str) -> anyhow::Result<Vec<Value>> {
        let words = ["-q", "sql", statement, "--format", "ndjson"].map(str::to_owned);
        lab.lines(&words[..]).with_context(|| statement.to_owned())
    }

    fn plan(lab: &Lab, statement: &str) -> anyhow::Result<String> {
        lab.ok(&["-q".to_owned(), "sql".to_owned(), format!("EXPLAIN {statement}")][..])
    }

    fn shown(at: i64) -> String {
        DateTime::from_timestamp_millis(at).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    fn id(sensor: u128) -> String {
        uuid::Uuid::from_u128(sensor).to_string()
    }

    fn answers_equal_what_was_sent() -> anyhow::Result<()> {
        let lab = lab("answers")?;
        let rows = sent();
        let count = sql(&lab, "SELECT count(*) AS n, count(temperature) AS t FROM readings")?;
        let measured = rows.iter().filter(|row| row.temperature.is_some()).count();
        ensure!(count == [json!({"n": rows.len(), "t": measured})], "{count:?}");

        let found = sql(
            &lab,
            "SELECT location, iot_sensor_id, recorded_timestamp, temperature, counter, \
             metric(other_metrics, 'counter') AS same FROM readings ORDER BY recorded_timestamp",
        )?;
        ensure!(found.len() == rows.len(), "{} rows", found.len());
        for (found, row) in found.iter().zip(&rows) {
            let mut expected = json!({
                "location": row.location, "iot_sensor_id": id(row.sensor), "recorded_timestamp": shown(row.at),
                "counter": row.counter, "same": row.counter,
            });
            if let Some(temperature) = row.temperature {
                expected["temperature"] = json!(temperature);
            }
            ensure!(found["temperature"].as_f64() == row.temperature, "{found} instead of {expected}");
            ensure!(
                ["location", "iot_sensor_id", "recorded_timestamp"]
                    .iter()
                    .all(|key| found[key] == expected[key])
                    && found["counter"].as_f64() == Some(row.counter)
                    && found["same"].as_f64() == Some(row.counter),
                "{found} instead of {expected}"
            );
        }

        let by_location = sql(
            &lab,
            "SELECT location, max(temperature) AS high, sum(counter) AS sum FROM readings \
             WHERE temperature > 3 OR temperature IS NULL GROUP BY location ORDER BY location",
        )?;
        for (line, location) in by_location.iter().zip(["plant-1", "plant-2"]) {
            let passes =
                |row: &&Sent| row.location == location && row.temperature.is_none_or(|value| value > 3.0);
            let high = rows.iter().filter(passes).filter_map(|row| row.temperature).fold(f64::MIN, f64::max);
            let sum: f64 = rows.iter().filter(passes).map(|row| row.counter).sum();
            ensure!(line["high"].as_f64() == Some(high) && line["sum"].as_f64() == Some(sum), "{line}");
        }

        let newest = sql(&lab, "SELECT iot_sensor_id, recorded_timestamp FROM latest ORDER BY 1")?;
        let expected: Vec<_> = rows[rows.len() - 4..]
            .iter()
            .map(|row| json!({"iot_sensor_id": id(row.sensor), "recorded_timestamp": shown(row.at)}))
            .collect();
        ensure!(newest == expected, "{newest:?}");
        let joined = sql(
            &lab,
            "SELECT count(*) AS n FROM readings r JOIN sensors s ON r.iot_sensor_id = s.iot_sensor_id \
             WHERE s.location = 'plant-2'",
        )?;
        ensure!(joined == [json!({"n": rows.len() / 2})], "{joined:?}");
        Ok(())
    }

    fn conditions_choose_partitions_and_explain_says_so() -> anyhow::Result<()> {
        let lab = lab("partitions")?;
        let (from, to) = (shown(START + 5 * HOUR), shown(START + 8 * HOUR));
        let range = format!("recorded_timestamp >= '{from}' AND recorded_timestamp < '{to}'");
        contains(&plan(&lab, "SELECT * FROM readings")?, &["groups=2", "partitions of raw rows=60"])?;
        contains(
            &plan(&lab, &format!("SELECT * FROM readings WHERE location = 'plant-1' AND {range}"))?,
            &["groups=1", "partitions of raw rows=3"],
        )?;
        let sensor = id(3);
        let of_sensor = format!("SELECT * FROM readings WHERE iot_sensor_id = '{sensor}' AND {range}");
        contains(&plan(&lab, &of_sensor)?, &["groups=1", "partitions of raw rows=3", "sensors=1"])?;
        let found = sql(&lab, &of_sensor)?;
        let expected = sent()
            .into_iter()
            .filter(|row| row.sensor == 3 && (START + 5 * HOUR..START + 8 * HOUR).contains(&row.at))
            .map(|row| shown(row.at))
            .collect::<BTreeSet<_>>();
        let moments: BTreeSet<_> =
            found.iter().filter_map(|row| row["recorded_timestamp"].as_str().map(str::to_owned)).collect();
        ensure!(moments == expected && found.len() == expected.len(), "{found:?}");
        let none = sql(&lab, "SELECT * FROM readings WHERE location = 'plant-1' AND location = 'plant-2'")?;
        ensure!(none.is_empty(), "{none:?}");
        Ok(())
    }

    fn an_order_by_time_with_a_limit_reads_only_what_it_needs() -> anyhow::Result<()> {
        let lab = lab("order")?;
        let mut rows = sent();
        for direction in ["ASC", "DESC"] {
            let statement =
                format!("SELECT iot_sensor_id FROM readings ORDER BY recorded_timestamp {direction} LIMIT 5");
            let plan = plan(&lab, &statement)?;
            ensure!(!plan.contains("SortExec") && plan.contains("limit=5"), "{plan}");
            let found: Vec<_> =
                sql(&lab, &statement)?.iter().map(|row| row["iot_sensor_id"].clone()).collect();
            let expected: Vec<_> = rows.iter().take(5).map(|row| json!(id(row.sensor))).collect();
            ensure!(found == expected, "{direction}: {found:?}");
            // A condition on a value stands in no way.
            let hot = format!(
                "SELECT temperature FROM readings WHERE temperature > 20 ORDER BY recorded_timestamp {direction} LIMIT 7"
            );
            ensure!(!self::plan(&lab, &hot)?.contains("SortExec"), "{}", self::plan(&lab, &hot)?);
            let found: Vec<_> =
                sql(&lab, &hot)?.iter().filter_map(|row| row["temperature"].as_f64()).collect();
            let expected: Vec<_> =
                rows.iter().filter_map(|row| row.temperature).filter(|value| *value > 20.0).take(7).collect();
            ensure!(found == expected, "{direction}: {found:?}");
            rows.reverse();
        }
        let analysed = plan(&lab, "ANALYZE SELECT * FROM readings ORDER BY recorded_timestamp DESC LIMIT 5")?;
        let read = analysed.split("rows_read=").nth(1).and_then(|rest| rest.split([',', ']']).next());
        let read: usize = read.context("rows_read is shown")?.trim().parse()?;
        ensure!(read < rows.len() / 4, "{read} of {} rows were read", rows.len());
        Ok(())
    }

    fn of_an_aggregate_the_first_periods_are_read_alone() -> anyhow::Result<()> {
        let lab = lab("periods")?;
        let ten = "time_bucket('10 minutes', recorded_timestamp)";
        for (statement, limit, first) in [
            (format!("SELECT {ten} AS at, max(temperature) FROM readings GROUP BY 1 ORDER BY 1 DESC"), 3, Some("newest")),
            (format!("SELECT {ten} AS at, count(*), avg(temperature) FROM readings GROUP BY 1 ORDER BY 1"), 3, Some("oldest")),
            (format!("SELECT location, {ten} AS at, count(temperature) FROM readings GROUP BY 1, 2 ORDER BY 2 DESC, 1"), 5, Some("newest")),
            (format!("SELECT {ten} AS at, iot_sensor_id, min(temperature) AS low FROM readings WHERE temperature > 5 AND recorded_timestamp < '2026-11-02T02:13:00Z' GROUP BY 1, 2 ORDER BY at DESC, low DESC, 2"), 7, Some("newest")),
            ("SELECT date_trunc('minute', recorded_timestamp) AS at, count(*) FROM readings GROUP BY at ORDER BY at DESC".to_owned(), 4, Some("newest")),
            ("SELECT date_bin(INTERVAL '10 minutes', recorded_timestamp, TIMESTAMP '2026-01-01T00:03:00Z') AS at, sum(temperature) FROM readings GROUP BY at ORDER BY at".to_owned(), 2, Some("oldest")),
            (format!("SELECT DISTINCT {ten} AS at FROM readings ORDER BY at DESC"), 3, Some("newest")),
            // Two thousand periods are nearly all: the order would cost more than it saves.
            (format!("SELECT {ten} AS at, max(temperature) FROM readings GROUP BY 1 ORDER BY 1 DESC"), 2000, None),
            // Whether a period is one of the first is known at the end.
            (format!("SELECT {ten} AS at, max(temperature) AS high FROM readings GROUP BY 1 ORDER BY 2 DESC, 1"), 3, None),
            ("SELECT date_part('minute', recorded_timestamp) AS at, count(*) FROM readings GROUP BY 1 ORDER BY 1".to_owned(), 3, None),
        ] {
            let all = sql(&lab, &statement)?;
            for tail in [format!("LIMIT {limit}"), format!("LIMIT {limit} OFFSET 2")] {
                let skipped = if tail.contains("OFFSET") { 2 } else { 0 };
                let limited = format!("{statement} {tail}");
                let expected: Vec<_> = all.iter().skip(skipped).take(limit).cloned().collect();
                let found = sql(&lab, &limited)?;
                ensure!(found == expected && !found.is_empty(), "{limited}: {found:?}, not {expected:?}");
                let plan = plan(&lab, &limited)?;
                let order = ["newest", "oldest"].into_iter().find(|order| plan.contains(&format!("{order} first")));
                ensure!(order == first, "{limited}: {plan}");
                if first.is_some() {
                    let analysed = self::plan(&lab, &format!("ANALYZE {limited}"))?;
                    let read = analysed.split("rows_read=").nth(1).and_then(|rest| rest.split([',', ']']).next());
                    let read: usize = read.context("rows_read is shown")?.trim().parse()?;
                    ensure!(read < sent().len() / 4, "{limited}: {read} rows were read");
                }
            }
        }
        Ok(())
    }

    fn rows_without_an_order_come_once_each_from_overlapping_buckets_and_by_sensor() -> anyhow::Result<()> {
        let lab = lab("unordered")?;
        let again = format!("kafka.group={}_again", lab.name);
        lab.ok(&["-q", "-O", "schema.bucket=20m", "-O", &again, "ingest", "--until-end"])?;
        let rows = sent();
        let of = |sensors: &[u128]| -> BTreeMap<(String, String), Option<f64>> {
            let wanted = rows.iter().filter(|row| sensors.contains(&row.sensor));
            wanted.map(|row| ((id(row.sensor), shown(row.at)), row.temperature)).collect()
        };
        let [some, one] = [&[0, 3][..], &[2]].map(|sensors| {
            sensors.iter().map(|sensor| format!("'{}'", id(*sensor))).collect::<Vec<_>>().join(", ")
        });
        for (condition, expected) in [
            (String::new(), of(&[0, 1, 2, 3])),
            (format!("WHERE iot_sensor_id IN ({some})"), of(&[0, 3])),
            (format!("WHERE iot_sensor_id IN ({one})"), of(&[2])),
        ] {
            let statement = format!(
                "SELECT iot_sensor_id AS s, recorded_timestamp AS at, temperature AS t FROM readings {condition}"
            );
            let found = sql(&lab, &statement)?;
            ensure!(found.len() == expected.len(), "{statement}: {} rows", found.len());
            let found: BTreeMap<_, _> = found
                .iter()
                .map(|row| {
                    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                    ((text("s"), text("at")), row["t"].as_f64())
                })
                .collect();
            ensure!(found == expected, "{statement}: other rows");
        }
        // Those of one sensor, and of a limit, are the newest first.
        for statement in [
            format!("SELECT recorded_timestamp AS at FROM readings WHERE iot_sensor_id = {one}"),
            "SELECT recorded_timestamp AS at FROM readings LIMIT 50".to_owned(),
        ] {
            let moments: Vec<_> = sql(&lab, &statement)?.iter().map(|row| row["at"].to_string()).collect();
            ensure!(moments.is_sorted_by(|newer, older| newer >= older), "{statement}: {moments:?}");
        }
        Ok(())
    }

    fn hourly_and_daily_are_exact_with_and_without_rollups() -> anyhow::Result<()> {
        let lab = lab("hourly")?;
        let mut expected: BTreeMap<(i64, u128), Vec<f64>> = BTreeMap::new();
        for row in sent() {
            if let Some(temperature) = row.temperature {
                expected.entry(((row.at - START) / HOUR, row.sensor)).or_default().push(temperature);
            }
        }
        let compare = |source: &str| -> anyhow::Result<()> {
            let found = sql(
                &lab,
                "SELECT hour, iot_sensor_id, count, sum, avg, min, max, first, last FROM hourly \
                 WHERE metric = 'temperature' ORDER BY hour, iot_sensor_id",
            )?;
            ensure!(found.len() == expected.len(), "{source}: {} lines", found.len());
            for (line, ((hour, sensor), values)) in found.iter().zip(&expected) {
                let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
                let sum: f64 = values.iter().sum();
                let is_right = line["hour"] == shown(START + hour * HOUR)
                    && line["iot_sensor_id"] == id(*sensor)
                    && line["count"] == values.len()
                    && (number("sum") - sum).abs() < 1e-9
                    && (number("avg") - sum / values.len() as f64).abs() < 1e-9
                    && number("min") == values.iter().copied().fold(f64::MAX, f64::min)
                    && number("max") == values.iter().copied().fold(f64::MIN, f64::max)
                    && Some(number("first")) == values.first().copied()
                    && Some(number("last")) == values.last().copied();
                ensure!(is_right, "{source}: {line} instead of {values:?}");
            }
            let daily =
                sql(&lab, "SELECT day, metric, sum(count) AS n FROM daily GROUP BY 1, 2 ORDER BY 1, 2")?;
            let measured = |from: i64, to: i64| -> usize {
                expected.iter().filter(|((hour, _), _)| (from..to).contains(hour)).map(|(_, v)| v.len()).sum()
            };
            let lines = [
                json!({"day": shown(START), "metric": "counter", "n": 24 * 12 * 4}),
                json!({"day": shown(START), "metric": "temperature", "n": measured(0, 24)}),
                json!({"day": shown(START + 24 * HOUR), "metric": "counter", "n": 6 * 12 * 4}),
                json!({"day": shown(START + 24 * HOUR), "metric": "temperature", "n": measured(24, 30)}),
            ];
            ensure!(daily == lines, "{source}: {daily:?}");
            Ok(())
        };
        contains(
            &plan(&lab, "SELECT * FROM hourly")?,
            &["hours from rollups=0", "partitions of raw rows=60"],
        )?;
        compare("rows")?;
        age_marks(&lab)?;
        roll(&lab, &[])?;
        let rolled = plan(&lab, "SELECT * FROM hourly")?;
        ensure!(!rolled.contains("hours from rollups=0"), "{rolled}");
        ensure!(!plan(&lab, "SELECT * FROM daily")?.contains("days from rollups=0"));
        compare("rollups")
    }

    fn functions_of_time_series_equal_brute_force() -> anyhow::Result<()> {
        let lab = lab("functions")?;
        let found = sql(
            &lab,
            "SELECT time_bucket('1 day', recorded_timestamp, 'Asia/Kolkata') AS day, \
             first(counter, recorded_timestamp) AS first, last(counter, recorded_timestamp) AS last, \
             delta(counter, recorded_timestamp) AS delta, increase(counter, recorded_timestamp) AS increase, \
             rate(counter, recorded_timestamp) AS rate, \
             time_weighted_average(counter, recorded_timestamp) AS weighted, \
             approx_percentile(counter, 0.5) AS median \
             FROM readings WHERE iot_sensor_id = '00000000-0000-0000-0000-000000000001' GROUP BY 1 ORDER BY 1",
        )?;
        let shift = 330 * MINUTE;
        let mut days: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
        for row in sent().into_iter().filter(|row| row.sensor == 1) {
            let day = (row.at + shift).div_euclid(24 * HOUR) * 24 * HOUR - shift;
            days.entry(day).or_default().push((row.at, row.counter));
        }
        ensure!(found.len() == days.len() && days.len() == 2, "{found:?}");
        for (line, (day, values)) in found.iter().zip(&days) {
            let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
            let near =
                |name: &str, expected: f64| (number(name) - expected).abs() < 1e-9 * expected.abs().max(1.0);
            let (first, last) = (values[0], values[values.len() - 1]);
            let increase: f64 = values
                .windows(2)
                .map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 })
                .sum();
            let seconds = (last.0 - first.0) as f64 / 1000.0;
            let weighted: f64 =
                values.windows(2).map(|pair| pair[0].1 * (pair[1].0 - pair[0].0) as f64).sum::<f64>()
                    / (last.0 - first.0) as f64;
            ensure!(line["day"] == shown(*day), "{line}");
            for (name, expected) in [
                ("first", first.1),
                ("last", last.1),
                ("delta", last.1 - first.1),
                ("increase", increase),
                ("rate", increase / seconds),
                ("weighted", weighted),
            ] {
                ensure!(near(name, expected), "{name}: {line} instead of {expected}");
            }
            let mut sorted: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
            sorted.sort_by(f64::total_cmp);
            let rank =
                sorted.partition_point(|value| *value <= number("median")) as f64 / sorted.len() as f64;
            ensure!((0.45..=0.55).contains(&rank), "{line}: rank {rank}");
        }
        Ok(())
    }

    fn nothing_can_be_changed() -> anyhow::Result<()> {
        let lab = lab("changes")?;
        for statement in [
            "CREATE TABLE t AS SELECT 1",
            "INSERT INTO readings SELECT * FROM readings",
            "DELETE FROM readings",
            "COPY (DELETE FROM readings) TO '/tmp/iotctl-sql-test.csv'",
            "DROP TABLE readings",
            "SET datafusion.execution.batch_size = 1",
        ] {
            lab.fails(2, &["sql".to_owned(), statement.to_owned()][..])
                .with_context(|| statement.to_owned())?;
        }
        let count = sql(&lab, "SELECT count(*) AS n FROM readings")?;
        ensure!(count == [json!({"n": sent().len()})], "{count:?}");
        let unknown = lab.fails(2, &["sql".to_owned(), "SELECT temprature FROM readings".to_owned()][..])?;
        contains(&unknown, &["temprature"])
    }

    fn statements_come_from_standard_input_and_errors_end_it() -> anyhow::Result<()> {
        use std::io::Write as _;
        use std::process::Stdio;

        let lab = lab("script")?;
        let run = |script: &str| -> anyhow::Result<(Option<i32>, String, String)> {
            let mut command = lab.command("-q sql --format ndjson");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut running = command.spawn()?;
            running.stdin.take().context("a pipe")?.write_all(script.as_bytes())?;
            let done = running.wait_with_output()?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Ok((done.status.code(), text(done.stdout), text(done.stderr)))
        };
        let script = "-- ; nothing\nSELECT ';' AS a,\n 2 AS b; SELECT count(*) AS n\nFROM readings;\n.tables\nSELECT 3 AS c";
        let (code, printed, said) = run(script)?;
        let lines: Vec<_> = printed.lines().collect();
        ensure!(code == Some(0) && lines.len() == 12, "{code:?} {printed} {said}");
        ensure!(lines[0] == r#"{"a":";","b":2}"# && lines[11] == r#"{"c":3}"#, "{printed}");
        ensure!(lines[1] == format!(r#"{{"n":{}}}"#, sent().len()), "{printed}");
        let (code, printed, said) = run("SELECT 1 AS a;\nSELECT nothing;\nSELECT 2 AS b;\n")?;
        ensure!(
            code == Some(2) && printed == "{\"a\":1}\n" && said.contains("nothing"),
            "{code:?} {printed} {said}"
        );
        let (code, _, said) = run("\n-- nothing\n")?;
        ensure!(code == Some(2) && said.contains("no statement"), "{code:?} {said}");
        let (code, printed, _) = run("SELECT 1 AS a;\n.quit\nSELECT 2 AS b;\n")?;
        ensure!(code == Some(0) && printed == "{\"a\":1}\n", "{code:?} {printed}");
        Ok(())
    }

    fn answers_are_files_and_pictures() -> anyhow::Result<()> {
        use arrow_array::Array as _;

        let lab = lab("sql_files")?;
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let question = "SELECT location, recorded_timestamp, temperature FROM readings";
        let parquet = file("all.parquet");
        lab.ok(&["-q", "sql", question, "--format", "parquet", "--output", &parquet][..])?;
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
            std::fs::File::open(&parquet)?,
        )?
        .build()?;
        let mut rows = 0;
        let mut values = 0;
        for batch in reader {
            let batch = batch?;
            rows += batch.num_rows();
            values += batch.num_rows() - batch.column(2).null_count();
        }
        let measured = sent().iter().filter(|row| row.temperature.is_some()).count();
        ensure!((rows, values) == (sent().len(), measured), "{rows} rows, {values} values");

        let csv = file("some.csv");
        lab.ok(&["-q".to_owned(), "sql".to_owned(), format!("COPY ({question} LIMIT 3) TO '{csv}'")][..])?;
        let text = std::fs::read_to_string(&csv)?;
        ensure!(text.lines().count() == 4 && text.starts_with("location,"), "{text}");
        // One that fails leaves the file as it was, and nothing beside it.
        let wrong = format!("COPY (SELECT CAST(location AS int) FROM readings) TO '{csv}'");
        lab.fails(1, &["sql".to_owned(), wrong][..])?;
        ensure!(std::fs::read_to_string(&csv)? == text);
        ensure!(std::fs::read_dir(folder.path())?.count() == 2, "files were left");
        let said = lab.fails(2, &["sql", "SELECT 1", "--format", "parquet"][..])?;
        contains(&said, &["--output"])?;

        let chart = "SELECT time_bucket('1 hour', recorded_timestamp) AS hour, location, avg(temperature) AS mean \
                     FROM readings GROUP BY 1, 2";
        let drawn = lab.ok(&["-q", "sql", chart, "--plot"][..])?;
        contains(&drawn, &["mean", "plant-1", "plant-2"])?;
        let svg = file("chart.svg");
        lab.ok(&["-q", "sql", chart, "--plot", &svg][..])?;
        contains(&std::fs::read_to_string(&svg)?, &["<svg", "plant-2"])?;
        contains(&lab.fails(2, &["sql", "SELECT 1 AS a", "--plot"][..])?, &["0 of times"])
    }

    const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 10000000) a JOIN generate_series(1, 10000000) b \
                           ON a.value * b.value % 7 > a.value";

    fn a_statement_that_only_computes_ends_at_its_deadline_and_at_a_signal() -> anyhow::Result<()> {
        let lab = Lab::new("endless")?;
        for statement in [
            ENDLESS,
            "SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b",
            "SELECT sum(value) FROM generate_series(1, 1000000000000)",
        ] {
            let words = ["sql", statement, "--timeout", "1s"].map(str::to_owned);
            let said = lab.fails(1, &words[..]).with_context(|| statement.to_owned())?;
            ensure!(said.contains("stopped after 1s") || said.contains("emory"), "{statement}: {said}");
        }
        let words = ["sql", ENDLESS, "--timeout", "1h"].map(str::to_owned);
        let mut running = lab.spawn(&words[..])?;
        // It computes as soon as it uses more of the processor than a start does.
        let stat = format!("/proc/{}/stat", running.pid());
        crate::support::eventually("the statement computes", Duration::from_secs(120), || {
            let text = std::fs::read_to_string(&stat)?;
            let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            Ok(fields[11].parse::<u64>()? > 400)
        })?;
        let asked = Instant::now();
        let code = running.terminate()?;
        ensure!(code == Some(130), "{code:?} after {:?}", asked.elapsed());
        Ok(())
    }

    fn registry_tables_hold_names_tags_and_groups() -> anyhow::Result<()> {
        let lab = lab("registry")?;
        lab.ok(&format!("-q sensors tag {} room=A12", id(2)))?;
        lab.ok(&format!("-q sensors rename {} boiler", id(2)))?;
        let found = sql(
            &lab,
            "SELECT location, name, tag(tags, 'room') AS room FROM sensors WHERE tag(tags, 'room') IS NOT NULL",
        )?;
        ensure!(found == [json!({"location": "plant-2", "name": "boiler", "room": "A12"})], "{found:?}");
        let groups = sql(&lab, "SELECT location, sensors FROM groups ORDER BY location")?;
        let expected = ["plant-1", "plant-2"].map(|location| json!({"location": location, "sensors": 2}));
        ensure!(groups == expected, "{groups:?}");
        let tables = sql(&lab, ".tables")?;
        let names: Vec<_> = tables.iter().filter_map(|row| row["table_name"].as_str()).collect();
        ensure!(
            names
                == [
                    "alerts",
                    "daily",
                    "dead_letters",
                    "forecasts",
                    "groups",
                    "hourly",
                    "latest",
                    "readings",
                    "sensors"
                ],
            "{names:?}"
        );
        let columns = sql(&lab, ".schema readings")?;
        ensure!(columns.iter().any(|column| column["column_name"] == "counter"), "{columns:?}");
        Ok(())
    }

    fn alerts_dead_letters_and_forecasts_are_tables() -> anyhow::Result<()> {
        let lab = Lab::new("topics")?;
        let start = chrono::Utc::now().timestamp_millis() / HOUR * HOUR - 40 * HOUR;
        let readings = (0..40 * 12_i64).map(|step| {
            let temperature = if step == 400 { 99.0 } else { 20.0 + (step % 12) as f64 / 10.0 };
            message("plant-1", 1, start + step * 5 * MINUTE, &format!(r#","temperature":{temperature}"#))
        });
        lab.send(readings.chain([("bad".to_owned(), b"no reading".to_vec())]))?;
        let rules = tempfile::NamedTempFile::with_suffix(".toml")?;
        std::fs::write(
            rules.path(),
            "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 90.0 }\n",
        )?;
        let path = rules.path().display();
        lab.ok(&format!("-q ingest --until-end --format json --detect {path}"))?;

        let alerts =
            sql(&lab, "SELECT rule, state, value, recorded_timestamp FROM alerts WHERE state = 'firing'")?;
        let at = shown(start + 400 * 5 * MINUTE);
        let expected = json!({"rule": "hot", "state": "firing", "value": 99.0, "recorded_timestamp": at});
        ensure!(alerts == [expected], "{alerts:?}");
        ensure!(sql(&lab, "SELECT * FROM alerts WHERE location = 'plant-2'")?.is_empty());

        let letters = sql(&lab, "SELECT message_key, payload, topic, is_replayed FROM dead_letters")?;
        let expected =
            json!({"message_key": "bad", "payload": "no reading", "topic": lab.name, "is_replayed": false});
        ensure!(letters == [expected], "{letters:?}");

        let forecast = lab.json(
            "-q forecast --metric temperature --location plant-1 --device-type thermostat --horizon 4h --season 2h \
             --history 40h --model seasonal-naive --store --format json",
        )?;
        let steps =
            sql(&lab, "SELECT at, value, model FROM forecasts WHERE metric = 'temperature' ORDER BY at")?;
        ensure!(steps.len() == 4 && steps.iter().all(|step| step["model"] == "seasonal-naive"), "{steps:?}");
        ensure!(forecast.is_object() || forecast.is_array());
        ensure!(sql(&lab, "SELECT * FROM forecasts WHERE metric = 'humidity'")?.is_empty());
        Ok(())
    }
}
