//! Sparkplug B: a message becomes an array with one object per metric. Its MQTT topic comes from the header `mqtt.topic` or the
//! key; names and data types that it leaves out come from [`Births`].

use prost::Message as _;
use serde_json::{Map, Number, Value};

use super::Record;
use super::compression::Compression;
use crate::reading::{Rejection, shown};

mod births;
mod payload;

use births::Birth;
pub use births::{Births, NeededBirth};
use payload::{Content, Metric, Payload, integer};

const HEADER: &str = "mqtt.topic";
const FORMAT: &str = "sparkplug-b";
/// The header of dead letters that are sent again because their birth was missing: they may be read by a younger one.
pub const REPLAYED: &str = "iotctl-replayed";
/// The `uuid` of a payload whose `body` is the real one, compressed (as Eclipse Tahu's libraries do it).
const COMPRESSED: &str = "SPBV1.0_COMPRESSED";
/// What a compressed payload may expand to.
const MAX_EXPANDED: usize = 16 << 20;
/// Metrics of one message. They take much more memory than on the wire.
const MAX_METRICS: usize = 100_000;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Birth,
    Data,
    /// Deaths, commands and the state of hosts hold no readings.
    Other,
}

/// An MQTT topic, `spBv1.0/GROUP/TYPE/EDGE_NODE[/DEVICE]`.
struct Topic {
    kind: Kind,
    /// As it is written, such as `NDATA`.
    kind_name: String,
    group: String,
    edge_node: String,
    device: Option<String>,
}

