//! The tables of nodes and partitions.

use bytesize::ByteSize;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};

use super::cassandra::Node;
use super::kafka::Partition;
use super::palette::Palette;
use super::source::Source;
use super::state::{Focus, State};
use crate::observe::status::kafka::age;

/// A table's frame. The title says if the content is old; an empty table shows the reason instead.
fn panel<'a, T>(title: String, side: &Source<T>, is_focused: bool, palette: Palette) -> Block<'a> {
    let title = match side {
        Source::Unreachable { last: Some(_), .. } => format!("last known {title}"),
        _ => title,
    };
    let style = match side {
        Source::Unreachable { .. } => palette.bad(),
        _ if is_focused => Style::new().add_modifier(Modifier::BOLD),
        _ => Style::new(),
    };
    Block::new().borders(Borders::ALL).title(Span::styled(title, style))
}

/// Why a panel is empty.
fn nothing<T>(side: &Source<T>, otherwise: &str) -> String {
    match side {
        Source::Asking => "asking".into(),
        Source::Unreachable { reason, .. } => reason.clone(),
        Source::Known(_) => otherwise.to_owned(),
    }
}

pub(super) fn draw_nodes(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let is_focused = state.focus == Focus::Nodes;
    let title = format!("nodes, keyspace {}", state.keyspace);
    let block = panel(title, &state.cassandra, is_focused, palette);
    let nodes = state.cassandra.last().map(|look| look.nodes.as_slice()).unwrap_or_default();
    if nodes.is_empty() {
        let text = nothing(&state.cassandra, "no nodes");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
        return;
    }
    let rows = nodes.iter().map(|node| node_row(node, palette));
    let widths = [
        Constraint::Min(16),
        Constraint::Length(5),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
    ];
    let headings = ["node", "state", "load", "writes/s", "reads/s", "p99 wr", "p99 rd", "pending"];
    table(
        frame,
        area,
        (rows.collect(), &headings, &widths),
        block,
        is_focused.then_some(state.node),
        palette,
    );
}

fn node_row<'a>(node: &Node, palette: Palette) -> Row<'a> {
    let state = match node.is_up {
        true => Cell::new("up").style(palette.good()),
        false => Cell::new("down").style(palette.bad()),
    };
    let or_dash =
        |text: Option<String>| Cell::new(Line::from(text.unwrap_or_else(|| "-".into())).right_aligned());
    Row::new([
        Cell::new(node.address.clone()),
        state,
        or_dash(node.load_bytes.map(|load| ByteSize::b(load as u64).display().iec().to_string())),
        or_dash(node.write_rate.map(count)),
        or_dash(node.read_rate.map(count)),
        or_dash(node.write_p99.map(milliseconds)),
        or_dash(node.read_p99.map(milliseconds)),
        or_dash(node.pending.map(count)),
    ])
}

pub(super) fn draw_partitions(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let is_focused = state.focus == Focus::Partitions;
    let letters = state.kafka.last().and_then(|look| look.dead_letters);
    let letters =
        letters.map_or(String::new(), |letters| format!(", {} dead letters", count(letters as f64)));
    let title = format!("partitions, topic {}, group {}{letters}", state.topic, state.group);
    let block = panel(title, &state.kafka, is_focused, palette);
    let partitions = state.kafka.last().and_then(|look| look.partitions.as_deref()).unwrap_or_default();
    if partitions.is_empty() {
        let text = nothing(&state.kafka, "the topic does not exist (run `iotctl schema apply`)");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
        return;
    }
    let rows = partitions.iter().map(|partition| partition_row(partition, palette));
    let widths = [
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Min(12),
        Constraint::Min(12),
        Constraint::Length(10),
        Constraint::Length(14),
    ];
    let headings = ["partition", "leader", "in sync", "end", "committed", "lag", "behind"];
    let selected = is_focused.then_some(state.partition);
    table(frame, area, (rows.collect(), &headings, &widths), block, selected, palette);
}

fn partition_row<'a>(partition: &Partition, palette: Palette) -> Row<'a> {
    let right = |text: String| Cell::new(Line::from(text).right_aligned());
    let or_dash = |text: Option<String>| right(text.unwrap_or_else(|| "-".into()));
    let leader = match partition.leader {
        ..0 => right("none".into()).style(palette.bad()),
        leader => right(leader.to_string()),
    };
    let in_sync = right(format!("{}/{}", partition.in_sync, partition.replicas));
    let in_sync = if partition.in_sync < partition.replicas { in_sync.style(palette.bad()) } else { in_sync };
    Row::new([
        right(partition.id.to_string()),
        leader,
        in_sync,
        or_dash(partition.end.map(|end| end.to_string())),
        or_dash(partition.committed.map(|committed| committed.to_string())),
        or_dash(partition.lag.map(|lag| lag.to_string())),
        or_dash(partition.lag_seconds.map(age)),
    ])
}

fn table(
    frame: &mut Frame,
    area: Rect,
    (rows, headings, widths): (Vec<Row<'_>>, &[&str], &[Constraint]),
    block: Block<'_>,
    selected: Option<usize>,
    palette: Palette,
) {
    // Numbers and their headings are right-aligned, node names and states left-aligned.
    let is_text = |heading: &str| matches!(heading, "node" | "state");
    let heading = headings.iter().map(|heading| match is_text(heading) {
        true => Cell::new(*heading),
        false => Cell::new(Line::from(*heading).right_aligned()),
    });
    let count = rows.len();
    let table = Table::new(rows, widths.iter().copied())
        .header(Row::new(heading).style(palette.dim()))
        .row_highlight_style(palette.selected())
        .block(block);
    let mut selection = TableState::default();
    // The selected row stays visible on a screen that is too small for all rows.
    selection.select(selected.map(|selected| selected.min(count.saturating_sub(1))));
    frame.render_stateful_widget(table, area, &mut selection);
}

/// Formats a count in short form: "950", "12.3k", "4.6M".
pub(super) fn count(value: f64) -> String {
    match value {
        ..10_000.0 => format!("{value:.0}"),
        ..1_000_000.0 => format!("{:.1}k", value / 1e3),
        ..1e9 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.1}G", value / 1e9),
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([9_999.0, 12_345.0, 4_560_000.0, 2e9].map(count), ["9999", "12.3k", "4.6M", "2.0G"]);
    }
}
