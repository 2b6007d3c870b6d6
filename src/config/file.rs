//! The TOML file: where it is looked for, and its settings with their lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::value::Kind;
use super::{ConfigError, Origin, keys};

/// The file in the working folder.
pub const LOCAL_FILE: &str = "iotctl.toml";

/// Larger files are refused, so that a device or a log named by mistake is not read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A setting of the file. Paths are already relative to the working folder.
#[derive(Debug)]
pub struct FileSetting {
    pub path: String,
    pub value: Value,
    pub origin: Origin,
}

/// The files that are tried if none is named, in order: ./iotctl.toml, then the user's.
pub fn default_files() -> Vec<PathBuf> {
    let user = directories::BaseDirs::new().map(|dirs| dirs.config_dir().join("iotctl").join(LOCAL_FILE));
    std::iter::once(PathBuf::from(LOCAL_FILE)).chain(user).collect()
}

/// The text of the first of `candidates` that exists.
pub fn read_first(candidates: &[PathBuf]) -> Result<Option<(PathBuf, String)>, ConfigError> {
    for path in candidates {
        match read(path) {
            Ok(text) if text.len() as u64 > MAX_FILE_BYTES => {
                return Err(ConfigError::FileTooLarge { path: path.clone(), limit: MAX_FILE_BYTES });
            }
            Ok(text) => return Ok(Some((path.clone(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ConfigError::UnreadableFile { path: path.clone(), source }),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        // It may be cut inside a character; it is refused for its size anyway.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The settings of a file, in the order of their keys. All keys are known ones; values are as written.
pub fn settings(path: &Path, text: &str) -> Result<Vec<FileSetting>, ConfigError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: lines.number(error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', ", "),
    })?;
    let mut reader = FileReader { path, lines, settings: Vec::new() };
    reader.table(table.get_ref(), "")?;
    Ok(reader.settings)
}

struct FileReader<'a> {
    path: &'a Path,
    lines: Lines,
    settings: Vec<FileSetting>,
}

impl FileReader<'_> {
    fn table(&mut self, table: &DeTable<'_>, prefix: &str) -> Result<(), ConfigError> {
        for (name, value) in table {
            let dot = if prefix.is_empty() { "" } else { "." };
            let key = format!("{prefix}{dot}{}", name.get_ref());
            let line = self.lines.number(name.span().start);
            self.setting(key, value.get_ref(), Origin::File { path: self.path.to_owned(), line })?;
        }
        Ok(())
    }

    fn setting(&mut self, key: String, value: &DeValue<'_>, origin: Origin) -> Result<(), ConfigError> {
        match (keys::find(&key), value) {
            // An entry of a map that is a table: TOML reads `linger.ms = 5` as one.
            (Some((_, Some(_))), DeValue::Table(table)) => self.table(table, &key),
            (Some((known, None)), DeValue::Table(table)) if matches!(known.kind, Kind::Map(_)) => {
                self.table(table, &key)
            }
            (Some((known, _)), value) => {
                let value = beside(self.path, &known.kind, plain(value));
                self.settings.push(FileSetting { path: key, value, origin });
                Ok(())
            }
            // For an unknown table the error names its first key, which is more helpful than the name of the table.
            (None, DeValue::Table(table)) if keys::is_section(&key) || !table.is_empty() => {
                self.table(table, &key)
            }
            (None, _) if keys::is_section(&key) => Err(ConfigError::Value {
                problem: format!("this is a section (write [{key}], and its keys on the lines below)"),
                key,
                origin,
            }),
            (None, _) => {
                let suggestion = keys::nearest(&key).map(str::to_owned);
                Err(ConfigError::UnknownKey { key, origin, suggestion })
            }
        }
    }
}

/// Relative paths in a file are relative to that file's folder.
fn beside(file: &Path, kind: &Kind, value: Value) -> Value {
    match (kind, value) {
        (Kind::Path, Value::String(path)) if !path.is_empty() => {
            let joined = file.parent().unwrap_or(Path::new("")).join(&path);
            Value::String(joined.to_str().map_or(path, str::to_owned))
        }
        (_, value) => value,
    }
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| Value::String(integer.as_str().to_owned()), Value::Integer),
        DeValue::Float(float) => {
            float.as_str().parse().map_or_else(|_| Value::String(float.as_str().to_owned()), Value::Float)
        }
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(datetime) => Value::Datetime(*datetime),
        DeValue::Array(array) => Value::Array(array.iter().map(|item| plain(item.get_ref())).collect()),
        DeValue::Table(table) => Value::Table(
            table.iter().map(|(name, value)| (name.get_ref().to_string(), plain(value.get_ref()))).collect(),
        ),
    }
}

