//! Messages as they look in the field, through Kafka into Cassandra: each becomes exactly the readings that it means.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotctl::mapping::presets;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use scylla::value::CqlTimestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{KAFKA, Lab};

crate::trials!(
    every_family_of_messages_becomes_the_readings_that_it_means,
    a_fault_in_an_array_leaves_its_other_readings_and_a_replay_changes_nothing,
    a_sensor_is_asked_for_and_shown_by_its_name,
    a_mapping_is_tried_without_a_server,
    a_live_topic_is_looked_at_without_joining_the_consumer_group,
    sparkplug_is_read_by_births_that_were_sent_before_and_what_lacks_one_is_kept_apart,
);

pub fn payloads() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads")
}

pub fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The mapping of a family for a topic: a preset, or its file.
fn mapping_of(family: &str, topic: &str, folder: &Path) -> anyhow::Result<String> {
    let file = payloads().join(family).join("mapping.toml");
    if !file.exists() {
        return Ok(family.to_owned());
    }
    let text = std::fs::read_to_string(file)?.replace("\"batch\"]", &format!("{topic:?}]"));
    let path = folder.join("mapping.toml");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// Sends messages in the form of messages.ndjson.
fn send(lab: &Lab, messages: &[Value]) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
    for message in messages {
        let payload = match (&message["value"], &message["value_base64"]) {
            (_, Value::String(encoded)) => STANDARD.decode(encoded)?,
            (Value::String(text), _) => text.clone().into_bytes(),
            (other, _) => other.to_string().into_bytes(),
        };
        let mut headers = OwnedHeaders::new();
        for (name, value) in message["headers"].as_object().into_iter().flatten() {
            headers = headers.insert(Header { key: name, value: value.as_str() });
        }
        let mut record = BaseRecord::<str, [u8]>::to(&lab.name)
            .payload(&payload)
            .headers(headers)
            .timestamp(message["timestamp"].as_i64().context("a timestamp")?);
        record.key = message["key"].as_str();
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(10))?;
    Ok(())
}

/// A reading by what identifies it, with its metrics and states.
pub type Readings = BTreeMap<(String, String, Uuid, i64), (BTreeMap<String, f64>, BTreeMap<String, String>)>;

pub fn stored(lab: &Lab) -> anyhow::Result<Readings> {
    type Row = (
        String,
        String,
        Uuid,
        CqlTimestamp,
        Option<f32>,
        Option<f32>,
        Option<f32>,
        Option<bool>,
        Option<HashMap<String, f64>>,
        Option<HashMap<String, String>>,
    );
    let rows: Vec<Row> = lab.witness(
        "SELECT location, device_type, iot_sensor_id, recorded_timestamp, temperature, humidity, pressure, \
         motion_detected, other_metrics, states FROM {ks}.iot_sensor_metrics",
    )?;
    let mut readings = Readings::new();
    for (location, device_type, sensor, at, temperature, humidity, pressure, motion, others, states) in rows {
        let mut metrics: BTreeMap<String, f64> = others.into_iter().flatten().collect();
        for (name, value) in [("temperature", temperature), ("humidity", humidity), ("pressure", pressure)] {
            if let Some(value) = value {
                // The shortest decimal that the stored float stands for.
                metrics.insert(name.to_owned(), value.to_string().parse()?);
            }
        }
        if let Some(motion) = motion {
            metrics.insert("motion_detected".to_owned(), f64::from(u8::from(motion)));
        }
        let states = states.into_iter().flatten().collect();
        readings.insert((location, device_type, sensor, at.0), (metrics, states));
    }
    Ok(readings)
}

/// The documented rule, computed here and not by the program.
fn id(name: &str) -> Uuid {
    let namespace = Uuid::parse_str("3b1f6c0a-8f6e-4d53-a1c7-0d2e94b85f66").expect("a UUID");
    Uuid::new_v5(&namespace, name.as_bytes())
}

