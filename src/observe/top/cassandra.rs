//! Cassandra at one moment.

use chrono::{DateTime, Utc};

use crate::observe::exporter::cassandra::metrics::{LATENCY, LOAD, NODE_UP, POOL_PENDING, REQUESTS};
use crate::observe::exporter::snapshot::Snapshot;

/// Cassandra at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CassandraState {
    pub at: DateTime<Utc>,
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    pub address: String,
    pub is_up: bool,
    pub load_bytes: Option<f64>,
    /// Of the keyspace's slowest table, in seconds, over about the last five minutes.
    pub read_p99: Option<f64>,
    pub write_p99: Option<f64>,
    /// Tasks that wait for a thread, summed over all pools.
    pub pending: Option<f64>,
    /// Mutations and reads of the keyspace that the node has executed since it started.
    pub(super) writes: Option<f64>,
    pub(super) reads: Option<f64>,
    /// Per second, since the previous look.
    pub write_rate: Option<f64>,
    pub read_rate: Option<f64>,
}

impl CassandraState {
    pub fn of(keyspace: &str, snapshot: &Snapshot) -> Self {
        let nodes = snapshot.values(&NODE_UP).into_iter().map(|(labels, up)| {
            let address = labels[0];
            let values = |definition, is_meant: &dyn Fn(&[&str]) -> bool| -> Vec<f64> {
                let values = snapshot.values(definition).into_iter();
                values.filter(|(labels, _)| labels[0] == address && is_meant(labels)).map(|it| it.1).collect()
            };
            let sum = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum());
            let max = |values: Vec<f64>| values.into_iter().reduce(f64::max);
            let of = |operation: &'static str| {
                move |labels: &[&str]| labels[1] == operation && labels[2] == keyspace
            };
            let p99 = |operation: &'static str| {
                let of = of(operation);
                max(values(&LATENCY, &|labels| of(labels) && labels[4] == "0.99"))
            };
            Node {
                address: address.to_owned(),
                is_up: up > 0.0,
                load_bytes: snapshot.value(&LOAD, &[address]),
                read_p99: max([p99("local_read"), p99("local_scan")].into_iter().flatten().collect()),
                write_p99: p99("local_write"),
                pending: sum(values(&POOL_PENDING, &|_| true)),
                writes: sum(values(&REQUESTS, &of("local_write"))),
                reads: sum(
                    [values(&REQUESTS, &of("local_read")), values(&REQUESTS, &of("local_scan"))].concat()
                ),
                write_rate: None,
                read_rate: None,
            }
        });
        Self { at: Utc::now(), nodes: nodes.collect() }
    }
}
