//! The errors a user can meet: one line, the remedy in it, the right exit code; and pipes that close.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::support::{Lab, NOBODY, contains, eventually, get, message, with_settings_of};

crate::trials!(
    no_cassandra_is_one_line_with_the_remedy,
    no_kafka_is_one_line_with_the_remedy,
    a_missing_keyspace_names_schema_apply,
    a_missing_table_names_schema_check,
    a_missing_topic_names_schema_apply,
    an_unknown_metric_lists_the_known_ones,
    an_inverted_range_is_a_usage_error,
    an_unknown_location_lists_the_known_ones,
    a_bad_filter_points_at_the_place,
    an_unknown_setting_is_refused_with_its_source,
    a_replication_factor_beyond_the_nodes_is_refused,
    a_table_of_another_shape_stops_schema_apply,
    a_column_that_is_missing_is_added,
    schema_apply_twice_changes_nothing,
    a_closed_pipe_ends_the_command_quietly,
    flags_win_over_the_environment_and_that_over_the_file,
    metrics_health_and_readiness_are_served,
    a_terminal_that_does_not_know_its_width_gets_whole_lines,
);

fn no_cassandra_is_one_line_with_the_remedy() -> anyhow::Result<()> {
    let lab = Lab::bare("nocass")?;
    for command in [
        "ingest",
        "query --location a --device-type b",
        "extremes --metric temperature",
        "schema apply",
        "sensors",
    ] {
        let error = lab.fails(1, &format!("--contact-points {NOBODY} {command}"))?;
        contains(&error, &[NOBODY, "iotctl up", "cassandra.contact_points"])?;
    }
    Ok(())
}

fn no_kafka_is_one_line_with_the_remedy() -> anyhow::Result<()> {
    let lab = Lab::new("nokafka")?;
    for command in ["ingest", "simulate --count 5"] {
        let started = Instant::now();
        let error = lab.fails(1, &format!("--brokers {NOBODY} -O kafka.request_timeout=2s -q {command}"))?;
        contains(&error, &[NOBODY, "iotctl up", "kafka.bootstrap_servers"])?;
        ensure!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    }
    Ok(())
}

fn a_missing_keyspace_names_schema_apply() -> anyhow::Result<()> {
    let lab = Lab::bare("nokeyspace")?;
    for command in
        ["ingest", "query --location a --device-type b", "extremes --metric temperature", "sensors"]
    {
        let error = lab.fails(1, &format!("-q {command}"))?;
        contains(&error, &[&format!("keyspace {} does not exist (run `iotctl schema apply`", lab.name)])?;
    }
    Ok(())
}

fn a_missing_table_names_schema_check() -> anyhow::Result<()> {
    let lab = Lab::new("notable")?;
    lab.cql("DROP TABLE {ks}.iot_sensor_metrics")?;
    let remedy = "(compare the tables with `iotctl schema check`)";
    contains(&lab.fails(1, "-q ingest")?, &["iot_sensor_metrics", remedy])?;
    // The remedy names the table, and what it recommends works.
    let checked = lab.run("-q schema check")?;
    ensure!(checked.code == Some(1), "{checked:#?}");
    contains(&format!("{}{}", checked.stdout, checked.stderr), &["iot_sensor_metrics", "missing"])?;
    lab.ok("-q schema apply")?;
    lab.ingest()?;
    Ok(())
}

fn a_missing_topic_names_schema_apply() -> anyhow::Result<()> {
    let lab = Lab::new("notopic")?;
    for command in ["ingest", "simulate --count 5"] {
        let error = lab.fails(1, &format!("--topic nowhere -q {command}"))?;
        contains(&error, &["nowhere", "iotctl schema apply"])?;
    }
    Ok(())
}

