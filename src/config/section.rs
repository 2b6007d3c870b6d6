//! How settings are declared: [`section!`] turns one declaration into the struct that the program reads, its defaults,
//! and the [`Section`] that everything else is made from: the merge, the environment variables, "did you mean", the
//! commented file of `config init` and the reference page.
//!
//! ```text
//! section! {
//!     /// What the section is about.
//!     "ingest" => IngestConfig {
//!         /// What the setting means.
//!         batch_rows: usize = 64, whole(1, 1000);
//!         …
//!     }
//! }
//! ```
//!
//! The first comment is the heading of the section, a field's comment the meaning of the setting. A field without a
//! default has that of its type; an `Option` may be left empty. The kind of value follows from the field's type, or is
//! given after the default where it has bounds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

use super::Secret;
use super::duration;
use super::value::Kind;

/// A table of the config file.
#[derive(Debug)]
pub(crate) struct Section {
    /// Such as `cassandra.tls`.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A setting, without a value.
#[derive(Debug)]
pub(crate) struct Key {
    /// `section.key`, such as `kafka.topic`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// An empty value means "not set".
    pub(crate) optional: bool,
    pub(crate) about: &'static str,
}

impl Key {
    /// The section, such as `cassandra.tls`, and the key within it, which is empty if the section itself is a map.
    pub(crate) fn split(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or((self.name, ""))
    }

    /// The environment variable: `kafka.topic` is IOTCTL_KAFKA_TOPIC.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }
}

pub(crate) const VARIABLE_PREFIX: &str = "IOTCTL_";

/// A Rust type that a setting may have.
pub(crate) trait SettingType: Serialize + DeserializeOwned {
    /// Which values it takes when the declaration gives no bounds.
    const KIND: Kind;
    const OPTIONAL: bool = false;

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

macro_rules! kinds {
    ($($type:ty: $kind:expr;)+) => {
        $(impl SettingType for $type {
            const KIND: Kind = $kind;
        })+
    };
}

kinds! {
    bool: Kind::Boolean;
    u8: whole(0, u8::MAX as i64);
    u16: whole(0, u16::MAX as i64);
    u32: whole(0, u32::MAX as i64);
    i32: whole(i32::MIN as i64, i32::MAX as i64);
    usize: whole(0, i64::MAX);
    ByteSize: size(ByteSize(0), ByteSize(u64::MAX));
    String: Kind::Text;
    PathBuf: Kind::Path;
    Secret: Kind::Secret;
    Vec<String>: Kind::List;
    Ipv4Addr: Kind::Address;
    BTreeMap<String, String>: Kind::Map(&Kind::Property);
    BTreeMap<String, u32>: Kind::Map(&u32::KIND);
}

impl<T: SettingType> SettingType for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;
}

impl SettingType for Duration {
    const KIND: Kind = time(Self::ZERO, Self::MAX);

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        duration::serialize(self, serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration::deserialize(deserializer)
    }
}

/// For serde's `with`: every field is written and read by its [`SettingType`].
pub(super) mod field {
    use super::{Deserializer, Serializer, SettingType};

    pub(crate) fn serialize<T: SettingType, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.write(to)
    }

    pub(crate) fn deserialize<'de, T: SettingType, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::read(from)
    }
}

/// Whole numbers, both ends included.
pub(super) const fn whole(min: i64, max: i64) -> Kind {
    Kind::Whole { min, max }
}

/// Durations, both ends included.
pub(super) const fn time(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

/// Sizes, both ends included.
pub(super) const fn size(min: ByteSize, max: ByteSize) -> Kind {
    Kind::Size { min: min.0, max: max.0 }
}

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) const fn minutes(count: u64) -> Duration {
    seconds(60 * count)
}

pub(super) const fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

pub(super) const fn days(count: u64) -> Duration {
    hours(24 * count)
}

pub(super) const PORT: Kind = whole(1, 65_535);
pub(super) const REPLICAS: Kind = whole(1, 100);

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:literal => $config:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $type:ty $(= $default:expr)? $(, $kind:expr)?;
            )*
            $(section $below:ident: $below_type:ty;)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $config {
            $(
                $(#[doc = $meaning])+
                #[serde(with = "crate::config::section::field")]
                pub $field: $type,
            )*
            $(pub $below: $below_type,)*
        }

        impl Default for $config {
            fn default() -> Self {
                Self {
                    $($field: $crate::config::section::section!(@default $($default)?),)*
                    $($below: Default::default(),)*
                }
            }
        }

        impl $config {
            pub(super) const SECTION: $crate::config::section::Section = $crate::config::section::Section {
                name: $section,
                about: concat!($($about),+).trim_ascii(),
                keys: &[$($crate::config::section::Key {
                    name: concat!($section, ".", stringify!($field)),
                    kind: $crate::config::section::section!(@kind $type $(, $kind)?),
                    optional: <$type as $crate::config::section::SettingType>::OPTIONAL,
                    about: concat!($($meaning),+).trim_ascii(),
                }),*],
            };
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@kind $type:ty) => { <$type as $crate::config::section::SettingType>::KIND };
    (@kind $type:ty, $kind:expr) => { $kind };
}

/// An enum whose variants are the allowed texts of a setting.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        $choice:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $choice {
            $($(#[$about])* #[serde(rename = $text)] $variant,)+
        }

        impl $crate::config::section::SettingType for $choice {
            const KIND: $crate::config::value::Kind = $crate::config::value::Kind::Choice(&[$($text),+]);
        }
    };
}

pub(super) use {choice, section};
