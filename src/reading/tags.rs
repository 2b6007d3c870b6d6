//! Tags of sensors: what may be one, and files of them.

use std::collections::BTreeMap;
use std::io::Read;

use super::decode::is_name;
use super::delimited::{self, Dialect, is_missing};

/// A sensor has at most this many tags that people set, and as many from its messages.
pub const MAX_TAGS: usize = 64;
/// Errors of a file that are listed.
const MAX_ERRORS: usize = 20;
/// Lines of a file: what is kept of them is a few hundred bytes each.
const MAX_LINES: usize = 1_000_000;

/// `key=value`, as flags take it. The value may hold further `=`; an empty one takes the tag away.
///
/// # Errors
/// What is wrong, with the remedy.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| "write it as name=value, such as room=A12".to_owned())?;
    let (key, value) = (key.trim(), value.trim());
    check_key(key)?;
    if !value.is_empty() {
        check_value(value)?;
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `key=value` as a condition: with a value.
///
/// # Errors
/// What is wrong, with the remedy.
pub fn condition(text: &str) -> Result<(String, String), String> {
    match pair(text)? {
        (_, value) if value.is_empty() => Err("the value is missing (write it as room=A12)".to_owned()),
        pair => Ok(pair),
    }
}

/// # Errors
/// What is wrong, with the remedy.
pub fn check_key(key: &str) -> Result<(), String> {
    match is_name(key) && !key.contains('=') && key.trim() == key {
        true => Ok(()),
        false => {
            Err("a tag's key has 1 to 256 bytes, no =, no control characters and no blanks around it"
                .to_owned())
        }
    }
}

/// # Errors
/// What is wrong, with the remedy.
pub fn check_value(value: &str) -> Result<(), String> {
    match is_name(value) {
        true => Ok(()),
        false => Err("a tag's value has 1 to 256 bytes and no control characters".to_owned()),
    }
}

/// Whose tags a line of a file sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By id or name.
    Sensor(String),
    /// Every sensor of a group.
    Group { location: String, device_type: String },
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    pub subject: Subject,
    pub tags: BTreeMap<String, String>,
}

/// The columns of a file.
struct Columns {
    sensor: Option<usize>,
    group: Option<(usize, usize)>,
    tags: Vec<(usize, String)>,
}

/// Reads a CSV file with a heading: `sensor`, or `location` and `device_type`, and a column for each tag. An empty cell
/// changes nothing. The dialect is found as for readings: `;`, tabs, UTF-16 and a byte-order mark are fine.
///
/// # Errors
/// Every mistake with its line, the first [`MAX_ERRORS`] of them.
pub fn read<R: Read + Send + 'static>(file: R) -> Result<Vec<Line>, Vec<String>> {
    let (dialect, text) =
        Dialect::detect(delimited::text(file)).map_err(|error| vec![format!("cannot be read: {error}")])?;
    let mut reader = csv::ReaderBuilder::new().delimiter(dialect.delimiter).flexible(true).from_reader(text);
    let heading = reader.headers().map_err(|error| vec![format!("line 1: {error}")])?.clone();
    let columns = Columns::of(&heading).map_err(|problem| vec![format!("line 1: {problem}")])?;
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    let mut record = csv::StringRecord::new();
    while errors.len() < MAX_ERRORS {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                let number = record.position().map_or(0, csv::Position::line);
                if lines.len() == MAX_LINES {
                    errors.push(format!("line {number}: more than {MAX_LINES} lines (split the file)"));
                    break;
                }
                match columns.line(&record, heading.len(), number) {
                    Ok(line) => lines.extend(line),
                    Err(problem) => errors.push(format!("line {number}: {problem}")),
                }
            }
            Err(error) => {
                let number = error.position().map_or(0, csv::Position::line);
                errors.push(format!("line {number}: not text in UTF-8 or UTF-16"));
                if !matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) {
                    break;
                }
            }
        }
    }
    if errors.is_empty() { Ok(lines) } else { Err(errors) }
}

