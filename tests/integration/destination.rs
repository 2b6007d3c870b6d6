//! Where nothing names the servers, commands go to the local cluster that runs, and say so.

use anyhow::ensure;

use crate::support::{CASSANDRA, KAFKA, Lab, contains, message};

crate::trials!(
    commands_go_to_the_running_local_cluster_if_nothing_names_servers,
    a_flag_goes_before_the_running_local_cluster,
    purge_names_its_servers_even_if_it_is_quiet,
    purge_does_not_go_elsewhere_while_the_local_cluster_is_down,
);

/// A lab whose settings name no server; only the data directory leads to them.
fn unnamed(name: &str) -> anyhow::Result<Lab> {
    let mut lab = Lab::bare(name)?;
    lab.unset("IOTCTL_CASSANDRA_CONTACT_POINTS");
    lab.unset("IOTCTL_KAFKA_BOOTSTRAP_SERVERS");
    Ok(lab)
}

fn commands_go_to_the_running_local_cluster_if_nothing_names_servers() -> anyhow::Result<()> {
    let lab = unnamed("unnamed")?;
    let applied = lab.run("schema apply")?;
    ensure!(applied.code == Some(0), "{applied:#?}");
    let note = format!(
        "note: no contact point or broker is configured: using the local cluster at {CASSANDRA}, {KAFKA} (data in "
    );
    ensure!(applied.stderr.matches(&note).count() == 1, "{applied:#?}");
    lab.simulate("--count 500")?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 500, "{report:#}");
    let status = lab.run("-q status")?;
    ensure!(status.code == Some(0) && status.stderr.is_empty(), "{status:#?}");
    contains(&status.stdout, &[CASSANDRA, KAFKA])
}

fn a_flag_goes_before_the_running_local_cluster() -> anyhow::Result<()> {
    let lab = unnamed("flagged")?;
    let checked = lab.run(&format!("--contact-points {CASSANDRA} schema check"))?;
    contains(&checked.stderr, &["note: no broker is configured: using the local cluster at", KAFKA])?;
    ensure!(!checked.stderr.contains(&format!("at {CASSANDRA}")), "{checked:#?}");
    Ok(())
}

fn purge_names_its_servers_even_if_it_is_quiet() -> anyhow::Result<()> {
    let lab = unnamed("purges")?;
    lab.ok("-q schema apply")?;
    // 2026-11-01T00:00:00Z.
    lab.send([message("plant-1", 1, 1_793_491_200_000, r#","temperature":20.5"#)])?;
    lab.ingest()?;
    let purge = "-q purge --location plant-1 --before 2026-11-02";
    let dry = lab.run(&format!("{purge} --dry-run"))?;
    ensure!(dry.code == Some(0), "{dry:#?}");
    contains(&dry.stderr, &["note: no contact point or broker is configured", CASSANDRA])?;
    let unasked = lab.run(purge)?;
    ensure!(unasked.code == Some(2), "{unasked:#?}");
    contains(
        &unasked.stderr,
        &[&format!("delete the readings of 1 bucket from the Cassandra at {CASSANDRA}")],
    )
}

fn purge_does_not_go_elsewhere_while_the_local_cluster_is_down() -> anyhow::Result<()> {
    let mut lab = unnamed("down")?;
    let folder = tempfile::tempdir()?;
    lab.set("IOTCTL_LOCAL_DATA_DIR", folder.path().join("servers").to_str().unwrap_or_default());
    lab.set("IOTCTL_LOCAL_ADDRESS", "127.0.50.1");
    lab.set("IOTCTL_LOCAL_CASSANDRA_PORT", "9042");
    let error = lab.fails(2, "-q purge --location plant-1 --before 2026-11-02 --yes")?;
    contains(
        &error,
        &["the local cluster at 127.0.50.1:9042 is not running", "iotctl up", "cassandra.contact_points"],
    )
}
