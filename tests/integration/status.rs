//! `status`, `doctor` and `top` beside servers that are well, away, behind, or set up wrongly.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::{CASSANDRA, KAFKA, Lab, NOBODY, message};

crate::trials!(
    healthy_servers_are_well,
    a_missing_schema_and_topic_are_told_with_the_command_that_makes_them,
    a_lag_that_nobody_reads_is_told_until_it_is_read,
    an_away_kafka_hides_nothing_of_cassandra,
    an_away_cassandra_hides_nothing_of_kafka,
    doctor_has_nothing_against_a_lab_in_order,
    doctor_finds_a_schema_that_has_drifted,
    doctor_finds_replicas_beyond_the_nodes,
    doctor_finds_messages_that_were_deleted_before_they_were_read,
    doctor_skips_what_an_away_server_would_have_to_answer,
    top_on_a_pipe_is_a_usage_error_that_names_status,
);

fn json(lab: &Lab, code: i32, arguments: &[&str]) -> anyhow::Result<Value> {
    let finished = lab.run(&[&["-q"], arguments, &["--format", "json"]].concat())?;
    ensure!(finished.code == Some(code), "{arguments:?} should exit {code}: {finished:#?}");
    serde_json::from_str(&finished.stdout).with_context(|| format!("no JSON: {finished:#?}"))
}

fn attention(status: &Value) -> String {
    let texts = status["attention"].as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join("\n")
}

/// The verdict, what was found, and the remedy.
fn check<'a>(doctor: &'a Value, group: &str, name: &str) -> anyhow::Result<[&'a str; 3]> {
    let checks = doctor["checks"].as_array().context("checks")?;
    let check = checks
        .iter()
        .find(|check| check["group"] == group && check["name"] == name)
        .with_context(|| format!("no check {group}/{name} in {doctor:#}"))?;
    Ok(["verdict", "found", "remedy"].map(|key| check[key].as_str().unwrap_or_default()))
}

fn recent(count: u128) -> impl Iterator<Item = (String, Vec<u8>)> {
    let now = chrono::Utc::now().timestamp_millis();
    (0..count).map(move |sensor| message("plant-1", sensor, now, ",\"temperature\":20"))
}

fn healthy_servers_are_well() -> anyhow::Result<()> {
    let lab = Lab::new("well")?;
    let status = json(&lab, 0, &["status"])?;
    ensure!(status["is_healthy"] == true && attention(&status).is_empty(), "{status:#}");
    let node = &status["cassandra"]["nodes"][0];
    ensure!(node["address"] == CASSANDRA && node["state"] == "normal" && node["answers"] == true, "{node}");
    ensure!(status["kafka"]["brokers"][0]["address"] == KAFKA, "{status:#}");
    ensure!(status["kafka"]["topic"]["partitions"] == 4, "{status:#}");
    ensure!(status["kafka"]["group"]["lag_messages"] == 0, "{status:#}");
    let objects = status["schema"]["objects"].as_array().context("objects")?;
    ensure!(objects.len() >= 6 && objects.iter().all(|object| object["state"] == "in order"), "{status:#}");
    // What scripts had before: the processes, with their pids.
    let local = status["local"].as_array().context("local")?;
    ensure!(local.len() >= 2 && local.iter().all(|server| server["state"] == "running"), "{local:?}");
    let screen = lab.ok(&["status"])?;
    for text in ["1 of 1 nodes healthy", "is in order", KAFKA, "cassandra-1", "everything is healthy"] {
        ensure!(screen.contains(text), "{text:?} is not in\n{screen}");
    }
    ensure!(!screen.contains('\x1b'), "colours on a pipe: {screen}");
    Ok(())
}

fn a_missing_schema_and_topic_are_told_with_the_command_that_makes_them() -> anyhow::Result<()> {
    let lab = Lab::bare("nothing")?;
    let status = json(&lab, 1, &["status"])?;
    let text = attention(&status);
    ensure!(
        text.contains(&format!("keyspace {} does not exist (run `iotctl schema apply`)", lab.name)),
        "{text}"
    );
    ensure!(
        text.contains(&format!("topic {} does not exist (run `iotctl schema apply`)", lab.name)),
        "{text}"
    );
    lab.ok(&["-q", "schema", "apply"])?;
    json(&lab, 0, &["status"])?;
    Ok(())
}

fn a_lag_that_nobody_reads_is_told_until_it_is_read() -> anyhow::Result<()> {
    let lab = Lab::new("lag")?;
    lab.send(recent(50))?;
    let status = json(&lab, 1, &["status"])?;
    let text = attention(&status);
    ensure!(text.contains("50 messages are waiting") && text.contains("start `iotctl ingest`"), "{text}");
    let group = &status["kafka"]["group"];
    ensure!(group["members"] == 0 && group["lag_messages"] == 50, "{group}");
    let seconds = group["lag_seconds"].as_f64().context("the age of the oldest message")?;
    ensure!((0.0..120.0).contains(&seconds), "{group}");
    lab.ingest()?;
    let status = json(&lab, 0, &["status"])?;
    ensure!(status["kafka"]["group"]["lag_messages"] == 0, "{status:#}");
    ensure!(status["kafka"]["group"]["lag_seconds"] == 0.0, "{status:#}");
    Ok(())
}

fn an_away_kafka_hides_nothing_of_cassandra() -> anyhow::Result<()> {
    let mut lab = Lab::new("nokafka")?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", NOBODY);
    let started = Instant::now();
    let status = json(&lab, 1, &["status"])?;
    ensure!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let text = attention(&status);
    ensure!(text.lines().count() == 1, "one server is away, one line: {text}");
    ensure!(text.contains(NOBODY) && text.contains("kafka.bootstrap_servers"), "{text}");
    ensure!(status["kafka"]["unknown"].as_str().is_some_and(|why| why.contains(NOBODY)), "{status:#}");
    ensure!(status["cassandra"]["nodes"][0]["address"] == CASSANDRA, "{status:#}");
    ensure!(status["schema"]["keyspace"] == *lab.name, "{status:#}");
    Ok(())
}

