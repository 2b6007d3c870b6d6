//! What `simulate` sends, how fast, and from where.

use std::io::Write;

use anyhow::ensure;
use iotctl::kafka::topics;

use crate::support::Lab;

crate::trials!(
    the_rate_is_held,
    a_recorded_csv_is_replayed_with_its_columns_mapped,
    every_malformed_message_becomes_a_dead_letter,
    the_ledger_lists_what_the_broker_acknowledged,
);

fn the_rate_is_held() -> anyhow::Result<()> {
    let lab = Lab::new("rate")?;
    let report = lab.json("-q simulate --rate 3000 --duration 5s --format json")?;
    let sent = report["sent"].as_f64().unwrap_or_default();
    ensure!((sent - 15_000.0).abs() <= 75.0, "{sent} sent instead of 15,000 within 0.5 %");
    ensure!(report["acknowledged"] == report["sent"], "{report}");
    let in_topic: i64 = lab.block_on(topics::end_offsets(&lab.kafka(), &lab.name))?.iter().sum();
    ensure!(in_topic as f64 == sent, "{in_topic} in the topic");
    Ok(())
}

fn a_recorded_csv_is_replayed_with_its_columns_mapped() -> anyhow::Result<()> {
    let lab = Lab::new("replay_csv")?;
    let mut file = tempfile::NamedTempFile::with_suffix(".csv")?;
    writeln!(file, "timestamp,value")?;
    for minute in 0..120 {
        writeln!(
            file,
            "2013-12-02 {:02}:{:02}:00,{}",
            20 + minute / 60,
            minute % 60,
            32.0 + 1.8 * f64::from(minute)
        )?;
    }
    lab.simulate(&format!(
        "--replay {} --map timestamp=recorded_timestamp,value=temperature \
         --set location=plant-1,device_type=machine --unit temperature=fahrenheit",
        file.path().display()
    ))?;
    lab.ingest()?;
    let rows = lab.query("machine", &["--order", "asc"])?;
    ensure!(rows.len() == 120, "{} rows", rows.len());
    ensure!(rows[0]["recorded_timestamp"] == "2013-12-02T20:00:00.000Z", "{}", rows[0]);
    for (minute, row) in rows.iter().enumerate() {
        let celsius = row["temperature"].as_f64().unwrap_or(f64::NAN);
        ensure!((celsius - minute as f64).abs() < 0.001, "minute {minute}: {row}");
    }
    Ok(())
}

fn every_malformed_message_becomes_a_dead_letter() -> anyhow::Result<()> {
    let lab = Lab::new("malformed")?;
    let report = lab.simulate("--count 5000 --malformed 0.2")?;
    let malformed = report["malformed"].as_u64().unwrap_or_default();
    ensure!(malformed > 500, "{report}");
    let ingested = lab.ingest()?;
    ensure!(ingested["dead_letters"].as_u64() == Some(malformed), "{ingested} of {report}");
    Ok(())
}

fn the_ledger_lists_what_the_broker_acknowledged() -> anyhow::Result<()> {
    let lab = Lab::new("ledger")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ledger");
    lab.simulate(&format!("--count 4000 --ledger {}", path.display()))?;
    let text = std::fs::read_to_string(&path)?;
    let mut positions: Vec<(i64, i64)> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line)?;
            Ok((line["partition"].as_i64().unwrap_or(-1), line["offset"].as_i64().unwrap_or(-1)))
        })
        .collect::<anyhow::Result<_>>()?;
    positions.sort_unstable();
    positions.dedup();
    ensure!(positions.len() == 4000, "{} distinct positions", positions.len());
    let ends = lab.block_on(topics::end_offsets(&lab.kafka(), &lab.name))?;
    let expected: Vec<(i64, i64)> = (0..)
        .zip(ends)
        .flat_map(|(partition, end)| (0..end).map(move |offset| (partition, offset)))
        .collect();
    ensure!(positions == expected, "the ledger and the topic differ");
    Ok(())
}
