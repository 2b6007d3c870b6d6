//! The bridge from a real mosquitto to Kafka: every message that the broker took is in Kafka, whoever is killed or
//! frozen on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::Value;

use super::mapping::{check_same, expected, lines, payloads, stored};
use crate::certificates::Certificates;
use crate::support::{self, KAFKA, Lab, Mosquitto, Running, contains, eventually, get, sample};

crate::trials!(
    messages_of_zigbee2mqtt_reach_cassandra_as_they_are,
    nothing_is_lost_when_broker_or_bridge_is_killed_or_frozen,
    a_message_has_topic_qos_and_retain_in_kafka_and_one_that_is_too_large_is_a_dead_letter,
    two_bridges_share_a_subscription,
    a_broker_with_tls_and_passwords_is_used_and_refusals_are_explained,
    a_stop_hands_over_what_was_received,
    two_bridges_of_one_session_are_told_apart_by_a_warning,
);

/// A message in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    key: Vec<u8>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
}

/// Everything that a topic holds, by a consumer of its own.
fn records(topic: &str) -> anyhow::Result<Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", KAFKA)
        .set("group.id", "nobody")
        .set("enable.partition.eof", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(10))?;
        left += high - low;
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut found = Vec::new();
    let started = Instant::now();
    while found.len() < usize::try_from(left)? {
        ensure!(started.elapsed() < Duration::from_secs(30), "{} of {left} in 30 s", found.len());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message?;
        let headers = message.headers().into_iter().flat_map(rdkafka::message::Headers::iter);
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        found.push(Record {
            key: message.key().unwrap_or_default().to_vec(),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
        });
    }
    Ok(found)
}

/// A lab whose bridge knows its broker and subscribes to one filter.
fn lab(name: &str, broker: &Mosquitto, filter: &str) -> anyhow::Result<Lab> {
    let mut lab = Lab::new(name)?;
    lab.set("IOTCTL_MQTT_BROKER", &broker.url());
    lab.set("IOTCTL_MQTT_TOPICS", filter);
    lab.set("IOTCTL_MQTT_KEEP_ALIVE", "4s");
    Ok(lab)
}

/// Runs the bridge until nothing comes any more, and returns its report.
fn drain(lab: &Lab) -> anyhow::Result<Value> {
    lab.json("-q bridge mqtt --until-idle 2s --format json")
}

fn free_address() -> anyhow::Result<String> {
    Ok(format!("127.0.0.1:{}", support::free_port()?))
}

/// Starts a bridge and waits until it is ready.
fn start(lab: &Lab, metrics: &str) -> anyhow::Result<Running> {
    let bridge = lab.spawn(&["-q", "bridge", "mqtt", "--metrics-addr", metrics])?;
    ready(metrics)?;
    Ok(bridge)
}

fn ready(metrics: &str) -> anyhow::Result<()> {
    eventually("the bridge is ready", Duration::from_secs(30), || {
        Ok(get(metrics, "/readyz").is_ok_and(|answer| answer.contains("200 OK")))
    })
}

fn messages_of_zigbee2mqtt_reach_cassandra_as_they_are() -> anyhow::Result<()> {
    let broker = Mosquitto::start("")?;
    let lab = lab("z2m", &broker, "zigbee2mqtt/#")?;
    // The session begins; what is published afterwards waits in it.
    drain(&lab)?;
    let folder = payloads().join("zigbee2mqtt");
    let messages = lines(&folder.join("messages.ndjson"))?;
    for message in &messages {
        let topic = message["key"].as_str().context("a key")?;
        broker.publish(topic, &message["value"].to_string(), &[])?;
    }
    let report = drain(&lab)?;
    for count in ["received", "stored", "acknowledged"] {
        ensure!(report[count] == messages.len(), "{count}: {report}");
    }
    let report = lab.json("-q ingest --until-end --format json --mapping zigbee2mqtt")?;
    ensure!(report["dead_letters"] == 0, "{report}");
    check_same(&stored(&lab)?, &expected(&folder.join("readings.ndjson"))?)
}

