//! Where in a mapping file the key stands that a problem is about.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line of a key of the source with this index. A problem begins with the key, as in `metrics.power: …` and
/// `fields[1]: …`; without a key the line is that of the source.
pub(super) fn of_problem(text: &str, source: usize, problem: &str) -> Option<usize> {
    let file = DeTable::parse(text).ok()?;
    let DeValue::Array(sources) = member(file.get_ref(), "source")?.1.get_ref() else { return None };
    let source = sources.get(source)?;
    let key = problem.split_once(": ").map_or("", |(key, _)| key);
    let start = start_of(source.get_ref(), key).unwrap_or(source.span().start);
    Some(line(text, start))
}

fn line(text: &str, start: usize) -> usize {
    text.get(..start).map_or(1, |before| before.matches('\n').count() + 1)
}

/// Where a key begins, or as much of it as there is.
fn start_of(value: &DeValue<'_>, key: &str) -> Option<usize> {
    let DeValue::Table(table) = value else { return None };
    // The names of metrics may have dots.
    if let Some((start, _)) = member(table, key) {
        return Some(start);
    }
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    if let Some((name, index)) = first.strip_suffix(']').and_then(|first| first.split_once('[')) {
        let DeValue::Array(elements) = member(table, name)?.1.get_ref() else { return None };
        return Some(elements.get(index.parse::<usize>().ok()?)?.span().start);
    }
    let (start, value) = member(table, first)?;
    Some(start_of(value.get_ref(), rest).unwrap_or(start))
}

fn member<'t, 'i>(table: &'t DeTable<'i>, name: &str) -> Option<(usize, &'t Spanned<DeValue<'i>>)> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == name)?;
    Some((key.span().start, value))
}
