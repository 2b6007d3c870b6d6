//! What can never be stored is kept, byte for byte, with the reason; the rest of the batch is stored.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use iotctl::kafka::topics;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message};

use super::delivery::committed;
use crate::support::{KAFKA, Lab, contains, message};

crate::trials!(
    dead_letters_keep_their_bytes_and_say_why,
    a_flood_of_malformed_messages_loses_no_good_one,
    an_oversize_message_is_kept_whole,
    they_are_listed_shown_and_exported_with_filters,
    replay_stores_what_was_mended_and_only_once,
    a_letter_that_was_written_twice_is_one,
    ingest_stops_when_nearly_everything_fails,
    the_dead_letter_topic_takes_what_the_topic_takes,
    a_message_that_the_dead_letter_topic_refuses_is_kept_truncated,
    headers_and_null_keys_survive_the_dead_letter_topic_and_a_replay,
    tombstones_are_skipped_and_counted,
    readings_without_a_value_are_skipped_counted_and_not_missed,
    the_report_names_the_commonest_reasons,
);

/// Every message of the dead-letter topic, once `expected` have come.
fn letters(lab: &Lab, expected: usize) -> anyhow::Result<Vec<OwnedMessage>> {
    read_topic(lab, &format!("{}.dlq", lab.name), expected)
}

/// Every message of a topic, once `expected` have come.
fn read_topic(lab: &Lab, topic: &str, expected: usize) -> anyhow::Result<Vec<OwnedMessage>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", KAFKA)
        .set("group.id", format!("{}-{}", lab.name, uuid::Uuid::new_v4()))
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[topic])?;
    let started = Instant::now();
    let mut letters = Vec::new();
    while letters.len() < expected && started.elapsed() < Duration::from_secs(30) {
        if let Some(letter) = consumer.poll(Duration::from_millis(200)) {
            letters.push(letter?.detach());
        }
    }
    // None beyond the expected ones.
    if let Some(letter) = consumer.poll(Duration::from_millis(500)) {
        letters.push(letter?.detach());
    }
    Ok(letters)
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    String::from_utf8(found.value?.to_vec()).ok()
}

fn dead_letters_keep_their_bytes_and_say_why() -> anyhow::Result<()> {
    let lab = Lab::new("letters")?;
    let at = chrono::Utc::now().timestamp_millis();
    let bad: [(&str, Vec<u8>, &str); 5] = [
        ("k1", b"\xff\xfe not json".to_vec(), "not_plain_json"),
        ("k2", br#"{"location":"a"}"#.to_vec(), "missing_field"),
        (
            "k3",
            br#"{"location":"a","device_type":"b","iot_sensor_id":7,"recorded_timestamp":0}"#.to_vec(),
            "ill_typed_field",
        ),
        ("k4", message("plant-1", 1, at + 86_400_000, "").1, "timestamp_out_of_range"),
        ("k5", vec![], "not_json"),
    ];
    let good = (0..100).map(|n| message("plant-1", n, at, ""));
    let all = good.chain(bad.iter().map(|(key, payload, _)| ((*key).to_owned(), payload.clone())));
    lab.send(all)?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 100 && report["dead_letters"] == 5, "{report}");
    ensure!(lab.stored()? == 100);
    let letters = letters(&lab, bad.len())?;
    ensure!(letters.len() == bad.len(), "{} letters", letters.len());
    for (key, payload, reason) in &bad {
        let letter = letters
            .iter()
            .find(|letter| letter.key() == Some(key.as_bytes()))
            .with_context(|| format!("no letter with key {key}"))?;
        ensure!(letter.payload().unwrap_or_default() == payload.as_slice(), "{key}: the bytes differ");
        ensure!(
            header(letter, "reason").as_deref() == Some(*reason),
            "{key}: {:?}",
            header(letter, "reason")
        );
        ensure!(header(letter, "topic").as_deref() == Some(lab.name.as_str()));
        for name in ["error", "partition", "offset", "timestamp"] {
            ensure!(header(letter, name).is_some_and(|value| !value.is_empty()), "{key}: header {name}");
        }
    }
    Ok(())
}

