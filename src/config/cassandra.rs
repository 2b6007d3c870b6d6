//! `[cassandra]` and `[cassandra.tls]`.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::section::{choice, hours, millis, seconds, section, time, whole};

section! {
    /// How to reach Cassandra and what to ask of it.
    "cassandra" => CassandraConfig {
        /// Addresses of some nodes as host:port (default port 9042). The other nodes are discovered.
        contact_points: Vec<String> = vec!["127.0.0.1:9042".into()];
        /// Keyspace of the readings.
        keyspace: String = "sensor_data_schema".into();
        /// Datacenter whose nodes receive the requests. Empty: the datacenter of the contact points.
        local_datacenter: Option<String>;
        /// Replicas that must acknowledge a row before its offset is committed.
        write_consistency: Consistency = Consistency::LocalQuorum;
        /// Replicas that must answer a read.
        read_consistency: Consistency = Consistency::LocalQuorum;
        /// User name, if the servers require authentication. Needs a password.
        username: Option<String>;
        /// Password. Better given as a variable or in password_file.
        password: Option<Secret>;
        /// File whose first line is the password. Use it instead of password.
        password_file: Option<PathBuf>;
        /// Time limit of a request, including attempts on other nodes.
        request_timeout: Duration = seconds(10), time(millis(1), hours(1));
        /// Time limit for opening a connection.
        connect_timeout: Duration = seconds(5), time(millis(1), hours(1));
        /// Connections to each node.
        connections_per_node: usize = 2, whole(1, 64);
        section tls: CassandraTlsConfig;
    }
}

section! {
    /// Encryption between iotctl and Cassandra.
    "cassandra.tls" => CassandraTlsConfig {
        /// Encrypt connections and verify the servers' certificates.
        enabled: bool = false;
        /// PEM file of the trusted certificate authorities. Required if TLS is enabled.
        ca_file: Option<PathBuf>;
        /// PEM file of the client certificate, if the servers require one. Needs key_file.
        cert_file: Option<PathBuf>;
        /// PEM file of the client key. Needs cert_file.
        key_file: Option<PathBuf>;
        /// Name in the servers' certificates. Empty: the address of each node.
        server_name: Option<String>;
    }
}

choice! {
    /// How many replicas take part in a request, as Cassandra names it.
    Consistency {
        Any = "ANY",
        One = "ONE",
        Two = "TWO",
        Three = "THREE",
        Quorum = "QUORUM",
        All = "ALL",
        LocalQuorum = "LOCAL_QUORUM",
        EachQuorum = "EACH_QUORUM",
        LocalOne = "LOCAL_ONE",
    }
}
