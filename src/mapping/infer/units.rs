//! Units that messages state beside their values: which member is the unit of which other one.

use std::fmt::Write as _;

use serde_json::Value;

use super::observed::Place;
use super::{names, quoted};
use crate::mapping::units::Conversion;

/// The units that messages state of values with a column.
#[derive(Debug, Default)]
pub(super) struct Stated {
    /// (value, unit) by their names below the root.
    pub(super) known: Vec<(String, String)>,
    /// (value, an example of its unit): they cannot be converted, so the values are none of the column.
    pub(super) unknown: Vec<(String, String)>,
}

impl Stated {
    pub(super) fn is_known(&self, value: &str) -> bool {
        self.known.iter().any(|(known, _)| known == value)
    }

    pub(super) fn is_unknown(&self, value: &str) -> bool {
        self.unknown.iter().any(|(known, _)| known == value)
    }
}

pub(super) fn stated(members: &[(&Place, &str)]) -> Stated {
    let mut found = Stated::default();
    for (place, unit) in members {
        let Some(about) = names::about_unit(place.last_name()) else { continue };
        let beside: Vec<&(&Place, &str)> = members
            .iter()
            .filter(|(other, name)| {
                name != unit
                    && other.parent() == place.parent()
                    && (other.is_measured() || other.examples.iter().any(Value::is_number))
            })
            .collect();
        let one = |fits: &dyn Fn(&Place) -> bool| match beside
            .iter()
            .filter(|(other, _)| fits(other))
            .collect::<Vec<_>>()[..]
        {
            [one] => Some(**one),
            _ => None,
        };
        let value = match about.is_empty() {
            true => {
                one(&|other| names::pair_value_rank(other.last_name()).is_some()).or_else(|| one(&|_| true))
            }
            false => one(&|other| names::words(other.last_name()) == about).or_else(|| {
                let column = names::column(&about.join("_"))?.0;
                one(&|other| names::column(other.last_name()).is_some_and(|(it, _)| it == column))
            }),
        };
        let Some((_, value)) = value else { continue };
        let column = names::column(value).or_else(|| names::column_at_end(value));
        let Some((column, _)) = column else { continue };
        let converts = |unit: &Value| {
            unit.as_str().is_some_and(|unit| Conversion::to_column(column, unit.trim()).is_ok())
        };
        if found.is_known(value) || found.is_unknown(value) || !place.examples.iter().all(Value::is_string) {
            continue;
        }
        match place.examples.iter().find(|unit| !converts(unit)) {
            None => found.known.push(((*value).to_owned(), (*unit).to_owned())),
            Some(strange) => {
                found.unknown.push(((*value).to_owned(), strange.as_str().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

/// The line `units_from`. `suffix` is what the names of all values end with, if they are objects.
pub(super) fn written(stated: &Stated, suffix: Option<&str>) -> String {
    let mut remarks = String::new();
    for (value, unit) in &stated.unknown {
        let unit: String = unit.chars().filter(|char| !char.is_control()).take(30).collect();
        let _ = writeln!(
            remarks,
            "# {value}: the unit {unit:?} is not known, so it has no column: scale and rename it yourself"
        );
    }
    let stated = &stated.known;
    let Some((value, unit)) = stated.first() else { return remarks };
    let last = |name: &str| name.rsplit_once('.').map(|(before, last)| (before.to_owned(), last.to_owned()));
    let members = match (suffix, last(value), last(unit)) {
        // An object for each: one line for all of them.
        (Some(suffix), Some(_), Some((_, unit)))
            if stated.iter().all(|(value, place)| {
                value.strip_suffix(suffix).is_some_and(|base| *place == format!("{base}.{unit}"))
            }) =>
        {
            format!("\"*{suffix}\" = {}", quoted(&format!("*.{unit}")))
        }
        _ => {
            let pairs: Vec<String> =
                stated.iter().map(|(value, unit)| format!("{} = {}", quoted(value), quoted(unit))).collect();
            pairs.join(", ")
        }
    };
    format!("units_from = {{ {members} }}    # guessed: units that the messages state\n{remarks}")
}