pub fn expected(path: &Path) -> anyhow::Result<Readings> {
    let mut readings = Readings::new();
    for line in lines(path)? {
        let text = |name: &str| line[name].as_str().map(str::to_owned).context("text");
        let at = chrono::DateTime::parse_from_rfc3339(&text("recorded_timestamp")?)?.timestamp_millis();
        let key = (text("location")?, text("device_type")?, id(&text("sensor")?), at);
        let metrics = serde_json::from_value(line["metrics"].clone())?;
        let states = serde_json::from_value(line["states"].clone())?;
        readings.insert(key, (metrics, states));
    }
    Ok(readings)
}

pub fn check_same(found: &Readings, wanted: &Readings) -> anyhow::Result<()> {
    ensure!(found.keys().eq(wanted.keys()), "{found:#?}\nand not\n{wanted:#?}");
    for (key, (metrics, states)) in found {
        let (wanted_metrics, wanted_states) = &wanted[key];
        ensure!(states == wanted_states, "{key:?}: {states:?} and not {wanted_states:?}");
        let close = metrics
            .iter()
            .zip(wanted_metrics)
            .all(|((name, value), (other, wanted))| name == other && (value - wanted).abs() <= 1e-4);
        ensure!(
            close && metrics.len() == wanted_metrics.len(),
            "{key:?}: {metrics:?} and not {wanted_metrics:?}"
        );
    }
    Ok(())
}

fn every_family_of_messages_becomes_the_readings_that_it_means() -> anyhow::Result<()> {
    let lab = Lab::new("families")?;
    let folder = tempfile::tempdir()?;
    let mut wanted = Readings::new();
    // Each preset, and a mapping of one's own.
    for family in presets::ALL.iter().map(|preset| preset.name).chain(["gateway-batch"]) {
        let mapping = mapping_of(family, &lab.name, folder.path())?;
        let messages = lines(&payloads().join(family).join("messages.ndjson"))?;
        send(&lab, &messages)?;
        let report = lab.json(&["-q", "ingest", "--until-end", "--format", "json", "--mapping", &mapping])?;
        ensure!(report["messages"] == messages.len() && report["dead_letters"] == 0, "{family}: {report}");
        let readings = expected(&payloads().join(family).join("readings.ndjson"))?;
        ensure!(report["rows"] == readings.len(), "{family}: {report}");
        wanted.extend(readings);
        check_same(&stored(&lab)?, &wanted).with_context(|| family.to_owned())?;
    }
    // Names are in the registry, for each sensor once.
    let names: Vec<(Uuid, Option<String>)> =
        lab.witness("SELECT iot_sensor_id, name FROM {ks}.iot_sensors")?;
    for (sensor, name) in &names {
        let name = name.as_deref().context("a sensor without a name")?;
        ensure!(id(name) == *sensor, "{name}: {sensor}");
    }
    Ok(())
}

fn batch(site: &str, readings: &Value) -> Value {
    json!({"headers": {"site": site}, "timestamp": 1_795_600_000_000_i64,
           "value": {"ts": 1_795_600_000_000_i64, "readings": readings}})
}

