//! The metrics of a node, without values.

use crate::observe::exporter::snapshot::Definition;

const BY_NODE: &[&str] = &["node"];
const BY_TABLE: &[&str] = &["node", "keyspace", "table"];
const BY_OPERATION: &[&str] = &["node", "operation", "keyspace", "table"];
const BY_POOL: &[&str] = &["node", "pool"];
const BY_CACHE: &[&str] = &["node", "cache"];
const BY_PEER: &[&str] = &["node", "peer"];

pub const NODE_UP: Definition = Definition::gauge(
    "iotctl_cassandra_node_up",
    "1 if the node answered over CQL in the last round, else 0",
    BY_NODE,
);
pub const NODE_INFO: Definition = Definition::gauge(
    "iotctl_cassandra_node_info",
    "1 for each node of the datacenter, with what it reports about itself as labels",
    &["node", "datacenter", "rack", "host_id", "version"],
);
pub const LOAD: Definition = Definition::gauge(
    "iotctl_cassandra_node_load_bytes",
    "Live data on the node's disk, as reported by gossip",
    BY_NODE,
);
pub(super) const PEER_UP: Definition = Definition::gauge(
    "iotctl_cassandra_peer_up",
    "1 if the node saw the peer's gossip heartbeat advance within 15 s and the peer has not announced its shutdown",
    BY_PEER,
);
pub(super) const HINTS: Definition = Definition::gauge(
    "iotctl_cassandra_pending_hint_files",
    "Hint files that the node keeps for a peer that missed writes",
    BY_PEER,
);
pub const REQUESTS: Definition = Definition::counter(
    "iotctl_cassandra_requests_total",
    "Requests: coordinator_read, _write and _scan that the node coordinated, local_read, _write and _scan that it \
     executed itself",
    BY_OPERATION,
);
pub const LATENCY: Definition = Definition::gauge(
    "iotctl_cassandra_request_latency_seconds",
    "Latency of requests over about the last five minutes; quantile 1 is the maximum; resolution 1 ms",
    &["node", "operation", "keyspace", "table", "quantile"],
);
pub(super) const TOMBSTONES: Definition = Definition::gauge(
    "iotctl_cassandra_tombstones_per_read",
    "Tombstones per read over about the last five minutes; quantile 1 is the maximum",
    &["node", "keyspace", "table", "quantile"],
);
pub(super) const ROWS: Definition = Definition::gauge(
    "iotctl_cassandra_rows_per_read",
    "Rows per read over about the last five minutes; quantile 1 is the maximum",
    &["node", "keyspace", "table", "quantile"],
);
pub const DISK: Definition = Definition::gauge(
    "iotctl_cassandra_table_disk_bytes",
    "Disk space of the table's SSTables, in steps of 1 MiB",
    BY_TABLE,
);
pub(super) const PARTITION: Definition = Definition::gauge(
    "iotctl_cassandra_table_max_partition_bytes",
    "Size of the table's largest partition, in steps of 1 MiB",
    BY_TABLE,
);
pub(super) const POOL_ACTIVE: Definition = Definition::gauge(
    "iotctl_cassandra_pool_active_tasks",
    "Tasks that the thread pool is executing",
    BY_POOL,
);
pub const POOL_PENDING: Definition =
    Definition::gauge("iotctl_cassandra_pool_pending_tasks", "Tasks that wait for the thread pool", BY_POOL);
pub(super) const POOL_BLOCKED: Definition = Definition::gauge(
    "iotctl_cassandra_pool_blocked_tasks",
    "Tasks that the thread pool's queue has no room for",
    BY_POOL,
);
pub(super) const POOL_COMPLETED: Definition = Definition::counter(
    "iotctl_cassandra_pool_completed_tasks_total",
    "Tasks that the thread pool has completed",
    BY_POOL,
);
pub(super) const TASKS: Definition = Definition::gauge(
    "iotctl_cassandra_sstable_tasks",
    "Running compactions, cleanups, scrubs and similar tasks",
    &["node", "kind"],
);
pub(super) const TASK_BYTES: Definition = Definition::gauge(
    "iotctl_cassandra_sstable_tasks_remaining_bytes",
    "Bytes that running compactions and similar tasks have left to read",
    &["node", "kind"],
);
pub(super) const CLIENTS: Definition = Definition::gauge(
    "iotctl_cassandra_clients",
    "Client connections, encrypted (tls=true) and not",
    &["node", "tls"],
);
pub(super) const CACHE_BYTES: Definition =
    Definition::gauge("iotctl_cassandra_cache_bytes", "Size of the cache", BY_CACHE);
pub(super) const CACHE_CAPACITY: Definition =
    Definition::gauge("iotctl_cassandra_cache_capacity_bytes", "Maximum size of the cache", BY_CACHE);
pub(super) const CACHE_HITS: Definition =
    Definition::counter("iotctl_cassandra_cache_hits_total", "Requests answered by the cache", BY_CACHE);
pub(super) const CACHE_REQUESTS: Definition =
    Definition::counter("iotctl_cassandra_cache_requests_total", "Requests to the cache", BY_CACHE);

pub const DEFINITIONS: [Definition; 22] = [
    NODE_UP,
    NODE_INFO,
    LOAD,
    PEER_UP,
    HINTS,
    REQUESTS,
    LATENCY,
    TOMBSTONES,
    ROWS,
    DISK,
    PARTITION,
    POOL_ACTIVE,
    POOL_PENDING,
    POOL_BLOCKED,
    POOL_COMPLETED,
    TASKS,
    TASK_BYTES,
    CLIENTS,
    CACHE_BYTES,
    CACHE_CAPACITY,
    CACHE_HITS,
    CACHE_REQUESTS,
];
