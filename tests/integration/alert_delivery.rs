//! `alerts deliver`: every alert reaches its receiver in order, whatever happens to the receiver and to the command.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::kafka::Producer;
use iotctl::kafka::producer::Offer;
use iotctl::kafka::reader::{Span, Step, TopicReader};
use iotctl::kafka::topics;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Lab, contains, eventually, get, sample};

crate::trials!(
    nothing_is_lost_or_sent_twice_while_a_receiver_fails_hangs_and_restarts,
    alerts_are_grouped_signed_templated_and_told_once,
    what_a_receiver_refuses_is_a_dead_letter_and_holds_nothing_up,
    a_killed_delivery_goes_on_where_it_was,
    receivers_that_cannot_work_are_said_before_anything_is_read,
    a_silence_holds_alerts_back_and_what_still_fires_is_told_at_its_end,
    ingest_delivers_what_it_detects_and_is_not_held_up_by_a_receiver,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

fn moment(second: i64) -> String {
    chrono::DateTime::from_timestamp_millis(START + second * 1000).unwrap_or_default().to_rfc3339()
}

/// An alert as `ingest --detect` sends it.
fn alert(rule: &str, sensor: u128, state: &str, second: i64) -> Value {
    let name = format!("{rule} {sensor} {state} {second}");
    json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        "rule": rule, "severity": "warning", "state": state, "location": "plant-3", "device_type": "thermostat",
        "iot_sensor_id": Uuid::from_u128(sensor), "metric": "temperature", "value": 31.0, "expected": 28.0,
        "recorded_timestamp": moment(second), "since": moment(second), "detected_timestamp": moment(second),
        "message": "temperature 31 °C: above 28",
    })
}

fn send(lab: &Lab, alerts: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let kafka = lab.kafka();
    let producer = Producer::new(&kafka, &kafka.alerts_topic(), |_| ())?;
    for (tag, alert) in alerts.into_iter().enumerate() {
        let key = alert["iot_sensor_id"].as_str().unwrap_or_default().to_owned();
        while producer.offer(key.as_bytes(), alert.to_string().as_bytes(), tag)? == Offer::Full {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    ensure!(producer.flush(Duration::from_secs(30)), "not everything was sent in 30 s");
    Ok(())
}

/// What an HTTP receiver was sent and accepted.
#[derive(Debug, Clone)]
struct Accepted {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Accepted {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How a receiver answers: a status, or not at all.
const HANGS: u16 = 0;

/// An HTTP receiver that answers as the test says.
struct Receiver {
    address: SocketAddr,
    answer: Arc<AtomicU16>,
    accepted: Arc<Mutex<Vec<Accepted>>>,
    attempts: Arc<Mutex<u32>>,
    is_over: Arc<AtomicBool>,
}

impl Receiver {
    fn start() -> anyhow::Result<Self> {
        let mut receiver = Self {
            address: "127.0.0.1:0".parse()?,
            answer: Arc::new(AtomicU16::new(200)),
            accepted: Arc::default(),
            attempts: Arc::default(),
            is_over: Arc::default(),
        };
        receiver.listen()?;
        Ok(receiver)
    }

    /// Also again, after [`Receiver::close`].
    fn listen(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address)?;
        self.address = listener.local_addr()?;
        self.is_over = Arc::default();
        let (answer, accepted, attempts) =
            (self.answer.clone(), self.accepted.clone(), self.attempts.clone());
        let is_over = self.is_over.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), answer) = (stream, answer.load(Ordering::Relaxed)) else { continue };
                let (accepted, attempts) = (accepted.clone(), attempts.clone());
                std::thread::spawn(move || serve(stream, answer, &accepted, &attempts));
            }
        });
        Ok(())
    }

    /// Connections are refused from now on.
    fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener, which ends.
        let _ = TcpStream::connect(self.address);
    }

    fn answers(&self, status: u16) {
        self.answer.store(status, Ordering::Relaxed);
    }

    fn accepted(&self) -> Vec<Accepted> {
        self.accepted.lock().unwrap().clone()
    }

    fn attempts(&self) -> u32 {
        *self.attempts.lock().unwrap()
    }

    /// The ids and sequences of all alerts, by rule and sensor, in the order in which they came.
    fn told(&self) -> BTreeMap<(String, String), Vec<i64>> {
        let mut told: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for accepted in self.accepted() {
            for alert in accepted.json()["alerts"].as_array().into_iter().flatten() {
                let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
                let key = (text("rule"), text("iot_sensor_id"));
                told.entry(key).or_default().push(alert["sequence"].as_i64().unwrap_or_default());
            }
        }
        told
    }
}

