//! Whether the disks hold what the TTL keeps.

use std::time::Duration;

use bytesize::ByteSize;

use super::cassandra::ANSWER_TIMEOUT;
use super::{Finding, failed, failed_by, ok, skipped, warning};
use crate::cassandra::{Session, system};
use crate::config::Config;
use crate::kafka::{consumer_groups, retention, topics};
use crate::observe::exporter::cassandra::Watch;
use crate::observe::exporter::cassandra::metrics::DISK;
use crate::observe::status::{LocalDisk, Status};
use crate::output::text::plural;
use crate::store::readings::TABLE;

/// Sizes come in steps of 1 MiB and leave out what is in memory, so a smaller table is not measured well enough.
const LEAST_MEASURED: f64 = 32.0 * 1024.0 * 1024.0;

/// What the growth of the readings is estimated from.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// Size of the table of readings on all nodes, all copies included.
    table_bytes: f64,
    /// Messages that the group has ever committed.
    messages: f64,
    /// Messages that arrived within the last `recent_seconds`.
    recent: f64,
    recent_seconds: f64,
    ttl_seconds: f64,
}

/// Long enough for a rate, and short enough for the current one.
const RECENT: Duration = Duration::from_secs(3600);

pub(super) async fn growth(config: &Config, status: &Status, session: &Session) -> Finding {
    let ttl = match system::default_ttl(session, session.keyspace(), TABLE).await {
        Ok(Some(0)) => {
            return warning(
                "the readings have no TTL: they are never deleted",
                "run `iotctl schema apply --alter-options` with schema.ttl set",
            );
        }
        Ok(Some(ttl)) => ttl,
        Ok(None) => return skipped("the table of readings does not exist yet"),
        Err(error) => return failed_by(error),
    };
    let mut watch = Watch::over(session.clone(), &config.cassandra, ANSWER_TIMEOUT);
    let (snapshot, _) = watch.look().await;
    let is_readings = |labels: &[&str]| labels[1] == config.cassandra.keyspace && labels[2] == TABLE;
    let sizes: Vec<_> =
        snapshot.values(&DISK).into_iter().filter(|(labels, _)| is_readings(labels)).collect();
    if sizes.is_empty() {
        return skipped("the tables' sizes may not be read (GRANT SELECT ON KEYSPACE system_views)");
    }
    let table_bytes = sizes.iter().map(|(_, bytes)| bytes).sum();
    match messages(config, table_bytes, f64::from(ttl)).await {
        Ok(growth) => judge_growth(growth, status.disk.as_ref()),
        Err(error) => skipped(format!("the rate of messages is not known: {error}")),
    }
}

async fn messages(
    config: &Config,
    table_bytes: f64,
    ttl_seconds: f64,
) -> Result<Growth, crate::kafka::Error> {
    let kafka = &config.kafka;
    let watermarks = topics::watermarks(kafka, &kafka.topic).await?;
    let partitions = i32::try_from(watermarks.len()).unwrap_or(i32::MAX);
    let since = chrono::Utc::now().timestamp_millis() - i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX);
    let begun = retention::offsets_since(kafka, &kafka.topic, partitions, since).await?;
    let committed = consumer_groups::committed(kafka, &kafka.topic, partitions).await?;
    let recent = watermarks.iter().zip(&begun).map(|((_, end), begun)| begun.map_or(0, |begun| end - begun));
    Ok(Growth {
        table_bytes,
        messages: committed.iter().flatten().sum::<i64>() as f64,
        recent: recent.sum::<i64>() as f64,
        recent_seconds: RECENT.as_secs_f64(),
        ttl_seconds,
    })
}

/// Reported as an estimate: it assumes the rate of the last hour and the current bytes per message.
fn judge_growth(growth: Growth, disk: Option<&LocalDisk>) -> Finding {
    let size = |bytes: f64| ByteSize::b(bytes as u64).display().iec().to_string();
    if growth.table_bytes < LEAST_MEASURED || growth.messages < 1.0 {
        return skipped(format!(
            "the readings take {} on disk: too little to estimate the size of a reading",
            size(growth.table_bytes)
        ));
    }
    if growth.recent < 1.0 {
        return skipped("no messages arrived in the last hour, so there is no rate to estimate from");
    }
    let bytes_per_message = growth.table_bytes / growth.messages;
    let bytes_per_second = growth.recent / growth.recent_seconds * bytes_per_message;
    let at_ttl = bytes_per_second * growth.ttl_seconds;
    let found = format!(
        "about {} per day, {} in total once the TTL of {:.0} days deletes as much as arrives (estimate: {:.0} bytes per \
         message with all copies, at the rate of the last hour)",
        size(bytes_per_second * 86_400.0),
        size(at_ttl),
        growth.ttl_seconds / 86_400.0,
        bytes_per_message
    );
    let Some(disk) = disk else {
        return skipped(format!("{found}; compare it with the nodes' disks, whose size CQL does not report"));
    };
    let room = disk.disk.free_bytes as f64 + growth.table_bytes;
    let remedy = "lower schema.ttl (`iotctl schema apply --alter-options`), add disk or nodes, or send less";
    let days = (disk.disk.free_bytes as f64 / bytes_per_second / 86_400.0).floor();
    match at_ttl {
        at_ttl if at_ttl > room => failed(
            format!(
                "{found}; {} are free, enough for {}",
                size(disk.disk.free_bytes as f64),
                plural(days, "day")
            ),
            remedy,
        ),
        // Compaction needs space for the files that it rewrites.
        at_ttl if at_ttl > room * 0.7 => {
            warning(format!("{found}; {} are free", size(disk.disk.free_bytes as f64)), remedy)
        }
        _ => ok(format!("{found}; {} are free", size(disk.disk.free_bytes as f64))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::servers::local::disk::Disk;

    #[test]
    fn the_disk_at_the_ttl_is_judged_by_the_current_rate_and_size_of_a_message() {
        // 100 bytes per message and 1,000 messages per second: 8.64 GB per day, 86.4 GB in 10 days.
        let growth = Growth {
            table_bytes: 1e9,
            messages: 1e7,
            recent: 3_600_000.0,
            recent_seconds: 3600.0,
            ttl_seconds: 864_000.0,
        };
        let judged = |free_bytes| {
            let disk = Disk { free_bytes, total_bytes: 1 << 40 };
            let disk = LocalDisk { folder: "/d".into(), disk, least_free_bytes: 0 };
            judge_growth(growth, Some(&disk))
        };
        assert_eq!(judged(200_000_000_000).0, Verdict::Ok);
        assert_eq!(judged(100_000_000_000).0, Verdict::Warning);
        let (verdict, found, _) = judged(43_200_000_000);
        assert_eq!(verdict, Verdict::Failed);
        assert!(found.contains("enough for 5 days") && found.contains("estimate"), "{found}");
        assert_eq!(judge_growth(growth, None).0, Verdict::Skipped);
        assert_eq!(judge_growth(Growth { table_bytes: 1e6, ..growth }, None).0, Verdict::Skipped);
    }
}
