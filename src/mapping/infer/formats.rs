//! In which format samples are written, where it is not JSON.

use serde_json::Value;

use super::{Sample, embedded, quoted};
use crate::mapping::compression::Compression;
use crate::mapping::payload::{CsvShape, PayloadFormat};

/// Samples as values, and the lines of the file that say how.
pub(super) struct Payloads {
    pub(super) lines: String,
    pub(super) values: Vec<Value>,
    /// Payloads are arrays of records, whatever each holds.
    pub(super) is_list: bool,
    /// One value a message.
    pub(super) is_text: bool,
    /// The path of a record's metrics.
    pub(super) metrics: Option<&'static str>,
}

/// # Errors
/// In which formats they were tried.
pub(super) fn read(samples: &[&Sample]) -> Result<Payloads, String> {
    match expanded(samples) {
        Some((compression, samples)) => {
            let mut payloads = read_plain(&samples.iter().collect::<Vec<_>>())?;
            payloads.lines.insert_str(0, &format!("compression = \"{}\"\n", compression.name()));
            Ok(payloads)
        }
        None => read_plain(samples),
    }
}

/// The samples without their compression, if all have one.
fn expanded(samples: &[&Sample]) -> Option<(Compression, Vec<Sample>)> {
    const MOST: usize = 1 << 20;
    let compression = Compression::of(&samples.first()?.payload)?;
    let expand = |sample: &&Sample| {
        let payload = compression.expand(&sample.payload, MOST).ok()?;
        Some(Sample { payload, ..(*sample).clone() })
    };
    Some((compression, samples.iter().map(expand).collect::<Option<_>>()?))
}

fn read_plain(samples: &[&Sample]) -> Result<Payloads, String> {
    let plain = |lines: &str, values| Payloads {
        lines: lines.to_owned(),
        values,
        is_list: false,
        is_text: false,
        metrics: None,
    };
    let all = |format: PayloadFormat, csv: &CsvShape| -> Option<Vec<Value>> {
        samples.iter().map(|sample| format.parse(&sample.payload, csv, Some(sample.timestamp)).ok()).collect()
    };
    let none = CsvShape::default();
    let is_compound = |value: &Value| value.is_object() || value.is_array();
    if let Some(values) = all(PayloadFormat::Json, &none).filter(|values| values.iter().any(is_compound)) {
        return Ok(match embedded::taken_out(&values) {
            Some((program, values)) => {
                plain(&format!("transform = {}    # JSON in texts is taken out\n", quoted(&program)), values)
            }
            None => plain("", values),
        });
    }
    let has_many = |value: &Value| {
        value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_object))
    };
    if let Some(values) = all(PayloadFormat::JsonLines, &none).filter(|values| values.iter().all(has_many)) {
        return Ok(Payloads { is_list: true, ..plain("format = \"json-lines\"\n", values) });
    }
    if let Some(values) = all(PayloadFormat::LineProtocol, &none).filter(|values| !values.is_empty()) {
        return Ok(Payloads {
            is_list: true,
            metrics: Some("each.fields"),
            ..plain("format = \"line-protocol\"\n", values)
        });
    }
    if let Some((csv, line)) = csv(samples)
        && let Some(values) = all(PayloadFormat::Csv, &csv)
    {
        return Ok(Payloads { is_list: true, ..plain(&format!("format = \"csv\"\n{line}"), values) });
    }
    let has_keys = samples.iter().all(|sample| sample.key.as_ref().is_some_and(|key| key.contains(&b'/')));
    if has_keys && let Some(values) = all(PayloadFormat::Text, &none) {
        return Ok(Payloads { is_text: true, ..plain("format = \"text\"\n", values) });
    }
    for (format, name) in [(PayloadFormat::MessagePack, "message-pack"), (PayloadFormat::Cbor, "cbor")] {
        if let Some(values) = all(format, &none).filter(|values| values.iter().all(is_compound)) {
            return Ok(plain(&format!("format = \"{name}\"\n"), values));
        }
    }
    Err("the messages are not JSON, line protocol, CSV, MessagePack or CBOR, and no preset reads them (see docs/mapping.md for \
         the other formats)"
        .to_owned())
}

/// The delimiter and the columns of rows with as many cells each.
fn csv(samples: &[&Sample]) -> Option<(CsvShape, String)> {
    let texts: Option<Vec<&str>> =
        samples.iter().map(|sample| std::str::from_utf8(&sample.payload).ok()).collect();
    let rows: Vec<&str> =
        texts?.iter().flat_map(|text| text.lines()).filter(|row| !row.trim().is_empty()).collect();
    let first = *rows.first()?;
    let delimiter = [';', '\t', '|', ','].into_iter().find(|delimiter| {
        let cells = first.matches(*delimiter).count();
        cells > 0 && rows.iter().all(|row| row.matches(*delimiter).count() == cells)
    })?;
    let is_number = |cell: &str| cell.trim().replace(',', ".").parse::<f64>().is_ok();
    let is_heading = |row: &str| row.split(delimiter).all(|cell| !cell.trim().is_empty() && !is_number(cell));
    let has_heading = samples.iter().all(|sample| {
        let text = String::from_utf8_lossy(&sample.payload);
        text.lines().next().is_some_and(is_heading) && text.lines().nth(1).is_some_and(|row| !is_heading(row))
    });
    let columns: Vec<String> = match has_heading {
        true => Vec::new(),
        false => (1..=first.split(delimiter).count()).map(|number| format!("column_{number}")).collect(),
    };
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let delimiter_text = quoted(&delimiter.to_string());
    let line = match has_heading {
        true => format!("csv = {{ delimiter = {delimiter_text} }}\n"),
        false => format!(
            "csv = {{ delimiter = {delimiter_text}, columns = [{}] }}    # name them\n",
            names.join(", ")
        ),
    };
    Some((CsvShape { delimiter: Some(delimiter), columns }, line))
}
