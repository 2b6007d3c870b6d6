//! schema.cql against what a real cluster has.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::support::{Lab, eventually, message};

crate::trials!(
    a_fresh_schema_is_missing_then_created_then_in_order,
    a_dry_run_changes_nothing_and_prints_cql_that_a_server_takes,
    nothing_is_created_beside_a_table_that_differs,
    another_key_and_another_type_are_named,
    options_are_altered_only_when_asked,
    more_replicas_than_nodes_in_a_live_keyspace_are_found,
    a_topic_with_other_partitions_is_left_as_it_is,
    rows_expire_by_their_device_type,
);

/// The states that `schema apply` or `schema check` reports, by object without its keyspace.
fn states(lab: &Lab, code: i32, arguments: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let finished = lab.run(&[&["-q", "schema"], arguments, &["--format", "json"]].concat())?;
    ensure!(finished.code == Some(code), "{finished:#?}");
    let lines: Vec<Value> = serde_json::from_str(&finished.stdout)?;
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    Ok(lines
        .iter()
        .map(|line| {
            let name = text(line, "name").replace(&format!("{}.", lab.name), "").replace(&lab.name, "-");
            (name, text(line, "state"))
        })
        .collect())
}

fn all(states: &[(String, String)], expected: &str) -> anyhow::Result<()> {
    let objects: Vec<_> = states.iter().map(|(name, _)| name.as_str()).collect();
    let known = [
        "-",
        "iot_sensor_metrics",
        "sensor_partitions",
        "sensor_groups",
        "iot_sensors",
        "iot_sensors_by_id",
        "iot_latest",
        "iot_rollups",
        "iot_daily_rollups",
        "iot_group_rollups",
        "rollup_coverage",
        "rollup_dirty",
        "rollup_leases",
        "iot_forecasts",
        "iot_mappings",
        "iot_detector_states",
        "iot_detector_positions",
        "-",
        "dlq",
        "--alerts",
        "--alerts.dlq",
    ];
    ensure!(objects == known, "{objects:?}");
    ensure!(states.iter().all(|(_, state)| state == expected), "not all {expected}: {states:?}");
    Ok(())
}

fn ttl(lab: &Lab) -> anyhow::Result<i32> {
    let rows = lab.cql(
        "SELECT default_time_to_live FROM system_schema.tables \
         WHERE keyspace_name = '{ks}' AND table_name = 'iot_sensor_metrics'",
    )?;
    Ok(rows.first().context("no iot_sensor_metrics")?.get(0)?)
}

fn a_fresh_schema_is_missing_then_created_then_in_order() -> anyhow::Result<()> {
    let lab = Lab::bare("fresh")?;
    all(&states(&lab, 1, &["check"])?, "missing")?;
    all(&states(&lab, 0, &["apply"])?, "created")?;
    all(&states(&lab, 0, &["apply"])?, "exists")?;
    all(&states(&lab, 0, &["check"])?, "in order")?;
    let said = lab.run(&["schema", "apply"])?;
    ensure!(said.stderr.contains("replication factor 1"), "one node, one replica, unsaid: {said:#?}");
    Ok(())
}

fn a_dry_run_changes_nothing_and_prints_cql_that_a_server_takes() -> anyhow::Result<()> {
    let lab = Lab::bare("dryrun")?;
    let cql = lab.ok(&["-q", "schema", "apply", "--dry-run"])?;
    all(&states(&lab, 1, &["check"])?, "missing")?;
    lab.apply(&cql)?;
    ensure!(states(&lab, 0, &["check", "--skip-kafka"])?.len() == 17);
    Ok(())
}

fn nothing_is_created_beside_a_table_that_differs() -> anyhow::Result<()> {
    let lab = Lab::new("beside")?;
    lab.cql("ALTER TABLE {ks}.iot_latest ADD colour text")?;
    lab.cql("DROP TABLE {ks}.sensor_groups")?;
    for arguments in [&["-q", "schema", "apply"][..], &["-q", "schema", "apply", "--alter-options"]] {
        let finished = lab.run(arguments)?;
        ensure!(finished.code == Some(1), "{finished:#?}");
        ensure!(finished.stderr.contains("nothing was changed"), "{finished:#?}");
        ensure!(finished.stderr.contains("column colour (text) is not in schema.cql"), "{finished:#?}");
    }
    let states = states(&lab, 1, &["check"])?;
    ensure!(states.contains(&("sensor_groups".into(), "missing".into())), "{states:?}");
    lab.cql("ALTER TABLE {ks}.iot_latest DROP colour")?;
    lab.ok(&["-q", "schema", "apply"])?;
    Ok(())
}