impl Columns {
    fn of(heading: &csv::StringRecord) -> Result<Self, String> {
        let names: Vec<&str> = heading.iter().map(str::trim).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(format!("column {} is there twice", super::shown(name)));
            }
        }
        let at = |wanted: &str| names.iter().position(|name| *name == wanted);
        let sensor = at("sensor").or_else(|| at("iot_sensor_id"));
        let group = at("location").zip(at("device_type"));
        let is_subject = |name: &str| ["sensor", "iot_sensor_id", "location", "device_type"].contains(&name);
        if sensor.is_none() && group.is_none() {
            return Err(
                "no column says which sensor (name one sensor, or two location and device_type)".to_owned()
            );
        }
        let mut tags = Vec::new();
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !is_subject(name)) {
            check_key(name).map_err(|problem| format!("column {}: {problem}", index + 1))?;
            tags.push((index, (*name).to_owned()));
        }
        match tags.len() {
            0 => Err("no column holds a tag (add one, such as room)".to_owned()),
            1..=MAX_TAGS => Ok(Self { sensor, group, tags }),
            _ => Err(format!("more than {MAX_TAGS} tags (leave columns out)")),
        }
    }

    /// `None` for a line without content.
    fn line(&self, record: &csv::StringRecord, width: usize, number: u64) -> Result<Option<Line>, String> {
        if record.iter().all(|cell| cell.trim().is_empty()) {
            return Ok(None);
        }
        if record.len() != width {
            return Err(format!(
                "{} cells and not {width} (quote a cell that holds the delimiter)",
                record.len()
            ));
        }
        let cell = |index: usize| record.get(index).map_or("", str::trim);
        let sensor = self.sensor.map(cell).filter(|sensor| !sensor.is_empty());
        let subject = match (sensor, self.group) {
            (Some(sensor), _) if is_name(sensor) => Subject::Sensor(sensor.to_owned()),
            (None, Some((location, device_type)))
                if is_name(cell(location)) && is_name(cell(device_type)) =>
            {
                Subject::Group {
                    location: cell(location).to_owned(),
                    device_type: cell(device_type).to_owned(),
                }
            }
            _ => return Err("no sensor (a name has 1 to 256 bytes and no control characters)".to_owned()),
        };
        let mut tags = BTreeMap::new();
        for (index, key) in &self.tags {
            let value = cell(*index);
            if !is_missing(value) {
                check_value(value).map_err(|problem| format!("{}: {problem}", super::shown(key)))?;
                tags.insert(key.clone(), value.to_owned());
            }
        }
        Ok(Some(Line { number, subject, tags }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Vec<Line>, Vec<String>> {
        read(Cursor::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_file_names_sensors_or_groups_and_empty_cells_change_nothing() {
        let lines = of("sensor,location,device_type,room,unit.rpm\nth-1,,,A12,1/min\n,hall,thermostat,B1,\n")
            .unwrap();
        let pairs = |line: &Line| -> Vec<_> { line.tags.clone().into_iter().collect() };
        assert_eq!((lines[0].number, &lines[0].subject), (2, &Subject::Sensor("th-1".into())));
        assert_eq!(
            pairs(&lines[0]),
            [("room".into(), "A12".into()), ("unit.rpm".into(), "1/min".to_owned())]
        );
        let group = Subject::Group { location: "hall".into(), device_type: "thermostat".into() };
        assert_eq!((lines[1].number, &lines[1].subject), (3, &group));
        assert_eq!(pairs(&lines[1]), [("room".into(), "B1".to_owned())]);
        assert_eq!(
            of("sensor;room\r\n\"a;b\";\"x, y\"\r\n").unwrap()[0].subject,
            Subject::Sensor("a;b".into())
        );
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        for (text, expected) in [
            ("", "line 1: no column says which sensor"),
            ("room\nA12\n", "line 1: no column says which sensor"),
            ("sensor\nth-1\n", "line 1: no column holds a tag"),
            ("sensor,room,room\n", "line 1: column room is there twice"),
            ("sensor,a=b\nth-1,x\n", "line 1: column 2: a tag's key"),
            ("sensor,room\nth-1,A12\nth-2\n", "line 3: 1 cells and not 2"),
            ("sensor,room\n,A12\n", "line 2: no sensor"),
            ("sensor,room\nth-1,\"x\u{7}\"\n", "line 2: room: a tag's value"),
        ] {
            let errors = of(text).unwrap_err();
            assert!(errors[0].starts_with(expected), "{text:?}: {errors:?}");
        }
        let many = "sensor,room\n".to_owned() + &",A\n".repeat(100);
        assert_eq!(of(&many).unwrap_err().len(), MAX_ERRORS);
    }

    #[test]
    fn a_pair_has_a_key_and_an_empty_value_takes_it_away() {
        assert_eq!(pair("room=A12"), Ok(("room".into(), "A12".into())));
        assert_eq!(pair(" url = a=b "), Ok(("url".into(), "a=b".into())));
        assert_eq!(pair("room="), Ok(("room".into(), String::new())));
        for bad in ["room", "=A12", "a\u{7}=1", &format!("{}=1", "k".repeat(257)), "room=\u{1b}"] {
            assert!(pair(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            rows in prop::collection::vec(("[a-zA-Z0-9,;\" é👨\u{202e}]{1,20}", "[a-zA-Z0-9,;\" ü\u{200b}]{1,20}"), 1..20),
        ) {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(sensor, room)| (format!("s{}", sensor.trim()), format!("r{}", room.trim())))
                .collect();
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["sensor", "room"]).unwrap();
            rows.iter().for_each(|(sensor, room)| writer.write_record([sensor, room]).unwrap());
            let lines = read(Cursor::new(writer.into_inner().unwrap())).unwrap();
            let found: Vec<_> = lines
                .iter()
                .map(|line| match &line.subject {
                    Subject::Sensor(sensor) => (sensor.clone(), line.tags["room"].clone()),
                    Subject::Group { .. } => unreachable!("no such column"),
                })
                .collect();
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(Cursor::new(bytes));
        }
    }
}