fn a_fault_in_an_array_leaves_its_other_readings_and_a_replay_changes_nothing() -> anyhow::Result<()> {
    let lab = Lab::new("array")?;
    let folder = tempfile::tempdir()?;
    let mapping = mapping_of("gateway-batch", &lab.name, folder.path())?;
    // The record's own timestamp: a replay must keep it.
    let text = std::fs::read_to_string(&mapping)?
        .replace("recorded_timestamp = { from = \"value.ts\", format = \"ms\" }\n", "");
    ensure!(!text.contains("recorded_timestamp"));
    std::fs::write(&mapping, text)?;
    let many: Vec<Value> =
        (0..200).map(|n| json!({"id": format!("m-{n}"), "name": "humidity", "value": n % 100})).collect();
    let bad = json!([
        {"id": "a", "name": "humidity", "value": 1},
        {"id": "b", "name": "humidity", "value": 1e300},
        {"id": "c", "name": "humidity", "value": 3},
    ]);
    send(&lab, &[batch("north", &many.into()), batch("north", &bad), batch("north", &json!([]))])?;
    let with = |command: &str| {
        let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        words.extend(["--mapping".to_owned(), mapping.clone()]);
        words
    };
    let report = lab.json(&with("-q ingest --until-end --format json"))?;
    ensure!(report["rows"] == 202 && report["dead_letters"] == 1 && report["skipped"] == 1, "{report}");
    let letters = lab.lines("-q dead-letters list --format ndjson")?;
    ensure!(letters.len() == 1 && letters[0]["reason"] == "number_out_of_range", "{letters:#?}");
    let error = letters[0]["error"].as_str().context("an error")?;
    ensure!(error.starts_with("element 1 of 3: "), "{error}");
    // Everything is committed, and the audit knows what the message means.
    let again = lab.json(&with("-q ingest --until-end --format json"))?;
    ensure!(again["messages"] == 0, "{again}");
    let audit = lab.json(&with("-q audit --format json"))?;
    ensure!(audit["compared"]["readings"] == 202 && audit["compared"]["stored"] == 202, "{audit}");

    // A replay would be refused again; made all the same, it changes nothing.
    let refused = lab.ok(&with("-q dead-letters replay"))?;
    ensure!(refused.contains("would be refused again") && refused.contains('1'), "{refused}");
    let before = stored(&lab)?;
    lab.ok(&with("-q dead-letters replay --all --yes"))?;
    let replayed = lab.json(&with("-q ingest --until-end --format json"))?;
    ensure!(replayed["messages"] == 1 && replayed["rows"] == 2, "{replayed}");
    check_same(&stored(&lab)?, &before)
}

fn a_sensor_is_asked_for_and_shown_by_its_name() -> anyhow::Result<()> {
    let lab = Lab::new("named")?;
    let messages = lines(&payloads().join("zigbee2mqtt/messages.ndjson"))?;
    send(&lab, &messages)?;
    lab.ok(&["-q", "-O", "ingest.mapping=zigbee2mqtt", "ingest", "--until-end"])?;
    let sensors = lab.lines("-q sensors --format ndjson")?;
    let names: Vec<_> = sensors.iter().map(|sensor| sensor["sensor_name"].as_str().unwrap_or("?")).collect();
    ensure!(names == ["door-front", "th-1"], "{names:?}");
    let rows = lab.lines("-q query --sensor th-1 --format ndjson")?;
    ensure!(rows.len() == 2 && rows.iter().all(|row| row["location"] == "kitchen"), "{rows:#?}");
    let by_id = lab.lines(&["-q", "query", "--sensor", &id("th-1").to_string(), "--format", "ndjson"])?;
    ensure!(by_id == rows);
    let nobody = lab.run(&["-q", "query", "--sensor", "th-2"])?;
    ensure!(nobody.code != Some(0), "{nobody:#?}");
    Ok(())
}

fn a_mapping_is_tried_without_a_server() -> anyhow::Result<()> {
    let lab = Lab::bare("tried")?;
    let path = |name: &str| payloads().join(name).display().to_string();
    let (samples, readings) = (path("ttn-v3/messages.ndjson"), path("ttn-v3/readings.ndjson"));
    let test = ["-q", "mapping", "test", "ttn-v3", "--samples", &samples];
    lab.ok(&[&test[..], &["--expect", &readings]].concat())?;
    let rows = lab.lines(&[&test[..], &["--format", "ndjson"]].concat())?;
    ensure!(rows.len() == 2 && rows[0]["sensor"] == "70B3D57ED0050001", "{rows:#?}");
    // What it prints is what it may be compared with.
    let printed = lab.ok(&[&test[..], &["--format", "ndjson"]].concat())?;
    let folder = tempfile::tempdir()?;
    let kept = folder.path().join("printed.ndjson").display().to_string();
    std::fs::write(&kept, printed)?;
    lab.ok(&[&test[..], &["--expect", &kept]].concat())?;
    let other = path("senml/readings.ndjson");
    let differs = lab.run(&[&test[..], &["--expect", &other]].concat())?;
    ensure!(
        differs.code == Some(1) && differs.stderr.contains("differ from what was expected"),
        "{differs:#?}"
    );
    let wrong = lab.run(&["-q", "ingest", "--mapping", "no-such-file"])?;
    ensure!(wrong.code == Some(2) && wrong.stderr.contains("zigbee2mqtt"), "{wrong:#?}");
    let preset = lab.ok(&["mapping", "show", "senml"])?;
    ensure!(preset.contains("[[source]]"), "{preset}");
    Ok(())
}