fn an_away_cassandra_hides_nothing_of_kafka() -> anyhow::Result<()> {
    let mut lab = Lab::new("nocassandra")?;
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", NOBODY);
    let status = json(&lab, 1, &["status"])?;
    let text = attention(&status);
    ensure!(text.lines().count() == 1, "one server is away, one line: {text}");
    ensure!(text.contains(NOBODY) && text.contains("cassandra.contact_points"), "{text}");
    ensure!(status["schema"]["unknown"].is_string(), "{status:#}");
    ensure!(status["kafka"]["topic"]["name"] == *lab.name, "{status:#}");
    Ok(())
}

fn doctor_has_nothing_against_a_lab_in_order() -> anyhow::Result<()> {
    let lab = Lab::new("sound")?;
    lab.send(recent(20))?;
    lab.ingest()?;
    let doctor = json(&lab, 0, &["doctor"])?;
    for (group, name) in [
        ("machine", "java"),
        ("machine", "ports"),
        ("machine", "processes"),
        ("machine", "membership"),
        ("cassandra", "nodes"),
        ("cassandra", "versions"),
        ("cassandra", "clocks"),
        ("cassandra", "schema agreement"),
        ("cassandra", "schema"),
        ("kafka", "topics"),
        ("kafka", "partitions"),
        ("kafka", "messages lost"),
        ("kafka", "retention"),
        ("kafka", "dead letters"),
        ("kafka", "in-sync replicas"),
    ] {
        let [verdict, found, _] = check(&doctor, group, name)?;
        ensure!(verdict == "ok", "{group}/{name}: {verdict}, {found}");
    }
    // One node keeps one copy, and that is said.
    let [verdict, found, remedy] = check(&doctor, "cassandra", "replication")?;
    ensure!(verdict == "warning" && found.contains("1 copy") && remedy.contains("3 copies"), "{found}");
    ensure!(doctor["counts"]["failed"] == 0, "{doctor:#}");
    Ok(())
}

fn doctor_finds_a_schema_that_has_drifted() -> anyhow::Result<()> {
    let lab = Lab::new("drift")?;
    lab.cql("ALTER TABLE {ks}.iot_latest DROP humidity")?;
    let doctor = json(&lab, 1, &["doctor"])?;
    let [verdict, found, remedy] = check(&doctor, "cassandra", "schema")?;
    ensure!(verdict == "failed" && found.contains("iot_latest") && found.contains("humidity"), "{found}");
    ensure!(remedy.contains("iotctl schema apply"), "{remedy}");
    let text = lab.run(&["doctor"])?;
    ensure!(text.code == Some(1) && text.stdout.contains("→ "), "{text:#?}");
    Ok(())
}

fn doctor_finds_replicas_beyond_the_nodes() -> anyhow::Result<()> {
    let lab = Lab::bare("factor")?;
    lab.cql("CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")?;
    let doctor = json(&lab, 1, &["doctor"])?;
    let [verdict, found, remedy] = check(&doctor, "cassandra", "replication")?;
    ensure!(verdict == "failed", "{verdict}: {found}");
    ensure!(found.contains("needs 3 replicas and the cluster has 1 node"), "{found}");
    ensure!(remedy.contains("ALTER KEYSPACE"), "{remedy}");
    Ok(())
}

fn doctor_finds_messages_that_were_deleted_before_they_were_read() -> anyhow::Result<()> {
    let lab = Lab::new("lost")?;
    lab.send(recent(40))?;
    lab.ingest()?;
    lab.send(recent(25))?;
    // As retention does it: the beginning of the log moves past what the group has committed.
    let ends = lab.block_on(iotctl::kafka::topics::end_offsets(&lab.kafka(), &lab.name))?;
    let mut list = TopicPartitionList::new();
    for (partition, end) in (0..).zip(&ends) {
        list.add_partition_offset(&lab.name, partition, Offset::Offset(*end))?;
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
    lab.block_on(admin.delete_records(&list, &AdminOptions::new()))?;
    let doctor = json(&lab, 1, &["doctor"])?;
    let [verdict, found, remedy] = check(&doctor, "kafka", "messages lost")?;
    ensure!(verdict == "failed" && found.starts_with("25 messages were deleted"), "{found}");
    ensure!(remedy.contains("retention"), "{remedy}");
    Ok(())
}

fn doctor_skips_what_an_away_server_would_have_to_answer() -> anyhow::Result<()> {
    let mut lab = Lab::new("skips")?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", NOBODY);
    let doctor = json(&lab, 1, &["doctor"])?;
    let [verdict, found, remedy] = check(&doctor, "kafka", "brokers")?;
    ensure!(
        verdict == "failed" && found.contains(NOBODY) && remedy.contains("iotctl up"),
        "{found} {remedy}"
    );
    ensure!(check(&doctor, "kafka", "messages lost")?[0] == "skipped", "{doctor:#}");
    ensure!(check(&doctor, "cassandra", "schema")?[0] == "ok", "{doctor:#}");
    Ok(())
}

fn top_on_a_pipe_is_a_usage_error_that_names_status() -> anyhow::Result<()> {
    let lab = Lab::bare("top")?;
    let error = lab.fails(2, &["top"])?;
    ensure!(error.contains("terminal") && error.contains("iotctl status"), "{error}");
    Ok(())
}
