//! `--by` as a flag.

use clap::builder::{PossibleValue, TypedValueParser};

use crate::analytics::table::by::{ByArg, NAMES};

/// One of the names, `tag:KEY`, or a length of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByParser;

impl TypedValueParser for ByParser {
    type Value = ByArg;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<ByArg, clap::Error> {
        let text = value.to_string_lossy();
        text.parse().map_err(|remedy: String| {
            let flag = arg.map(ToString::to_string).unwrap_or_default();
            let text =
                format!("invalid value '{}' for '{flag}': {remedy}\n", crate::output::text::visible(&text));
            clap::Error::raw(clap::error::ErrorKind::InvalidValue, text).with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let further = ["tag:KEY", "15m", "6h", "3mo"];
        Some(Box::new(NAMES.iter().map(|(name, _)| *name).chain(further).map(PossibleValue::new)))
    }
}
