//! Several topics in one ingest, by a mapping that names them: nothing is lost, and each message stays of its topic.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use iotctl::kafka::topics;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;

use crate::support::{KAFKA, Lab, contains, eventually, sample, scrape};

crate::trials!(
    topics_and_a_pattern_lose_nothing_when_ingest_is_killed,
    a_new_topic_is_read_and_has_its_own_lag,
    ends_of_several_topics_are_found_behind_transaction_markers,
    a_topic_that_is_missing_is_named_with_its_remedy,
);

/// A mapping of the lab's topics: two names, and a pattern that fits the dead-letter topic too.
struct Topics<'a> {
    lab: &'a Lab,
    mapping: PathBuf,
    _folder: tempfile::TempDir,
}

impl<'a> Topics<'a> {
    fn new(lab: &'a Lab, existing: &[(&str, i32)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mapping = folder.path().join("topics.toml");
        let name = &lab.name;
        let rest = "device_type = { constant = \"meter\" }\nsensor = \"value.id\"\n\
                    recorded_timestamp = { from = \"value.t\", format = \"ms\" }\n\
                    metrics = { temperature = \"value.v\" }\n";
        let text = format!(
            "[[source]]\nname = \"named\"\ntopics = [\"{name}_a\", \"{name}_b\"]\nlocation = \"topic\"\n{rest}\
             [[source]]\nname = \"sites\"\ntopic_pattern = '^{name}(_p_(?<site>\\w+)|\\.dlq|\\.alerts)$'\n\
             location = \"capture.site\"\n{rest}"
        );
        std::fs::write(&mapping, text)?;
        let topics = Self { lab, mapping, _folder: folder };
        for (suffix, partitions) in existing {
            topics.create(suffix, *partitions)?;
        }
        Ok(topics)
    }

    fn create(&self, suffix: &str, partitions: i32) -> anyhow::Result<()> {
        let topic = format!("{}{suffix}", self.lab.name);
        self.lab.block_on(topics::ensure(&self.lab.kafka(), &topic, partitions, 1))?;
        Ok(())
    }

    fn send(&self, suffix: &str, messages: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let topic = format!("{}{suffix}", self.lab.name);
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", KAFKA).set("linger.ms", "5").create()?;
        for (number, message) in messages.into_iter().enumerate() {
            let key = number.to_string();
            while producer.send(BaseRecord::<str, str>::to(&topic).key(&key).payload(&message)).is_err() {
                producer.poll(Duration::from_millis(10));
            }
        }
        producer.flush(Duration::from_secs(20))?;
        Ok(())
    }

    fn arguments(&self, command: &str) -> Vec<String> {
        let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        words.extend(["--mapping".to_owned(), self.mapping.display().to_string()]);
        words
    }

    /// Rows by location.
    fn rows(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let rows: Vec<(String, uuid::Uuid)> =
            self.lab.witness("SELECT location, iot_sensor_id FROM {ks}.iot_sensor_metrics")?;
        let mut counts = BTreeMap::new();
        for (location, _) in rows {
            *counts.entry(location).or_default() += 1;
        }
        Ok(counts)
    }
}

fn readings(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| {
        let at = 1_795_600_000_000_i64 + n as i64 * 1000;
        json!({"id": format!("m-{}", n % 40), "t": at, "v": n % 30}).to_string()
    })
}

