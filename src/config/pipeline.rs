//! What happens to the readings: `[schema]`, `[ingest]`, `[retention]`, `[rollup]` and `[forecast]`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::duration;
use super::section::{
    Key, REPLICAS, Section, choice, days, hours, millis, minutes, seconds, section, size, time, whole,
};
use super::value::Kind;

/// Cassandra refuses a longer time to live: 20 years of 365 days.
const MAX_TTL: Duration = days(7300);
const RETENTION: Kind = time(seconds(1), MAX_TTL);

section! {
    /// What `iotctl schema apply` fills into the schema, and the width of time buckets.
    "schema" => SchemaConfig {
        /// Replicas of each row with SimpleStrategy. Ignored if datacenters is set.
        replication_factor: u32 = 3, REPLICAS;
        /// Replicas per datacenter with NetworkTopologyStrategy, such as { dc1 = 3, dc2 = 3 }.
        datacenters: BTreeMap<String, u32>, Kind::Map(&REPLICAS);
        /// How long raw readings are kept, in whole seconds. Must not be shorter than bucket.
        ttl: Duration = days(90), RETENTION;
        /// Width of the time bucket in a partition key, in whole seconds. It can be changed at any time: existing
        /// buckets keep their width.
        bucket: Duration = hours(1), time(minutes(1), days(366));
    }
}

section! {
    /// The pipeline from Kafka to Cassandra.
    "ingest" => IngestConfig {
        /// Rows at which a batch (rows of one partition) is written...
        batch_rows: usize = 64, whole(1, 1000);
        /// ...or its size (Cassandra refuses batches over its batch_size_fail_threshold)...
        batch_bytes: ByteSize = ByteSize::kib(16), size(ByteSize::kib(1), ByteSize::mib(16));
        /// ...or its age.
        linger: Duration = millis(50), time(millis(0), minutes(1));
        /// Maximum number of batches being written at the same time.
        max_in_flight_batches: usize = 64, whole(1, 4096);
        /// Maximum size of readings that are decoded and not yet stored. Fetching waits while it is reached.
        max_in_flight_bytes: ByteSize = ByteSize::mib(32), size(ByteSize::mib(1), ByteSize::gib(64));
        /// Time between two commits of offsets.
        commit_interval: Duration = seconds(1), time(millis(10), minutes(10));
        /// How long to wait for unfinished writes when partitions are revoked or the process stops.
        drain_timeout: Duration = seconds(20), time(millis(1), hours(1));
        /// Readings further in the future than this are dead letters.
        max_future_skew: Duration = hours(1), time(millis(0), days(366));
        /// Messages larger than this are dead letters.
        max_message_bytes: ByteSize = ByteSize::mib(1), size(ByteSize::kib(1), ByteSize::mib(100));
        /// Stop if more than this share of 1,000 messages cannot be stored. 100 never stops.
        max_dead_letter_percent: u8 = 80, whole(1, 100);
        /// What turns messages into readings: a mapping file, or one of the presets of `iotctl mapping list`. Without it,
        /// messages are in the built-in format.
        mapping: Option<String>;
        /// What to do about messages that Kafka deleted before they were read: report them and continue, or stop and
        /// commit nothing beyond them.
        on_lost_messages: OnLostMessages = OnLostMessages::Continue;
        /// With --detect: time between two snapshots of what rules remember of sensors. A restart goes on from the last one
        /// and judges the messages since then again, without alerts.
        detector_snapshot_interval: Duration = seconds(30), time(millis(100), minutes(10));
    }
}

choice! {
    OnLostMessages {
        Continue = "continue",
        Stop = "stop",
    }
}

/// How long the readings of a device type are kept, if that differs from `schema.ttl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetentionConfig(BTreeMap<String, Ttl>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Ttl(#[serde(with = "duration")] Duration);

impl RetentionConfig {
    /// The one section that is a map itself: its keys are device types.
    pub(super) const SECTION: Section = Section {
        name: "retention",
        about: "How long the readings of a device type are kept, if not schema.ttl: thermostat = \"90d\".",
        keys: &[Key {
            name: "retention",
            kind: Kind::Map(&RETENTION),
            optional: false,
            about: "Per device type, in whole seconds, counted from the write. Stored readings keep their retention.",
        }],
    };

    pub fn of(&self, device_type: &str) -> Option<Duration> {
        self.0.get(device_type).map(|ttl| ttl.0)
    }

    /// Device types and how long their readings are kept.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.0.iter().map(|(device_type, ttl)| (device_type.as_str(), ttl.0))
    }
}

section! {
    /// Hourly and daily rollups, which answer questions over long ranges.
    "rollup" => RollupConfig {
        /// Whether `iotctl ingest` computes rollups. If not, run `iotctl rollup`. Late readings are marked either way.
        in_ingest: bool = true;
        /// How long hourly rollups are kept, counted from the end of their day.
        hourly_retention: Duration = days(400), time(days(1), MAX_TTL);
        /// How long daily rollups are kept, counted from the end of their day. Must not be shorter than
        /// hourly_retention.
        daily_retention: Duration = days(1825), time(days(1), MAX_TTL);
    }
}

section! {
    /// Forecasts of `iotctl forecast --store`.
    "forecast" => ForecastConfig {
        /// How long stored forecasts are kept, in whole seconds, counted from their creation.
        retention: Duration = days(30), RETENTION;
    }
}
