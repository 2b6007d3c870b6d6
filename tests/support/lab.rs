//! One test's own corner of the servers: a keyspace, a topic and a consumer group of one name.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::cassandra::{Rows, Session};
use iotctl::config::{Config, KafkaConfig};
use iotctl::kafka::Producer;
use iotctl::kafka::producer::Offer;
use iotctl::kafka::topics;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

use super::eventually;
use super::program::{Program, Words};
use super::servers::{self, CASSANDRA, KAFKA};
use super::witness::Witness;

/// The program with a keyspace, a topic and a group of the test's own.
pub struct Lab {
    /// Of keyspace, topic and group.
    pub name: String,
    program: Program,
    runtime: tokio::runtime::Runtime,
}

impl Deref for Lab {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

impl Lab {
    /// A lab without schema or topics.
    pub fn bare(name: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}_{}_{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name: String = name.chars().take(46).collect();
        let mut program = servers::program();
        for (key, value) in [
            ("IOTCTL_CASSANDRA_CONTACT_POINTS", CASSANDRA),
            ("IOTCTL_CASSANDRA_KEYSPACE", &name),
            ("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", KAFKA),
            ("IOTCTL_KAFKA_TOPIC", &name),
            ("IOTCTL_KAFKA_GROUP", &name),
            ("IOTCTL_KAFKA_PARTITIONS", "4"),
        ] {
            program.set(key, value);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { name, program, runtime })
    }

    /// A lab with schema and topics.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let lab = Self::bare(name)?;
        lab.ok("-q schema apply")?;
        Ok(lab)
    }

    /// Sends simulated readings as fast as possible and returns the report: `lab.simulate("--count 20000")`.
    pub fn simulate(&self, fleet: impl Words) -> anyhow::Result<Value> {
        let simulate = ["-q", "simulate", "--rate", "0", "--format", "json"].map(str::to_owned);
        self.json(&[&simulate[..], &fleet.words()].concat())
    }

    /// Drains the topic and returns the report.
    pub fn ingest(&self) -> anyhow::Result<Value> {
        self.json("-q ingest --until-end --format json")
    }

    /// The rows that `query` finds for plant-1 and a device type, with further arguments.
    pub fn query(&self, device_type: &str, arguments: impl Words) -> anyhow::Result<Vec<Value>> {
        let group = ["-q", "query", "--location", "plant-1", "--device-type", device_type];
        let group = group.into_iter().chain(["--format", "ndjson"]).map(str::to_owned);
        self.lines(&group.chain(arguments.words()).collect::<Vec<_>>())
    }

    pub fn kafka(&self) -> KafkaConfig {
        KafkaConfig { bootstrap_servers: vec![KAFKA.into()], topic: self.name.clone(), ..Default::default() }
    }

    /// Sends messages as any client would: a key and bytes. Returns once all are acknowledged.
    pub fn send(&self, messages: impl IntoIterator<Item = (String, Vec<u8>)>) -> anyhow::Result<usize> {
        let acknowledged = Arc::new(AtomicU32::new(0));
        let count = acknowledged.clone();
        let producer = Producer::new(&self.kafka(), &self.name, move |delivery| {
            count.fetch_add(u32::from(delivery.outcome.is_ok()), Ordering::Relaxed);
        })?;
        let mut sent = 0;
        for (key, payload) in messages {
            while producer.offer(key.as_bytes(), &payload, sent)? == Offer::Full {
                std::thread::sleep(Duration::from_millis(5));
            }
            sent += 1;
        }
        ensure!(producer.flush(Duration::from_secs(30)), "not everything was delivered in 30 s");
        ensure!(acknowledged.load(Ordering::Relaxed) as usize == sent, "not everything was acknowledged");
        Ok(sent)
    }

    /// Deletes a topic, and waits until the broker no longer lists it.
    pub fn delete_topic(&self, topic: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
        let results = self.runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new()))?;
        ensure!(results.iter().all(Result::is_ok), "{results:?}");
        eventually("the topic is deleted", Duration::from_secs(10), || {
            Ok(self.runtime.block_on(topics::partitions(&self.kafka(), topic)).is_err())
        })
    }

    /// A session on the lab's keyspace.
    pub fn session(&self) -> anyhow::Result<Session> {
        let mut config = Config::default().cassandra;
        config.contact_points = vec![CASSANDRA.into()];
        config.keyspace = self.name.clone();
        Ok(self.runtime.block_on(Session::connect(&config))?)
    }

    /// Runs the statements of a schema, as `schema apply --dry-run` prints them.
    pub fn apply(&self, cql: &str) -> anyhow::Result<()> {
        let is_comment = |line: &str| line.starts_with("--") || line.is_empty();
        for statement in cql.split(";\n").filter(|statement| !statement.lines().all(is_comment)) {
            self.cql(statement)?;
        }
        Ok(())
    }

    /// All rows of a statement in which `{ks}` stands for the keyspace.
    pub fn cql(&self, cql: &str) -> anyhow::Result<Rows> {
        let session = self.session()?;
        Ok(self.runtime.block_on(session.query(&cql.replace("{ks}", &self.name)))?)
    }

    /// All rows of a statement in which `{ks}` stands for the keyspace, by another driver than the program's.
    pub fn witness<R>(&self, cql: &str) -> anyhow::Result<Vec<R>>
    where
        R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
    {
        self.runtime.block_on(async { Witness::connect(&self.name).await?.rows(cql).await })
    }

    /// Raw rows in the table.
    pub fn stored(&self) -> anyhow::Result<i64> {
        let rows = self.cql("SELECT count(*) FROM {ks}.iot_sensor_metrics")?;
        Ok(rows.first().context("a count has a row")?.get(0)?)
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}
