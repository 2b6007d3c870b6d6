//! Prometheus metrics: what `ingest` counts, what `forecast` exports, and the HTTP endpoint that shows it. Names follow Prometheus' advice
//! (base units, `_total` for counters); the same numbers feed the live line, so that the two cannot disagree.

pub mod server;
