//! Readings as blocks of columns (Parquet) or text (CSV, NDJSON), some thousands at a time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, MapBuilder, MapFieldNames, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use uuid::Uuid;

use super::{FileFormat, FolderKey};
use crate::reading::encode::{self, Encoder};
use crate::reading::{Metric, Reading};

/// Rows of a block of columns.
const BLOCK_ROWS: usize = 16_384;
/// Bytes of a block of text.
const BLOCK_BYTES: usize = 1 << 20;
/// Columns of text files, in the order of the wire format, and what the sensor is called.
pub const CSV_HEADING: &str = "location,device_type,iot_sensor_id,recorded_timestamp,temperature,humidity,pressure,\
motion_detected,light_level,gas_concentration,other_metrics,states,sensor_name\n";

/// Readings in the form in which they are written.
#[derive(Debug)]
pub enum Block {
    Columns(RecordBatch),
    Text(Vec<u8>),
}

/// Collects readings into blocks.
pub enum Blocks {
    Columns(Box<Columns>),
    Text { format: FileFormat, text: Vec<u8>, encoder: Encoder, rows: usize },
}

impl Blocks {
    /// `keys` are the folders' names: Parquet files leave those columns out, as the readers of such folders expect.
    pub fn new(format: FileFormat, keys: &[FolderKey]) -> Self {
        match format {
            FileFormat::Parquet => Self::Columns(Box::new(Columns::new(keys))),
            FileFormat::Csv | FileFormat::Ndjson => {
                Self::Text { format, text: Vec::new(), encoder: Encoder::new(), rows: 0 }
            }
        }
    }

    pub fn push(&mut self, reading: &Reading<'_>) -> Result<(), ArrowError> {
        match self {
            Self::Columns(columns) => columns.push(reading),
            Self::Text { format, text, encoder, rows } => {
                *rows += 1;
                if *format == FileFormat::Csv {
                    csv_line(reading, encoder, text);
                } else {
                    encoder.encode(reading, text);
                }
                text.push(b'\n');
                Ok(())
            }
        }
    }

    pub fn is_full(&self) -> bool {
        match self {
            Self::Columns(columns) => columns.rows() >= BLOCK_ROWS,
            Self::Text { text, .. } => text.len() >= BLOCK_BYTES,
        }
    }

    /// The collected block and its number of rows; `None` if it is empty.
    pub fn take(&mut self) -> Result<Option<(Block, usize)>, ArrowError> {
        match self {
            Self::Columns(columns) if columns.rows() == 0 => Ok(None),
            Self::Columns(columns) => {
                let rows = columns.rows();
                Ok(Some((Block::Columns(columns.take()?), rows)))
            }
            Self::Text { rows: 0, .. } => Ok(None),
            Self::Text { text, rows, .. } => {
                let capacity = text.capacity();
                let text = std::mem::replace(text, Vec::with_capacity(capacity));
                Ok(Some((Block::Text(text), std::mem::take(rows))))
            }
        }
    }
}

