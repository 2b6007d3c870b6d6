//! Units that come in messages of their own, in a topic beside that of the value: `…/temperature/$unit`, or
//! `…/unit_of_measurement` beside `…/state`. A reading depends on its message alone, so the draft states what they said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Sample, names, quoted};
use crate::mapping::units::Conversion;

/// Units by the topic that they are of.
pub(super) struct UnitTopics<'s> {
    by_topic: BTreeMap<&'s str, String>,
    /// The last part of the topics that state them.
    names: BTreeSet<&'s str>,
    keys: BTreeSet<&'s str>,
}

/// `None` if no key says that its message is a unit.
pub(super) fn found<'s>(samples: &[&'s Sample]) -> Option<UnitTopics<'s>> {
    let mut found = UnitTopics { by_topic: BTreeMap::new(), names: BTreeSet::new(), keys: BTreeSet::new() };
    for sample in samples {
        let Some(key) = sample.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { continue };
        match key.rsplit_once('/').filter(|(_, last)| names::is_unit(last)) {
            Some((topic, last)) => {
                let unit = String::from_utf8_lossy(&sample.payload);
                found.by_topic.insert(topic, unit.trim().trim_matches('"').to_owned());
                found.names.insert(last);
            }
            None => {
                found.keys.insert(key);
            }
        }
    }
    (!found.by_topic.is_empty()).then_some(found)
}

impl UnitTopics<'_> {
    /// The last part that all topics with a unit of their own have below them, such as `state`.
    fn common_end(&self) -> Option<&str> {
        const ENDS: [&str; 4] = ["state", "value", "val", "status"];
        ENDS.into_iter().find(|end| {
            self.by_topic.keys().all(|topic| self.keys.contains(format!("{topic}/{end}").as_str()))
        })
    }

    /// The lines of a source whose keys have the captures `sensor` and `metric`; they end with its fields. `value` is a path.
    pub(super) fn written(&self, value: &str, text: &mut String) {
        text.push_str("# Units come in messages of their own. A reading depends on its message alone, so they are stated here.\n");
        let (name, only) = match self.common_end() {
            Some(end) => ("capture.sensor", format!(".capture.metric == \"{end}\"")),
            None => {
                let others = self.names.iter().map(|name| format!(".capture.metric != {}", quoted(name)));
                ("capture.metric", others.collect::<Vec<_>>().join(" and "))
            }
        };
        // In single quotation marks, which a name may not have.
        if !only.contains('\'') && !only.chars().any(char::is_control) {
            let _ = writeln!(text, "only = '{only}'    # guessed: the others describe what is measured");
        }
        let _ = write!(text, "\n[[source.fields]]\nname = \"{name}\"\nvalue = {value}\n");
        let units = self.of_last_parts();
        let (mut rename, mut stated, mut rest) = (Vec::new(), Vec::new(), String::new());
        for (name, of_name) in units {
            match of_name.iter().collect::<Vec<_>>()[..] {
                [unit] => match column(name, unit) {
                    Some(column) => {
                        if name != column {
                            rename.push(format!("{} = \"{column}\"", quoted(name)));
                        }
                        stated.push(format!("{} = {}", quoted(name), quoted(unit)));
                    }
                    None => {
                        let _ = writeln!(rest, "# {name}: in {unit}");
                    }
                },
                _ => {
                    let of_name: Vec<&str> = of_name.iter().map(String::as_str).collect();
                    let _ = writeln!(
                        rest,
                        "# {name}: in {}, so that a source for each of them has to state its unit",
                        of_name.join(" and in ")
                    );
                }
            }
        }
        for (key, entries) in [("rename", rename), ("units", stated)] {
            if !entries.is_empty() {
                let _ = writeln!(text, "{key} = {{ {} }}    # guessed: by the units", entries.join(", "));
            }
        }
        text.extend(rest.chars().filter(|char| *char == '\n' || !char.is_control()));
    }

    /// Units by the last part of the topics that they are of.
    fn of_last_parts(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let mut units: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (topic, unit) in &self.by_topic {
            units.entry(topic.rsplit('/').next().unwrap_or(topic)).or_default().insert(unit.clone());
        }
        units
    }
}

/// The column of a value with this name and unit: the name says it, or only one has such a unit and it is no share.
fn column(name: &str, unit: &str) -> Option<&'static str> {
    let converts = |column: &str| Conversion::to_column(column, unit).is_ok();
    let words = names::words(name);
    let named = names::column(name).map(|(column, _)| column).or_else(|| {
        let is = |word: &str| words.iter().any(|it| it == word);
        (is("humidity") && !is("soil")).then_some("humidity")
    });
    match named {
        Some(column) => Some(column).filter(|column| converts(column)),
        None => ["temperature", "light_level"].into_iter().find(|column| converts(column)),
    }
}
