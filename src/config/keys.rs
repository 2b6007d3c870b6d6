//! Every `section.key` there is: what it means, which values it takes and within which bounds. The merge, the names of
//! the environment's variables, `config show` and the file of `config init` are all made from this table; a test holds
//! it to the fields of [`Config`](super::Config).

use std::time::Duration;

use super::value::Kind::{
    self, Address, Boolean, Choice, List, Map, Path, Property, Secret, Size, Text, Whole,
};

/// A setting, without a value.
#[derive(Debug)]
pub struct Key {
    /// `section.key`, such as `kafka.topic`.
    pub name: &'static str,
    pub kind: Kind,
    /// An empty value means "not set".
    pub optional: bool,
    pub about: &'static str,
}

impl Key {
    /// The section, such as `cassandra.tls`, and the key within it; none where the section itself is a map.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or((self.name, ""))
    }

    /// The environment's name for it: `kafka.topic` is IOTCTL_KAFKA_TOPIC.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }
}

pub const VARIABLE_PREFIX: &str = "IOTCTL_";

/// Variables with the prefix that are no settings.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("IOTCTL_CONFIG", "the config file, where --config does not name one"),
    ("IOTCTL_JAVA", "the JDK for the local servers"),
    ("IOTCTL_LOG", "a filter for the log on stderr, such as iotctl=debug"),
];

/// Sections in the order of the file, with their heading.
pub const SECTIONS: &[(&str, &str)] = &[
    ("cassandra", "How to reach Cassandra and what to ask of it."),
    ("cassandra.tls", "Encryption between iotctl and Cassandra."),
    ("schema", "What `iotctl schema apply` fills into the schema, and where a row is written."),
    ("kafka", "How to reach Kafka and what to ask of it."),
    ("ingest", "The pipeline from Kafka to Cassandra."),
    (
        "retention",
        "How long the readings of a device type live, where that is not schema.ttl: thermostat = \"90d\".",
    ),
    ("rollup", "Hourly and daily rollups, which answer questions over long ranges."),
    ("forecast", "Forecasts of `iotctl forecast --store`."),
    ("local", "The servers of `iotctl up`."),
    (
        "cluster",
        "Whose nodes `iotctl node` tends. Commands are run by sh with $NODE, the node's address (and $DEAD, a dead one's).",
    ),
    ("docker", "The containers of `iotctl up --docker`."),
];

/// The key that `path` names and, for an entry of a map (`kafka.properties.linger.ms`), the entry's own name.
pub fn find(path: &str) -> Option<(&'static Key, Option<&str>)> {
    KEYS.iter().find_map(|key| {
        let rest = path.strip_prefix(key.name)?;
        match (rest, &key.kind) {
            ("", _) => Some((key, None)),
            (rest, Map(_)) => Some((key, Some(rest.strip_prefix('.').filter(|entry| !entry.is_empty())?))),
            _ => None,
        }
    })
}

/// Whether keys stand below `path`.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// A longer name is no slip of the pen, and comparing spellings takes memory by the product of both lengths.
const MAX_MISSPELT: usize = 80;

/// What was most likely meant: the same key of another section, else the nearest spelling.
pub fn nearest(path: &str) -> Option<&'static str> {
    if path.len() > MAX_MISSPELT {
        return None;
    }
    let last = path.rsplit('.').next().unwrap_or(path);
    let same_key = KEYS.iter().filter(|key| key.split().1 == last);
    let by_spelling = |key: &&Key| strsim::damerau_levenshtein(key.name, path);
    if let Some(key) = same_key.min_by_key(by_spelling) {
        return Some(key.name);
    }
    let bare = !path.contains('.');
    KEYS.iter()
        .map(|key| {
            let known = if bare { key.split().1 } else { key.name };
            (strsim::damerau_levenshtein(known, path), key.name)
        })
        .min()
        .filter(|(distance, _)| *distance <= 2.max(path.len() / 4))
        .map(|(_, name)| name)
}