/// The columns of a file: the table's without `bucket`, and without those that its folders are named after.
///
/// Text and ids are dictionaries in memory and plain text (with Parquet's own dictionary) in the file.
pub fn schema(keys: &[FolderKey]) -> SchemaRef {
    let dictionary = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = Vec::new();
    if !keys.contains(&FolderKey::Location) {
        fields.push(Field::new("location", dictionary(), false));
    }
    if !keys.contains(&FolderKey::DeviceType) {
        fields.push(Field::new("device_type", dictionary(), false));
    }
    fields.push(Field::new("iot_sensor_id", dictionary(), false));
    let moment = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    fields.push(Field::new("recorded_timestamp", moment, false));
    fields.extend(["temperature", "humidity", "pressure"].map(float));
    fields.push(Field::new("motion_detected", DataType::Boolean, true));
    fields.extend(["light_level", "gas_concentration"].map(float));
    let map = |name: &str, value: DataType| {
        let entries =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
        let entries = Field::new("key_value", DataType::Struct(entries), false);
        Field::new(name, DataType::Map(Arc::new(entries), false), true)
    };
    fields.push(map("other_metrics", DataType::Float64));
    fields.push(map("states", DataType::Utf8));
    fields.push(Field::new("sensor_name", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Readings as columns.
pub struct Columns {
    schema: SchemaRef,
    location: Option<Dictionary<Box<str>>>,
    device_type: Option<Dictionary<Box<str>>>,
    sensor: Dictionary<Uuid>,
    recorded_at: TimestampMillisecondBuilder,
    metrics: [Float64Builder; 5],
    motion_detected: BooleanBuilder,
    others: MapBuilder<StringBuilder, Float64Builder>,
    states: MapBuilder<StringBuilder, StringBuilder>,
    sensor_name: StringBuilder,
}

impl Columns {
    fn new(keys: &[FolderKey]) -> Self {
        let names = || MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        Self {
            schema: schema(keys),
            location: (!keys.contains(&FolderKey::Location)).then(Dictionary::default),
            device_type: (!keys.contains(&FolderKey::DeviceType)).then(Dictionary::default),
            sensor: Dictionary::default(),
            recorded_at: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            metrics: Default::default(),
            motion_detected: BooleanBuilder::new(),
            others: MapBuilder::new(Some(names()), StringBuilder::new(), Float64Builder::new()),
            states: MapBuilder::new(Some(names()), StringBuilder::new(), StringBuilder::new()),
            sensor_name: StringBuilder::new(),
        }
    }

    fn rows(&self) -> usize {
        self.sensor.numbers.len()
    }

    fn push(&mut self, reading: &Reading<'_>) -> Result<(), ArrowError> {
        if let Some(location) = &mut self.location {
            location.push(&*reading.location, |name| Box::from(name), str::to_owned);
        }
        if let Some(device_type) = &mut self.device_type {
            device_type.push(&*reading.device_type, |name| Box::from(name), str::to_owned);
        }
        self.sensor.push(&reading.sensor, |id| *id, Uuid::to_string);
        self.sensor_name.append_option(reading.sensor_name.as_deref());
        self.recorded_at.append_value(reading.recorded_at);
        for (column, metric) in self.metrics.iter_mut().zip(&Metric::COLUMNS) {
            column.append_option(reading.value(metric));
        }
        self.motion_detected.append_option(reading.motion_detected);
        for (name, value) in &reading.other_metrics {
            self.others.keys().append_value(name);
            self.others.values().append_value(*value);
        }
        self.others.append(!reading.other_metrics.is_empty())?;
        for (name, text) in &reading.states {
            self.states.keys().append_value(name);
            self.states.values().append_value(text);
        }
        self.states.append(!reading.states.is_empty())
    }

    fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for names in [&mut self.location, &mut self.device_type].into_iter().flatten() {
            columns.push(names.take()?);
        }
        columns.push(self.sensor.take()?);
        columns.push(Arc::new(self.recorded_at.finish()));
        let [temperature, humidity, pressure, light_level, gas_concentration] = &mut self.metrics;
        for metric in [temperature, humidity, pressure] {
            columns.push(Arc::new(metric.finish()));
        }
        columns.push(Arc::new(self.motion_detected.finish()));
        for metric in [light_level, gas_concentration] {
            columns.push(Arc::new(metric.finish()));
        }
        columns.push(Arc::new(self.others.finish()));
        columns.push(Arc::new(self.states.finish()));
        columns.push(Arc::new(self.sensor_name.finish()));
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

/// A column of few values that repeat in runs: a group's name, a sensor's id.
struct Dictionary<K> {
    numbers: Vec<i32>,
    known: HashMap<K, i32>,
    last: Option<(K, i32)>,
    texts: Vec<String>,
}

impl<K> Default for Dictionary<K> {
    fn default() -> Self {
        Self { numbers: Vec::new(), known: HashMap::new(), last: None, texts: Vec::new() }
    }
}

impl<K: Eq + std::hash::Hash> Dictionary<K> {
    fn push<Q>(&mut self, key: &Q, own: impl Fn(&Q) -> K, text: impl Fn(&Q) -> String)
    where
        Q: ?Sized + Eq + std::hash::Hash,
        K: std::borrow::Borrow<Q>,
    {
        if let Some((last, number)) = &self.last
            && last.borrow() == key
        {
            self.numbers.push(*number);
            return;
        }
        let number = match self.known.get(key) {
            Some(number) => *number,
            None => {
                // A block's rows are far fewer than i32 counts.
                let number = self.texts.len() as i32;
                self.known.insert(own(key), number);
                self.texts.push(text(key));
                number
            }
        };
        self.last = Some((own(key), number));
        self.numbers.push(number);
    }

    fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let Self { numbers, texts, .. } = std::mem::take(self);
        let texts = Arc::new(StringArray::from(texts));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(numbers), texts)?))
    }
}