fn serve(mut stream: TcpStream, answer: u16, accepted: &Mutex<Vec<Accepted>>, attempts: &Mutex<u32>) {
    let mut bytes = Vec::new();
    let mut part = [0; 65_536];
    let (head, body) = loop {
        let Ok(count @ 1..) = stream.read(&mut part) else { return };
        bytes.extend_from_slice(&part[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let headers: HashMap<String, String> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            break (headers, bytes[end + 4..].to_vec());
        }
    };
    *attempts.lock().unwrap() += 1;
    if answer == HANGS {
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    // So that a kill comes in the middle.
    std::thread::sleep(Duration::from_millis(10));
    if answer < 300 {
        accepted.lock().unwrap().push(Accepted { headers: head, body });
    }
    let _ = write!(stream, "HTTP/1.1 {answer} X\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsaid\n");
}

fn write_receivers(folder: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("receivers.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn lab(name: &str) -> anyhow::Result<Lab> {
    let mut lab = Lab::new(name)?;
    // A member that was killed keeps its partitions until its session ends.
    lab.set("IOTCTL_KAFKA_PROPERTIES", "session.timeout.ms=6000");
    Ok(lab)
}

fn until_end(lab: &Lab, receivers: &Path) -> anyhow::Result<Value> {
    let receivers = receivers.to_str().context("a path in UTF-8")?;
    lab.json(&["-q", "alerts", "deliver", receivers, "--until-end", "--format", "json"])
}

/// The alerts of 20 sensors, in `seconds`: each fires and resolves in turn.
fn turns(seconds: std::ops::Range<i64>) -> impl Iterator<Item = Value> {
    turns_of(20, seconds)
}

fn turns_of(sensors: u128, seconds: std::ops::Range<i64>) -> impl Iterator<Item = Value> {
    let state = |second: i64| if second % 2 == 0 { "firing" } else { "resolved" };
    seconds
        .flat_map(move |second| (0..sensors).map(move |sensor| alert("hot", sensor, state(second), second)))
}

fn nothing_is_lost_or_sent_twice_while_a_receiver_fails_hangs_and_restarts() -> anyhow::Result<()> {
    let lab = lab("deliver_faults")?;
    let folder = tempfile::tempdir()?;
    let mut receiver = Receiver::start()?;
    let path = write_receivers(
        folder.path(),
        &format!(
            "[[receiver]]\nname = \"hook\"\ngroup_by = [\"iot_sensor_id\"]\ngroup_wait = \"100ms\"\ntimeout = \"1s\"\n\
             max_per_minute = 0\nwebhook = {{ url = \"http://{}/\" }}",
            receiver.address
        ),
    )?;
    let metrics = "127.0.42.1:19471";
    let path = path.to_str().context("a path in UTF-8")?;
    // The consumer group has begun, so that nothing of what follows is past for it.
    until_end(&lab, Path::new(path))?;
    let mut running = lab.spawn(&["-q", "alerts", "deliver", path, "--metrics-addr", metrics])?;
    let told = |receiver: &Receiver| receiver.told().values().map(Vec::len).sum::<usize>();
    let reaches = |receiver: &Receiver, count: usize| {
        eventually("the alerts arrive", Duration::from_secs(40), || Ok(told(receiver) >= count))
    };
    send(&lab, turns(0..4))?;
    reaches(&receiver, 80)?;

    receiver.answers(500);
    let before = receiver.attempts();
    send(&lab, turns(4..8))?;
    eventually("a failing receiver is asked again", Duration::from_secs(20), || {
        Ok(receiver.attempts() >= before + 3)
    })?;
    let ready = get(metrics, "/readyz")?;
    contains(&ready, &["503", "receiver hook: it answers 500 Internal Server Error: said"])?;
    ensure!(sample(metrics, "iotctl_alerts_delivery_lag_messages").is_some_and(|lag| lag > 0.0), "no lag");
    receiver.answers(200);
    reaches(&receiver, 160)?;

    receiver.answers(HANGS);
    let before = receiver.attempts();
    send(&lab, turns(8..12))?;
    eventually("a receiver that hangs is asked again", Duration::from_secs(20), || {
        Ok(receiver.attempts() >= before + 2)
    })?;
    // It did not accept anything for more than the second between two commits.
    running.kill()?;
    receiver.close();
    running = lab.spawn(&["-q", "alerts", "deliver", path, "--metrics-addr", metrics])?;
    send(&lab, turns(12..16))?;
    eventually("a refused connection is reported", Duration::from_secs(30), || {
        Ok(get(metrics, "/readyz").is_ok_and(|ready| ready.contains("cannot connect to")))
    })?;
    receiver.answers(200);
    receiver.listen()?;
    reaches(&receiver, 320)?;
    eventually("all is committed", Duration::from_secs(10), || {
        Ok(sample(metrics, "iotctl_alerts_delivery_lag_messages") == Some(0.0))
    })?;
    ensure!(running.terminate()? == Some(0), "it did not end well");

    let expected: Vec<i64> = (0..16).map(|second| START + second * 1000).collect();
    let told = receiver.told();
    ensure!(told.len() == 20, "{} sensors", told.len());
    for (sensor, sequence) in told {
        ensure!(sequence == expected, "{sensor:?} was told {sequence:?}");
    }
    // What is committed does not come again.
    let again = until_end(&lab, Path::new(path))?;
    ensure!(again["delivered"] == 0, "{again}");
    Ok(())
}

fn alerts_are_grouped_signed_templated_and_told_once() -> anyhow::Result<()> {
    let lab = lab("deliver_group")?;
    let folder = tempfile::tempdir()?;
    let (plain, chat) = (Receiver::start()?, Receiver::start()?);
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "it is a secret\n")?;
    let commanded = folder.path().join("commanded");
    let path = write_receivers(
        folder.path(),
        &format!(
            "[[receiver]]\nname = \"plain\"\ngroup_wait = \"2s\"\n\
             webhook = {{ url = \"http://{}/hook?a=b\", secret_file = \"{}\", headers = {{ X-Team = \"ops\" }} }}\n\
             [[receiver]]\nname = \"chat\"\nrules = [\"silent\"]\ngroup_wait = \"2s\"\n\
             webhook = {{ url = \"http://{}/\", body = '{{text: .title, n: (.alerts | length)}}' }}\n\
             [[receiver]]\nname = \"program\"\ngroup_wait = \"2s\"\n\
             command = {{ run = [\"/bin/sh\", \"-c\", \"cat >> {}\"] }}",
            plain.address,
            secret.display(),
            chat.address,
            commanded.display(),
        ),
    )?;
    // 37 are silent; of what was over before the group began nothing is told; copies are left out.
    let silent = || (0..37).map(|sensor| alert("silent", sensor, "firing", 10));
    let over = [alert("hot", 1, "firing", 1), alert("hot", 1, "resolved", 2)];
    send(&lab, over.into_iter().chain(silent()).chain([alert("hot", 2, "firing", 3)]).chain(silent()))?;
    let report = until_end(&lab, &path)?;
    ensure!(report["delivered"] == 38 + 37 + 38 && report["notifications"] == 2 + 1 + 2, "{report}");
    ensure!(report["copies"] == 2 + 37, "{report}");

    let mut titles: Vec<_> = plain.accepted().iter().map(|sent| sent.json()["title"].to_string()).collect();
    titles.sort();
    let hot = format!("\"firing: hot, {} of plant-3, temperature 31 °C: above 28\"", Uuid::from_u128(2));
    ensure!(titles == [hot, "\"firing: silent, 37 sensors of plant-3\"".to_owned()], "{titles:?}");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"it is a secret");
    for sent in plain.accepted() {
        let signature = sent.headers.get("x-iotctl-signature").context("no signature")?;
        let tag = ring::hmac::sign(&key, &sent.body);
        let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(*signature == format!("sha256={digits}"), "{signature}");
        ensure!(
            sent.headers["x-team"] == "ops" && sent.headers["idempotency-key"] == sent.json()["id"],
            "{sent:?}"
        );
        ensure!(sent.json()["group"]["location"] == "plant-3", "{}", sent.json());
    }
    let said: Vec<_> = chat.accepted().iter().map(Accepted::json).collect();
    ensure!(said == [json!({"text": "firing: silent, 37 sensors of plant-3", "n": 37})], "{said:?}");
    ensure!(!chat.accepted()[0].headers.contains_key("x-iotctl-signature"));
    let commanded = std::fs::read_to_string(commanded)?;
    let by_program: Vec<Value> =
        serde_json::Deserializer::from_str(&commanded).into_iter().collect::<Result<_, _>>()?;
    ensure!(
        by_program.len() == 2 && by_program.iter().all(|sent| sent["receiver"] == "program"),
        "{commanded}"
    );

    // The end of an episode is told, and a copy after a restart is not.
    send(&lab, [alert("silent", 3, "firing", 10), alert("silent", 3, "resolved", 60)])?;
    let report = until_end(&lab, &path)?;
    ensure!(report["delivered"] == 3 && report["copies"] == 1, "{report}");
    let last = chat.accepted().last().context("nothing")?.json();
    ensure!(last["text"].as_str().is_some_and(|text| text.starts_with("resolved: silent")), "{last}");
    Ok(())
}

fn what_a_receiver_refuses_is_a_dead_letter_and_holds_nothing_up() -> anyhow::Result<()> {
    let lab = lab("deliver_refused")?;
    let folder = tempfile::tempdir()?;
    let receiver = Receiver::start()?;
    receiver.answers(422);
    let path = write_receivers(
        folder.path(),
        &format!(
            "[[receiver]]\nname = \"picky\"\ngroup_wait = \"0s\"\nwebhook = {{ url = \"http://{}/\" }}\n\
             [[receiver]]\nname = \"gone\"\ngroup_wait = \"0s\"\ntimeout = \"1s\"\ngive_up_after = \"1s\"\n\
             webhook = {{ url = \"http://127.0.0.1:1/\" }}",
            receiver.address
        ),
    )?;
    send(&lab, [alert("hot", 1, "firing", 1)])?;
    let report = until_end(&lab, &path)?;
    ensure!(report["delivered"] == 0 && report["dead_letters"] == 2, "{report}");
    ensure!(receiver.attempts() == 1, "a refusal was repeated");

    let kafka = lab.kafka();
    let topic = kafka.alerts_dead_letter_topic();
    let ends = lab.block_on(topics::end_offsets(&kafka, &topic))?;
    let spans: Vec<_> = (0..).zip(ends).map(|(partition, to)| Span { partition, from: 0, to }).collect();
    let mut reader = TopicReader::open(&kafka, &topic, &spans)?;
    let mut letters = Vec::new();
    loop {
        match reader.step()? {
            Step::Message(message) => {
                let header = |index| {
                    let header = message.header(index).map(|header| header.value.unwrap_or_default());
                    String::from_utf8_lossy(&header.unwrap_or_default()).into_owned()
                };
                let payload: Value = serde_json::from_slice(message.payload())?;
                letters.push((header(0), header(1), header(2), payload["rule"].clone()));
            }
            Step::Waiting => {}
            Step::End => break,
        }
    }
    letters.sort_by(|left, right| left.0.cmp(&right.0));
    let [gone, picky] = letters.as_slice() else { anyhow::bail!("{letters:?}") };
    ensure!((gone.0.as_str(), gone.1.as_str()) == ("gone", "expired"), "{gone:?}");
    ensure!(gone.2.contains("cannot connect to 127.0.0.1:1"), "{gone:?}");
    ensure!((picky.0.as_str(), picky.1.as_str()) == ("picky", "refused") && picky.3 == "hot", "{picky:?}");
    ensure!(picky.2.contains("it answers 422") && picky.2.contains("said"), "{picky:?}");
    Ok(())
}

fn a_killed_delivery_goes_on_where_it_was() -> anyhow::Result<()> {
    let lab = lab("deliver_kills")?;
    let folder = tempfile::tempdir()?;
    let receiver = Receiver::start()?;
    let path = write_receivers(
        folder.path(),
        &format!(
            "[[receiver]]\nname = \"hook\"\ngroup_by = [\"iot_sensor_id\"]\ngroup_wait = \"0s\"\nmax_per_minute = 0\n\
             webhook = {{ url = \"http://{}/\" }}",
            receiver.address
        ),
    )?;
    let words = path.to_str().context("a path in UTF-8")?;
    // The group begins before the first alert: nothing is left out as past.
    until_end(&lab, &path)?;
    // A message each, at least.
    let (sensors, seconds) = (300, 10);
    send(&lab, turns_of(sensors, 0..seconds))?;
    for _ in 0..3 {
        let before = receiver.accepted().len();
        let mut running = lab.spawn(&["-q", "alerts", "deliver", words])?;
        eventually(
            "alerts arrive",
            Duration::from_secs(40),
            || Ok(receiver.accepted().len() >= before + 10),
        )?;
        running.kill()?;
    }
    until_end(&lab, &path)?;
    let expected: Vec<i64> = (0..seconds).map(|second| START + second * 1000).collect();
    ensure!(receiver.told().len() == sensors as usize, "{} sensors", receiver.told().len());
    for (sensor, mut sequence) in receiver.told() {
        // After a kill it may begin again at an earlier alert, but leaves none out.
        let is_whole = sequence.windows(2).all(|pair| pair[1] <= pair[0] + 1000);
        ensure!(is_whole, "{sensor:?} misses some: {sequence:?}");
        sequence.sort_unstable();
        sequence.dedup();
        ensure!(sequence == expected, "{sensor:?} was told {} of {}", sequence.len(), expected.len());
    }
    Ok(())
}

fn receivers_that_cannot_work_are_said_before_anything_is_read() -> anyhow::Result<()> {
    let lab = lab("deliver_wrong")?;
    let folder = tempfile::tempdir()?;
    let path = write_receivers(
        folder.path(),
        "[[receiver]]\nname = \"a\"\nwebhook = { url = \"http://h\", body = \"{\" }",
    )?;
    let path = path.to_str().context("a path in UTF-8")?;
    let refused = lab.fails(2, &["-q", "alerts", "deliver", path])?;
    contains(
        &refused,
        &[path, "line 1, receiver \"a\": body: not a jq program", "iotctl alerts deliver --help"],
    )?;
    std::fs::write(path, "[[receiver]]\nname = \"a\"\ncommand = { run = [\"true\"] }")?;
    lab.delete_topic(&lab.kafka().alerts_dead_letter_topic())?;
    let missing = lab.fails(1, &["-q", "alerts", "deliver", path, "--until-end"])?;
    contains(&missing, &["alerts.dlq", "run `iotctl schema apply`"])?;
    Ok(())
}

fn a_silence_holds_alerts_back_and_what_still_fires_is_told_at_its_end() -> anyhow::Result<()> {
    let lab = lab("deliver_silence")?;
    let folder = tempfile::tempdir()?;
    let receiver = Receiver::start()?;
    let path = write_receivers(
        folder.path(),
        &format!(
            "[[receiver]]\nname = \"hook\"\ngroup_wait = \"100ms\"\nwebhook = {{ url = \"http://{}/\" }}",
            receiver.address
        ),
    )?;
    let path = path.to_str().context("a path in UTF-8")?;
    lab.fails(2, &["-q", "alerts", "silence", "--for", "1h"])?;
    lab.fails(2, &["-q", "alerts", "silence", "--rule", "hot"])?;
    lab.fails(2, &["-q", "alerts", "silence", "--rule", "hot", "--until", "2020-01-01"])?;
    lab.ok(&[
        "-q",
        "alerts",
        "silence",
        "--rule",
        "hot",
        "--label",
        "team=cooling",
        "--for",
        "1h",
        "--comment",
        "new pump",
    ])?;
    let cooling = |sensor, state: &str, second| {
        let mut alert = alert("hot", sensor, state, second);
        alert["labels"] = json!({"team": "cooling"});
        alert["runbook"] = "https://wiki.example/hot".into();
        // A moment within the silence.
        alert["detected_timestamp"] = chrono::Utc::now().to_rfc3339().into();
        alert
    };
    let metrics = "127.0.42.1:19478";
    let deliver = ["-q", "alerts", "deliver", path, "--metrics-addr", metrics];
    // The consumer group has begun, so that nothing of what follows is past for it.
    until_end(&lab, Path::new(path))?;
    let mut running = lab.spawn(&deliver)?;
    let silenced = |count: f64| {
        eventually("it is held back", Duration::from_secs(60), || {
            Ok(sample(metrics, "iotctl_alerts_silenced_total").is_some_and(|held| held >= count))
        })
    };
    eventually("it reads", Duration::from_secs(60), || Ok(get(metrics, "/readyz").is_ok()))?;
    let mut over = cooling(4, "resolved", 2);
    over["since"] = moment(1).into();
    send(&lab, [cooling(1, "firing", 1), cooling(4, "firing", 1), over, alert("hot", 3, "firing", 1)])?;
    silenced(3.0)?;
    // What is held is held after a kill too.
    running.kill()?;
    running = lab.spawn(&deliver)?;
    send(&lab, [cooling(5, "firing", 3)])?;
    silenced(1.0)?;
    let told = || -> Vec<Value> {
        let accepted = receiver.accepted();
        accepted
            .iter()
            .flat_map(|sent| sent.json()["alerts"].as_array().cloned().unwrap_or_default())
            .collect()
    };
    let sensors = |alerts: &[Value]| -> Vec<String> {
        let mut sensors: Vec<_> = alerts
            .iter()
            .map(|alert| alert["iot_sensor_id"].as_str().unwrap_or_default().to_owned())
            .collect();
        sensors.sort();
        sensors.dedup();
        sensors
    };
    let ids = |sensors: &[u128]| {
        sensors.iter().map(|sensor| Uuid::from_u128(*sensor).to_string()).collect::<Vec<_>>()
    };
    eventually(
        "what is not silenced arrives",
        Duration::from_secs(30),
        || Ok(sensors(&told()) == ids(&[3])),
    )?;
    let firing = lab.lines(&["-q", "alerts", "--firing", "--format", "ndjson"])?;
    for alert in &firing {
        let is_silenced = alert["silence_comment"] == "new pump" && alert["silenced_until"].is_string();
        ensure!(is_silenced == (alert["labels"] == "team=cooling"), "{alert}");
    }
    let silences = lab.lines(&["-q", "alerts", "silence", "--format", "ndjson"])?;
    ensure!(silences.len() == 1 && silences[0]["matches"] == "rule=hot, team=cooling", "{silences:?}");
    let id = silences[0]["id"].as_str().context("an id")?;
    lab.ok(&["-q", "alerts", "silence", "--expire", id])?;
    for (id, problem) in [
        (id, "was over at"),
        (&*Uuid::nil().to_string(), "no silence has the id 00000000-"),
        ("9f0c71f5", "not the whole id of a silence"),
    ] {
        let refused = lab.run(&["-q", "alerts", "silence", "--expire", id])?;
        ensure!(refused.code == Some(2), "{refused:?}");
        contains(&refused.stderr, &[problem, "`iotctl alerts silence --format ndjson` lists"])?;
    }
    let refused = lab.run(&["-q", "alerts", "ack", "9f0c71f5"])?;
    ensure!(refused.code == Some(2), "{refused:?}");
    contains(
        &refused.stderr,
        &["not the whole id of an alert", "`iotctl alerts --firing --format ndjson` lists"],
    )?;
    eventually("what still fires is told", Duration::from_secs(60), || {
        Ok(sensors(&told()) == ids(&[1, 3, 5]))
    })?;
    let one = told().into_iter().find(|alert| alert["iot_sensor_id"] == ids(&[1])[0].as_str());
    let one = one.context("sensor 1")?;
    ensure!(one["labels"]["team"] == "cooling" && one["runbook"] == "https://wiki.example/hot", "{one}");
    ensure!(running.terminate()? == Some(0), "it did not end well");
    ensure!(lab.lines(&["-q", "alerts", "silence", "--format", "ndjson"])?.is_empty());

    // What nothing is known of is silenced all the same.
    let said = lab.run(&["alerts", "silence", "--rule", "hto", "--location", "plant-9", "--for", "1s"])?;
    ensure!(said.code == Some(0), "{said:#?}");
    contains(
        &said.stderr,
        &[
            "the topic has no alert of the rule \"hto\": it has those of hot;",
            "no readings for location plant-9",
        ],
    )?;
    let said = lab.run(&["alerts", "silence", "--rule", "hot", "--for", "1s"])?;
    ensure!(said.code == Some(0) && !said.stderr.contains("no alert of"), "{said:#?}");

    let said =
        lab.run(&["alerts", "ack", "--rule", "hot", "--sensor", &ids(&[1])[0], "--comment", "on my way"])?;
    ensure!(said.code == Some(0) && said.stderr.contains("1 alert acknowledged by"), "{said:#?}");
    let table = lab.ok(&["-q", "alerts", "history"])?;
    contains(&table, &["location", "plant-3"])?;
    let history =
        lab.lines(&["-q", "alerts", "history", "--format", "ndjson", "--time-zone", "Europe/Berlin"])?;
    let of = |sensor: u128| {
        let id = Uuid::from_u128(sensor).to_string();
        history.iter().find(|episode| episode["iot_sensor_id"] == id.as_str()).context("no episode")
    };
    ensure!(history.len() == 4, "{history:?}");
    ensure!(
        of(4)?["resolved"].is_string() && of(4)?["seconds"] == 1.0 && of(3)?["resolved"].is_null(),
        "{history:?}"
    );
    ensure!(
        of(1)?["acknowledged_comment"] == "on my way" && of(3)?["acknowledged_by"].is_null(),
        "{history:?}"
    );
    ensure!(of(1)?["fired"] == "2026-11-01T01:00:01.000+01:00", "{history:?}");
    ensure!(
        lab.lines(&["-q", "alerts", "history", "--format", "ndjson", "--to", "2026-11-01T00:00:02Z"])?.len()
            == 3
    );
    Ok(())
}

fn ingest_delivers_what_it_detects_and_is_not_held_up_by_a_receiver() -> anyhow::Result<()> {
    let mut lab = Lab::new("deliver_ingest")?;
    lab.set("IOTCTL_INGEST_DRAIN_TIMEOUT", "15s");
    let folder = tempfile::tempdir()?;
    let receiver = Receiver::start()?;
    let receivers = write_receivers(
        folder.path(),
        &format!(
            "[[receiver]]\nname = \"hook\"\ngroup_wait = \"100ms\"\nwebhook = {{ url = \"http://{}/\" }}",
            receiver.address
        ),
    )?;
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 30 }")?;
    let (rules, receivers) = (rules.to_str().context("UTF-8")?, receivers.to_str().context("UTF-8")?);
    let ingest = || {
        lab.json(&[
            "-q",
            "ingest",
            "--until-end",
            "--detect",
            rules,
            "--deliver",
            receivers,
            "--format",
            "json",
        ])
    };
    let reading = |sensor: u128, second: i64| {
        crate::support::message("plant-1", sensor, START + second * 1000, r#","temperature":31"#)
    };
    lab.send((0..20).map(|sensor| reading(sensor, 1)))?;
    let report = ingest()?;
    ensure!(report["complete"] == true && report["alerts"] == 20, "{report}");
    ensure!(receiver.told().len() == 20, "{:?}", receiver.told());
    // The receiver is away: the readings are stored all the same, and their alerts come with the next run.
    receiver.answers(503);
    lab.send((20..30).map(|sensor| reading(sensor, 1)))?;
    let report = ingest()?;
    ensure!(report["complete"] == true && report["rows"] == 10, "{report}");
    ensure!(receiver.told().len() == 20, "{:?}", receiver.told());
    receiver.answers(200);
    ingest()?;
    let told = receiver.told();
    ensure!(told.len() == 30 && told.values().all(|alerts| alerts.len() == 1), "{told:?}");
    lab.fails(2, &["-q", "ingest", "--deliver", rules])?;
    Ok(())
}
