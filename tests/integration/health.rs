//! The HTTP endpoint of a running ingest: what clients can take from it, and what /healthz and /readyz answer.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::ensure;

use crate::support::{Lab, Running, eventually, get, message, sample};

crate::trials!(
    half_open_connections_do_not_stop_the_pipeline,
    a_surplus_member_of_the_group_is_ready_and_its_lag_is_unknown,
    an_ingest_that_cannot_store_is_not_ready,
);

fn readings(count: u128) -> impl Iterator<Item = (String, Vec<u8>)> {
    let now = chrono::Utc::now().timestamp_millis();
    (0..count).map(move |sensor| message("plant-1", sensor, now, r#","temperature":20"#))
}

fn is_ready(address: &str) -> anyhow::Result<bool> {
    Ok(get(address, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
}

fn half_open_connections_do_not_stop_the_pipeline() -> anyhow::Result<()> {
    const DESCRIPTORS: u32 = 256;
    let lab = Lab::new("halfopen")?;
    let address = "127.0.42.1:19470";
    let mut ingest =
        lab.spawn_with_descriptors(DESCRIPTORS, &format!("-q ingest --metrics-addr {address}"))?;
    eventually("it is ready", Duration::from_secs(20), || is_ready(address))?;
    let mut half_open = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(address)?;
        if number % 2 == 0 {
            // One that was closed already to make room cannot be written to.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127");
        }
        half_open.push(stream);
    }
    lab.send(readings(2_000))?;
    eventually("everything is stored", Duration::from_secs(20), || Ok(lab.stored()? == 2_000))?;
    ensure!(get(address, "/metrics")?.contains("\niotctl_ingest_rows_total 2000\n"));
    ensure!(is_ready(address)? && get(address, "/healthz")?.starts_with("HTTP/1.1 200"));
    let open = std::fs::read_dir(format!("/proc/{}/fd", ingest.pid()))?.count();
    ensure!(open < DESCRIPTORS as usize * 3 / 4, "{open} descriptors are open");
    drop(half_open);
    ensure!(ingest.terminate()? == Some(0));
    Ok(())
}

fn a_surplus_member_of_the_group_is_ready_and_its_lag_is_unknown() -> anyhow::Result<()> {
    let mut lab = Lab::bare("surplus")?;
    lab.set("IOTCTL_KAFKA_PARTITIONS", "1");
    lab.ok("-q schema apply")?;
    lab.send(readings(10))?;
    let addresses = ["127.0.42.1:19476", "127.0.42.1:19477"];
    let mut members: Vec<Running> = Vec::new();
    for address in addresses {
        members.push(lab.spawn(&format!("-q ingest --metrics-addr {address}"))?);
        eventually("the member is ready", Duration::from_secs(30), || is_ready(address))?;
    }
    let mut partitions = Vec::new();
    eventually("one of the two has the partition", Duration::from_secs(30), || {
        partitions = addresses.map(|address| sample(address, "iotctl_ingest_assigned_partitions")).to_vec();
        let lags = addresses.map(|address| sample(address, "iotctl_ingest_lag_seconds"));
        let expected = partitions.iter().map(|partitions| (*partitions == Some(1.0)).then_some(0.0));
        Ok(partitions.iter().flatten().sum::<f64>() == 1.0 && lags.into_iter().eq(expected))
    })?;
    // Whoever has the partition leaves, and the other takes over.
    let owner = usize::from(partitions[1] == Some(1.0));
    ensure!(members[owner].terminate()? == Some(0));
    let heir = addresses[1 - owner];
    eventually("the other member takes over", Duration::from_secs(30), || {
        Ok(sample(heir, "iotctl_ingest_assigned_partitions") == Some(1.0) && is_ready(heir)?)
    })?;
    Ok(())
}

fn an_ingest_that_cannot_store_is_not_ready() -> anyhow::Result<()> {
    let lab = Lab::new("notready")?;
    let address = "127.0.42.1:19473";
    let mut ingest = lab.spawn(&format!("-q ingest --metrics-addr {address}"))?;
    lab.send(readings(10))?;
    eventually("the first readings are stored", Duration::from_secs(20), || Ok(lab.stored()? == 10))?;
    // The rows can be read before the answer to their batch has arrived.
    eventually("it is ready", Duration::from_secs(20), || is_ready(address))?;
    // Retried for a minute, because an operator may be restoring the table.
    lab.cql("DROP TABLE {ks}.iot_sensor_metrics")?;
    lab.send(readings(10))?;
    let mut answer = String::new();
    eventually("it reports that it is not ready", Duration::from_secs(30), || {
        answer = get(address, "/readyz")?;
        Ok(answer.starts_with("HTTP/1.1 503"))
    })?;
    ensure!(answer.contains("nothing has been stored for"), "{answer}");
    ensure!(get(address, "/healthz")?.starts_with("HTTP/1.1 200"), "a restart would not help");
    ingest.kill()
}
