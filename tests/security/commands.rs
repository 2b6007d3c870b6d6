//! Every command, through TLS and passwords, as the role that docs/security.md has for it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::ensure;

use crate::servers;
use crate::servers::{ADDRESS, INGEST, MONITOR, READER, SCHEMA, SENDER};
use crate::support::eventually;

crate::trials!(
    each_role_can_do_its_work,
    a_keyspace_that_somebody_else_made_can_be_tended,
    a_monitor_sees_the_servers_and_no_readings,
    status_and_doctor_look_through_tls_and_passwords,
);

fn each_role_can_do_its_work() -> anyhow::Result<()> {
    let place = servers().place("roles")?;
    let schema = place.lab(SCHEMA)?;
    schema.ok(&["-q", "schema", "check"])?;
    schema.ok(&["-q", "schema", "show"])?;
    let applied = schema.ok(&["-q", "schema", "apply", "--format", "json"])?;
    ensure!(applied.contains("exists") && !applied.contains("created"), "{applied}");

    let folder = tempfile::tempdir()?;
    let ledger = folder.path().join("ledger").display().to_string();
    let count = ["--rate", "0", "--count", "3000", "--malformed", "0.1", "--ledger", &ledger];
    let sent = place.lab(SENDER)?.ok(&[&["-q", "simulate", "--format", "json"], &count[..]].concat())?;
    ensure!(serde_json::from_str::<serde_json::Value>(&sent)?["acknowledged"] == 3000, "{sent}");

    let rules = folder.path().join("rules.toml").display().to_string();
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"any\"\nmetric = \"temperature\"\nthreshold = { above = -100 }\n",
    )?;
    let ingest = place.lab(INGEST)?;
    let detecting = ["-q", "ingest", "--until-end", "--detect", &rules, "--format", "json"];
    let report: serde_json::Value = serde_json::from_str(&ingest.ok(&detecting)?)?;
    ensure!(report["alerts"].as_u64() > Some(0), "{report}");
    ingest.ok(&["-q", "rollup"])?;
    let dead_letters = report["dead_letters"].as_u64().unwrap_or(0);
    ensure!(dead_letters > 100 && report["rows"] == 3000 - dead_letters, "{report}");

    let reader = place.lab(READER)?;
    let rows = reader.query("thermostat", &["--last", "30d"])?;
    ensure!(!rows.is_empty(), "the reader sees no rows");
    let extremes = reader.lines(&[
        "-q",
        "extremes",
        "--metric",
        "temperature",
        "--last",
        "30d",
        "--format",
        "ndjson",
    ])?;
    ensure!(!extremes.is_empty(), "the reader sees no extremes");
    let sensors = reader.lines(&["-q", "sensors", "--format", "ndjson"])?;
    ensure!(!sensors.is_empty(), "the reader sees no sensors");
    let groups = reader.lines(&["-q", "sensors", "--groups", "--format", "ndjson"])?;
    ensure!(!groups.is_empty(), "the reader sees no groups");

    let audited = reader.ok(&["-q", "audit", "--ledger", &ledger, "--format", "json"])?;
    ensure!(
        serde_json::from_str::<serde_json::Value>(&audited)?["compared"]["stored"] == report["rows"],
        "{audited}"
    );
    let stats = reader.lines(&["-q", "stats", "--metric", "temperature", "--format", "ndjson"])?;
    ensure!(!stats.is_empty(), "the reader sees no statistics");
    let alerts = reader.lines(&["-q", "alerts", "--format", "ndjson"])?;
    ensure!(report["alerts"] == alerts.len(), "the reader sees {} alerts", alerts.len());
    let letters = reader.lines(&["-q", "dead-letters", "list", "--format", "ndjson"])?;
    ensure!(letters.len() as u64 == dead_letters, "the reader sees {} dead letters", letters.len());
    // Counting is reading; sending is not.
    reader.ok(&["-q", "dead-letters", "replay", "--all"])?;
    let denied = reader.fails(1, &["-q", "dead-letters", "replay", "--all", "--yes"])?;
    ensure!(denied.contains("ACL"), "{denied}");
    Ok(())
}

fn a_keyspace_that_somebody_else_made_can_be_tended() -> anyhow::Result<()> {
    let place = servers().place("others")?;
    // Who makes a keyspace owns it; without that, there are the grants alone.
    servers().cql(&[format!("REVOKE ALL PERMISSIONS ON KEYSPACE {} FROM {SCHEMA}", place.name)])?;
    place.grant("TO iot_schema")?;
    let schema = place.lab(SCHEMA)?;
    schema.ok(&["-q", "schema", "check"])?;
    servers().cql(&[format!("DROP TABLE {}.iot_latest", place.name)])?;
    let applied = schema.ok(&[
        "-q",
        "-O",
        "schema.ttl=20d",
        "schema",
        "apply",
        "--alter-options",
        "--format",
        "json",
    ])?;
    ensure!(applied.contains("created") && applied.contains("altered"), "{applied}");
    place.lab(READER)?.ok(&["-q", "schema", "check", "--skip-kafka", "-O", "schema.ttl=20d"])?;
    Ok(())
}

