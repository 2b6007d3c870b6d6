//! From a payload's bytes to one JSON value, whatever the format: formats of many records (SenML, line protocol, CSV)
//! become an array of objects.

use std::borrow::Cow;

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::{binary, json};
use crate::reading::Rejection;

/// How payloads are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PayloadFormat {
    #[default]
    Json,
    /// JSON values one after another, as a rule one a line.
    JsonLines,
    /// One value, such as `21.5` or `on`.
    Text,
    /// Bytes of a device's own layout, as text in base64 (for `transform`).
    Bytes,
    /// RFC 8428, as JSON.
    Senml,
    /// RFC 8428, as CBOR.
    SenmlCbor,
    /// Of InfluxDB.
    LineProtocol,
    Csv,
    MessagePack,
    Cbor,
    /// Read by a schema (see [`super::schemas`]).
    Avro,
    Protobuf,
    /// JSON in the frame of a schema registry.
    JsonSchema,
    /// Read by the births of its edge nodes (see [`super::sparkplug`]).
    SparkplugB,
}

/// Of CSV.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CsvShape {
    pub(super) delimiter: Option<char>,
    /// Instead of a heading line in each message.
    pub(super) columns: Vec<String>,
}

impl PayloadFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::JsonLines => "json-lines",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Senml => "senml",
            Self::SenmlCbor => "senml-cbor",
            Self::LineProtocol => "line-protocol",
            Self::Csv => "csv",
            Self::MessagePack => "message-pack",
            Self::Cbor => "cbor",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::JsonSchema => "json-schema",
            Self::SparkplugB => "sparkplug-b",
        }
    }

    /// Whether payloads are read by a schema.
    pub(super) fn has_schema(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf | Self::JsonSchema)
    }

    /// Whether a payload is a line of text.
    pub(super) fn is_text(self) -> bool {
        matches!(
            self,
            Self::Json | Self::JsonLines | Self::Text | Self::Senml | Self::LineProtocol | Self::Csv
        )
    }

    /// Whether a payload is an array of records.
    pub(super) fn is_list(self) -> bool {
        matches!(
            self,
            Self::JsonLines
                | Self::Senml
                | Self::SenmlCbor
                | Self::LineProtocol
                | Self::Csv
                | Self::SparkplugB
        )
    }

    /// What is wrong with a record of a list, if that is what stands in its place: it is refused by itself.
    pub(super) fn problem(self, record: &Value) -> Option<&str> {
        match self {
            Self::Csv | Self::LineProtocol => record.as_str(),
            Self::JsonLines => record.as_str()?.strip_prefix(json::REFUSED),
            _ => None,
        }
    }

    /// `timestamp` is the record's own, in milliseconds; rows of files have none.
    pub(super) fn parse(
        self,
        bytes: &[u8],
        csv: &CsvShape,
        timestamp: Option<i64>,
    ) -> Result<Value, Rejection> {
        let refuse = |problem: String| Rejection::NotInFormat { format: self.name(), problem };
        match self {
            Self::Json => json::value(bytes),
            Self::JsonLines => json::lines(bytes).map(Value::Array),
            Self::Bytes => Ok(binary::base64(bytes)),
            Self::Text => text(bytes).map(|text| text.trim().into()).map_err(refuse),
            Self::Senml | Self::SenmlCbor => {
                let records = match self {
                    Self::SenmlCbor => binary::with_labels(binary::cbor(bytes).map_err(refuse)?),
                    _ => json::value(bytes)?,
                };
                match senml(records, timestamp) {
                    Ok(records) => Ok(records),
                    Err(Senml::NoTime) => Err(Rejection::NoTime { key: "t" }),
                    Err(Senml::Wrong(problem)) => Err(refuse(problem)),
                }
            }
            Self::LineProtocol => line_protocol(text(bytes).map_err(refuse)?).map_err(refuse),
            Self::Csv => csv_rows(text(bytes).map_err(refuse)?, csv).map_err(refuse),
            Self::MessagePack => binary::message_pack(bytes).map_err(refuse),
            Self::Cbor => binary::cbor(bytes).map_err(refuse),
            Self::Avro | Self::Protobuf | Self::JsonSchema => Err(refuse("no schema is known".to_owned())),
            Self::SparkplugB => Err(refuse("its MQTT topic is not known".to_owned())),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

/// Why records of SenML are none.
enum Senml {
    /// A time is relative to the message's, which has none.
    NoTime,
    Wrong(String),
}

impl From<String> for Senml {
    fn from(problem: String) -> Self {
        Self::Wrong(problem)
    }
}

/// RFC 8428: base values are resolved, times are absolute. A record has `bn`, `n` and both joined as `name`; `u`; `t` in
/// seconds since 1970; `value`, which is `v`, `vb`, `vs` or `vd`; and `sum`.
fn senml(records: Value, timestamp: Option<i64>) -> Result<Value, Senml> {
    /// RFC 8428, 4.5.3: smaller times are relative to now, which for a record is its own timestamp.
    const RELATIVE: f64 = 268_435_456.0;
    let Value::Array(records) = records else { return Err("not an array of records".to_owned().into()) };
    let (mut base_name, mut base_unit) = (String::new(), None);
    let (mut base_time, mut base_value, mut base_sum) = (0.0, 0.0, 0.0);
    let mut resolved = Vec::with_capacity(records.len());
    for (index, record) in records.into_iter().enumerate() {
        let Value::Object(mut record) = record else {
            return Err(format!("record {index} is no object").into());
        };
        let number = |record: &Map<String, Value>, name: &str| match record.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| format!("record {index}: {name} is no number"))
            }
        };
        if let Some(Value::String(name)) = record.get("bn") {
            base_name = name.clone();
        }
        if let Some(unit @ Value::String(_)) = record.get("bu") {
            base_unit = Some(unit.clone());
        }
        base_time = number(&record, "bt")?.unwrap_or(base_time);
        base_value = number(&record, "bv")?.unwrap_or(base_value);
        base_sum = number(&record, "bs")?.unwrap_or(base_sum);
        let sum = number(&record, "s")?;
        let mut time = base_time + number(&record, "t")?.unwrap_or(0.0);
        if time.abs() < RELATIVE {
            time += timestamp.ok_or(Senml::NoTime)? as f64 / 1000.0;
        }
        let value = match (record.get("v"), ["vb", "vs", "vd"].into_iter().find_map(|name| record.get(name)))
        {
            (Some(value), _) if base_value == 0.0 => value.clone(),
            (Some(value), _) => match value.as_f64().and_then(|value| Number::from_f64(value + base_value)) {
                Some(sum) => Value::Number(sum),
                None => return Err(format!("record {index}: v is no number").into()),
            },
            (None, Some(other)) => other.clone(),
            (None, None) if sum.is_some() => Value::Null,
            // Base values alone.
            (None, None) => continue,
        };
        if let Some(sum) = sum {
            let sum = if base_sum == 0.0 { record["s"].clone() } else { (base_sum + sum).into() };
            record.insert("sum".to_owned(), sum);
        }
        let own_name = record.get("n").and_then(Value::as_str).unwrap_or_default().to_owned();
        record.insert("name".to_owned(), format!("{base_name}{own_name}").into());
        record.insert("bn".to_owned(), base_name.clone().into());
        record.insert("n".to_owned(), own_name.into());
        if let (None, Some(unit)) = (record.get("u"), &base_unit) {
            record.insert("u".to_owned(), unit.clone());
        }
        // To the microsecond: the sum of two floats has digits that neither had.
        record.insert(
            "t".to_owned(),
            Number::from_f64((time * 1e6).round() / 1e6).map_or(Value::Null, Value::Number),
        );
        record.insert("value".to_owned(), value);
        resolved.push(Value::Object(record));
    }
    Ok(Value::Array(resolved))
}

