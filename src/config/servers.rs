//! Who runs the servers: `[local]`, `[cluster]` and `[docker]`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::section::{PORT, choice, days, hours, minutes, seconds, section, size, time};
use super::value::Kind;

const HEAP: Kind = size(ByteSize::mib(128), ByteSize::gib(256));

section! {
    /// The servers of `iotctl up`.
    "local" => LocalConfig {
        /// Data, logs and pid files of the servers. Empty: the user's data folder.
        data_dir: Option<PathBuf>;
        /// Jars, shared between runs. Empty: the user's cache folder.
        cache_dir: Option<PathBuf>;
        /// Address of the first node and of Kafka, in 127.0.0.0/8. Further nodes get the following addresses.
        address: Ipv4Addr = Ipv4Addr::LOCALHOST;
        /// Port for Cassandra's clients.
        cassandra_port: u16 = 9042, PORT;
        /// Port between the Cassandra nodes.
        cassandra_storage_port: u16 = 7000, PORT;
        /// Port for nodetool. Further nodes get the following ports.
        cassandra_jmx_port: u16 = 7199, PORT;
        /// Port for Kafka's clients.
        kafka_port: u16 = 9092, PORT;
        /// Port of Kafka's controller.
        kafka_controller_port: u16 = 9093, PORT;
        /// Port of ZooKeeper, with `iotctl up --kafka zookeeper`.
        zookeeper_port: u16 = 2181, PORT;
        /// Port of the metrics agent in each Cassandra node, with `iotctl up --monitoring`.
        cassandra_metrics_port: u16 = 7070, PORT;
        /// Port of the metrics agent in Kafka, with `iotctl up --monitoring`.
        kafka_metrics_port: u16 = 7071, PORT;
        /// Port of Prometheus, with `iotctl up --monitoring`.
        prometheus_port: u16 = 9090, PORT;
        /// HOST:PORT of each `iotctl ingest --metrics-addr`, which the Prometheus of `iotctl up --monitoring` scrapes.
        ingest_metrics: Vec<String> = vec!["127.0.0.1:9464".into()];
        /// HOST:PORT of each `iotctl monitor`, which the same Prometheus scrapes.
        monitor_metrics: Vec<String> = vec!["127.0.0.1:9465".into()];
        /// Port of node_exporter, with `iotctl up --monitoring`.
        node_exporter_port: u16 = 9100, PORT;
        /// Port of Grafana, with `iotctl up --monitoring`.
        grafana_port: u16 = 3000, PORT;
        /// Heap of each Cassandra node. Empty: chosen from the machine's memory.
        cassandra_heap: Option<ByteSize>, HEAP;
        /// Heap of Kafka. Empty: chosen from the machine's memory.
        kafka_heap: Option<ByteSize>, HEAP;
        /// More options for the JVM of each Cassandra node, such as -XX:+UseZGC.
        cassandra_jvm_options: Vec<String>;
        /// More options for the JVM of Kafka, and of ZooKeeper.
        kafka_jvm_options: Vec<String>;
        /// `iotctl status` and `iotctl doctor` warn if the disk of data_dir has less free space.
        least_free_disk: ByteSize = ByteSize::gib(10), size(ByteSize::mib(1), ByteSize::tib(1));
        /// How long a server may take to start.
        boot_timeout: Duration = minutes(3), time(seconds(1), hours(1));
    }
}

section! {
    /// The nodes that `iotctl node` adds and removes. Commands are run by sh with $NODE, the address of the node (and
    /// $DEAD, the address of a dead one).
    "cluster" => ClusterConfig {
        /// local: the processes of `iotctl up`; docker: the containers of `iotctl up --docker`; remote: your machines.
        runtime: RuntimeKind = RuntimeKind::Local;
        /// Journal of changes to the membership. Empty: beside the local servers, or in the user's data folder.
        journal_dir: Option<PathBuf>;
        /// remote: addresses of machines that may join, in this order.
        hosts: Vec<String>;
        /// remote: Cassandra's nodetool, such as nodetool or ssh "$NODE" nodetool.
        nodetool: String = "nodetool".into();
        /// remote: host on which nodetool finds JMX (127.0.0.1 if it runs over ssh). Empty: the address of each node.
        jmx_host: Option<String>;
        /// remote: JMX port of the nodes.
        jmx_port: u16 = 7199, PORT;
        /// remote: JMX user name.
        jmx_username: Option<String>;
        /// remote: file in nodetool's own format, one line with user name and password.
        jmx_password_file: Option<PathBuf>;
        /// remote: port between the nodes.
        storage_port: u16 = 7000, PORT;
        /// remote: starts Cassandra, such as ssh "$NODE" sudo systemctl start cassandra.
        start_command: Option<String>;
        /// remote: starts Cassandra with -Dcassandra.replace_address_first_boot=$DEAD.
        replace_command: Option<String>;
        /// remote: stops Cassandra after the node has left.
        stop_command: Option<String>;
        /// remote: moves the data directory aside and prints the new path. It must not delete anything.
        set_aside_command: Option<String>;
        /// remote: fails and prints the reason if a machine is not ready to join (data directory not empty).
        check_command: Option<String>;
        /// remote: prints the free bytes on the disk of the data directory. Empty: free space is not checked.
        disk_command: Option<String>;
        /// remote: time limit of these commands.
        command_timeout: Duration = minutes(2), time(seconds(1), days(1));
    }
}

section! {
    /// The containers of `iotctl up --docker`.
    "docker" => DockerConfig {
        /// Compose file. Empty: docker-compose.yml in the working folder. The .env file beside it is read.
        compose_file: Option<PathBuf>;
        /// Name of the Compose project: the prefix of containers, networks and volumes.
        project: String = "iotctl".into();
    }
}

choice! {
    /// Who runs the Cassandra nodes.
    #[derive(Default, clap::ValueEnum)]
    RuntimeKind {
        /// `iotctl up`, on this machine
        #[default]
        Local = "local",
        /// `iotctl up --docker`
        Docker = "docker",
        /// Machines of yours, by the commands in `[cluster]`
        Remote = "remote",
    }
}

impl DockerConfig {
    pub fn compose_file(&self) -> PathBuf {
        self.compose_file.clone().unwrap_or_else(|| "docker-compose.yml".into())
    }
}