fn a_live_topic_is_looked_at_without_joining_the_consumer_group() -> anyhow::Result<()> {
    let lab = Lab::new("live")?;
    let empty = lab.run("-q mapping infer")?;
    ensure!(empty.code == Some(1) && empty.stderr.contains("has no messages"), "{empty:#?}");
    send(&lab, &lines(&payloads().join("zigbee2mqtt/messages.ndjson"))?)?;
    let preset = lab.ok("-q mapping infer")?;
    ensure!(preset.starts_with("# The preset zigbee2mqtt:"), "{preset}");
    let expected = lines(&payloads().join("zigbee2mqtt/readings.ndjson"))?;
    let rows = lab.lines("-q mapping test zigbee2mqtt --format ndjson")?;
    ensure!(rows.len() == expected.len(), "{rows:#?}");
    let newest = lab.lines("-q mapping explain zigbee2mqtt --count 1 --format ndjson")?;
    ensure!(newest.iter().all(|step| step["message"] == "message 1"), "{newest:#?}");
    let steps = lab.lines("-q mapping explain zigbee2mqtt --format ndjson")?;
    let says = |key: &str, text: &str| {
        steps
            .iter()
            .any(|step| step["step"] == key && step["result"].as_str().is_some_and(|it| it.contains(text)))
    };
    ensure!(
        says("source devices", "takes the message") && says("source bridge", "does not fit key_pattern"),
        "{steps:#?}"
    );
    ensure!(says("sensor", "capture.device = ") && says("result", "1 reading"), "{steps:#?}");
    // Nothing was committed: everything is still there for the group.
    lab.ok("-q ingest --until-end --mapping zigbee2mqtt")?;
    ensure!(stored(&lab)?.len() == expected.len());
    Ok(())
}

/// The wire format of Protobuf, written here and not by the library that reads it: fields of Sparkplug's payload.
mod sparkplug {
    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 128 {
            bytes.push(u8::try_from(number % 128).expect("seven bits") | 128);
            number /= 128;
        }
        bytes.push(u8::try_from(number).expect("seven bits"));
        bytes
    }

    fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    /// A metric of a birth: 16-bit signed (data type 2).
    pub(super) fn born(name: &str, alias: u64, value: i16) -> Vec<u8> {
        let value = number(10, u64::from(i32::from(value).cast_unsigned()));
        let metric = [bytes(1, name.as_bytes()), number(2, alias), number(4, 2), value];
        bytes(2, &metric.concat())
    }

    /// A metric of data.
    pub(super) fn changed(alias: u64, value: i16) -> Vec<u8> {
        let value = number(10, u64::from(value.cast_unsigned()));
        bytes(2, &[number(2, alias), value].concat())
    }

    pub(super) fn payload(at: i64, metrics: &[Vec<u8>]) -> Vec<u8> {
        [number(1, at.cast_unsigned()), metrics.concat(), number(3, 0)].concat()
    }
}