/// A lab with one reading in it.
fn with_a_reading(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let at = chrono::Utc::now().timestamp_millis();
    lab.send([message("plant-1", 1, at, r#","temperature":20,"other_metrics":{"vibration":1}"#)])?;
    lab.ingest()?;
    Ok(lab)
}

fn an_unknown_metric_lists_the_known_ones() -> anyhow::Result<()> {
    let lab = with_a_reading("nometric")?;
    let error = lab.fails(2, "-q extremes --metric temprature")?;
    contains(&error, &["temprature", "temperature", "gas_concentration", "vibration"])
}

fn an_inverted_range_is_a_usage_error() -> anyhow::Result<()> {
    let lab = Lab::bare("range")?;
    for command in ["query --location a --device-type b", "extremes --metric temperature"] {
        let error = lab.fails(2, &format!("-q {command} --from 2026-11-02 --to 2026-11-01"))?;
        contains(&error, &["--from", "--to"])?;
    }
    Ok(())
}

fn an_unknown_location_lists_the_known_ones() -> anyhow::Result<()> {
    let lab = with_a_reading("nolocation")?;
    let error = lab.fails(1, "-q query --location plant-l --device-type thermostat")?;
    contains(&error, &["plant-l", "plant-1"])
}

fn a_bad_filter_points_at_the_place() -> anyhow::Result<()> {
    let lab = Lab::bare("badfilter")?;
    let finished =
        lab.run(&["-q", "query", "--location", "a", "--device-type", "b", "--where", "temperature >> 5"])?;
    ensure!(finished.code == Some(2), "{finished:#?}");
    let lines: Vec<_> = finished.stderr.lines().collect();
    let [message, condition, caret] = lines[..] else { anyhow::bail!("three lines: {finished:#?}") };
    contains(message, &["--where", "must be compared with a number"])?;
    ensure!(condition.trim_start() == "temperature >> 5", "{finished:#?}");
    // The second `>` is where a number should be.
    ensure!(
        caret.trim_start() == "^" && caret.find('^') == condition.find(">>").map(|at| at + 1),
        "{finished:#?}"
    );
    Ok(())
}

fn an_unknown_setting_is_refused_with_its_source() -> anyhow::Result<()> {
    let mut lab = Lab::bare("settings")?;
    contains(&lab.fails(2, "-O kafka.topik=a config show")?, &["kafka.topik", "-O", "kafka.topic"])?;
    lab.set("IOTCTL_KAFKA_TOPIK", "a");
    contains(&lab.fails(2, "status")?, &["IOTCTL_KAFKA_TOPIK"])
}

fn a_replication_factor_beyond_the_nodes_is_refused() -> anyhow::Result<()> {
    let lab = Lab::bare("factor")?;
    let error = lab.fails(1, "-q schema apply --replication-factor 3")?;
    contains(&error, &["--replication-factor 1"])
}

fn a_table_of_another_shape_stops_schema_apply() -> anyhow::Result<()> {
    let lab = Lab::new("shape")?;
    lab.cql("ALTER TABLE {ks}.iot_latest ADD colour text")?;
    let finished = lab.run("-q schema apply")?;
    ensure!(finished.code == Some(1), "{finished:#?}");
    contains(&format!("{}{}", finished.stdout, finished.stderr), &["iot_latest", "colour"])?;
    ensure!(lab.run("-q schema check")?.code == Some(1));
    Ok(())
}

fn a_column_that_is_missing_is_added() -> anyhow::Result<()> {
    let lab = Lab::new("column")?;
    lab.cql("ALTER TABLE {ks}.iot_latest DROP humidity")?;
    ensure!(lab.run("-q schema check")?.code == Some(1));
    lab.ok("-q schema apply")?;
    lab.ok("-q schema check")?;
    lab.cql("SELECT humidity FROM {ks}.iot_latest")?;
    Ok(())
}

fn schema_apply_twice_changes_nothing() -> anyhow::Result<()> {
    let lab = Lab::new("twice")?;
    let before = lab.cql("SELECT JSON * FROM system_schema.tables WHERE keyspace_name = '{ks}'")?;
    lab.ok("-q schema apply")?;
    lab.ok("-q schema check")?;
    let after = lab.cql("SELECT JSON * FROM system_schema.tables WHERE keyspace_name = '{ks}'")?;
    let texts = |rows: &iotctl::cassandra::Rows| {
        rows.iter().map(|row| row.get::<String>(0)).collect::<Result<Vec<_>, _>>()
    };
    ensure!(texts(&before)? == texts(&after)?);
    Ok(())
}

fn a_closed_pipe_ends_the_command_quietly() -> anyhow::Result<()> {
    let lab = Lab::new("pipe")?;
    let at = chrono::Utc::now().timestamp_millis() - 60_000;
    lab.send((0..20_000).map(|n| message("plant-1", n, at + n as i64, "")))?;
    lab.ingest()?;
    for arguments in [
        "query --location plant-1 --device-type thermostat --format csv",
        "simulate --stdout --rate 0 --count 500000",
    ] {
        let mut child = lab.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut first = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut first)?;
        ensure!(!first.is_empty(), "{arguments}: no first line");
        let output = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(0), "{arguments}: {:?} {stderr}", output.status);
        ensure!(!stderr.contains("error") && !stderr.contains("panic"), "{stderr}");
    }
    Ok(())
}

fn flags_win_over_the_environment_and_that_over_the_file() -> anyhow::Result<()> {
    let mut lab = Lab::bare("precedence")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("iotctl.toml");
    std::fs::write(&file, "[kafka]\ntopic = \"from-file\"\npartitions = 7\n[ingest]\nbatch_rows = 17\n")?;
    lab.set("IOTCTL_KAFKA_TOPIC", "from-environment");
    lab.set("IOTCTL_KAFKA_PARTITIONS", "5");
    let shown =
        lab.json(&format!("--config {} --topic from-flag config show --format json", file.display()))?;
    ensure!(shown["kafka.topic"]["value"] == "from-flag", "{}", shown["kafka.topic"]);
    ensure!(shown["kafka.partitions"]["value"] == 5, "{}", shown["kafka.partitions"]);
    ensure!(shown["ingest.batch_rows"]["value"] == 17, "{}", shown["ingest.batch_rows"]);
    ensure!(shown["ingest.linger"]["origin"] == "default", "{}", shown["ingest.linger"]);
    Ok(())
}

fn metrics_health_and_readiness_are_served() -> anyhow::Result<()> {
    let lab = with_a_reading("metrics")?;
    let address = "127.0.42.1:19464";
    let mut ingest = lab.spawn(&format!("-q ingest --metrics-addr {address}"))?;
    let get = |path: &str| get(address, path);
    eventually("it is ready", Duration::from_secs(20), || {
        Ok(get("/readyz").is_ok_and(|answer| answer.contains("200 OK")))
    })?;
    ensure!(get("/healthz")?.contains("200 OK"));
    lab.send((0..10).map(|n| message("plant-1", n, chrono::Utc::now().timestamp_millis(), "")))?;
    eventually("the rows are counted and the lag is known", Duration::from_secs(10), || {
        let metrics = get("/metrics")?;
        Ok(metrics.contains("\niotctl_ingest_rows_total 10\n")
            && metrics.contains("\niotctl_ingest_lag_seconds 0\n"))
    })?;
    contains(
        &get("/metrics")?,
        &["iotctl_ingest_write_seconds_bucket", "iotctl_ingest_lag_seconds", "iotctl_build_info"],
    )?;
    ensure!(ingest.terminate()? == Some(0));
    Ok(())
}

fn a_terminal_that_does_not_know_its_width_gets_whole_lines() -> anyhow::Result<()> {
    let lab = Lab::new("width")?;
    lab.simulate(
        "--count 40 --sensors 4 --locations 1 --device-types thermostat --start 2026-01-31T22:30:00Z",
    )?;
    lab.ingest()?;
    for (arguments, line) in [
        ("sensors", "thermostat"),
        ("stats --metric temperature", "unit  count"),
        ("query --location plant-1 --device-type thermostat --limit 3", "temperature (°C)"),
    ] {
        let program = lab.command(arguments);
        let mut terminal = std::process::Command::new("script");
        let inner = format!("stty cols 0 rows 0; exec '{}' {arguments}", program.get_program().display());
        terminal.args(["-qec", &inner, "/dev/null"]).stdin(Stdio::null());
        let output = with_settings_of(terminal, &program).output()?;
        let shown = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{arguments}: {shown}");
        contains(&shown, &[line])?;
    }
    Ok(())
}
