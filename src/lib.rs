//! `iotctl` runs an IoT analytics platform on Apache Kafka and Apache Cassandra: it simulates a fleet of sensors,
//! moves their readings from a Kafka topic into Cassandra without losing one, and answers questions over them.
//!
//! # Layout
//! In the order the data flows:
//! - [`reading`]: what a reading is, its wire format, its metrics and units, its time bucket.
//! - [`simulation`]: a seeded fleet of sensors, disorder, recorded readings, the pace at which they are sent.
//! - [`kafka`]: the only place that knows rdkafka: client configuration, producer, consumer, topics, lag.
//! - [`ingestion`]: topic -> decode -> batches -> Cassandra -> commit.
//! - [`cassandra`]: the only place that knows CQL and cdrs-tokio: the session, routing, schema, partitions, paging.
//! - [`analytics`]: questions over stored readings: query, filters, extremes, sensors.
//! - [`anomalies`]: detectors of values unlike the others, and their score against labels.
//! - [`batch`]: readings in bulk: to and from files, and the Spark jobs.
//! - [`audit`]: ledger, topic and table compared, reading by reading.
//! - [`local`]: real Cassandra and Kafka servers on this machine, for `iotctl up` and for the tests.
//! - [`metrics`]: the Prometheus registry and its HTTP endpoint.
//! - [`monitoring`]: Kafka and Cassandra as seen from outside, for Prometheus.
//! - [`dashboard`]: one page in a browser over all of this, and the JSON behind it.
//! - [`status`], [`doctor`], [`top`]: what is known of all servers at once: as it is, checked, and live.
//!
//! Around them: [`cli`] (flags), [`config`] (one validated struct), [`commands`] (a thin file a verb), [`output`]
//! (the only writer to stdout), [`error`] (what a failure is and which exit code it gets), [`shutdown`], [`tls`] (PEM
//! files, and refused handshakes in words).
//!
//! # Invariants
//! 1. No acknowledged loss: a Kafka offset is committed only after every row up to it is stored at the configured
//!    consistency, or sits in the dead-letter topic. At-least-once delivery and idempotent upserts store each
//!    reading once.
//! 2. A reading's row is a pure function of its message: replaying a topic changes nothing.
//! 3. Missing is missing: an absent field, null or the legacy sentinel -999.0 is stored as UNSET (no cell, no
//!    tombstone), never as a number, and never enters an aggregate.
//! 4. Memory is bounded everywhere: bytes in flight on the way in, rows per page on the way out.
//! 5. Every analytic answer equals the answer of a full scan of the raw rows.
//! 6. Nothing waits forever: every remote call has a deadline; every wait is cancellable by SIGINT/SIGTERM.
//! 7. An operation on the cluster's membership is checked before, journaled while, verified after, and resumable.

pub mod analytics;
pub mod anomalies;
pub mod audit;
pub mod batch;
pub mod cassandra;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod detection;
pub mod docker;
pub mod doctor;
pub mod error;
pub mod forecasts;
#[doc(hidden)]
pub mod hostile;
pub mod ingestion;
pub mod kafka;
pub mod local;
pub mod metrics;
pub mod monitoring;
pub mod output;
pub mod plot;
pub mod reading;
pub mod rollups;
pub mod shutdown;
pub mod simulation;
pub mod status;
pub mod tls;
pub mod top;
