//! Which values a setting takes. Texts from the environment and flags are parsed, values of the file are checked, and
//! both get one canonical form (`LOCAL_QUORUM`, `1h 30m`, `16KiB`). An error says what is allowed.

use std::fmt;
use std::net::Ipv4Addr;

use bytesize::ByteSize;
use toml::Value;

use super::duration;

/// The type of a setting and its bounds, both ends included.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    Path,
    /// Text that is never printed.
    Secret,
    List,
    /// Named entries, each of the kind within.
    Map(&'static Kind),
    /// Any scalar, kept as text: an entry of `kafka.properties`.
    Property,
    Boolean,
    Whole {
        min: i64,
        max: i64,
    },
    Duration {
        min: std::time::Duration,
        max: std::time::Duration,
    },
    /// In bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// One of these; case, `-` and `_` do not matter.
    Choice(&'static [&'static str]),
    Address,
}

/// The allowed values, as the end of "… is not".
impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text | Self::Path | Self::Secret => out.write_str("text (in quotes)"),
            Self::List => out.write_str("a list of texts such as [\"a\", \"b\"]"),
            Self::Map(Self::Property) => {
                out.write_str("a table of names and values such as { \"a.b\" = \"c\" }")
            }
            Self::Map(_) => out.write_str("a table of names and numbers such as { a = 1 }"),
            Self::Property => out.write_str("text, a number or true or false"),
            Self::Boolean => out.write_str("true or false"),
            Self::Whole { .. } | Self::Duration { .. } | Self::Size { .. } => {
                let what = match self {
                    Self::Whole { .. } => "a whole number",
                    Self::Duration { .. } => "a duration",
                    _ => "a size",
                };
                let (min, max) = self.bounds().unwrap_or_default();
                write!(out, "{what} from {min} to {max}")
            }
            Self::Choice(allowed) => write!(out, "one of {}", allowed.join(", ")),
            Self::Address => out.write_str("an IPv4 address such as 127.0.0.1"),
        }
    }
}

impl Kind {
    /// Both ends of a range as people write them; `None` where there is no range.
    pub(crate) fn bounds(&self) -> Option<(String, String)> {
        match self {
            Self::Whole { min, max } => Some((min.to_string(), max.to_string())),
            Self::Duration { min, max } => Some((duration::exact(*min), duration::exact(*max))),
            Self::Size { min, max } => Some((exact_size(*min), exact_size(*max))),
            _ => None,
        }
    }

    /// Reads a text from the environment or a flag. Lists are comma-separated.
    pub(crate) fn read(&self, text: &str) -> Result<Value, String> {
        let text_value = || Value::String(text.to_owned());
        match self {
            Self::Boolean => match text.trim() {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err(self.refusal(&text_value())),
            },
            Self::Whole { .. } => match text.trim().parse() {
                Ok(number) => self.check(Value::Integer(number)),
                Err(_) => Err(self.refusal(&text_value())),
            },
            Self::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
            _ => self.check(text_value()),
        }
    }

    /// Checks a value of the file and brings it into its canonical form.
    pub(crate) fn check(&self, value: Value) -> Result<Value, String> {
        let accepted = match (self, &value) {
            (Self::Text | Self::Path | Self::Secret | Self::Property, Value::String(_)) => true,
            (Self::Property, Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => {
                return Ok(Value::String(value.to_string()));
            }
            (Self::List, Value::Array(items)) => items.iter().all(Value::is_str),
            (Self::Boolean, Value::Boolean(_)) => true,
            (Self::Whole { min, max }, Value::Integer(number)) => (min..=max).contains(&number),
            (Self::Duration { .. }, Value::String(text)) => return self.duration(text),
            (Self::Duration { .. }, Value::Integer(number)) => return Err(no_unit(&number.to_string())),
            (Self::Size { .. }, Value::String(text)) => return self.size(text),
            (Self::Size { .. }, Value::Integer(bytes)) => return self.size(&bytes.to_string()),
            (Self::Choice(allowed), Value::String(text)) => {
                let chosen = allowed.iter().find(|choice| plain(choice) == plain(text));
                return match chosen {
                    Some(choice) => Ok(Value::String((*choice).to_owned())),
                    None => Err(self.refusal(&value)),
                };
            }
            (Self::Address, Value::String(text)) => text.trim().parse::<Ipv4Addr>().is_ok(),
            _ => false,
        };
        if accepted { Ok(value) } else { Err(self.refusal(&value)) }
    }

    /// Splits `a=b,c=d`, the text form of a map, without checking names or values.
    pub(crate) fn entries(text: &str) -> Result<Vec<(String, String)>, String> {
        let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
        pieces
            .map(|piece| match piece.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    Ok((name.trim().to_owned(), value.trim().to_owned()))
                }
                // The piece is not repeated: it may be part of a secret with a comma.
                _ => Err("a piece between two commas is not name=value (write a=b,c=d; \
                          a value with a comma must be in the config file)"
                    .to_owned()),
            })
            .collect()
    }

    fn duration(&self, text: &str) -> Result<Value, String> {
        let Self::Duration { min, max } = self else { unreachable!("only called for durations") };
        let digits = text.trim();
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits != "0" {
            return Err(no_unit(digits));
        }
        match humantime::parse_duration(digits) {
            Ok(duration) if (min..=max).contains(&&duration) => Ok(Value::String(duration::exact(duration))),
            Ok(_) => Err(format!("{text:?} is not {self}")),
            Err(_) => Err(format!("{text:?} is not {self} (write it like 500ms, 1h 30m or 90d)")),
        }
    }

    fn size(&self, text: &str) -> Result<Value, String> {
        let Self::Size { min, max } = self else { unreachable!("only called for sizes") };
        match text.trim().parse::<ByteSize>() {
            Ok(size) if (*min..=*max).contains(&size.as_u64()) => {
                Ok(Value::String(exact_size(size.as_u64())))
            }
            Ok(_) => Err(format!("{text:?} is not {self}")),
            Err(_) => Err(format!("{text:?} is not {self} (write it like 64KiB, 1MiB or 4GiB)")),
        }
    }

    fn refusal(&self, value: &Value) -> String {
        let given = match self {
            // A value given for a secret is not repeated, whatever its type.
            Self::Secret | Self::Property => format!("this {}", value.type_str()),
            _ => value.to_string(),
        };
        let quotes = match (self, value) {
            (Self::Whole { .. } | Self::Boolean, Value::String(text)) if self.read_succeeds(text) => {
                " (write it without quotes)"
            }
            _ => "",
        };
        format!("{given} is not {self}{quotes}")
    }

    fn read_succeeds(&self, text: &str) -> bool {
        match self {
            Self::Whole { min, max } => text.parse().is_ok_and(|number: i64| (*min..=*max).contains(&number)),
            Self::Boolean => matches!(text, "true" | "false"),
            _ => false,
        }
    }
}

