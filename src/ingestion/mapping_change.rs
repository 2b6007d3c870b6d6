//! Says by which mapping messages are read, and how it differs from the one that the consumer group was ingested by before.
//! That one is kept in the table `iot_mappings`; whether it can be read or written never stops an ingest.

use crate::cassandra::{Error, Session};
use crate::ingestion::IngestMetrics;
use crate::mapping::Mapping;
use crate::store::mappings::{self, Used};
use crate::time;

/// Lines of each kind that the log lists.
const MOST_LINES: usize = 20;

pub(super) async fn report(session: &Session, group: &str, mapping: &Mapping, metrics: &IngestMetrics) {
    metrics.mapping_info.with_label_values(&[&mapping.place, &mapping.fingerprint]).set(1);
    if let Err(error) = compare(session, group, mapping).await {
        tracing::warn!(%error, "cannot compare the mapping with the one before; going on");
    }
}

async fn compare(session: &Session, group: &str, mapping: &Mapping) -> Result<(), Error> {
    let now = Used {
        place: mapping.place.clone(),
        fingerprint: mapping.fingerprint.clone(),
        content: mapping.text.clone(),
    };
    let before = mappings::last(session, group).await?;
    match &before {
        Some(before) if before.fingerprint == now.fingerprint => return Ok(()),
        Some(before) => {
            tracing::warn!(
                group,
                before = before.fingerprint,
                now = now.fingerprint,
                place = now.place,
                removed = listed(&missing_from(&before.content, &now.content)),
                added = listed(&missing_from(&now.content, &before.content)),
                "the mapping differs from the one that this group was ingested by before; rows of earlier messages stay as \
                 they are"
            );
        }
        None => tracing::info!(group, fingerprint = now.fingerprint, "the first mapping of this group"),
    }
    mappings::keep(session, group, &now, time::now()).await
}

/// The lines of `text` that `other` has not, or fewer of, without comments and indentation.
fn missing_from<'t>(text: &'t str, other: &str) -> Vec<&'t str> {
    let mut others: Vec<&str> = lines(other).collect();
    lines(text)
        .filter(|line| match others.iter().position(|other| other == line) {
            Some(at) => {
                others.swap_remove(at);
                false
            }
            None => true,
        })
        .collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// "a = 1; b = 2; and 3 more".
fn listed(lines: &[&str]) -> String {
    let mut shown: Vec<String> = lines.iter().take(MOST_LINES).map(|line| (*line).to_owned()).collect();
    if lines.len() > MOST_LINES {
        shown.push(format!("and {} more", lines.len() - MOST_LINES));
    }
    shown.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_changed_are_told_and_comments_are_not() {
        let before = "# first\n[[source]]\nsensor = \"value.id\"\n[source.metrics]\na = \"value.a\"\n";
        let now = "# second\n[[source]]\n  sensor = \"value.name\"\n[source.metrics]\na = \"value.a\"\na = \"value.a\"\n";
        assert_eq!(missing_from(before, now), ["sensor = \"value.id\""]);
        assert_eq!(missing_from(now, before), ["sensor = \"value.name\"", "a = \"value.a\""]);
        let many: String = (0..30).fold(String::new(), |text, n| format!("{text}k{n} = 1\n"));
        let told = listed(&missing_from(&many, ""));
        assert!(told.starts_with("k0 = 1; k1 = 1") && told.ends_with("and 10 more"), "{told}");
    }
}