fn a_monitor_sees_the_servers_and_no_readings() -> anyhow::Result<()> {
    let place = servers().place("monitor")?;
    place.lab(SENDER)?.ok(&["-q", "simulate", "--rate", "0", "--count", "500"])?;
    let monitor = place.lab(MONITOR)?;
    let address = format!("{ADDRESS}:19465");
    let _running = monitor.spawn(&["-q", "monitor", "--metrics-addr", &address, "--interval", "2s"])?;
    let mut metrics = String::new();
    let mut missing = Vec::new();
    let lag = format!("kafka_consumergroup_lag_seconds{{consumergroup=\"{0}\",topic=\"{0}\",", place.name);
    let looked = eventually("the monitor has everything", Duration::from_secs(40), || {
        metrics.clear();
        if let Ok(mut stream) = TcpStream::connect(&address) {
            write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut metrics)?;
        }
        missing = [
            "iotctl_monitor_up{source=\"kafka\"} 1",
            "iotctl_monitor_up{source=\"cassandra\"} 1",
            "iotctl_cassandra_node_up{node=\"127.0.47.1:19442\"} 1",
            "iotctl_cassandra_requests_total{node=\"127.0.47.1:19442\",operation=\"local_write\"",
            "iotctl_cassandra_pool_active_tasks{",
            "iotctl_cassandra_node_load_bytes{",
            "kafka_topic_partition_current_offset{",
            // From the timestamp of a message, which it may read.
            &lag,
        ]
        .into_iter()
        .filter(|start| !metrics.lines().any(|line| line.starts_with(start)))
        .map(str::to_owned)
        .collect();
        Ok(missing.is_empty())
    });
    ensure!(looked.is_ok(), "{missing:?} are not in\n{metrics}");
    let refused =
        monitor.fails(1, &["-q", "query", "--location", "plant-1", "--device-type", "thermostat"])?;
    ensure!(refused.contains("permission"), "{refused}");
    Ok(())
}

fn status_and_doctor_look_through_tls_and_passwords() -> anyhow::Result<()> {
    let place = servers().place("status")?;
    let look = |role: &str, command: &str| -> anyhow::Result<serde_json::Value> {
        let said = place.lab(role)?.ok(&["-q", command, "--format", "json"])?;
        Ok(serde_json::from_str(&said)?)
    };
    // The reader may not ask for the nodes' views; that is said, and all else is there.
    let status = look(READER, "status")?;
    ensure!(status["is_healthy"] == true, "{status:#}");
    let node = &status["cassandra"]["nodes"][0];
    ensure!(node["address"] == servers::CASSANDRA && node["answers"] == true, "{status:#}");
    ensure!(
        node["heard_by"].is_null() && status["remarks"].to_string().contains("GRANT SELECT"),
        "{status:#}"
    );
    ensure!(status["kafka"]["group"]["lag_messages"] == 0, "{status:#}");
    // The monitor sees these too.
    let status = look(MONITOR, "status")?;
    ensure!(status["cassandra"]["nodes"][0]["heard_by"][0] == 1, "{status:#}");
    // A plain question gets no answer of these servers, and yet they run.
    let local = status["local"].as_array().cloned().unwrap_or_default();
    ensure!(!local.is_empty() && local.iter().all(|server| server["state"] == "running"), "{local:?}");

    let doctor = look(READER, "doctor")?;
    let verdict = |group: &str, name: &str| {
        let mut checks = doctor["checks"].as_array().into_iter().flatten();
        let check = checks.find(|check| check["group"] == group && check["name"] == name);
        check.map(|check| format!("{}: {}", check["verdict"], check["found"])).unwrap_or_default()
    };
    for (group, name) in [("cassandra", "encryption"), ("kafka", "encryption")] {
        ensure!(verdict(group, name) == "\"ok\": \"TLS\"", "{}", verdict(group, name));
    }
    for name in ["clocks", "schema", "versions"] {
        ensure!(verdict("cassandra", name).starts_with("\"ok\""), "{name}: {}", verdict("cassandra", name));
    }
    ensure!(verdict("kafka", "messages lost").starts_with("\"ok\""), "{doctor:#}");
    Ok(())
}