fn no_unit(number: &str) -> String {
    format!(
        "{number} has no unit (write \"{number}ms\", \"{number}s\", \"{number}m\", \"{number}h\" or \"{number}d\")"
    )
}

fn plain(choice: &str) -> String {
    choice.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase()).collect()
}

/// A size in the largest unit that is exact: 16384 is `16KiB`, 1000 is `1000B`.
pub(crate) fn exact_size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = |(shift, _): &(u32, &str)| bytes != 0 && bytes.trailing_zeros() >= *shift;
    match UNITS.into_iter().find(exact) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINGER: Kind =
        Kind::Duration { min: std::time::Duration::ZERO, max: std::time::Duration::from_secs(60) };
    const BATCH: Kind = Kind::Size { min: 1024, max: 16 << 20 };
    const CHOICE: Kind = Kind::Choice(&["QUORUM", "LOCAL_QUORUM", "SCRAM-SHA-512"]);

    #[test]
    fn choices_are_found_in_any_case_and_with_any_separator() {
        for (given, canonical) in [
            ("quorum", "QUORUM"),
            ("local-quorum", "LOCAL_QUORUM"),
            ("LocalQuorum", "LOCAL_QUORUM"),
            ("scram_sha_512", "SCRAM-SHA-512"),
        ] {
            assert_eq!(CHOICE.read(given), Ok(Value::String(canonical.into())));
        }
        assert_eq!(
            CHOICE.read("strong").unwrap_err(),
            "\"strong\" is not one of QUORUM, LOCAL_QUORUM, SCRAM-SHA-512"
        );
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        let rows = Kind::Whole { min: 1, max: 1000 };
        assert_eq!(rows.read("5000").unwrap_err(), "5000 is not a whole number from 1 to 1000");
        assert_eq!(rows.read("many").unwrap_err(), "\"many\" is not a whole number from 1 to 1000");
        assert_eq!(
            rows.check(Value::String("64".into())).unwrap_err(),
            "\"64\" is not a whole number from 1 to 1000 (write it without quotes)"
        );
        assert_eq!(LINGER.read("2h").unwrap_err(), "\"2h\" is not a duration from 0s to 1m");
        assert_eq!(
            LINGER.read("soon").unwrap_err(),
            "\"soon\" is not a duration from 0s to 1m (write it like 500ms, 1h 30m or 90d)"
        );
        assert_eq!(
            LINGER.check(Value::Integer(50)).unwrap_err(),
            "50 has no unit (write \"50ms\", \"50s\", \"50m\", \"50h\" or \"50d\")"
        );
        assert_eq!(BATCH.read("1GiB").unwrap_err(), "\"1GiB\" is not a size from 1KiB to 16MiB");
        assert_eq!(
            BATCH.read("big").unwrap_err(),
            "\"big\" is not a size from 1KiB to 16MiB (write it like 64KiB, 1MiB or 4GiB)"
        );
        assert_eq!(Kind::Boolean.read("yes").unwrap_err(), "\"yes\" is not true or false");
        assert_eq!(
            Kind::Address.read("localhost").unwrap_err(),
            "\"localhost\" is not an IPv4 address such as 127.0.0.1"
        );
        assert_eq!(
            Kind::List.check(Value::String("a:1".into())).unwrap_err(),
            "\"a:1\" is not a list of texts such as [\"a\", \"b\"]"
        );
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let refusal = Kind::Secret.check(Value::Integer(424_242)).unwrap_err();
        assert_eq!(refusal, "this integer is not text (in quotes)");
        assert!(!Kind::entries("a=b,hunter2").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn texts_of_lists_and_maps_are_split_at_commas() {
        let list = Kind::List.read("a:1, b:2,").unwrap();
        assert_eq!(list.to_string(), "[\"a:1\", \"b:2\"]");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(Kind::entries("a=b, c=d=e").unwrap(), [pair("a", "b"), pair("c", "d=e")]);
    }

    proptest! {
        #[test]
        fn an_exact_size_is_read_back_unchanged(bytes in prop_oneof![0u64..1 << 20, (0u64..1 << 12).prop_map(|n| n << 30)]) {
            prop_assert_eq!(exact_size(bytes).parse::<ByteSize>().unwrap().as_u64(), bytes);
        }
    }
}