fn another_key_and_another_type_are_named() -> anyhow::Result<()> {
    let lab = Lab::new("othershape")?;
    lab.cql("DROP TABLE {ks}.iot_latest")?;
    lab.cql(
        "CREATE TABLE {ks}.iot_latest (location text, device_type text, iot_sensor_id uuid, \
         recorded_timestamp timestamp, temperature double, humidity float, pressure float, \
         motion_detected boolean, light_level float, gas_concentration float, colour text, \
         other_metrics frozen<map<text, float>>, PRIMARY KEY ((location, device_type), iot_sensor_id))",
    )?;
    lab.cql("DROP TABLE {ks}.sensor_groups")?;
    lab.cql("CREATE TABLE {ks}.sensor_groups (shard int PRIMARY KEY, location text, device_type text)")?;
    let finished = lab.run(&["-q", "schema", "apply"])?;
    ensure!(finished.code == Some(1), "{finished:#?}");
    for expected in [
        "sensor_groups: the primary key is ((shard)) and not ((shard), location, device_type)",
        "iot_latest: column temperature is double and not float",
        "iot_latest: column colour (text) is not in schema.cql",
    ] {
        ensure!(finished.stderr.contains(expected), "no {expected:?} in {finished:#?}");
    }
    Ok(())
}

fn options_are_altered_only_when_asked() -> anyhow::Result<()> {
    let mut lab = Lab::new("options")?;
    ensure!(ttl(&lab)? == 90 * 86_400);
    lab.set("IOTCTL_SCHEMA_TTL", "30d");
    let finished = lab.run(&["-q", "schema", "apply"])?;
    ensure!(finished.code == Some(1), "{finished:#?}");
    for expected in ["default_time_to_live is 7776000 and not 2592000", "--alter-options"] {
        ensure!(finished.stderr.contains(expected), "no {expected:?} in {finished:#?}");
    }
    ensure!(ttl(&lab)? == 90 * 86_400);
    lab.ok(&["-q", "schema", "apply", "--alter-options"])?;
    ensure!(ttl(&lab)? == 30 * 86_400);
    all(&states(&lab, 0, &["check"])?, "in order")
}

/// As `cqlsh -f schema.cql` leaves it on one node: no write at LOCAL_QUORUM would succeed.
fn more_replicas_than_nodes_in_a_live_keyspace_are_found() -> anyhow::Result<()> {
    let lab = Lab::bare("replicas")?;
    lab.cql("CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")?;
    let finished = lab.run(&["-q", "schema", "apply"])?;
    let remedy = format!(
        "ALTER KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}};",
        lab.name
    );
    ensure!(finished.code == Some(1) && finished.stderr.contains(&remedy), "{finished:#?}");
    lab.cql(remedy.trim_end_matches(';'))?;
    lab.ok(&["-q", "schema", "apply"])?;
    Ok(())
}

fn a_topic_with_other_partitions_is_left_as_it_is() -> anyhow::Result<()> {
    let mut lab = Lab::new("partitions")?;
    lab.set("IOTCTL_KAFKA_PARTITIONS", "5");
    let said = lab.ok(&["-q", "schema", "apply", "--skip-cassandra"])?;
    ensure!(said.contains("4 partitions instead of 5; unchanged"), "{said}");
    let finished = lab.run(&["-q", "schema", "check", "--skip-cassandra"])?;
    ensure!(
        finished.code == Some(1) && finished.stdout.contains("4 partitions instead of 5"),
        "{finished:#?}"
    );
    Ok(())
}

/// A device type may have a retention of its own: its rows are gone when it is over, and others are not.
fn rows_expire_by_their_device_type() -> anyhow::Result<()> {
    let mut lab = Lab::new("retention")?;
    lab.set("IOTCTL_RETENTION", "thermostat=4s");
    let shown = lab.ok(&["schema", "show"])?;
    ensure!(shown.contains("thermostat: 4s"), "{shown}");
    let now = chrono::Utc::now().timestamp_millis();
    let (key, payload) = message("plant-1", 1, now, r#","temperature":20.5"#);
    let other = String::from_utf8(payload.clone())?.replace("thermostat", "hygrometer").into_bytes();
    lab.send([(key.clone(), payload), (key, other)])?;
    lab.ingest()?;
    let left = lab.cql("SELECT device_type, TTL(temperature) FROM {ks}.iot_sensor_metrics")?;
    for row in left.iter() {
        let (device_type, ttl): (&str, i32) = (row.get(0)?, row.get(1)?);
        ensure!((ttl <= 4) == (device_type == "thermostat"), "{device_type} lives for {ttl} s");
    }
    eventually("the thermostat's reading is gone", std::time::Duration::from_secs(10), || {
        Ok(lab.query("thermostat", "")?.is_empty())
    })?;
    ensure!(lab.query("hygrometer", "")?.len() == 1, "another device type's reading is gone too");
    Ok(())
}
