//! Rollups under attack: three nodes with three replicas, a roller that is killed, a node that hangs; and at the end each
//! rollup is that of its rows.

use std::time::Duration;

use anyhow::ensure;
use iotctl::cassandra::Session;
use iotctl::config::Config;
use serde_json::Value;

use crate::bench::{Bench, NODES};
use crate::support::{complain, eventually};

crate::faults!(short: [], long: [a_killed_rollup_and_a_frozen_node_leave_nothing_wrong]);

const HOURS: u64 = 96;

/// How many hours have been rolled up and are known to be.
fn covered(bench: &Bench) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = Config::default().cassandra;
        config.contact_points = NODES.map(|node| format!("{node}:9042")).into();
        config.keyspace = bench.topic().to_owned();
        let session = Session::connect(&config).await?;
        let cql = format!("SELECT start, period_seconds FROM {}.rollup_coverage", config.keyspace);
        let rows = session.query(&cql).await?;
        let hours = rows.iter().filter(|row| row.get::<i32>(1).is_ok_and(|period| period == 3600));
        Ok(hours.count() as u64)
    })
}

fn json(bench: &Bench, arguments: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&bench.ok(arguments)?)?)
}

fn a_killed_rollup_and_a_frozen_node_leave_nothing_wrong() -> anyhow::Result<()> {
    let mut bench = Bench::new("rollups")?;
    bench.set("IOTCTL_ROLLUP_IN_INGEST", "false");
    // A group, four days: one lease.
    let count = (HOURS * 12 * 250).to_string();
    let fleet = ["--sensors", "250", "--locations", "1", "--device-types", "thermostat", "--count", &count];
    let simulate = ["-q", "simulate", "--rate", "0", "--start", "2026-11-01T00:00:00Z", "--step", "5m"];
    bench.ok(&[&simulate[..], &fleet[..]].concat())?;
    bench.ok(&["-q", "ingest", "--until-end"])?;
    // Hours that have just been written to rest for a minute.
    std::thread::sleep(Duration::from_secs(62));

    let mut killed = bench.spawn(&["-q", "rollup", "--no-wait"])?;
    let mut seen = 0;
    eventually("the rollup is in the middle of its work", Duration::from_secs(60), || {
        seen = covered(&bench)?;
        Ok(seen > 0 || !killed.is_running()?)
    })?;
    killed.kill()?;
    let left = covered(&bench)?;
    complain(&format!("  killed when {seen} hours were covered, {left} are"));
    ensure!(left > 0 && left < HOURS, "{left} of {HOURS} hours: the kill did not come in the middle");
    // What is not covered is read from the rows: answers are whole all the time.
    let stats = ["-q", "stats", "--metric", "temperature", "--agg", "count,min,max,sum", "--by", "day"];
    let all = ["--from", "2026-11-01", "--to", "2026-11-05", "--format", "ndjson"];
    let ask = |raw: &[&str]| bench.ok(&[&stats[..], &all[..], raw].concat());
    let raw = ask(&["--raw"])?;
    ensure!(raw.lines().count() == 4, "{raw}");
    same(&ask(&[])?, &raw)?;

    // The killed one's lease ends by itself. Meanwhile a node hangs, and thaws when the work is done.
    let frozen = crate::servers().freeze("cassandra-3")?;
    eventually("another takes the lease over", Duration::from_secs(170), || {
        let report = json(&bench, &["-q", "rollup", "--no-wait", "--format", "json"])?;
        Ok(report["busy_groups"] == 0)
    })?;
    drop(frozen);
    ensure!(covered(&bench)? == HOURS, "{} of {HOURS} hours are covered", covered(&bench)?);
    same(&ask(&[])?, &raw)?;
    let verified = json(&bench, &["-q", "rollup", "--verify", "--format", "json"])?;
    ensure!(verified["hours"] == HOURS, "{verified}");
    complain(&format!("  verified: {verified}"));
    Ok(())
}

/// The same lines; sums may be added up in another order.
fn same(found: &str, expected: &str) -> anyhow::Result<()> {
    let parse = |text: &str| -> anyhow::Result<Vec<Value>> {
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let (found, expected) = (parse(found)?, parse(expected)?);
    ensure!(found.len() == expected.len(), "{found:?} instead of {expected:?}");
    for (found, expected) in found.iter().zip(&expected) {
        for key in ["day", "count", "min", "max"] {
            ensure!(found[key] == expected[key], "{key}: {found} instead of {expected}");
        }
        let sum = |line: &Value| line["sum"].as_f64().unwrap_or(f64::NAN);
        let distance = (sum(found) - sum(expected)).abs() / sum(expected).abs();
        ensure!(distance < 1e-9, "the sum: {found} instead of {expected}");
    }
    Ok(())
}
