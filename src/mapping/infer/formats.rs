//! In which format samples are written, where it is not JSON.

use serde_json::Value;

use super::{Sample, embedded, quoted, reshape};
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
    /// Where the readings are, if the lines say it.
    pub(super) each: Option<String>,
}

/// The samples that are written as almost all of them are, without a few others: a line of a log, a test.
pub(super) fn alike<'s>(samples: &[&'s Sample]) -> Vec<&'s Sample> {
    let none = CsvShape::default();
    for format in [PayloadFormat::Json, PayloadFormat::JsonLines, PayloadFormat::LineProtocol] {
        let fits = |sample: &&&Sample| {
            let value = format.parse(&sample.payload, &none, None);
            value.is_ok_and(|value| if format.is_list() { has_many(&value) } else { is_compound(&value) })
        };
        let found: Vec<&Sample> = samples.iter().filter(fits).copied().collect();
        if found.len() * 5 >= samples.len() * 4 {
            return found;
        }
    }
    samples.to_vec()
}

fn is_compound(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// Whether a value is a list of records.
fn has_many(value: &Value) -> bool {
    value.as_array().is_some_and(|all| all.iter().any(Value::is_object))
}

/// Lists of records without those that are refused by themselves; `None` if these are more than a few.
fn records(format: PayloadFormat, lists: Vec<Value>) -> Option<Vec<Value>> {
    let (mut kept, mut refused) = (0, 0);
    let lists = lists.into_iter().map(|list| {
        let Value::Array(mut list) = list else { return list };
        let before = list.len();
        list.retain(|record| format.problem(record).is_none());
        kept += list.len();
        refused += before - list.len();
        Value::Array(list)
    });
    let lists: Vec<Value> = lists.collect();
    let are_records =
        |list: &Value| has_many(list) && list.as_array().is_some_and(|all| all.iter().all(Value::is_object));
    (refused * 4 <= kept && lists.iter().all(are_records)).then_some(lists)
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
        each: None,
    };
    let all = |format: PayloadFormat, csv: &CsvShape| -> Option<Vec<Value>> {
        samples.iter().map(|sample| format.parse(&sample.payload, csv, Some(sample.timestamp)).ok()).collect()
    };
    let none = CsvShape::default();
    if let Some(values) = all(PayloadFormat::Json, &none).filter(|values| values.iter().any(is_compound)) {
        return Ok(of_json(values, plain));
    }
    let lists = |format| records(format, all(format, &none)?);
    if let Some(values) = lists(PayloadFormat::JsonLines) {
        return Ok(Payloads { is_list: true, ..plain("format = \"json-lines\"\n", values) });
    }
    if let Some(values) = lists(PayloadFormat::LineProtocol) {
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
    Err("the messages are not JSON, line protocol, CSV, MessagePack or CBOR, and no preset reads them (other text: format = \
         \"text\" with transform; see the recipes and the other formats in docs/mapping.md)"
        .to_owned())
}

/// JSON, and the program that takes the readings out of texts and tables in it.
fn of_json(values: Vec<Value>, plain: impl Fn(&str, Vec<Value>) -> Payloads) -> Payloads {
    let (program, values) = match embedded::taken_out(&values) {
        Some((program, values)) => (Some(program), values),
        None => (None, values),
    };
    match (reshape::reshaped(&values), program) {
        (Some(found), program) => {
            let steps = found.steps.join("\n| ");
            let program = program.as_deref().unwrap_or(".value");
            let lines = format!("transform = '''\n{program}\n| {steps}'''    # an object for each reading\n");
            // In such quotation marks TOML has no escapes.
            let is_writable = !program.contains("'''")
                && !steps.contains("'''")
                && !lines.chars().any(|char| char.is_control() && char != '\n');
            let lines = match is_writable {
                true => lines,
                false => {
                    format!("transform = {}\n", quoted(&format!("{program} | {}", found.steps.join(" | "))))
                }
            };
            Payloads { each: found.each, ..plain(&lines, found.values) }
        }
        (None, Some(program)) => {
            plain(&format!("transform = {}    # JSON in texts is taken out\n", quoted(&program)), values)
        }
        (None, None) => plain("", values),
    }
}

/// The delimiter and the columns of rows with as many cells each.
fn csv(samples: &[&Sample]) -> Option<(CsvShape, String)> {
    let (delimiter, tables) = [';', '\t', '|', ','].into_iter().find_map(|delimiter| {
        let tables: Vec<_> =
            samples.iter().map(|sample| cells(&sample.payload, delimiter)).collect::<Option<_>>()?;
        let count = tables.iter().flatten().next()?.len();
        let is_table = count > 1 && tables.iter().flatten().all(|row| row.len() == count);
        is_table.then_some((delimiter, tables))
    })?;
    let is_number = |cell: &str| cell.replace(',', ".").parse::<f64>().is_ok();
    let is_heading = |row: &Vec<String>| row.iter().all(|cell| !cell.is_empty() && !is_number(cell));
    let has_heading = tables
        .iter()
        .all(|rows| rows.first().is_some_and(is_heading) && rows.get(1).is_some_and(|row| !is_heading(row)));
    let count = tables.iter().flatten().next()?.len();
    let columns: Vec<String> = match has_heading {
        true => Vec::new(),
        false => (1..=count).map(|number| format!("column_{number}")).collect(),
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

/// The rows of a payload with their cells, which may be quoted.
fn cells(payload: &[u8], delimiter: char) -> Option<Vec<Vec<String>>> {
    let text = std::str::from_utf8(payload).ok()?.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(u8::try_from(delimiter).ok()?)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let row = |row: csv::StringRecord| row.iter().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = reader.records().map(|found| found.map(row).ok()).collect::<Option<_>>()?;
    // A line of blanks is no row.
    Some(rows.into_iter().filter(|row| row.iter().any(|cell| !cell.is_empty())).collect())
}
