//! `up`, `status`, `down` on addresses of their own, and the ZooKeeper variant.

use std::time::Duration;

use anyhow::ensure;

use crate::support::Lab;

crate::trials!(up_again_is_a_no_op_that_says_so, kafka_with_a_real_zookeeper_carries_readings);

fn up_again_is_a_no_op_that_says_so() -> anyhow::Result<()> {
    let lab = Lab::bare("again")?;
    let pids = |lab: &Lab| -> anyhow::Result<Vec<serde_json::Value>> {
        // Its exit code says that this lab has no schema.
        let status = lab.run("-q status --format json")?;
        let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
        let servers = status["local"].as_array().cloned().unwrap_or_default();
        Ok(servers.into_iter().map(|server| server["pid"].clone()).collect())
    };
    let before = pids(&lab)?;
    ensure!(before.len() >= 2 && before.iter().all(serde_json::Value::is_u64), "{before:?}");
    let again = lab.run("up")?;
    ensure!(again.code == Some(0), "{again:#?}");
    ensure!(again.stderr.contains("already"), "{again:#?}");
    ensure!(pids(&lab)? == before, "other processes run now");
    let more = lab.run("up --nodes 3")?;
    ensure!(more.code != Some(0) && more.stderr.contains("iotctl down"), "{more:#?}");
    Ok(())
}

fn kafka_with_a_real_zookeeper_carries_readings() -> anyhow::Result<()> {
    let mut lab = Lab::bare("zookeeper")?;
    let folder = tempfile::tempdir()?;
    for (variable, value) in [
        ("IOTCTL_LOCAL_ADDRESS", "127.0.43.1"),
        ("IOTCTL_LOCAL_DATA_DIR", folder.path().join("servers").to_str().unwrap_or_default()),
        ("IOTCTL_LOCAL_CASSANDRA_PORT", "19142"),
        ("IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT", "17200"),
        ("IOTCTL_LOCAL_CASSANDRA_JMX_PORT", "17399"),
        ("IOTCTL_LOCAL_KAFKA_PORT", "19292"),
        ("IOTCTL_LOCAL_KAFKA_CONTROLLER_PORT", "19293"),
        ("IOTCTL_LOCAL_ZOOKEEPER_PORT", "12281"),
        ("IOTCTL_CASSANDRA_CONTACT_POINTS", "127.0.43.1:19142"),
        ("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", "127.0.43.1:19292"),
    ] {
        lab.set(variable, value);
    }
    let work = || -> anyhow::Result<()> {
        lab.ok("-q up --kafka zookeeper")?;
        lab.ok("-q schema apply")?;
        let status = lab.ok("-q status --format json")?.to_lowercase();
        ensure!(status.contains("zookeeper"), "{status}");
        lab.simulate("--count 2000")?;
        ensure!(lab.ingest()?["rows"] == 2000);
        Ok(())
    };
    let result = work();
    let down = lab.run("-q down")?;
    result?;
    ensure!(down.code == Some(0), "{down:#?}");
    std::thread::sleep(Duration::from_millis(200));
    ensure!(
        std::net::TcpStream::connect("127.0.43.1:19142").is_err(),
        "Cassandra still listens after `down`"
    );
    ensure!(
        std::net::TcpStream::connect("127.0.43.1:12281").is_err(),
        "ZooKeeper still listens after `down`"
    );
    Ok(())
}