fn topics_and_a_pattern_lose_nothing_when_ingest_is_killed() -> anyhow::Result<()> {
    let lab = Lab::new("topics")?;
    let name = &lab.name;
    let topics = Topics::new(&lab, &[("_a", 2), ("_b", 3), ("_p_one", 1), ("_p_two", 2), ("_q_no", 1)])?;
    let sent = [("_a", 9_000), ("_b", 7_000), ("_p_one", 5_000), ("_p_two", 8_000), ("_q_no", 10)];
    for (suffix, count) in sent {
        topics.send(suffix, readings(count))?;
    }
    topics.send("_b", [r#"{"id": "broken"}"#.to_owned()])?;
    let total: usize = 29_000;
    let mut has_met_the_middle = false;
    for round in 0..8 {
        let mut ingest = lab.spawn(&topics.arguments("-q ingest"))?;
        std::thread::sleep(Duration::from_millis(1000 + 250 * round));
        ingest.kill()?;
        let stored: usize = topics.rows()?.values().sum();
        has_met_the_middle |= stored > 0 && stored < total;
    }
    ensure!(has_met_the_middle, "no kill came in the middle: the test proves nothing");
    lab.ok(&topics.arguments("-q ingest --until-end"))?;
    let wanted = BTreeMap::from([
        (format!("{name}_a"), 9_000),
        (format!("{name}_b"), 7_000),
        ("one".to_owned(), 5_000),
        ("two".to_owned(), 8_000),
    ]);
    ensure!(topics.rows()? == wanted, "{:?}", topics.rows()?);
    let again = lab.json(&topics.arguments("-q ingest --until-end --format json"))?;
    ensure!(again["messages"] == 0, "everything is committed: {again}");

    let audit = lab.json(&topics.arguments("-q audit --format json"))?;
    ensure!(audit["is_sound"] == true && audit["compared"]["stored"] == total, "{audit}");
    ensure!(audit["topic"]["messages"] == total + 1 && audit["topic"]["dead_lettered"] == 1, "{audit}");
    let read = audit["topic"]["name"].as_str().unwrap_or_default();
    ensure!(read == format!("{name}_a, {name}_b, {name}_p_one, {name}_p_two"), "{read}");
    ensure!(audit["mapping"].as_str().is_some_and(|mapping| mapping.contains("topics.toml (")), "{audit}");

    // The dead letter knows its topic, and goes back there.
    let configured = format!("-q -O ingest.mapping={} dead-letters", topics.mapping.display());
    let letters = lab.lines(&format!("{configured} list --format ndjson"))?;
    ensure!(letters.len() == 1 && letters[0]["topic"] == format!("{name}_b"), "{letters:#?}");
    let end = || -> anyhow::Result<i64> {
        Ok(lab.block_on(topics::end_offsets(&lab.kafka(), &format!("{name}_b")))?.iter().sum())
    };
    let before = end()?;
    lab.ok(&format!("{configured} replay --all --yes"))?;
    ensure!(end()? == before + 1, "{} and not {}", end()?, before + 1);
    Ok(())
}

fn a_new_topic_is_read_and_has_its_own_lag() -> anyhow::Result<()> {
    let lab = Lab::new("new_topic")?;
    let topics = Topics::new(&lab, &[("_a", 1), ("_b", 1)])?;
    let address = "127.0.42.1:19886";
    let ingest = format!(
        "-q -O kafka.properties.topic.metadata.refresh.interval.ms=1000 ingest --metrics-addr {address}"
    );
    let mut running = lab.spawn(&topics.arguments(&ingest))?;
    topics.send("_a", readings(50))?;
    eventually("the named topic is stored", Duration::from_secs(20), || {
        Ok(topics.rows()?.get(&format!("{}_a", lab.name)) == Some(&50))
    })?;
    topics.create("_p_late", 2)?;
    topics.send("_p_late", readings(70))?;
    eventually("the new topic is stored", Duration::from_secs(30), || {
        Ok(topics.rows()?.get("late") == Some(&70))
    })?;
    eventually("each partition has a lag of 0", Duration::from_secs(20), || {
        let text = scrape(address)?;
        let lags = text.lines().filter(|line| line.starts_with("iotctl_ingest_lag_messages{"));
        let zero: Vec<&str> = lags.filter(|line| line.ends_with(" 0")).collect();
        let late = format!("topic=\"{}_p_late\"", lab.name);
        Ok(zero.len() == 4 && zero.iter().filter(|line| line.contains(&late)).count() == 2)
    })?;
    ensure!(sample(address, "iotctl_ingest_assigned_partitions") == Some(4.0));
    ensure!(running.terminate()? == Some(0));
    Ok(())
}

fn ends_of_several_topics_are_found_behind_transaction_markers() -> anyhow::Result<()> {
    let lab = Lab::new("topic_ends")?;
    let topics = Topics::new(&lab, &[("_a", 2), ("_b", 2), ("_p_empty", 2)])?;
    let deadline = Duration::from_secs(20);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", KAFKA).set("transactional.id", &lab.name).create()?;
    producer.init_transactions(deadline)?;
    for is_kept in [true, true, false] {
        producer.begin_transaction()?;
        for suffix in ["_a", "_b"] {
            let topic = format!("{}{suffix}", lab.name);
            for (number, message) in readings(10).enumerate() {
                let key = number.to_string();
                producer
                    .send(BaseRecord::<str, str>::to(&topic).key(&key).payload(&message))
                    .map_err(|(error, _)| error)?;
            }
        }
        producer.flush(deadline)?;
        match is_kept {
            true => producer.commit_transaction(deadline)?,
            false => producer.abort_transaction(deadline)?,
        }
    }
    for messages in [40, 0] {
        let report = lab.json(&topics.arguments("-q ingest --until-end --format json"))?;
        ensure!(report["messages"] == messages && report["messages_lost"] == 0, "{report}");
    }
    ensure!(topics.rows()?.values().sum::<usize>() == 20, "{:?}", topics.rows()?);
    Ok(())
}

fn a_topic_that_is_missing_is_named_with_its_remedy() -> anyhow::Result<()> {
    let lab = Lab::new("no_topic")?;
    let topics = Topics::new(&lab, &[("_a", 1)])?;
    let error = lab.fails(1, &topics.arguments("-q ingest --until-end"))?;
    contains(
        &error,
        &[&format!("{}_b", lab.name), "which the mapping names", "correct topics in the mapping"],
    )
}