/// The variable that was most likely meant.
pub fn nearest_variable(variable: &str) -> Option<String> {
    if variable.len() > MAX_MISSPELT {
        return None;
    }
    KEYS.iter()
        .map(Key::variable)
        .chain(OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned()))
        .map(|known| (strsim::damerau_levenshtein(&known, variable), known))
        .min()
        .filter(|(distance, _)| *distance <= 4)
        .map(|(_, known)| known)
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, optional: false, about }
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, optional: true, about }
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Duration { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Cassandra refuses a longer time to live: 20 years of 365 days.
const MAX_TTL: u64 = 630_720_000 * SECOND;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const CONSISTENCY: Kind =
    Choice(&["ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"]);
const PORT: Kind = Whole { min: 1, max: 65_535 };
const REPLICAS: Kind = Whole { min: 1, max: 100 };
const RETENTION: Kind = millis(SECOND, MAX_TTL);
const HEAP: Kind = Size { min: 128 * MIB, max: 256 * GIB };

/// All settings, section by section.
pub const KEYS: &[Key] = &[
    key(
        "cassandra.contact_points",
        List,
        "Some nodes as host:port (9042 when the port is absent); the others are discovered.",
    ),
    key("cassandra.keyspace", Text, "The keyspace of the readings."),
    optional(
        "cassandra.local_datacenter",
        Text,
        "Only nodes of this datacenter are asked; the contact points' own when empty.",
    ),
    key(
        "cassandra.write_consistency",
        CONSISTENCY,
        "Replicas that must have a row before its offset is committed.",
    ),
    key("cassandra.read_consistency", CONSISTENCY, "Replicas that must answer a read."),
    optional("cassandra.username", Text, "For servers that authenticate; needs a password."),
    optional("cassandra.password", Secret, "Better given as a variable or as password_file."),
    optional(
        "cassandra.password_file",
        Path,
        "A file whose first line is the password; instead of password.",
    ),
    key(
        "cassandra.request_timeout",
        millis(1, HOUR),
        "The whole time a request may take, over all nodes that are tried.",
    ),
    key("cassandra.connect_timeout", millis(1, HOUR), "The time a connection may take to open."),
    key("cassandra.connections_per_node", Whole { min: 1, max: 64 }, "Connections to each node."),
    key("cassandra.tls.enabled", Boolean, "Encrypt, and verify the servers' certificates."),
    optional(
        "cassandra.tls.ca_file",
        Path,
        "PEM file of the authorities to trust; required when TLS is enabled.",
    ),
    optional(
        "cassandra.tls.cert_file",
        Path,
        "PEM file of the client's own certificate, where the servers ask for one; with key_file.",
    ),
    optional("cassandra.tls.key_file", Path, "PEM file of the client's own key; with cert_file."),
    optional(
        "cassandra.tls.server_name",
        Text,
        "The name that the servers' certificates carry; each node's own address when empty.",
    ),
    key(
        "schema.replication_factor",
        REPLICAS,
        "Replicas of each row, by SimpleStrategy; ignored where datacenters are given.",
    ),
    key(
        "schema.datacenters",
        Map(&REPLICAS),
        "Replicas by datacenter, by NetworkTopologyStrategy: { dc1 = 3, dc2 = 3 }.",
    ),
    key(
        "schema.ttl",
        millis(SECOND, MAX_TTL),
        "How long raw readings live, in whole seconds; not shorter than bucket.",
    ),
    key(
        "schema.bucket",
        millis(MINUTE, 366 * DAY),
        "Width of the time bucket in a partition key, in whole seconds. May be changed at any time: old buckets keep their width.",
    ),
    key("kafka.bootstrap_servers", List, "Some brokers as host:port (9092 when the port is absent)."),
    key("kafka.topic", Text, "The topic of the readings."),
    optional(
        "kafka.dead_letter_topic",
        Text,
        "Where messages go that can never be stored; <topic>.dlq when empty.",
    ),
    optional(
        "kafka.alerts_topic",
        Text,
        "Where `iotctl ingest --detect` writes alerts; <topic> with -alerts in place of -topic when empty.",
    ),
    key("kafka.group", Text, "The consumer group of `iotctl ingest`."),
    key(
        "kafka.partitions",
        Whole { min: 1, max: 10_000 },
        "Partitions of the topics that `iotctl schema apply` creates.",
    ),
    key("kafka.replication_factor", REPLICAS, "Replicas of the topics that `iotctl schema apply` creates."),
    key("kafka.request_timeout", millis(1, HOUR), "The time a request may take."),
    key(
        "kafka.security_protocol",
        Choice(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        "Encryption and authentication.",
    ),
    key(
        "kafka.sasl_mechanism",
        Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        "How to authenticate, with a SASL_* protocol.",
    ),
    optional("kafka.sasl_username", Text, "Required with a SASL_* protocol, with a password."),
    optional("kafka.sasl_password", Secret, "Better given as a variable or as sasl_password_file."),
    optional(
        "kafka.sasl_password_file",
        Path,
        "A file whose first line is the password; instead of sasl_password.",
    ),
    optional(
        "kafka.ssl_ca_location",
        Path,
        "PEM file of the authorities to trust; the system's own when empty.",
    ),
    optional(
        "kafka.ssl_certificate_location",
        Path,
        "PEM file of the client's own certificate; with ssl_key_location.",
    ),
    optional(
        "kafka.ssl_key_location",
        Path,
        "PEM file of the client's own key; with ssl_certificate_location.",
    ),
    optional("kafka.ssl_key_password", Secret, "Of the client's own key; better given as a variable."),
    key(
        "kafka.properties",
        Map(&Property),
        "Further librdkafka properties: { \"linger.ms\" = 20 }. Those that the delivery promise rests on are refused.",
    ),
    key(
        "ingest.batch_rows",
        Whole { min: 1, max: 1000 },
        "A batch (rows of one partition) is written when it reaches this many rows...",
    ),
    key(
        "ingest.batch_bytes",
        Size { min: KIB, max: 16 * MIB },
        "...or this many bytes (Cassandra refuses batches over its batch_size_fail_threshold)...",
    ),
    key("ingest.linger", millis(0, MINUTE), "...or this age."),
    key("ingest.max_in_flight_batches", Whole { min: 1, max: 4096 }, "Batches being written at once."),
    key(
        "ingest.max_in_flight_bytes",
        Size { min: MIB, max: 64 * GIB },
        "Bytes read but not yet stored; beyond it, fetching waits.",
    ),
    key("ingest.commit_interval", millis(10, 10 * MINUTE), "Time between two commits of offsets."),
    key(
        "ingest.drain_timeout",
        millis(1, HOUR),
        "On revocation or shutdown: how long to wait for what is being written.",
    ),
    key(
        "ingest.max_future_skew",
        millis(0, 366 * DAY),
        "A reading further in the future than this is a dead letter.",
    ),
    key(
        "ingest.max_message_bytes",
        Size { min: KIB, max: 100 * MIB },
        "A message larger than this is a dead letter.",
    ),
    key(
        "ingest.max_dead_letter_percent",
        Whole { min: 1, max: 100 },
        "Stop when more than this share of 1,000 messages cannot be stored; 100 never stops.",
    ),
    key(
        "retention",
        Map(&RETENTION),
        "By device type, in whole seconds, counted from the write. Readings that are stored keep theirs.",
    ),
    key(
        "rollup.in_ingest",
        Boolean,
        "Whether `iotctl ingest` computes rollups; `iotctl rollup` does it by hand.",
    ),
    key(
        "rollup.hourly_retention",
        millis(DAY, MAX_TTL),
        "How long hourly rollups are kept, counted from the end of their day.",
    ),
    key("rollup.daily_retention", millis(DAY, MAX_TTL), "The same of daily rollups; not shorter."),
    key(
        "forecast.retention",
        RETENTION,
        "How long stored forecasts are kept, in whole seconds, counted from when they were made.",
    ),
    optional(
        "local.data_dir",
        Path,
        "Data, logs and pid files of the servers; the user's data folder when empty.",
    ),
    optional("local.cache_dir", Path, "Jars, shared between runs; the user's cache folder when empty."),
    key(
        "local.address",
        Address,
        "Address of the first node and of Kafka, in 127.0.0.0/8; further nodes take the following ones.",
    ),
    key("local.cassandra_port", PORT, "Where Cassandra's clients connect."),
    key("local.cassandra_storage_port", PORT, "Between the Cassandra nodes."),
    key("local.cassandra_jmx_port", PORT, "For nodetool; further nodes take the following ports."),
    key("local.kafka_port", PORT, "Where Kafka's clients connect."),
    key("local.kafka_controller_port", PORT, "Of Kafka's own controller."),
    key("local.zookeeper_port", PORT, "Of `iotctl up --kafka zookeeper`."),
    key(
        "local.cassandra_metrics_port",
        PORT,
        "Of the agent in each Cassandra node, with `iotctl up --monitoring`.",
    ),
    key("local.kafka_metrics_port", PORT, "Of the agent in Kafka, with `iotctl up --monitoring`."),
    key("local.prometheus_port", PORT, "Of Prometheus, with `iotctl up --monitoring`."),
    key("local.node_exporter_port", PORT, "Of node_exporter, with `iotctl up --monitoring`."),
    key("local.grafana_port", PORT, "Of Grafana, with `iotctl up --monitoring`."),
    optional(
        "local.cassandra_heap",
        HEAP,
        "Heap of each Cassandra node; chosen from the machine's memory when empty.",
    ),
    optional("local.kafka_heap", HEAP, "Heap of Kafka; chosen from the machine's memory when empty."),
    key(
        "local.least_free_disk",
        Size { min: MIB, max: 1024 * GIB },
        "Below this, `status` and `doctor` complain of the disk that holds local.data_dir.",
    ),
    key("local.boot_timeout", millis(SECOND, HOUR), "How long a server may take to come up."),
    key(
        "cluster.runtime",
        Choice(&["local", "docker", "remote"]),
        "local: the processes of `iotctl up`; docker: the containers of `iotctl up --docker`; remote: your machines.",
    ),
    optional(
        "cluster.journal_dir",
        Path,
        "What was done to the membership; by the local servers, or in the user's data folder, when empty.",
    ),
    key("cluster.hosts", List, "remote: addresses of machines that may join, in this order."),
    key("cluster.nodetool", Text, "remote: Cassandra's tool, such as nodetool or ssh \"$NODE\" nodetool."),
    optional(
        "cluster.jmx_host",
        Text,
        "remote: where nodetool finds JMX; 127.0.0.1 where it goes over ssh, each node's address when empty.",
    ),
    key("cluster.jmx_port", PORT, "remote: the nodes' JMX port."),
    optional("cluster.jmx_username", Text, "remote: the user of JMX."),
    optional(
        "cluster.jmx_password_file",
        Path,
        "remote: a file in nodetool's own form, one line with the user and the password.",
    ),
    key("cluster.storage_port", PORT, "remote: where the nodes listen to each other."),
    optional(
        "cluster.start_command",
        Text,
        "remote: starts Cassandra, such as ssh \"$NODE\" sudo systemctl start cassandra.",
    ),
    optional(
        "cluster.replace_command",
        Text,
        "remote: starts it with -Dcassandra.replace_address_first_boot=$DEAD.",
    ),
    optional("cluster.stop_command", Text, "remote: stops it after it has left."),
    optional(
        "cluster.set_aside_command",
        Text,
        "remote: moves its data directory away, and prints to where. Never delete it here.",
    ),
    optional(
        "cluster.check_command",
        Text,
        "remote: fails, and says why, where a machine is not ready to join (its data directory is not empty).",
    ),
    optional(
        "cluster.disk_command",
        Text,
        "remote: prints the free bytes of the data directory's disk; unchecked when empty.",
    ),
    key("cluster.command_timeout", millis(SECOND, DAY), "remote: how long such a command may take."),
    optional(
        "docker.compose_file",
        Path,
        "The compose file; docker-compose.yml where the command runs, when empty. .env is read beside it.",
    ),
    key("docker.project", Text, "Compose's project: the prefix of containers, networks and volumes."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    /// Every leaf of the struct as `section.key`, with whether it is absent by default.
    fn fields(value: &serde_json::Value, prefix: &str, found: &mut BTreeSet<(String, bool)>) {
        match value {
            serde_json::Value::Object(map) if find(prefix).is_none() => {
                for (name, value) in map {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    fields(value, &path, found);
                }
            }
            leaf => {
                found.insert((prefix.to_owned(), leaf.is_null()));
            }
        }
    }

    #[test]
    fn the_table_of_keys_is_exactly_the_struct() {
        let mut of_struct = BTreeSet::new();
        fields(&serde_json::to_value(Config::default()).unwrap(), "", &mut of_struct);
        let of_table: BTreeSet<_> = KEYS.iter().map(|key| (key.name.to_owned(), key.optional)).collect();
        assert_eq!(of_table, of_struct);
    }

    #[test]
    fn each_key_has_a_section_and_a_variable_of_its_own() {
        let mut variables: BTreeSet<_> = OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        for key in KEYS {
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.split().0), "{}", key.name);
            assert!(variables.insert(key.variable()), "{}", key.variable());
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_the_key_that_was_meant() {
        assert_eq!(nearest("kafka.topics"), Some("kafka.topic"));
        assert_eq!(nearest("kafak.topic"), Some("kafka.topic"));
        assert_eq!(nearest("topic"), Some("kafka.topic"));
        assert_eq!(nearest("cassandra.ca_file"), Some("cassandra.tls.ca_file"));
        assert_eq!(nearest("ingest.request_timeout"), Some("kafka.request_timeout"));
        assert_eq!(nearest("nothing.like.it"), None);
        assert_eq!(nearest_variable("IOTCTL_KAFKA_TOPICS").as_deref(), Some("IOTCTL_KAFKA_TOPIC"));
        assert_eq!(nearest_variable("IOTCTL_SOMETHING_ELSE"), None);
        let long = format!("kafka.{}topic", "a".repeat(10 << 20));
        assert_eq!((nearest(&long), nearest_variable(&long)), (None, None));
    }
}
