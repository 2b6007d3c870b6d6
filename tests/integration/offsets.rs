//! `iotctl offsets` on a real consumer group: what it shows is what Kafka has, and a reset makes ingest read again.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::support::{Lab, contains, eventually, message};

crate::trials!(a_reset_reads_again_without_changing_rows_and_is_refused_while_ingest_runs);

/// A column of all partitions.
fn column(lab: &Lab, name: &str) -> anyhow::Result<Vec<Option<i64>>> {
    let shown = lab.json("-q offsets show --format json")?;
    Ok(shown.as_array().into_iter().flatten().map(|one| one[name].as_i64()).collect())
}

fn sum(values: &[Option<i64>]) -> i64 {
    values.iter().flatten().sum()
}

fn a_reset_reads_again_without_changing_rows_and_is_refused_while_ingest_runs() -> anyhow::Result<()> {
    let lab = Lab::new("offsets")?;
    let base = 1_760_000_000_000;
    let old = (0..60)
        .map(|number| message("plant-1", number % 9, base + number as i64 * 1000, r#","temperature":20"#));
    lab.send(old)?;
    ensure!(column(&lab, "committed")? == vec![None; 4], "the group has committed nothing yet");
    ensure!(sum(&column(&lab, "lag")?) == 60);
    lab.ingest()?;
    ensure!(sum(&column(&lab, "committed")?) == 60 && sum(&column(&lab, "lag")?) == 0);
    // Kafka's own timestamps tell the second half from the first.
    std::thread::sleep(Duration::from_millis(1100));
    let between = chrono::Utc::now().to_rfc3339();
    let new = (0..40).map(|number| {
        message("plant-1", number % 9, base + 90_000 + number as i64 * 1000, r#","temperature":21"#)
    });
    lab.send(new)?;
    lab.ingest()?;
    let rows: Vec<(i64,)> = lab.witness("SELECT count(*) FROM {ks}.iot_sensor_metrics")?;
    let all: fn(&Lab) -> anyhow::Result<Vec<Value>> =
        |lab| lab.query("thermostat", "--from 2025-01-01 --to 2026-01-01 --limit 1000");
    let before = all(&lab)?;
    ensure!(before.len() == 100, "{} rows", before.len());

    // A dry run changes nothing.
    let planned = lab.json("-q offsets reset --to earliest --dry-run --format json")?;
    ensure!(planned["is_dry_run"] == true && planned["partitions"][0]["new"] == 0, "{planned}");
    ensure!(sum(&column(&lab, "committed")?) == 100);
    // Without --yes and a terminal it is refused.
    contains(&lab.fails(2, "-q offsets reset --to earliest")?, &["add --yes"])?;

    // To a moment: the messages since then are read again, and no row changes.
    lab.ok(&["-q", "offsets", "reset", "--to", &between, "--yes"])?;
    ensure!(sum(&column(&lab, "committed")?) == 60, "{:?}", column(&lab, "committed")?);
    ensure!(lab.ingest()?["messages"] == 40);
    lab.ok("-q offsets reset --to earliest --yes")?;
    ensure!(lab.ingest()?["messages"] == 100);
    ensure!(all(&lab)? == before, "reading again changed rows");
    ensure!(lab.witness::<(i64,)>("SELECT count(*) FROM {ks}.iot_sensor_metrics")? == rows);

    // One partition, by a number of messages, and no further than the beginning.
    let ends: Vec<i64> = column(&lab, "end")?.into_iter().flatten().collect();
    lab.ok("-q offsets reset --to -2 --partition 1 --yes")?;
    let committed: Vec<i64> = column(&lab, "committed")?.into_iter().flatten().collect();
    ensure!(committed == [ends[0], ends[1] - 2, ends[2], ends[3]], "{committed:?} of {ends:?}");
    lab.ok("-q offsets reset --to -1000 --partition 1 --yes")?;
    ensure!(column(&lab, "committed")?[1] == Some(0));
    lab.ok("-q offsets reset --to latest --yes")?;
    ensure!(lab.ingest()?["messages"] == 0);
    contains(
        &lab.fails(2, "-q offsets reset --to latest --partition 9 --yes")?,
        &["no partition 9", "0 to 3"],
    )?;
    contains(&lab.fails(2, "-q offsets reset --to nowhere --yes")?, &["earliest, latest, current"])?;

    // Not while an ingest runs, whose own commits would undo it.
    let mut ingest = lab.spawn("-q ingest")?;
    let reset = "-q offsets reset --to earliest --yes";
    eventually("the ingest is a member", Duration::from_secs(20), || {
        let finished = lab.run("-q offsets reset --to current --yes")?;
        Ok(finished.code == Some(1) && finished.stderr.contains("stop every ingest"))
    })?;
    contains(&lab.fails(1, reset)?, &["has 1 members: iotctl", "stop every ingest of the group"])?;
    ensure!(ingest.terminate()? == Some(0));
    ensure!(sum(&column(&lab, "committed")?) == 100, "nothing was reset");
    lab.ok(reset)?;
    ensure!(sum(&column(&lab, "committed")?) == 0);
    Ok(())
}