fn sparkplug_is_read_by_births_that_were_sent_before_and_what_lacks_one_is_kept_apart() -> anyhow::Result<()>
{
    use sparkplug::{born, changed, payload};
    const AT: i64 = 1_795_600_000_000;
    let mut lab = Lab::new("sparkplug")?;
    lab.set("IOTCTL_INGEST_MAPPING", "sparkplug-b");
    let message = |kind: &str, at: i64, metrics: &[Vec<u8>]| {
        let (node, kind) = match kind.as_bytes()[0] {
            b'D' => ("edge/pump", kind),
            _ => ("edge", kind),
        };
        json!({
            "key": "spBv1.0/plant/edge",
            "headers": {"mqtt.topic": format!("spBv1.0/plant/{kind}/{node}")},
            "timestamp": at,
            "value_base64": STANDARD.encode(payload(at, metrics)),
        })
    };
    let ingest = || lab.json("-q ingest --until-end --format json");
    let values = || -> anyhow::Result<Vec<(i64, String, f64)>> {
        let values = stored(&lab)?.into_iter().flat_map(|((_, _, _, at), (metrics, _))| {
            metrics.into_iter().map(move |(name, value)| (at - AT, name, value))
        });
        let mut values: Vec<_> = values.collect();
        values.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
        Ok(values)
    };

    // The bridge was started in the middle: nobody knows what the alias is.
    send(&lab, &[message("DDATA", AT - 1000, &[changed(7, -2)])])?;
    let early = ingest()?;
    ensure!(early["rows"] == 0 && early["dead_letters"] == 1, "{early}");
    let letters = lab.lines("-q dead-letters list --format ndjson")?;
    ensure!(letters.len() == 1 && letters[0]["reason"] == "no_birth", "{letters:#?}");
    let refused = lab.ok("-q dead-letters replay")?;
    ensure!(
        refused.lines().any(|line| line.contains("would be refused again") && line.contains('1')),
        "{refused}"
    );

    // Births, and in a later run the data; another birth gives the alias another name.
    let births = [
        message("NBIRTH", AT, &[born("load", 1, 10)]),
        message("DBIRTH", AT, &[born("flow", 7, 20)]),
        message("NDEATH", AT + 1, &[]),
    ];
    send(&lab, &births)?;
    let born_rows = ingest()?;
    ensure!(
        born_rows["rows"] == 2 && born_rows["skipped"] == 1 && born_rows["dead_letters"] == 0,
        "{born_rows}"
    );
    let data =
        [message("DDATA", AT + 1000, &[changed(7, -3)]), message("NDATA", AT + 1000, &[changed(1, 11)])];
    send(&lab, &data)?;
    ensure!(ingest()?["rows"] == 2);
    send(&lab, &[message("DBIRTH", AT + 2000, &[born("level", 7, 30)])])?;
    ensure!(ingest()?["rows"] == 1);
    // Data from before the last birth, and from after it.
    send(
        &lab,
        &[message("DDATA", AT + 1500, &[changed(7, -4)]), message("DDATA", AT + 2500, &[changed(7, 31)])],
    )?;
    ensure!(ingest()?["rows"] == 2);
    let (flow, level, load) = ("flow".to_owned(), "level".to_owned(), "load".to_owned());
    let mut wanted = vec![
        (0, flow.clone(), 20.0),
        (0, load.clone(), 10.0),
        (1000, flow.clone(), -3.0),
        (1000, load, 11.0),
        (1500, flow.clone(), -4.0),
        (2000, level.clone(), 30.0),
        (2500, level, 31.0),
    ];
    ensure!(values()? == wanted, "{:?}", values()?);

    // The first message is read by the first birth after it, once somebody says so.
    lab.ok("-q dead-letters replay --reason no_birth --yes")?;
    let replayed = ingest()?;
    ensure!(replayed["rows"] == 1 && replayed["dead_letters"] == 0, "{replayed}");
    wanted.insert(0, (-1000, flow, -2.0));
    ensure!(values()? == wanted, "{:?}", values()?);
    let audit = lab.json("-q audit --format json")?;
    ensure!(audit["compared"]["readings"] == 8 && audit["compared"]["stored"] == 8, "{audit}");
    Ok(())
}