/// A record has `measurement`, `tags`, `fields` and `time`, a count since 1970 (absent if the line has none). One of several
/// lines that cannot be read is what is wrong with it, as text: it is refused by itself.
fn line_protocol(text: &str) -> Result<Value, String> {
    let text = match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n")),
        false => Cow::Borrowed(text),
    };
    let mut records = Vec::new();
    let mut refused = Vec::new();
    for (index, line) in parse_lines(text.trim_end_matches('\r')).enumerate() {
        let record = line.map_err(|error| error.to_string()).and_then(|line| line_record(&line));
        records.push(record.unwrap_or_else(|problem| {
            refused.push(format!("line {}: {problem}", index + 1));
            refused.last().map(String::as_str).into()
        }));
        if refused.len() > json::MOST_REFUSED {
            break;
        }
    }
    match refused.len() {
        0 => Ok(Value::Array(records)),
        count if count == records.len() || count > json::MOST_REFUSED => Err(refused.swap_remove(0)),
        _ => Ok(Value::Array(records)),
    }
}

fn line_record(line: &ParsedLine<'_>) -> Result<Value, String> {
    let tags = line.series.tag_set.iter().flatten();
    let tags: Map<_, _> = tags.map(|(name, value)| (name.to_string(), value.to_string().into())).collect();
    let mut fields = Map::new();
    for (name, value) in &line.field_set {
        let value = match value {
            FieldValue::I64(value) => (*value).into(),
            FieldValue::U64(value) => (*value).into(),
            FieldValue::F64(value) => Value::Number(
                Number::from_f64(*value).ok_or_else(|| format!("field {name}: {value} is no number"))?,
            ),
            FieldValue::String(text) => text.to_string().into(),
            FieldValue::Boolean(value) => (*value).into(),
        };
        fields.insert(name.to_string(), value);
    }
    let mut record = Map::new();
    record.insert("measurement".to_owned(), line.series.measurement.to_string().into());
    record.insert("tags".to_owned(), Value::Object(tags));
    record.insert("fields".to_owned(), Value::Object(fields));
    if let Some(time) = line.timestamp {
        record.insert("time".to_owned(), time.into());
    }
    Ok(Value::Object(record))
}