fn a_flood_of_malformed_messages_loses_no_good_one() -> anyhow::Result<()> {
    let lab = Lab::new("flood")?;
    let at = chrono::Utc::now().timestamp_millis();
    lab.send((0..4000).map(|n| match n % 2 {
        0 => message("plant-1", n, at, ""),
        _ => (format!("k{n}"), b"{".to_vec()),
    }))?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 2000 && report["dead_letters"] == 2000, "{report}");
    ensure!(lab.stored()? == 2000);
    Ok(())
}

fn an_oversize_message_is_kept_whole() -> anyhow::Result<()> {
    let mut lab = Lab::new("oversize")?;
    lab.set("IOTCTL_INGEST_MAX_MESSAGE_BYTES", "100KiB");
    let at = chrono::Utc::now().timestamp_millis();
    let (_, large) = message("plant-1", 1, at, &format!(r#","note":"{}""#, "x".repeat(900_000)));
    lab.send([message("plant-1", 2, at, ""), ("large".to_owned(), large.clone())])?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 1 && report["dead_letters"] == 1, "{report}");
    let letters = letters(&lab, 1)?;
    ensure!(letters.len() == 1 && letters[0].payload() == Some(large.as_slice()), "the bytes differ");
    ensure!(header(&letters[0], "reason").as_deref() == Some("too_large"));
    Ok(())
}

/// A lab whose topic holds three messages of two kinds that cannot be stored, and one that can.
fn with_letters(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let at = chrono::Utc::now().timestamp_millis();
    lab.send([
        ("k1".to_owned(), b"\xff\x1b[2Jnot json".to_vec()),
        ("k2".to_owned(), br#"{"location":"a"}"#.to_vec()),
        ("k3".to_owned(), br#"{"location":"b"}"#.to_vec()),
        message("plant-1", 1, at, ""),
    ])?;
    lab.ingest()?;
    Ok(lab)
}

fn they_are_listed_shown_and_exported_with_filters() -> anyhow::Result<()> {
    let lab = with_letters("letterbox")?;
    let list = |arguments: &[&str]| {
        lab.lines(&[&["-q", "dead-letters", "list", "--format", "ndjson"], arguments].concat())
    };
    let all = list(&[])?;
    ensure!(all.len() == 3, "{all:#?}");
    let missing = list(&["--reason", "missing_field"])?;
    ensure!(
        missing.len() == 2 && missing.iter().all(|letter| letter["reason"] == "missing_field"),
        "{missing:#?}"
    );
    ensure!(
        missing[0]["error"].as_str().is_some_and(|error| error.contains("recorded_timestamp")),
        "{missing:#?}"
    );
    ensure!(list(&["--limit", "1"])?.len() == 1);
    ensure!(list(&["--last", "1h"])?.len() == 3);
    ensure!(list(&["--to", "2026-01-01T00:00:00Z"])?.is_empty());
    let partition = all[0]["partition"].as_u64().context("a partition")?;
    let there = list(&["--partition", &partition.to_string()])?;
    let expected = all.iter().filter(|letter| letter["partition"] == partition).count();
    ensure!(there.len() == expected, "{there:#?}");

    // One by its id; what could move a terminal's cursor is escaped.
    let binary = all.iter().find(|letter| letter["reason"] == "not_json").context("the binary one")?;
    let id = binary["id"].as_str().context("an id")?;
    let shown = lab.ok(&["-q", "dead-letters", "show", id])?;
    ensure!(shown.contains("not json") && !shown.contains('\u{1b}'), "{shown:?}");
    let error = lab.fails(1, &["-q", "dead-letters", "show", "0:999999"])?;
    ensure!(error.contains("no dead letter 0:999999"), "{error}");

    // The export has all bytes.
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("letters.ndjson");
    let path = path.to_str().context("a path")?;
    lab.ok(&["-q", "dead-letters", "export", "--output", path])?;
    let exported: Vec<serde_json::Value> =
        std::fs::read_to_string(path)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(exported.iter().any(|letter| letter["payload"] == r#"{"location":"a"}"#), "{exported:#?}");
    ensure!(
        exported.iter().any(|letter| letter["payload_hex"] == "ff1b5b324a6e6f74206a736f6e"),
        "{exported:#?}"
    );
    // A file that is there is not overwritten.
    lab.fails(1, &["-q", "dead-letters", "export", "--output", path])?;
    Ok(())
}

fn replay_stores_what_was_mended_and_only_once() -> anyhow::Result<()> {
    let mut lab = Lab::new("replay")?;
    lab.set("IOTCTL_INGEST_MAX_MESSAGE_BYTES", "1KiB");
    let at = chrono::Utc::now().timestamp_millis();
    let (key, large) =
        message("plant-1", 1, at, &format!(r#","temperature":1,"note":"{}""#, "x".repeat(2_000)));
    lab.send([(key, large), ("bad".to_owned(), b"{".to_vec())])?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 0 && report["dead_letters"] == 2, "{report}");
    lab.set("IOTCTL_INGEST_MAX_MESSAGE_BYTES", "10KiB");

    let replay = |arguments: &[&str]| lab.ok(&[&["-q", "dead-letters", "replay"], arguments].concat());
    let sent = || lab.block_on(iotctl::kafka::topics::end_offsets(&lab.kafka(), &lab.name));
    // Without --yes nothing is sent.
    let counted = replay(&[])?;
    ensure!(counted.contains("--yes") && sent()?.iter().sum::<i64>() == 2, "{counted}");
    replay(&["--yes"])?;
    ensure!(sent()?.iter().sum::<i64>() == 3, "only the one that is accepted now is sent");
    let report = lab.ingest()?;
    ensure!(report["rows"] == 1 && report["dead_letters"] == 0, "{report}");
    ensure!(lab.stored()? == 1);

    // Marked: a second replay sends nothing, unless it must.
    replay(&["--yes"])?;
    ensure!(sent()?.iter().sum::<i64>() == 3, "it was sent twice");
    let listed = lab.lines(&["-q", "dead-letters", "list", "--format", "ndjson"])?;
    let marks: Vec<_> =
        listed.iter().map(|letter| (letter["reason"].as_str(), letter["replayed"].as_bool())).collect();
    ensure!(marks.contains(&(Some("too_large"), Some(true))), "{marks:?}");
    ensure!(marks.contains(&(Some("not_json"), Some(false))) && marks.len() == 2, "{marks:?}");
    replay(&["--yes", "--again"])?;
    ensure!(sent()?.iter().sum::<i64>() == 4);
    lab.ingest()?;
    ensure!(lab.stored()? == 1, "a letter that is sent twice stores one row");

    // --all sends what is refused again, which makes a new letter; the audit takes it all for what it is.
    replay(&["--yes", "--all"])?;
    let report = lab.ingest()?;
    ensure!(report["dead_letters"] == 1, "{report}");
    lab.ok(&["-q", "audit"])?;
    Ok(())
}

fn a_letter_that_was_written_twice_is_one() -> anyhow::Result<()> {
    let lab = with_letters("copies")?;
    let letters = letters(&lab, 3)?;
    // What an ingest leaves that was killed between sending a letter and committing: the same record again.
    let producer: rdkafka::producer::BaseProducer =
        ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
    for letter in &letters {
        let topic = format!("{}.dlq", lab.name);
        let mut record = rdkafka::producer::BaseRecord::to(&topic)
            .key(letter.key().unwrap_or_default())
            .payload(letter.payload().unwrap_or_default());
        if let Some(headers) = letter.headers() {
            record = record.headers(headers.clone());
        }
        producer.send(record).map_err(|(error, _)| error)?;
    }
    // And what somebody else writes there is none of ours.
    producer
        .send(rdkafka::producer::BaseRecord::to(&format!("{}.dlq", lab.name)).key("x").payload("y"))
        .map_err(|(error, _)| error)?;
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10))?;
    let listed = lab.lines(&["-q", "dead-letters", "list", "--format", "ndjson"])?;
    ensure!(listed.len() == 3, "{listed:#?}");
    Ok(())
}

fn ingest_stops_when_nearly_everything_fails() -> anyhow::Result<()> {
    let mut lab = Lab::new("breaker")?;
    let at = chrono::Utc::now().timestamp_millis();
    lab.send((0..5_000).map(|n| match n % 10 {
        0 => message("plant-1", n, at, ""),
        _ => (format!("k{n}"), br#"{"place":"plant-1"}"#.to_vec()),
    }))?;
    // Twice, as a service would start it: nothing goes to the dead letters, and nothing is committed.
    for _ in 0..2 {
        let error = lab.fails(3, "-q ingest --until-end")?;
        contains(&error, &["missing_field", "recorded_timestamp", "ingest.max_dead_letter_percent"])?;
        let (kafka, topic) = (lab.kafka(), lab.kafka().dead_letter_topic());
        let letters: i64 = lab.block_on(topics::end_offsets(&kafka, &topic))?.iter().sum();
        ensure!(letters == 0, "{letters} dead letters");
    }
    ensure!(committed(&lab)?.values().sum::<i64>() < 1_000, "{:?}", committed(&lab)?);
    // Whoever wants that says so, and then nothing is lost.
    lab.set("IOTCTL_INGEST_MAX_DEAD_LETTER_PERCENT", "100");
    lab.ingest()?;
    ensure!(lab.stored()? == 500, "{} rows", lab.stored()?);
    lab.ok(&["-q", "audit"])?;
    Ok(())
}

/// Creates a topic with a limit for the size of its messages.
fn create_topic(name: &str, lab: &Lab, max_message_bytes: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
    let topic =
        NewTopic::new(name, 4, TopicReplication::Fixed(1)).set("max.message.bytes", max_message_bytes);
    let created = lab.block_on(admin.create_topics(&[topic], &AdminOptions::new()))?;
    ensure!(created.iter().all(Result::is_ok), "{created:?}");
    Ok(())
}

/// Sends one message with everything that a message can have.
fn send_record(
    lab: &Lab,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
    headers: OwnedHeaders,
) -> anyhow::Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", KAFKA).set("message.max.bytes", "10000000").create()?;
    let mut record = BaseRecord::<[u8], [u8]>::to(&lab.name).headers(headers);
    (record.key, record.payload) = (key, payload);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(10))?;
    Ok(())
}

fn the_dead_letter_topic_takes_what_the_topic_takes() -> anyhow::Result<()> {
    let lab = Lab::bare("large_limit")?;
    create_topic(&lab.name, &lab, "3000000")?;
    lab.ok("-q schema apply")?;
    let large = vec![b'x'; 2_900_000];
    send_record(&lab, Some(b"large"), Some(&large), OwnedHeaders::new())?;
    let report = lab.ingest()?;
    ensure!(report["dead_letters"] == 1, "{report}");
    let letters = letters(&lab, 1)?;
    ensure!(
        letters[0].payload() == Some(&large[..]),
        "{} bytes",
        letters[0].payload().unwrap_or_default().len()
    );
    let topic = format!("{}.dlq", lab.name);
    let kept = lab.block_on(iotctl::kafka::retention::retention(&lab.kafka(), &topic))?;
    ensure!(kept.max_message_bytes == Some(3_065_536), "{kept:?}");
    Ok(())
}

fn a_message_that_the_dead_letter_topic_refuses_is_kept_truncated() -> anyhow::Result<()> {
    let lab = Lab::bare("small_limit")?;
    create_topic(&lab.name, &lab, "3000000")?;
    create_topic(&format!("{}.dlq", lab.name), &lab, "200000")?;
    lab.ok("-q schema apply")?;
    let large = vec![b'x'; 2_500_000];
    send_record(&lab, Some(b"large"), Some(&large), OwnedHeaders::new())?;
    lab.send((0..500).map(|n| (format!("k{n}"), vec![b'{'; 1_000])))?;
    let at = chrono::Utc::now().timestamp_millis();
    lab.send((0..500).map(|n| message("plant-1", n, at, "")))?;
    let report = lab.ingest()?;
    ensure!(report["dead_letters"] == 501 && report["rows"] == 500, "{report}");
    let letters = letters(&lab, 501)?;
    let truncated: Vec<_> =
        letters.iter().filter(|letter| header(letter, "original-size").is_some()).collect();
    ensure!(truncated.len() == 1 && letters.len() == 501, "{} of {}", truncated.len(), letters.len());
    let letter = truncated[0];
    ensure!(letter.key() == Some(b"large".as_slice()));
    ensure!(letter.payload().is_some_and(|payload| payload.len() == 65_536));
    ensure!(header(letter, "original-size").as_deref() == Some("2500000"));
    ensure!(header(letter, "original-sha256") == Some(iotctl::kafka::dead_letters::sha256(&large)));
    for name in ["reason", "error", "topic", "partition", "offset", "timestamp"] {
        ensure!(header(letter, name).is_some_and(|value| !value.is_empty()), "header {name}");
    }
    // Half a message is not sent again as if it were whole.
    let replayed = lab.ok("-q dead-letters replay --all --yes --reason too_large")?;
    contains(&replayed, &["not whole"])?;
    let sent: i64 = lab.block_on(topics::end_offsets(&lab.kafka(), &lab.name))?.iter().sum();
    ensure!(sent == 1_001, "{sent}");
    contains(
        &lab.run("-q doctor")?.stdout,
        &["larger dead letters are truncated", "max.message.bytes=3065536"],
    )?;
    lab.ok("-q audit")?;
    Ok(())
}

/// Headers with their values, in order.
fn headers(message: &OwnedMessage) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter().collect::<Vec<_>>());
    headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

fn headers_and_null_keys_survive_the_dead_letter_topic_and_a_replay() -> anyhow::Result<()> {
    let lab = Lab::new("headers")?;
    let original = || {
        OwnedHeaders::new()
            .insert(Header { key: "trace", value: Some(b"\xff\x00".as_slice()) })
            // A name that a dead letter has too, twice, and a null value.
            .insert(Header { key: "reason", value: Some(b"mine".as_slice()) })
            .insert(Header { key: "reason", value: None::<&[u8]> })
    };
    send_record(&lab, None, Some(b"{"), original())?;
    send_record(&lab, Some(b""), Some(b""), OwnedHeaders::new())?;
    let sent = read_topic(&lab, &lab.name, 2)?;
    let report = lab.ingest()?;
    ensure!(report["dead_letters"] == 2, "{report}");
    let letters = letters(&lab, 2)?;
    let letter = letters
        .iter()
        .find(|letter| letter.payload() == Some(b"{".as_slice()))
        .context("the first letter")?;
    ensure!(letter.key().is_none(), "a null key became {:?}", letter.key());
    // The topic has several partitions, so either message can be read first.
    let first = sent
        .iter()
        .find(|message| message.payload() == Some(b"{".as_slice()))
        .context("the first message")?;
    ensure!(headers(letter)[..3] == headers(first)[..], "{:?}", headers(letter));
    let empty = letters
        .iter()
        .find(|letter| letter.payload() == Some(b"".as_slice()))
        .context("the second letter")?;
    ensure!(empty.key() == Some(b"".as_slice()), "an empty key became {:?}", empty.key());
    // The program reads its own headers, not those of the message.
    let listed = lab.lines("-q dead-letters list --format ndjson")?;
    ensure!(listed.iter().all(|letter| letter["reason"] == "not_json"), "{listed:#?}");

    lab.ok("-q dead-letters replay --all --yes")?;
    let again = read_topic(&lab, &lab.name, 4)?;
    for message in &sent {
        let same = again.iter().filter(|it| {
            (it.key(), it.payload()) == (message.key(), message.payload()) && headers(it) == headers(message)
        });
        ensure!(same.count() == 2, "{message:?} in {again:#?}");
    }
    Ok(())
}

fn tombstones_are_skipped_and_counted() -> anyhow::Result<()> {
    let lab = Lab::new("tombstones")?;
    let at = chrono::Utc::now().timestamp_millis();
    for key in [Some(b"sensor".as_slice()), None] {
        send_record(&lab, key, None, OwnedHeaders::new())?;
    }
    lab.send([message("plant-1", 1, at, "")])?;
    let report = lab.ingest()?;
    ensure!(report["tombstones"] == 2 && report["dead_letters"] == 0 && report["rows"] == 1, "{report}");
    ensure!(committed(&lab)?.values().sum::<i64>() == 3, "{:?}", committed(&lab)?);
    let audit = lab.json("-q audit --format json")?;
    ensure!(audit["topic"]["tombstones"] == 2, "{audit}");
    Ok(())
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

fn readings_without_a_value_are_skipped_counted_and_not_missed() -> anyhow::Result<()> {
    let lab = Lab::new("no_value")?;
    let at = chrono::Utc::now().timestamp_millis();
    lab.send([
        message("plant-1", 1, at, r#","temperature":20"#),
        message("plant-1", 2, at, r#","temperature":null,"humidity":-999.0"#),
        message("plant-1", 3, at, r#","other_metrics":{}"#),
        // Sent again without its value: the row stays as it is.
        message("plant-1", 1, at, r#","temperature":null"#),
    ])?;
    // A recording of one value, which many of its messages lose.
    let folder = tempfile::tempdir()?;
    let (recording, ledger) = (folder.path().join("one.csv"), folder.path().join("ledger"));
    let lines = (0..200).map(|n| format!("2026-01-01T{:02}:{:02}:00Z,{n}.5\n", n / 60, n % 60));
    std::fs::write(&recording, format!("timestamp,value\n{}", lines.collect::<String>()))?;
    let replay = [
        "-q",
        "simulate",
        "--replay",
        path(&recording)?,
        "--rate",
        "0",
        "--missing",
        "0.5",
        "--ledger",
        path(&ledger)?,
        "--map",
        "timestamp=recorded_timestamp,value=temperature",
        "--set",
        "location=plant-1,device_type=machine",
        "--format",
        "json",
    ];
    let sent = lab.json(&replay)?;
    let missing = sent["missing"].as_u64().context("values missing")?;
    ensure!(missing > 50, "{sent}");
    let report = lab.ingest()?;
    ensure!(report["empty_readings"] == missing + 3, "{report}");
    ensure!(report["dead_letters"] == 0 && report["skipped"] == 0, "{report}");
    ensure!(report["rows"] == 200 - missing + 1, "{report}");
    ensure!(lab.stored()? == (200 - missing + 1) as i64, "{}", lab.stored()?);
    ensure!(committed(&lab)?.values().sum::<i64>() == 204, "{:?}", committed(&lab)?);
    let audit = lab.json(&["-q", "audit", "--ledger", path(&ledger)?, "--format", "json"])?;
    ensure!(audit["is_sound"] == true && audit["topic"]["empty_readings"] == missing + 3, "{audit:#}");
    ensure!(audit["compared"]["not_due"] == missing + 2, "{audit:#}");
    let marked = std::fs::read_to_string(&ledger)?.matches("\"empty\":true").count() as u64;
    ensure!(marked == missing, "{marked} of {missing}");
    // Rows that an earlier version wrote of such messages are no surprise.
    let row = format!(
        "INSERT INTO {{ks}}.iot_sensor_metrics (location, device_type, bucket, iot_sensor_id, recorded_timestamp) \
         VALUES ('plant-1', 'thermostat', {}, {}, {at})",
        at - at % 3_600_000,
        uuid::Uuid::from_u128(2)
    );
    lab.cql(&row)?;
    let audit = lab.json("-q audit --format json")?;
    ensure!(audit["is_sound"] == true && audit["compared"]["not_due"] == missing + 1, "{audit:#}");
    Ok(())
}

fn the_report_names_the_commonest_reasons() -> anyhow::Result<()> {
    let lab = Lab::new("reasons")?;
    lab.send((0..7).map(|n| (format!("k{n}"), if n < 5 { b"{}".to_vec() } else { b"{".to_vec() })))?;
    let report = lab.ok("-q ingest --until-end")?;
    let lines: Vec<Vec<&str>> = report.lines().map(|line| line.split_whitespace().collect()).collect();
    let of_them: Vec<_> = lines.iter().filter(|words| words.contains(&"them")).collect();
    ensure!(of_them.len() == 2, "{report}");
    ensure!(
        of_them[0].ends_with(&["5", "missing_field"]) && of_them[1].ends_with(&["2", "not_json"]),
        "{report}"
    );
    Ok(())
}