/// Publishes numbered messages, each until the broker has acknowledged it, for as long as `goes_on` holds.
fn publish_numbers(
    broker: &std::sync::Mutex<Mosquitto>,
    goes_on: &AtomicBool,
    count: &AtomicU32,
) -> anyhow::Result<()> {
    while goes_on.load(Ordering::Relaxed) {
        let number = count.load(Ordering::Relaxed);
        // The lock is held while a client starts and not while it waits.
        let client = {
            let broker = broker.lock().expect("no panic while locked");
            let port = broker.url().rsplit(':').next().context("a port")?.to_owned();
            Command::new("mosquitto_pub")
                .args([
                    "-h",
                    &broker.address,
                    "-p",
                    &port,
                    "-q",
                    "1",
                    "-t",
                    &format!("n/{}", number % 7),
                    "-m",
                ])
                .arg(number.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?
        };
        let mut client = client;
        match client.wait()?.success() {
            // Unless it was set back meanwhile.
            true => {
                let _ = count.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
            }
            false => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    Ok(())
}

/// Kills the broker while messages are published. It acknowledges before it writes to its disk, so those of the last
/// seconds are published again: what it loses of them is not the bridge's loss.
fn kill(broker: &std::sync::Mutex<Mosquitto>, count: &AtomicU32) -> anyhow::Result<()> {
    let written = count.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(3));
    broker.lock().expect("no panic while locked").kill()?;
    count.store(written, Ordering::Relaxed);
    Ok(())
}

fn nothing_is_lost_when_broker_or_bridge_is_killed_or_frozen() -> anyhow::Result<()> {
    let broker = Mosquitto::start("")?;
    let lab = lab("faults", &broker, "n/#")?;
    let metrics = free_address()?;
    let mut bridge = start(&lab, &metrics)?;
    let broker = std::sync::Mutex::new(broker);
    let (goes_on, count) = (AtomicBool::new(true), AtomicU32::new(0));
    let pause = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    let published = std::thread::scope(|scope| -> anyhow::Result<u32> {
        let publisher = scope.spawn(|| publish_numbers(&broker, &goes_on, &count));
        let mut attack = || -> anyhow::Result<()> {
            let locked = || broker.lock().expect("no panic while locked");
            pause(2);
            // While the bridge is away, the broker keeps what comes.
            bridge.kill()?;
            pause(3);
            bridge = start(&lab, &metrics)?;
            pause(2);
            locked().signal(Signal::SIGSTOP)?;
            pause(10);
            locked().signal(Signal::SIGCONT)?;
            ready(&metrics)?;
            pause(2);
            kill(&broker, &count)?;
            eventually("the bridge is not ready", Duration::from_secs(10), || {
                Ok(get(&metrics, "/readyz")?.contains("no connection to the MQTT broker"))
            })?;
            ensure!(get(&metrics, "/healthz")?.contains("200 OK"), "it waits, and is not broken");
            locked().run()?;
            ready(&metrics)?;
            pause(2);
            // Both are away.
            bridge.kill()?;
            pause(2);
            kill(&broker, &count)?;
            locked().run()?;
            pause(1);
            bridge = start(&lab, &metrics)?;
            pause(2);
            Ok(())
        };
        let attacked = attack();
        goes_on.store(false, Ordering::Relaxed);
        publisher.join().expect("no panic")?;
        attacked?;
        Ok(count.load(Ordering::Relaxed))
    })?;
    // As many as the machine's load lets pass; some in each of the phases.
    ensure!(published > 100, "only {published} messages were published");
    let numbers = || -> anyhow::Result<BTreeSet<u32>> {
        let texts =
            records(&lab.name)?.into_iter().filter_map(|record| String::from_utf8(record.payload?).ok());
        texts.map(|text| Ok(text.parse()?)).collect()
    };
    let all: BTreeSet<u32> = (0..published).collect();
    eventually("every message is in Kafka", Duration::from_secs(20), || Ok(numbers()?.is_superset(&all)))
        .with_context(|| {
            let found = numbers().unwrap_or_default();
            format!("of {published}, missing: {:?}", all.difference(&found).take(20).collect::<Vec<_>>())
        })?;
    let code = bridge.terminate()?;
    ensure!(code == Some(0), "it ends with 0, and not {code:?}");
    Ok(())
}

fn a_message_has_topic_qos_and_retain_in_kafka_and_one_that_is_too_large_is_a_dead_letter()
-> anyhow::Result<()> {
    let broker = Mosquitto::start("")?;
    let lab = lab("headers", &broker, "a/#,ä/#")?;
    broker.publish("a/kept", "21.5", &["-r"])?;
    drain(&lab)?;
    broker.publish("a/b", "1", &[])?;
    broker.publish("a/kept", "", &["-r"])?;
    broker.publish("ä/ö \u{202e}", "2", &[])?;
    let large = broker.folder().join("large");
    std::fs::write(&large, vec![b'x'; 2_000_000])?;
    broker.publish_file("a/large", &large)?;
    let report = drain(&lab)?;
    ensure!(
        report["received"] == 4 && report["acknowledged"] == 4 && report["dead_letters"] == 1,
        "{report}"
    );
    let found: BTreeMap<_, _> = records(&lab.name)?
        .into_iter()
        .map(|record| {
            let key = String::from_utf8_lossy(&record.key).into_owned();
            let headers: Vec<_> =
                record.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let payload = record.payload.map(|payload| String::from_utf8_lossy(&payload).into_owned());
            ((key, payload), headers.join(" "))
        })
        .collect();
    let wanted = [
        (("a/b", Some("1")), "mqtt.topic=a/b mqtt.qos=1"),
        // Empty: the retained message is deleted. Kafka calls it a tombstone.
        (("a/kept", None), "mqtt.topic=a/kept mqtt.qos=1"),
        (("a/kept", Some("21.5")), "mqtt.topic=a/kept mqtt.qos=1 mqtt.retain=true"),
        (("ä/ö \u{202e}", Some("2")), "mqtt.topic=ä/ö \u{202e} mqtt.qos=1"),
    ];
    let wanted = wanted
        .into_iter()
        .map(|((key, payload), headers)| ((key.to_owned(), payload.map(str::to_owned)), headers.to_owned()));
    ensure!(found == wanted.collect(), "{found:#?}");
    let letters = lab.lines("-q dead-letters list --format ndjson")?;
    ensure!(letters.len() == 1 && letters[0]["reason"] == "too_large", "{letters:#?}");
    contains(&letters[0].to_string(), &["2000000 bytes", "a/large", "max.message.bytes"])?;
    // It was acknowledged: the broker does not send it again.
    ensure!(drain(&lab)?["received"] == 0, "nothing is left");
    Ok(())
}

fn two_bridges_share_a_subscription() -> anyhow::Result<()> {
    let broker = Mosquitto::start("")?;
    let lab = lab("shared", &broker, "$share/bridges/t/#")?;
    let addresses = [free_address()?, free_address()?];
    let mut bridges = Vec::new();
    for (id, address) in ["one", "two"].into_iter().zip(&addresses) {
        bridges.push(lab.spawn(&["-q", "bridge", "mqtt", "--client-id", id, "--metrics-addr", address])?);
        ready(address)?;
    }
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    broker.publish_lines("t/x", &lines)?;
    let stored = |address: &String| sample(address, "iotctl_bridge_stored_total").unwrap_or(0.0);
    eventually("both together store all", Duration::from_secs(20), || {
        Ok(addresses.iter().map(stored).sum::<f64>() >= 1000.0)
    })?;
    ensure!(addresses.iter().all(|address| stored(address) > 100.0), "one of them had next to nothing to do");
    let payloads: BTreeSet<_> = records(&lab.name)?.into_iter().map(|record| record.payload).collect();
    ensure!(payloads.len() == 1000, "{} different messages", payloads.len());
    for bridge in &mut bridges {
        ensure!(bridge.terminate()? == Some(0));
    }
    Ok(())
}

fn a_broker_with_tls_and_passwords_is_used_and_refusals_are_explained() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let address = Mosquitto::own_address();
    let certificates = Certificates::make(&folder.path().join("certificates"), &address)?;
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["plant", "s3cret"])
        .status()?;
    ensure!(made.success(), "mosquitto_passwd failed");
    let text = |path: &std::path::Path| path.display().to_string();
    let (ca, certificate, key) =
        (text(&certificates.ca), text(&certificates.client.certificate), text(&certificates.client.key));
    let conf = format!(
        "allow_anonymous false\npassword_file {}\ncafile {ca}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
        passwords.display(),
        text(&certificates.server.certificate),
        text(&certificates.server.key)
    );
    let login = ["-u", "plant", "-P", "s3cret", "--cafile", &ca, "--cert", &certificate, "--key", &key];
    let broker = Mosquitto::with_login(address, &conf, login.map(str::to_owned).to_vec())?;
    let mut lab = lab("tls", &broker, "a/#")?;
    let once = "-q bridge mqtt --until-idle 1s";
    // Plain text to a port of TLS: it hangs up, and the attempts are over after a while.
    lab.set("IOTCTL_KAFKA_REQUEST_TIMEOUT", "3s");
    contains(&lab.fails(1, once)?, &["no MQTT broker answers", "write mqtts://"])?;
    lab.set("IOTCTL_MQTT_BROKER", &broker.url_with_tls());
    lab.set("IOTCTL_MQTT_CA_FILE", &text(&certificates.other_ca));
    contains(&lab.fails(1, once)?, &["not signed by an authority in mqtt.ca_file"])?;
    lab.set("IOTCTL_MQTT_CA_FILE", &ca);
    contains(&lab.fails(1, once)?, &["asks for a certificate of this client", "mqtt.cert_file"])?;
    lab.set("IOTCTL_MQTT_CERT_FILE", &certificate);
    lab.set("IOTCTL_MQTT_KEY_FILE", &key);
    contains(&lab.fails(1, once)?, &["user name or password is wrong", "mqtt.username"])?;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wrong\n")?;
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    lab.set("IOTCTL_MQTT_USERNAME", "plant");
    lab.set("IOTCTL_MQTT_PASSWORD_FILE", &text(&secret));
    contains(&lab.fails(1, once)?, &["user name or password is wrong"])?;
    std::fs::write(&secret, "s3cret\n")?;
    drain(&lab)?;
    broker.publish("a/b", "secret reading", &[])?;
    ensure!(drain(&lab)?["stored"] == 1);
    ensure!(records(&lab.name)?[0].payload.as_deref() == Some(&b"secret reading"[..]));
    let refused = lab.fails(2, "-q -O mqtt.password=s3cret bridge mqtt")?;
    contains(&refused, &["command lines are visible", "IOTCTL_MQTT_PASSWORD"])
}