/// The offsets of line ends, so that finding the line of a key does not scan the text again.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line, from 1, of the byte at `offset`.
    fn number(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        settings(Path::new("iotctl.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn each_setting_has_its_line() {
        let text = "# a comment\n[kafka]\ntopic = \"readings\"\n\n[kafka.properties]\nlinger.ms = 5\n\"a.b\" = true\n";
        let found: Vec<_> = settings(Path::new("x.toml"), text)
            .unwrap()
            .into_iter()
            .map(|setting| (setting.path, setting.value.to_string(), setting.origin.to_string()))
            .collect();
        let expected = [
            ("kafka.properties.a.b", "true", "x.toml, line 7"),
            ("kafka.properties.linger.ms", "5", "x.toml, line 6"),
            ("kafka.topic", "\"readings\"", "x.toml, line 3"),
        ];
        let expected = expected.map(|(key, value, line)| (key.to_owned(), value.to_owned(), line.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn unknown_keys_and_sections_are_refused_with_their_line() {
        assert_eq!(
            refused("[kafka]\ntopics = \"x\""),
            "unknown key kafka.topics (iotctl.toml, line 2): did you mean kafka.topic? `iotctl config show` lists every key"
        );
        assert_eq!(
            refused("[casandra]\nkeyspace = \"x\""),
            "unknown key casandra.keyspace (iotctl.toml, line 2): did you mean cassandra.keyspace? `iotctl config show` lists every key"
        );
        assert_eq!(
            refused("[metrics]\n"),
            "unknown key metrics (iotctl.toml, line 1): `iotctl config show` lists every key"
        );
        assert_eq!(
            refused("kafka = \"x\""),
            "kafka (iotctl.toml, line 1): this is a section (write [kafka], and its keys on the lines below)"
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_refused_with_its_line() {
        let message = refused("[kafka]\ntopic = readings\n");
        assert!(message.starts_with("iotctl.toml, line 2: this is not TOML: "), "{message}");
        let twice = refused("[kafka]\ntopic = \"a\"\ntopic = \"b\"\n");
        assert!(twice.starts_with("iotctl.toml, line 3: ") && twice.contains("duplicate"), "{twice}");
    }

    #[test]
    fn a_file_that_cannot_be_a_config_is_not_read_whole() {
        let endless = read_first(&[PathBuf::from("/dev/zero")]).unwrap_err().to_string();
        assert!(endless.contains("/dev/zero is larger than 1048576 bytes"), "{endless}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iotctl.toml");
        std::fs::write(&path, b"[kafka]\ntopic = \"\xff\"\n").unwrap();
        let not_text = read_first(&[path]).unwrap_err().to_string();
        assert!(not_text.contains("it is not UTF-8"), "{not_text}");
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let settings = settings(Path::new("iotctl.toml"), "\u{feff}[kafka]\ntopic = \"a\"\n").unwrap();
        assert_eq!((settings.len(), settings[0].path.as_str()), (1, "kafka.topic"));
    }

    #[test]
    fn a_relative_path_is_relative_to_its_file() {
        let of = |file: &str, written: &str| {
            let text = format!("[cassandra.tls]\nca_file = {written:?}");
            settings(Path::new(file), &text).unwrap()[0].value.as_str().unwrap().to_owned()
        };
        assert_eq!(of("/etc/iotctl/iotctl.toml", "ca.pem"), "/etc/iotctl/ca.pem");
        assert_eq!(of("/etc/iotctl/iotctl.toml", "/ca.pem"), "/ca.pem");
        assert_eq!(of("iotctl.toml", "ca.pem"), "ca.pem");
        assert_eq!(of("iotctl.toml", ""), "");
    }
}
