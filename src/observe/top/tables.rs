//! The tables of nodes and partitions.

use bytesize::ByteSize;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};

use super::cassandra::Node;
use super::columns::{Column, Field, fitting};
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
    let rows: Vec<_> = nodes.iter().map(|node| node_row(node, palette)).collect();
    let selected = is_focused.then_some(state.node);
    table(frame, area, (&NODE_COLUMNS, rows), block, selected, palette);
}

/// The rank says which columns remain on a narrow screen: the lowest first.
const NODE_COLUMNS: [Column; 8] = [
    Column::text("node", 16, 0).growing(),
    Column::text("state", 5, 0),
    Column::number("load", 10, 2),
    Column::number("writes/s", 8, 1),
    Column::number("reads/s", 8, 3),
    Column::number("p99 wr", 8, 4),
    Column::number("p99 rd", 8, 6),
    Column::number("pending", 7, 5),
];

fn node_row(node: &Node, palette: Palette) -> Vec<Field> {
    let state = match node.is_up {
        true => Field { text: "up".into(), style: palette.good() },
        false => Field { text: "down".into(), style: palette.bad() },
    };
    vec![
        node.address.clone().into(),
        state,
        node.load_bytes.map(|load| ByteSize::b(load as u64).display().iec().to_string()).into(),
        node.write_rate.map(count).into(),
        node.read_rate.map(count).into(),
        node.write_p99.map(milliseconds).into(),
        node.read_p99.map(milliseconds).into(),
        node.pending.map(count).into(),
    ]
}

pub(super) fn draw_partitions(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let is_focused = state.focus == Focus::Partitions;
    let letters = state.kafka.last().and_then(|look| look.dead_letters);
    let letters = letters.map_or(String::new(), |letters| {
        let noun = if letters == 1 { "letter" } else { "letters" };
        format!("{} dead {noun}, ", count(letters as f64))
    });
    // The names come last, because a narrow screen cuts the end.
    let title = format!("partitions, {letters}topic {}, group {}", state.topic, state.group);
    let block = panel(title, &state.kafka, is_focused, palette);
    let partitions = state.kafka.last().and_then(|look| look.partitions.as_deref()).unwrap_or_default();
    if partitions.is_empty() {
        let text = nothing(&state.kafka, "the topic does not exist (run `iotctl schema apply`)");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
        return;
    }
    let rows: Vec<_> = partitions.iter().map(|partition| partition_row(partition, palette)).collect();
    let selected = is_focused.then_some(state.partition);
    table(frame, area, (&PARTITION_COLUMNS, rows), block, selected, palette);
}

const PARTITION_COLUMNS: [Column; 7] = [
    Column::number("partition", 9, 0),
    Column::number("leader", 6, 4),
    Column::number("in sync", 7, 5),
    Column::number("end", 12, 3).growing(),
    Column::number("committed", 12, 2).growing(),
    Column::number("lag", 10, 0),
    Column::number("behind", 14, 1),
];

fn partition_row(partition: &Partition, palette: Palette) -> Vec<Field> {
    let leader = match partition.leader {
        ..0 => Field { text: "none".into(), style: palette.bad() },
        leader => leader.to_string().into(),
    };
    let mut in_sync: Field = format!("{}/{}", partition.in_sync, partition.replicas).into();
    if partition.in_sync < partition.replicas {
        in_sync.style = palette.bad();
    }
    vec![
        match &partition.topic {
            Some(topic) => format!("{topic}/{}", partition.id).into(),
            None => partition.id.to_string().into(),
        },
        leader,
        in_sync,
        partition.end.map(|end| end.to_string()).into(),
        partition.committed.map(|committed| committed.to_string()).into(),
        partition.lag.map(|lag| lag.to_string()).into(),
        partition.lag_seconds.map(age).into(),
    ]
}

/// Draws the columns that fit; `rows` have a field for each column.
fn table(
    frame: &mut Frame,
    area: Rect,
    (columns, rows): (&[Column], Vec<Vec<Field>>),
    block: Block<'_>,
    selected: Option<usize>,
    palette: Palette,
) {
    let shown = fitting(columns, &rows, block.inner(area).width);
    let cell = |column: &Column, text: String| match column.is_text {
        true => Cell::new(text),
        false => Cell::new(Line::from(text).right_aligned()),
    };
    let heading = shown.iter().map(|(index, _)| cell(&columns[*index], columns[*index].heading.to_owned()));
    let heading = Row::new(heading.collect::<Vec<_>>()).style(palette.dim());
    let widths = shown.iter().map(|(index, width)| match columns[*index].grows {
        true => Constraint::Min(*width),
        false => Constraint::Length(*width),
    });
    let widths: Vec<_> = widths.collect();
    let count = rows.len();
    let rows = rows.into_iter().map(|fields| {
        let cells = shown.iter().map(|(index, _)| {
            let Field { text, style } = fields[*index].clone();
            cell(&columns[*index], text).style(style)
        });
        Row::new(cells.collect::<Vec<_>>())
    });
    let table = Table::new(rows, widths).header(heading).row_highlight_style(palette.selected()).block(block);
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
