//! Mapping files as they are written: TOML, with unknown keys refused.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use regex::Regex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::compression::Compression;
use super::moment::TimestampFormat;
use super::path::Path;
use super::payload::{CsvShape, PayloadFormat};
use super::source::decimal;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileShape {
    pub(super) source: Vec<SourceShape>,
}

/// One `[[source]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceShape {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) topics: Vec<String>,
    pub(super) topic_pattern: Option<Pattern>,
    pub(super) key_pattern: Option<Pattern>,
    #[serde(default)]
    pub(super) format: PayloadFormat,
    /// Of the whole payload.
    pub(super) compression: Option<Compression>,
    /// Avro's or Protobuf's, for payloads without a schema registry's frame.
    pub(super) schema_file: Option<PathBuf>,
    /// Of Protobuf's `schema_file`.
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) csv: CsvShape,
    /// Messages of this source are skipped.
    #[serde(default)]
    pub(super) drop: bool,
    /// In jq; other messages are skipped.
    pub(super) only: Option<String>,
    /// In jq, about an element of `each`; other elements are left out.
    pub(super) only_each: Option<String>,
    /// In jq; its output stands for the payload.
    pub(super) transform: Option<String>,
    /// An array or object whose elements hold readings.
    pub(super) each: Option<Path>,
    pub(super) location: Option<Target>,
    pub(super) device_type: Option<Target>,
    pub(super) sensor: Option<Target>,
    pub(super) recorded_timestamp: Option<TimestampShape>,
    /// What the registry keeps of the sensor beside its name.
    #[serde(default)]
    pub(super) tags: BTreeMap<String, Target>,
    #[serde(default)]
    pub(super) metrics: BTreeMap<String, MetricShape>,
    #[serde(default)]
    pub(super) fields: Vec<FieldsShape>,
}

/// A regular expression.
#[derive(Debug, Clone)]
pub(super) struct Pattern(pub(super) Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The last line of a regex's error is what is wrong; those before it draw where.
        let problem = |error: regex::Error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        Regex::new(&text).map(Self).map_err(|error| {
            serde::de::Error::custom(format!("{text:?} is no regular expression: {}", problem(error)))
        })
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Path::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for TimestampFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where a location, device type or sensor comes from: a path, or a table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TargetShape {
    /// Several are joined.
    pub(super) from: Paths,
    pub(super) join: Option<String>,
    /// Its first group (or the whole match) is taken.
    pub(super) pattern: Option<Pattern>,
    pub(super) constant: Option<String>,
    pub(super) default: Option<String>,
    pub(super) normalise: Option<Normalise>,
}

/// How spellings of one name are folded into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Normalise {
    Lower,
    Upper,
    /// Lower-case letters and digits alone: for MAC addresses and EUI-64 in any punctuation.
    Hex,
}

impl Normalise {
    pub(super) fn apply(self, text: &str) -> String {
        match self {
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
            Self::Hex => {
                text.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
            }
        }
    }
}

/// `recorded_timestamp`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MomentShape {
    /// Several are joined with a blank, such as a date and a time.
    pub(super) from: Paths,
    pub(super) format: Option<TimestampFormat>,
    /// Its first group (or the whole match) is taken.
    pub(super) pattern: Option<Pattern>,
    pub(super) time_zone: Option<String>,
    /// Where the value is missing; `timestamp` is the record's own.
    pub(super) default: Option<Path>,
}

/// How numbers in text are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "bool")]
pub(super) enum DecimalMark {
    #[default]
    Point,
    /// A point between groups of three digits separates thousands.
    Comma,
    /// A comma, or a point: of files whose mark is not stated. Nothing separates thousands without a decimal comma.
    Either,
}

impl From<bool> for DecimalMark {
    fn from(is_comma: bool) -> Self {
        if is_comma { Self::Comma } else { Self::Point }
    }
}

/// The unit of a metric.
#[derive(Debug, Clone)]
pub(super) enum UnitShape {
    Named(String),
    /// Where the message itself states it.
    Stated(Path),
}

impl UnitShape {
    pub(super) fn named(&self) -> Option<&str> {
        match self {
            Self::Named(unit) => Some(unit),
            Self::Stated(_) => None,
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(_) => None,
            Self::Stated(path) => Some(path),
        }
    }
}

