//! The screen as a function of the state.

use bytesize::ByteSize;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::state::{Focus, History, Node, Partition, Side, State};
use crate::observe::status::kafka::age;

/// Smaller than that, there is room for one line.
const LEAST: (u16, u16) = (40, 12);

/// Colours, or none: then bold, dim and reverse tell the same.
#[derive(Clone, Copy)]
struct Palette {
    is_colored: bool,
}

impl Palette {
    fn color(self, color: Color) -> Style {
        match self.is_colored {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.color(Color::Green)
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

pub fn draw(frame: &mut Frame, state: &State, is_colored: bool) {
    let palette = Palette { is_colored };
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("the terminal is too small: {} by {} at least", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let nodes = state.cassandra.last().map_or(1, |look| look.nodes.len().max(1));
    // Both tables have borders and headings; the partitions take what the nodes leave.
    let nodes_height = u16::try_from(nodes).unwrap_or(u16::MAX).saturating_add(3).min(area.height / 3).max(4);
    let [header, charts, nodes, partitions, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(if area.height < 20 { 4 } else { 5 }),
        Constraint::Length(nodes_height),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_header(frame, header, state, palette);
    draw_charts(frame, charts, state, palette);
    draw_nodes(frame, nodes, state, palette);
    draw_partitions(frame, partitions, state, palette);
    draw_footer(frame, footer, state, palette);
}

fn draw_header(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let clock = state.now.format("%H:%M:%SZ").to_string();
    let kafka = match &state.kafka {
        Side::Asking => Span::raw("Kafka: asking"),
        Side::Away { .. } => Span::styled("Kafka: no answer", palette.bad()),
        Side::Known(look) => {
            let members = look.members.map_or("? members".into(), |members| format!("{members} members"));
            Span::raw(format!("Kafka: {} brokers, {members}", look.brokers))
        }
    };
    let cassandra = match &state.cassandra {
        Side::Asking => Span::raw("Cassandra: asking"),
        Side::Away { .. } => Span::styled("Cassandra: no answer", palette.bad()),
        Side::Known(look) => {
            let up = look.nodes.iter().filter(|node| node.is_up).count();
            let style = if up == look.nodes.len() { palette.good() } else { palette.bad() };
            Span::styled(format!("Cassandra: {up}/{} nodes", look.nodes.len()), style)
        }
    };
    let mut spans = vec![
        Span::styled("iotctl top", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        cassandra,
        Span::raw("  "),
        kafka,
    ];
    if state.is_paused {
        spans.extend([Span::raw("  "), Span::styled(" paused ", palette.chosen())]);
    }
    let clock_width = u16::try_from(clock.len()).unwrap_or(0);
    let [left, right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(clock_width)]).areas(area);
    frame.render_widget(Line::from(spans), left);
    frame.render_widget(Line::from(clock), right);
}

fn draw_charts(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let look = state.kafka.last();
    let per_second = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{}/s", count(rate)));
    let lag = look.and_then(|look| look.lag()).map_or("-".into(), |lag| count(lag as f64));
    let seconds = look.and_then(|look| look.lag_seconds()).map_or("-".into(), age);
    let writes: Vec<f64> = state
        .cassandra
        .last()
        .map(|look| look.nodes.iter().filter_map(|node| node.write_rate).collect())
        .unwrap_or_default();
    let writes = (!writes.is_empty()).then(|| writes.iter().sum());
    let charts = [
        ("produced", per_second(state.produced), &state.produced_history, Color::Cyan),
        ("consumed", per_second(state.consumed), &state.consumed_history, Color::Green),
        ("lag", format!("{lag}, {seconds}"), &state.lag_history, Color::Yellow),
        ("mutations", per_second(writes), &state.writes_history, Color::Magenta),
    ];
    let areas: [Rect; 4] = Layout::horizontal([Constraint::Fill(1); 4]).areas(area);
    for ((name, value, history, color), area) in charts.into_iter().zip(areas) {
        chart(frame, area, name, &value, history, palette.color(color));
    }
}

fn chart(frame: &mut Frame, area: Rect, name: &str, value: &str, history: &History, style: Style) {
    let block = Block::new().borders(Borders::ALL).title(name.to_owned());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [text, line] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inside);
    frame.render_widget(Line::styled(value.to_owned(), Style::new().add_modifier(Modifier::BOLD)), text);
    let newest = history.newest(line.width.into());
    // The newest stands at the right, as on every graph of time.
    let gap = usize::from(line.width).saturating_sub(newest.len());
    let data: Vec<u64> = std::iter::repeat_n(0, gap).chain(newest).collect();
    frame.render_widget(Sparkline::default().data(data).style(style), line);
}

/// A table's frame; what keeps it from being known stands in the title of a known one, and inside of an unknown one.
fn panel<'a, T>(title: String, side: &Side<T>, is_focused: bool, palette: Palette) -> Block<'a> {
    let title = match side {
        Side::Away { last: Some(_), .. } => format!("last known {title}"),
        _ => title,
    };
    let style = match side {
        Side::Away { .. } => palette.bad(),
        _ if is_focused => Style::new().add_modifier(Modifier::BOLD),
        _ => Style::new(),
    };
    Block::new().borders(Borders::ALL).title(Span::styled(title, style))
}

/// Why a panel is empty.
fn nothing<T>(side: &Side<T>, otherwise: &str) -> String {
    match side {
        Side::Asking => "asking".into(),
        Side::Away { reason, .. } => reason.clone(),
        Side::Known(_) => otherwise.to_owned(),
    }
}

fn draw_nodes(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
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

fn draw_partitions(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
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
    let chosen = is_focused.then_some(state.partition);
    table(frame, area, (rows.collect(), &headings, &widths), block, chosen, palette);
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
    chosen: Option<usize>,
    palette: Palette,
) {
    // Numbers stand to the right, and their headings above them; the names of nodes and their states to the left.
    let is_text = |heading: &str| matches!(heading, "node" | "state");
    let heading = headings.iter().map(|heading| match is_text(heading) {
        true => Cell::new(*heading),
        false => Cell::new(Line::from(*heading).right_aligned()),
    });
    let count = rows.len();
    let table = Table::new(rows, widths.iter().copied())
        .header(Row::new(heading).style(palette.dim()))
        .row_highlight_style(palette.chosen())
        .block(block);
    let mut selection = TableState::default();
    // The chosen row stays on a screen that is too small for all.
    selection.select(chosen.map(|chosen| chosen.min(count.saturating_sub(1))));
    frame.render_stateful_widget(table, area, &mut selection);
}

fn draw_footer(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let reason = match (&state.cassandra, &state.kafka) {
        (Side::Away { reason, last: Some(_) }, _) | (_, Side::Away { reason, last: Some(_) }) => Some(reason),
        _ => None,
    };
    let line = match reason {
        Some(reason) => Line::styled(reason.clone(), palette.bad()),
        None => Line::styled(
            format!(
                "q quit  p pause  Tab nodes/partitions  ↑↓ choose  every {}",
                humantime::format_duration(state.interval)
            ),
            palette.dim(),
        ),
    };
    frame.render_widget(line, area);
}

/// Short: "950", "12.3k", "4.6M".
fn count(value: f64) -> String {
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
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::Action;
    use super::super::state::tests::{kafka, state};
    use super::*;

    fn drawn(state: &State, width: u16, height: u16, is_colored: bool) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, is_colored)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width);
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn on_80_by_24_everything_is_there_and_nothing_is_cut() {
        let lines = lines(&drawn(&state(), 80, 24, true));
        let text = lines.join("\n");
        assert!(
            lines[0].starts_with("iotctl top  Cassandra: 2/3 nodes  Kafka: 1 brokers, 1 members"),
            "{text}"
        );
        assert!(lines[0].ends_with("08:00:02Z"), "{text}");
        for wanted in [
            "1500/s",
            "750/s",
            "1800, 2s",
            "300/s",
            "127.0.0.3:9042    down",
            "953.7 MiB",
            "0.9 ms",
            "4.0 ms",
            "2000          1400",
            "q quit  p pause",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        for heading in ["writes/s", "reads/s", "p99 wr", "p99 rd", "pending", "committed", "behind"] {
            assert!(text.contains(heading), "{heading:?} is not in\n{text}");
        }
    }

    #[test]
    fn without_colours_no_cell_has_one_and_with_them_a_down_node_is_red() {
        let plain = drawn(&state(), 80, 24, false);
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        let colored = drawn(&state(), 80, 24, true);
        assert!(colored.content.iter().any(|cell| cell.fg == Color::Red));
    }

    #[test]
    fn any_size_is_drawn_without_a_panic_and_a_tiny_one_says_what_it_needs() {
        for width in (1..=200).step_by(7) {
            for height in 1..=60 {
                drawn(&state(), width, height, true);
            }
        }
        assert!(lines(&drawn(&state(), 39, 11, true)).join(" ").contains("too small: 40 by 12"));
    }

    #[test]
    fn an_away_kafka_says_why_and_leaves_the_nodes_there() {
        let mut fresh = State::new(&crate::config::Config::default(), std::time::Duration::from_secs(1));
        fresh.cassandra = state().cassandra;
        fresh.take_in_kafka(Err("no Kafka broker answers at here:9092".into()));
        let text = lines(&drawn(&fresh, 80, 24, true)).join("\n");
        assert!(
            text.contains("Kafka: no answer") && text.contains("no Kafka broker answers at here"),
            "{text}"
        );
        assert!(text.contains("127.0.0.1:9042"), "{text}");
        // One that was there before stays on the screen, as what it is.
        let mut known = state();
        known.take_in_kafka(Err("no Kafka broker answers at here:9092".into()));
        let text = lines(&drawn(&known, 80, 24, true)).join("\n");
        assert!(
            text.contains("last known partitions") && text.contains("no Kafka broker answers at here"),
            "{text}"
        );
    }

    #[test]
    fn the_chosen_partition_is_on_a_screen_that_is_too_small_for_all() {
        let mut state = state();
        let mut look = kafka(3, 100, 50);
        let partition = look.partitions.as_ref().unwrap()[0].clone();
        let many = (0..64).map(|id| Partition { id, end: Some(7_000 + i64::from(id)), ..partition.clone() });
        look.partitions = Some(many.collect());
        state.take_in_kafka(Ok(look));
        assert!(!lines(&drawn(&state, 80, 24, false)).join("\n").contains("7063"));
        state.act(Action::Switch);
        for _ in 0..99 {
            state.act(Action::Down);
        }
        let buffer = drawn(&state, 80, 24, false);
        let lines = lines(&buffer);
        let row = lines.iter().position(|line| line.contains("7063")).unwrap();
        let cell = &buffer[(5, u16::try_from(row).unwrap())];
        assert!(cell.modifier.contains(Modifier::REVERSED), "{}", lines.join("\n"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([9_999.0, 12_345.0, 4_560_000.0, 2e9].map(count), ["9999", "12.3k", "4.6M", "2.0G"]);
    }
}
