//! What can never be stored is kept, byte for byte, with the reason; the rest of the batch is stored.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::{ClientConfig, Message};

use crate::lab::{KAFKA, Lab, message};

crate::trials!(
    dead_letters_keep_their_bytes_and_say_why,
    a_flood_of_malformed_messages_loses_no_good_one,
    an_oversize_message_is_kept_whole
);

/// Every message of the dead-letter topic, once `expected` have come.
fn letters(lab: &Lab, expected: usize) -> anyhow::Result<Vec<OwnedMessage>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", KAFKA)
        .set("group.id", format!("{}-letters", lab.name))
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[&format!("{}.dlq", lab.name)])?;
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
        ("k1", b"\xff\xfe not json".to_vec(), "not_json"),
        ("k2", br#"{"location":"a"}"#.to_vec(), "missing_field"),
        ("k3", message("plant-1", 1, at, r#","temperature":"hot""#).1, "ill_typed_field"),
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