/// The line of a reading without its end; columns as in [`CSV_HEADING`], a value that was not measured is empty.
fn csv_line(reading: &Reading<'_>, encoder: &mut Encoder, line: &mut Vec<u8>) {
    csv_text(&reading.location, line);
    line.push(b',');
    csv_text(&reading.device_type, line);
    line.push(b',');
    encode::sensor_id(reading.sensor, line);
    line.push(b',');
    let mark = line.len();
    encoder.timestamp(reading.recorded_at, line);
    if line.get(mark) == Some(&b'"') {
        line.remove(mark);
        line.pop();
    }
    let number = |value: Option<f32>, line: &mut Vec<u8>| {
        line.push(b',');
        if let Some(value) = value.filter(|value| value.is_finite()) {
            line.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        }
    };
    for value in [reading.temperature, reading.humidity, reading.pressure] {
        number(value, line);
    }
    line.push(b',');
    match reading.motion_detected {
        Some(true) => line.extend_from_slice(b"true"),
        Some(false) => line.extend_from_slice(b"false"),
        None => {}
    }
    number(reading.light_level, line);
    number(reading.gas_concentration, line);
    line.push(b',');
    if !reading.other_metrics.is_empty() {
        let mut json = vec![b'{'];
        for (name, value) in reading.other_metrics.iter().filter(|(_, value)| value.is_finite()) {
            if json.len() > 1 {
                json.push(b',');
            }
            encode::string(name, &mut json);
            json.push(b':');
            json.extend_from_slice(zmij::Buffer::new().format_finite(*value).as_bytes());
        }
        json.push(b'}');
        csv_text(&String::from_utf8_lossy(&json), line);
    }
    line.push(b',');
    if !reading.states.is_empty() {
        let mut json = vec![b'{'];
        for (name, text) in &reading.states {
            if json.len() > 1 {
                json.push(b',');
            }
            encode::string(name, &mut json);
            json.push(b':');
            encode::string(text, &mut json);
        }
        json.push(b'}');
        csv_text(&String::from_utf8_lossy(&json), line);
    }
    line.push(b',');
    if let Some(name) = &reading.sensor_name {
        csv_text(name, line);
    }
}

/// A field of RFC 4180, quoted if necessary.
fn csv_text(text: &str, line: &mut Vec<u8>) {
    if !text.contains([',', '"', '\n', '\r']) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    line.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            line.push(b'"');
        }
        line.push(byte);
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;

    use super::*;

    fn reading(location: &str, temperature: Option<f32>) -> Reading<'_> {
        Reading {
            location: location.into(),
            device_type: "t".into(),
            sensor: Uuid::nil(),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: 1_700_000_000_123,
            temperature,
            humidity: None,
            pressure: None,
            motion_detected: Some(false),
            light_level: None,
            gas_concentration: None,
            other_metrics: vec![],
            states: vec![],
        }
    }

    #[test]
    fn a_csv_line_quotes_where_necessary_and_leaves_missing_values_empty() {
        let mut with_others = reading("a,\"b\"", Some(21.5));
        with_others.other_metrics = vec![("rpm".into(), 3.0), ("x\"y".into(), 0.25)];
        with_others.sensor_name = Some("th \"1\"".into());
        with_others.states = vec![("mode".into(), "a,\"b\"".into())];
        let mut line = Vec::new();
        csv_line(&with_others, &mut Encoder::new(), &mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "\"a,\"\"b\"\"\",t,00000000-0000-0000-0000-000000000000,2023-11-14T22:13:20.123Z,21.5,,,false,,,\
             \"{\"\"rpm\"\":3.0,\"\"x\\\"\"y\"\":0.25}\",\"{\"\"mode\"\":\"\"a,\\\"\"b\\\"\"\"\"}\",\"th \"\"1\"\"\""
        );
        assert_eq!(CSV_HEADING.trim_end().split(',').count(), 13);
    }

    #[test]
    fn columns_keep_missing_values_as_null_and_restart_after_each_block() {
        let mut blocks = Blocks::new(FileFormat::Parquet, &[FolderKey::DeviceType]);
        blocks.push(&reading("a", None)).unwrap();
        blocks.push(&Reading { sensor_name: Some("b-1".into()), ..reading("b", Some(1.0)) }).unwrap();
        blocks.push(&reading("a", Some(2.0))).unwrap();
        let (Block::Columns(batch), 3) = blocks.take().unwrap().unwrap() else { panic!("no columns") };
        assert!(batch.column_by_name("device_type").is_none());
        assert_eq!(batch.column_by_name("temperature").unwrap().null_count(), 1);
        assert_eq!(batch.column_by_name("other_metrics").unwrap().null_count(), 3);
        assert_eq!(batch.column_by_name("sensor_name").unwrap().null_count(), 2);
        let keys = batch.column_by_name("location").unwrap().as_dictionary::<Int32Type>().keys();
        assert_eq!(keys.values(), &[0, 1, 0]);
        assert!(blocks.take().unwrap().is_none());
        blocks.push(&reading("b", None)).unwrap();
        let (Block::Columns(batch), 1) = blocks.take().unwrap().unwrap() else { panic!("no columns") };
        let location = batch.column_by_name("location").unwrap().as_dictionary::<Int32Type>();
        assert_eq!(location.values().as_string::<i32>().value(0), "b");
    }
}