impl Topic {
    fn of(record: &Record<'_>) -> Result<Option<Self>, String> {
        let key = || std::str::from_utf8(record.key?).ok().map(str::to_owned);
        let topic = record.headers.text(HEADER).or_else(key).ok_or_else(|| {
            format!(
                "it has no MQTT topic (in the header {HEADER} or the key), such as spBv1.0/group/NDATA/node"
            )
        })?;
        let mut parts = topic.split('/');
        let (version, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if version == "STATE" || group == "STATE" {
            return Ok(None);
        }
        let (kind_name, edge_node) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let device = parts.next();
        let kind = match (kind_name, device) {
            ("NBIRTH", None) | ("DBIRTH", Some(_)) => Kind::Birth,
            ("NDATA", None) | ("DDATA", Some(_)) => Kind::Data,
            ("NDEATH" | "NCMD", None) | ("DDEATH" | "DCMD", Some(_)) => Kind::Other,
            _ => return Err(format!("the MQTT topic \"{}\" is not one of Sparkplug B", shown(&topic))),
        };
        if version != "spBv1.0" || group.is_empty() || edge_node.is_empty() || parts.next().is_some() {
            return Err(format!("the MQTT topic \"{}\" is not one of Sparkplug B", shown(&topic)));
        }
        Ok(Some(Self {
            kind,
            kind_name: kind_name.to_owned(),
            group: group.to_owned(),
            edge_node: edge_node.to_owned(),
            device: device.map(str::to_owned),
        }))
    }

    /// Within the group.
    fn id(&self) -> String {
        match &self.device {
            Some(device) => format!("{}/{device}", self.edge_node),
            None => self.edge_node.clone(),
        }
    }

    fn node(&self) -> String {
        format!("{}/{}", self.group, self.id())
    }
}

fn refuse(problem: String) -> Rejection {
    Rejection::NotInFormat { format: FORMAT, problem }
}

fn payload(record: &Record<'_>) -> Result<(u64, Payload), Rejection> {
    let decode = |bytes: &[u8]| Payload::decode(bytes).map_err(|error| refuse(error.to_string()));
    let mut payload = decode(record.payload)?;
    if payload.uuid.as_deref() == Some(COMPRESSED) {
        let body = payload.body.take().unwrap_or_default();
        let expanded = Compression::of(&body).unwrap_or(Compression::Deflate).expand(&body, MAX_EXPANDED)?;
        let outer = payload.timestamp;
        payload = decode(&expanded)?;
        payload.timestamp = payload.timestamp.or(outer);
    }
    if payload.metrics.len() > MAX_METRICS {
        return Err(refuse(format!("more than {MAX_METRICS} metrics")));
    }
    let at = payload.timestamp.or(record.timestamp.map(i64::unsigned_abs)).unwrap_or_default();
    Ok((at, payload))
}

/// Takes note of a birth; anything else is left alone.
fn learn(record: &Record<'_>, births: &Births) {
    if let Ok(Some(topic)) = Topic::of(record)
        && topic.kind == Kind::Birth
        && let Ok((at, payload)) = payload(record)
    {
        births.keep(&topic.node(), at, &payload);
    }
}

/// The birth without which a message cannot be read, unless it is known.
pub(super) fn needed(record: &Record<'_>, births: &Births) -> Option<NeededBirth> {
    let topic = Topic::of(record).ok()??;
    if topic.kind != Kind::Data {
        return None;
    }
    let (at, payload) = payload(record).ok()?;
    let needed = NeededBirth { node: topic.node(), at };
    let is_needed = |metric: &Metric| match (&metric.name, &metric.value) {
        (None, _) => metric.alias.is_some(),
        (Some(_), Some(Content::Int(_) | Content::Long(_))) => metric.datatype.is_none(),
        (Some(_), _) => false,
    };
    (payload.metrics.iter().any(is_needed) && !births.has(&needed)).then_some(needed)
}

/// The metrics of a birth or of data; `None` for messages without any. A birth is taken note of.
pub(super) fn read(record: &Record<'_>, births: &Births) -> Result<Option<Value>, Rejection> {
    let Some(topic) = Topic::of(record).map_err(refuse)? else { return Ok(None) };
    if topic.kind == Kind::Other {
        return Ok(None);
    }
    let (at, payload) = payload(record)?;
    let node = topic.node();
    if topic.kind == Kind::Birth {
        births.keep(&node, at, &payload);
    }
    let mut birth = births.at(&node, at);
    if birth.is_none() && record.headers.text(REPLAYED).is_some() {
        birth = births.first(&node);
    }
    let mut elements = Vec::with_capacity(payload.metrics.len());
    for metric in payload.metrics {
        let element = element(&topic, at, metric, birth.as_deref());
        elements.extend(element.map_err(|problem| Rejection::NoBirth { node: shown(&node), problem })?);
    }
    Ok(Some(Value::Array(elements)))
}

/// `None` for what is no reading: metrics by which nodes are controlled.
///
/// # Errors
/// The name or the data type is that of a birth which is not known.
fn element(
    topic: &Topic,
    at: u64,
    metric: Metric,
    birth: Option<&Birth>,
) -> Result<Option<Value>, &'static str> {
    const UNKNOWN: &str = "no birth certificate from before this message is known";
    let name = match (metric.name, metric.alias) {
        (Some(name), _) => name,
        (None, Some(alias)) => {
            let birth = birth.ok_or(UNKNOWN)?;
            birth.name(alias).ok_or("its birth certificate does not have an alias that is used")?.to_owned()
        }
        (None, None) => return Err("a metric has neither a name nor an alias"),
    };
    if name == "bdSeq" || name.starts_with("Node Control/") || name.starts_with("Device Control/") {
        return Ok(None);
    }
    let value = match metric.value {
        Some(content) if metric.is_null != Some(true) => {
            let datatype = metric.datatype.or_else(|| birth?.datatype(&name));
            match (value(content, datatype.unwrap_or(0)), birth) {
                (Some(value), _) => value,
                (None, None) => return Err(UNKNOWN),
                (None, Some(_)) => {
                    return Err("its birth certificate does not have the data type of a number");
                }
            }
        }
        _ => Value::Null,
    };
    let mut element = Map::new();
    let mut set = |name: &str, value: Value| element.insert(name.to_owned(), value);
    set("group", topic.group.as_str().into());
    set("edge_node", topic.edge_node.as_str().into());
    set("device", topic.device.as_deref().into());
    set("id", topic.id().into());
    set("type", topic.kind_name.as_str().into());
    set("name", name.into());
    set("timestamp", metric.timestamp.unwrap_or(at).into());
    set("is_historical", metric.is_historical.unwrap_or(false).into());
    set("value", value);
    Ok(Some(Value::Object(element)))
}

/// `None` for an integer of an unknown type: it may be signed.
fn value(content: Content, datatype: u32) -> Option<Value> {
    Some(match content {
        Content::Int(value) => whole(value.into(), datatype)?,
        Content::Long(value) => whole(value, datatype)?,
        // What is not a number was not measured.
        Content::Float(value) => Number::from_f64(value.into()).map_or(Value::Null, Value::Number),
        Content::Double(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Content::Boolean(value) => value.into(),
        Content::Text(text) => text.into(),
        // Files and arrays: not stored, and counted as such.
        Content::Bytes(_) => Value::Array(Vec::new()),
    })
}

fn whole(value: u64, datatype: u32) -> Option<Value> {
    let (is_signed, bits) = integer(datatype)?;
    let unused = 64 - bits;
    Some(match is_signed {
        true => ((value << unused).cast_signed() >> unused).into(),
        false => ((value << unused) >> unused).into(),
    })
}

#[cfg(test)]
mod tests;
