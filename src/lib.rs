//! `iotctl` runs an IoT analytics platform on Apache Kafka and Apache Cassandra: it simulates a fleet of sensors,
//! moves their readings from a Kafka topic into Cassandra without losing one, and answers questions over them.
//!
//! # Layout
//! The rooms from the ground up. **A room imports only rooms that stand before it in this list**, so there are no
//! circles, and whoever reads a room needs only what is above it here. `tests/layout.rs` holds the rule.
//!
//! Values, without a server:
//! - [`encoding`]: bytes as text. [`error`]: what a failure is. [`shutdown`]: one way to say "stop". [`config`]: one validated struct.
//! - [`retry`]: the one retry policy, and how long errors for the operator are tolerated. [`runtime`]: threads for futures.
//! - [`tls`]: PEM files, and refused handshakes in words. [`time`]: moments, ranges, hours and days.
//! - [`output`]: the only writer to stdout. [`reading`]: a reading, its group, wire format, metrics and time bucket.
//! - [`mapping`]: from any message to readings, by a mapping file.
//! - [`series`]: values over time, summaries and sketches. [`http`]: the one way to serve HTTP, with its limits, and its client.
//! - [`metrics`]: the Prometheus endpoint, and what /readyz and /healthz answer.
//!
//! Clients of the servers:
//! - [`cassandra`]: the driver alone: session, pool, discovery, statements and rows in wire format.
//! - [`kafka`]: the only place that knows rdkafka: client configuration, producer, consumer, topics, lag.
//! - [`registry`]: what mappings need beside a message: schemas of a registry, births of Sparkplug.
//!
//! Data:
//! - [`store`]: the tables and the schema; the only place that knows the CQL over our tables.
//!
//! Questions:
//! - [`analytics`]: query, filters, extremes, statistics, silent sensors. [`rollups`]: summaries by hour and day.
//! - [`audit`]: ledger, topic and table compared, reading by reading. [`anomalies`]: detectors, and their score.
//! - [`forecasts`]: models, back-tests and intervals. [`plot`]: charts in the terminal and in files.
//!
//! Work:
//! - [`alerting`]: rules that judge each reading as it arrives, their alerts, and the way of these to receivers.
//! - [`ingestion`]: topic -> decode -> batches -> Cassandra -> commit. [`simulation`]: a seeded fleet of sensors.
//! - [`bridge`]: MQTT -> Kafka. [`servers`]: local processes, containers, and the cluster's membership.
//! - [`transfer`]: readings in bulk: to and from files, and the Spark jobs.
//!
//! Looking on:
//! - [`sql`](self): the tables for SQL and for PostgreSQL's clients; only with the feature `sql`.
//! - [`observe`]: exporter, status, doctor and the live view. [`dashboard`]: one page in a browser, and its API.
//! - [`report`]: one page about a range of time, as a file.
//!
//! Verbs:
//! - [`commands`]: one thin file per verb. [`cli`]: the command line.
//! - [`fuzzing`]: one entry for each reader of bytes from outside, for the fuzz targets and `tests/hostile.rs`.
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

pub mod alerting;
pub mod analytics;
pub mod anomalies;
pub mod audit;
pub mod bridge;
pub mod cassandra;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod encoding;
pub mod error;
pub mod forecasts;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod ingestion;
pub mod kafka;
pub mod mapping;
pub mod metrics;
pub mod observe;
pub mod output;
pub mod plot;
pub mod reading;
pub mod registry;
pub mod report;
pub mod retry;
pub mod rollups;
pub mod runtime;
pub mod series;
pub mod servers;
pub mod shutdown;
pub mod simulation;
#[cfg(feature = "sql")]
pub mod sql;
pub mod store;
pub mod time;
pub mod tls;
pub mod transfer;