impl<'de> Deserialize<'de> for UnitShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Stated {
            from: Path,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = UnitShape;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a unit, or where it is, such as { from = \"value.unit\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<UnitShape, E> {
                Ok(UnitShape::Named(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UnitShape, A::Error> {
                Stated::deserialize(MapAccessDeserializer::new(map))
                    .map(|stated| UnitShape::Stated(stated.from))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A word for "not measured".
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NullWord {
    pub(super) text: String,
    /// The number that it is, if it is one.
    pub(super) number: Option<f64>,
}

impl NullWord {
    pub(super) fn of_text(text: &str) -> Self {
        let text = text.trim();
        Self { text: text.to_owned(), number: decimal(text) }
    }

    pub(super) fn of_number(number: f64) -> Self {
        Self { text: number.to_string(), number: Some(number) }
    }
}

impl<'de> Deserialize<'de> for NullWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = NullWord;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text or a number")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<NullWord, E> {
                Ok(NullWord::of_text(text))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<NullWord, E> {
                Ok(NullWord::of_text(&number.to_string()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<NullWord, E> {
                Ok(NullWord::of_text(&number.to_string()))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<NullWord, E> {
                Ok(NullWord::of_number(number))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// One metric.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ValueShape {
    pub(super) from: Paths,
    pub(super) unit: Option<UnitShape>,
    pub(super) to: Option<String>,
    /// Its first group (or the whole match) is taken. A group named `unit` is the unit.
    pub(super) pattern: Option<Pattern>,
    /// Before the unit is converted: `value * scale + offset`.
    pub(super) scale: Option<f64>,
    pub(super) offset: Option<f64>,
    /// Numbers that words stand for.
    pub(super) words: BTreeMap<String, f64>,
    pub(super) decimal_comma: DecimalMark,
    pub(super) null: Vec<NullWord>,
    pub(super) default: Option<Value>,
    /// A state, also where it looks like a number.
    pub(super) text: bool,
}

/// Many metrics: the members of an object, or pairs of a name and a value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FieldsShape {
    /// Ends with `.*` or `.**`.
    pub(super) from: Option<Path>,
    /// The name and the value of a pair.
    pub(super) name: Option<Path>,
    pub(super) value: Option<Path>,
    /// Where the message itself states the unit.
    pub(super) unit: Option<Path>,
    /// Its first group (or the whole match) is the name that the keys below are about.
    pub(super) name_pattern: Option<Pattern>,
    /// Its first group (or the whole match) is the value; a value that does not fit stays as it is. A group named `unit` is the
    /// unit.
    pub(super) pattern: Option<Pattern>,
    pub(super) prefix: String,
    /// In what follows, names are as they are in the message, and `*` stands for any text. In the new name, `*` is that text.
    pub(super) rename: BTreeMap<String, String>,
    pub(super) keep: Vec<String>,
    pub(super) drop: Vec<String>,
    pub(super) units: BTreeMap<String, String>,
    /// By the name of a value, that of the member with its unit, which is no value itself. The `*` of both is the same text.
    pub(super) units_from: BTreeMap<String, String>,
    pub(super) scale: BTreeMap<String, f64>,
    /// Numbers that words stand for.
    pub(super) words: BTreeMap<String, f64>,
    pub(super) decimal_comma: DecimalMark,
    pub(super) null: Vec<NullWord>,
    /// States, also where they look like numbers.
    pub(super) text: Vec<String>,
}

/// One path or several.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths(pub(super) Vec<Path>);

/// A path alone, or a table with it. serde's untagged enums would lose what is wrong, and where.
#[derive(Debug, Clone)]
pub(super) struct PathOr<T>(pub(super) T);

pub(super) type Target = PathOr<TargetShape>;
pub(super) type TimestampShape = PathOr<MomentShape>;
pub(super) type MetricShape = PathOr<ValueShape>;

/// What a path alone stands for.
pub(super) trait OfPath {
    fn of_path(path: Path) -> Self;
}

impl ValueShape {
    /// All paths of it.
    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        let unit = match &mut self.unit {
            Some(UnitShape::Stated(path)) => Some(path),
            Some(UnitShape::Named(_)) | None => None,
        };
        self.from.0.iter_mut().chain(unit)
    }
}

impl OfPath for TargetShape {
    fn of_path(path: Path) -> Self {
        Self { from: Paths(vec![path]), ..Self::default() }
    }
}

impl OfPath for MomentShape {
    fn of_path(path: Path) -> Self {
        Self { from: Paths(vec![path]), ..Self::default() }
    }
}

impl OfPath for ValueShape {
    fn of_path(path: Path) -> Self {
        Self { from: Paths(vec![path]), ..Self::default() }
    }
}

impl<'de, T: OfPath + Deserialize<'de>> Deserialize<'de> for PathOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: OfPath + Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a path, or a table such as { from = \"value.x\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
                Path::parse(text).map(T::of_path).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Paths;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a path, or a list of paths")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Paths, E> {
                Path::parse(text).map(|path| Paths(vec![path])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = sequence.next_element()? {
                    paths.push(path);
                }
                Ok(Paths(paths))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