fn a_stop_hands_over_what_was_received() -> anyhow::Result<()> {
    let broker = Mosquitto::start("")?;
    let lab = lab("stop", &broker, "t/#")?;
    let metrics = free_address()?;
    let mut bridge = start(&lab, &metrics)?;
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let publishing = scope.spawn(|| broker.publish_lines("t/x", &lines));
        eventually("some are received", Duration::from_secs(10), || {
            Ok(sample(&metrics, "iotctl_bridge_received_total").is_some_and(|received| received > 100.0))
        })?;
        ensure!(bridge.terminate()? == Some(0), "it ends well");
        publishing.join().expect("no panic")
    })?;
    let report = drain(&lab)?;
    ensure!(report["redelivered"].as_u64().is_some_and(|count| count < 1000), "{report}");
    let payloads: BTreeSet<_> = records(&lab.name)?.into_iter().map(|record| record.payload).collect();
    ensure!(payloads.len() == 5000, "{} different messages", payloads.len());
    Ok(())
}

fn two_bridges_of_one_session_are_told_apart_by_a_warning() -> anyhow::Result<()> {
    let broker = Mosquitto::start("")?;
    let lab = lab("same", &broker, "t/#")?;
    let metrics = free_address()?;
    let _first = start(&lab, &metrics)?;
    let log = broker.folder().join("second.log");
    let mut second =
        lab.command("-q bridge mqtt").stdout(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
    let said = eventually("the second says why", Duration::from_secs(20), || {
        Ok(std::fs::read_to_string(&log)?.contains("two bridges need two ids"))
    });
    second.kill()?;
    second.wait()?;
    said?;
    contains(&lab.fails(2, "-q -O mqtt.topics=a/#/b bridge mqtt")?, &["not a topic filter"])
}