/// A row is an object of text by column; empty cells are null. A row with another number of cells is what is wrong with it,
/// as text: it is refused by itself.
fn csv_rows(text: &str, shape: &CsvShape) -> Result<Value, String> {
    let delimiter = u8::try_from(shape.delimiter.unwrap_or(',')).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(shape.columns.is_empty())
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let columns = match shape.columns.is_empty() {
        true => distinct(reader.headers().map_err(|error| error.to_string())?),
        false => shape.columns.clone(),
    };
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| error.to_string())?;
        if row.len() != columns.len() {
            let problem =
                format!("row {}: {} cells for {} columns", rows.len() + 1, row.len(), columns.len());
            rows.push(problem.into());
            continue;
        }
        let cell = |cell: &str| if cell.is_empty() { Value::Null } else { cell.into() };
        rows.push(Value::Object(columns.iter().cloned().zip(row.iter().map(cell)).collect()));
    }
    Ok(Value::Array(rows))
}

/// The names of columns. Those after the first of one name are numbered, so that none of them is lost.
fn distinct(headings: &csv::StringRecord) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(headings.len());
    for heading in headings {
        let numbered = (2..).map(|number| format!("{heading}_{number}"));
        let mut free = std::iter::once(heading.to_owned()).chain(numbered);
        names.extend(free.find(|name| !names.contains(name)));
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(format: PayloadFormat, bytes: &[u8]) -> Result<Value, Rejection> {
        format.parse(bytes, &CsvShape::default(), Some(1_795_600_000_000))
    }

    #[test]
    fn base_values_of_senml_are_resolved() {
        let pack = json!([
            {"bn": "urn:dev:1/", "bt": 1_795_600_000, "bu": "Cel", "bv": 20, "n": "a", "v": 3.5},
            {"n": "b", "u": "%RH", "t": -60.5, "vs": "x"},
            {"n": "e", "bs": 10, "s": 4},
            {"bt": 1_795_600_000},
            {"bn": "urn:dev:2/", "bt": 0, "n": "c", "vb": true},
        ]);
        let parsed = parse(PayloadFormat::Senml, pack.to_string().as_bytes()).unwrap();
        let shown: Vec<_> = parsed
            .as_array()
            .unwrap()
            .iter()
            .map(|it| json!([it["name"], it["bn"], it["n"], it["u"], it["t"], it["value"], it["sum"]]))
            .collect();
        assert_eq!(
            shown,
            [
                json!(["urn:dev:1/a", "urn:dev:1/", "a", "Cel", 1_795_600_000.0, 23.5, null]),
                json!(["urn:dev:1/b", "urn:dev:1/", "b", "%RH", 1_795_599_939.5, "x", null]),
                json!(["urn:dev:1/e", "urn:dev:1/", "e", "Cel", 1_795_600_000.0, null, 14.0]),
                json!(["urn:dev:2/c", "urn:dev:2/", "c", "Cel", 1_795_600_000.0, true, null]),
            ]
        );
        assert!(parse(PayloadFormat::Senml, b"{}").is_err() && parse(PayloadFormat::Senml, b"[1]").is_err());
    }

    #[test]
    fn lines_have_tags_fields_and_a_time() {
        let text = b"env,id=A\\,8,site=plant\\ 9 co2=498u,n=-3i,open=t,note=\"filter, \\\"new\\\"\" 1795600000500000000\nenv,id=B x=1.5";
        let parsed = parse(PayloadFormat::LineProtocol, text).unwrap();
        assert_eq!(
            parsed,
            json!([
                {"measurement": "env", "tags": {"id": "A,8", "site": "plant 9"},
                 "fields": {"co2": 498, "n": -3, "open": true, "note": "filter, \"new\""}, "time": 1_795_600_000_500_000_000i64},
                {"measurement": "env", "tags": {"id": "B"}, "fields": {"x": 1.5}},
            ])
        );
        let parsed =
            parse(PayloadFormat::LineProtocol, b"env,id=B x=1.5 5\r\nenv\r\nenv,id=C x=2\r\n").unwrap();
        assert_eq!(parsed[0]["time"], 5);
        assert!(PayloadFormat::LineProtocol.problem(&parsed[1]).is_some_and(|it| it.starts_with("line 2: ")));
        assert_eq!(parsed[2]["fields"], json!({"x": 2.0}));
        assert!(parse(PayloadFormat::LineProtocol, b"env\nenv").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn rows_of_csv_are_objects() {
        let parsed = parse(PayloadFormat::Csv, b"\xef\xbb\xbfid,t\n a ,1\nb,\n").unwrap();
        assert_eq!(parsed, json!([{"id": "a", "t": "1"}, {"id": "b", "t": null}]));
        let twice = parse(PayloadFormat::Csv, b"id,t,t,t_2\na,1,2,3\n").unwrap();
        assert_eq!(twice, json!([{"id": "a", "t": "1", "t_2": "2", "t_2_2": "3"}]));
        let ragged = parse(PayloadFormat::Csv, b"id,t\na\nb,1\n").unwrap();
        assert_eq!(ragged, json!(["row 1: 1 cells for 2 columns", {"id": "b", "t": "1"}]));
    }

    #[test]
    fn binary_forms_of_json_are_read() {
        let value = json!({"a": [1, 2.5, "x", null, true]});
        assert_eq!(parse(PayloadFormat::MessagePack, &rmp_serde::to_vec(&value).unwrap()).unwrap(), value);
        let mut cbor = Vec::new();
        ciborium::into_writer(&value, &mut cbor).unwrap();
        assert_eq!(parse(PayloadFormat::Cbor, &cbor).unwrap(), value);
        // Arrays in arrays without end.
        assert!(parse(PayloadFormat::MessagePack, &[0x91; 10_000]).is_err());
        assert!(parse(PayloadFormat::Cbor, &[0x81; 10_000]).is_err());
        // A second value would be lost.
        let twice = |bytes: &[u8]| bytes.repeat(2);
        let packed = rmp_serde::to_vec(&value).unwrap();
        let error = parse(PayloadFormat::MessagePack, &twice(&packed)).unwrap_err().to_string();
        assert!(error.contains(&format!("{} bytes", packed.len())), "{error}");
        assert!(parse(PayloadFormat::Cbor, &twice(&cbor)).is_err());
    }
}
