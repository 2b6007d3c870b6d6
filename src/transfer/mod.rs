//! Readings in bulk: export to files ([`export`]), import from files ([`import`]), and the Spark jobs ([`spark`]).
//!
//! An export is planned first ([`plan`]): which file holds which group and time. The plan and the finished files are
//! recorded in the output folder ([`journal`]), so that an interrupted run can be resumed. Rows become blocks of columns or text
//! ([`block`]) while they are read, and blocks become files ([`mod@file`]) on threads of their own. [`names`] has what the sensors are called.

pub mod block;
pub mod export;
pub mod file;
pub mod import;
pub mod journal;
mod names;
pub mod plan;
pub mod spark;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Columns, compressed with zstd.
    Parquet,
    /// RFC 4180 with a heading line.
    Csv,
    /// One JSON object per line, in the wire format.
    Ndjson,
}

impl FileFormat {
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The format named by the file's extension.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

/// What folders are named after, such as `location=plant-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderKey {
    Location,
    #[value(name = "device_type", alias = "device-type")]
    DeviceType,
    /// The day in UTC, or in the zone of --local or --time-zone
    Day,
}
