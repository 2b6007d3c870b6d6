//! The screen as a function of the state.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline, Wrap};

use super::palette::Palette;
use super::source::{History, Source};
use super::state::State;
use super::tables::{count, draw_nodes, draw_partitions};
use crate::observe::status::kafka::age;
use crate::output::text::plural;

/// Smallest width and height; a smaller terminal shows one line of text.
const LEAST: (u16, u16) = (40, 12);

pub fn draw(frame: &mut Frame, state: &State, is_colored: bool) {
    let palette = Palette { is_colored };
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("the terminal is too small: {} by {} at least", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let nodes = state.cassandra.last().map_or(1, |look| look.nodes.len().max(1));
    // Both tables have borders and headings; the partitions get the rest.
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
    let clock_width = u16::try_from(clock.len()).unwrap_or(0);
    let [left, right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(clock_width)]).areas(area);
    let variants =
        [Detail::Members, Detail::Counts, Detail::States].map(|detail| header(state, detail, palette));
    let fits = |line: &&Line<'_>| line.width() < usize::from(left.width);
    let line = variants.iter().find(fits).unwrap_or(&variants[2]);
    frame.render_widget(line, left);
    frame.render_widget(Line::from(clock), right);
}

/// How much the header says.
#[derive(Clone, Copy, PartialEq)]
enum Detail {
    Members,
    Counts,
    /// For the narrowest screen.
    States,
}

fn header<'a>(state: &State, detail: Detail, palette: Palette) -> Line<'a> {
    let kafka = match &state.kafka {
        Source::Asking => Span::raw("Kafka: asking"),
        Source::Unreachable { .. } => Span::styled("Kafka: no answer", palette.bad()),
        Source::Known(_) if detail == Detail::States => Span::raw("Kafka"),
        Source::Known(look) => {
            let members = match (detail, look.members) {
                (Detail::Members, Some(members)) => format!(", {}", plural(members, "member")),
                (Detail::Members, None) => ", ? members".into(),
                _ => String::new(),
            };
            Span::raw(format!("Kafka: {}{members}", plural(look.brokers, "broker")))
        }
    };
    let cassandra = match &state.cassandra {
        Source::Asking => Span::raw("Cassandra: asking"),
        Source::Unreachable { .. } => Span::styled("Cassandra: no answer", palette.bad()),
        Source::Known(look) => {
            let up = look.nodes.iter().filter(|node| node.is_up).count();
            let style = if up == look.nodes.len() { palette.good() } else { palette.bad() };
            let nodes = if detail == Detail::States { "" } else { " nodes" };
            Span::styled(format!("Cassandra: {up}/{}{nodes}", look.nodes.len()), style)
        }
    };
    let mut spans = Vec::new();
    if detail != Detail::States {
        spans
            .extend([Span::styled("iotctl top", Style::new().add_modifier(Modifier::BOLD)), Span::raw("  ")]);
    }
    if state.is_paused {
        spans.extend([Span::styled(" paused ", palette.selected()), Span::raw("  ")]);
    }
    spans.extend([cassandra, Span::raw("  "), kafka]);
    Line::from(spans)
}

fn draw_charts(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let look = state.kafka.last();
    let per_second = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{}/s", count(rate)));
    let lag = look.and_then(super::kafka::KafkaState::lag).map_or("-".into(), |lag| count(lag as f64));
    let seconds = look.and_then(super::kafka::KafkaState::lag_seconds).map_or("-".into(), age);
    let writes: Vec<f64> = state
        .cassandra
        .last()
        .map(|look| look.nodes.iter().filter_map(|node| node.write_rate).collect())
        .unwrap_or_default();
    let writes = (!writes.is_empty()).then(|| writes.iter().sum());
    // The border takes two cells of each chart.
    let both = format!("{lag}, {seconds}");
    let lag_text = if both.len() + 2 <= usize::from(area.width / 4) { both } else { lag };
    let charts = [
        ("produced", per_second(state.produced), &state.produced_history, Color::Cyan),
        ("consumed", per_second(state.consumed), &state.consumed_history, Color::Green),
        ("lag", lag_text, &state.lag_history, Color::Yellow),
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
    // The newest value is at the right.
    let gap = usize::from(line.width).saturating_sub(newest.len());
    let data: Vec<u64> = std::iter::repeat_n(0, gap).chain(newest).collect();
    frame.render_widget(Sparkline::default().data(data).style(style), line);
}

fn draw_footer(frame: &mut Frame, area: Rect, state: &State, palette: Palette) {
    let reason = match (&state.cassandra, &state.kafka) {
        (Source::Unreachable { reason, last: Some(_) }, _)
        | (_, Source::Unreachable { reason, last: Some(_) }) => Some(reason),
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

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::Action;
    use super::super::kafka::Partition;
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
        rows.map(|row| {
            row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
        })
        .collect()
    }

    #[test]
    fn on_80_by_24_everything_is_shown_and_nothing_is_cut() {
        let lines = lines(&drawn(&state(), 80, 24, true));
        let text = lines.join("\n");
        assert!(
            lines[0].starts_with("iotctl top  Cassandra: 2/3 nodes  Kafka: 1 broker, 1 member"),
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
    fn numbers_are_whole_at_every_width() {
        let mut state = state();
        if let Source::Known(look) = &mut state.cassandra {
            look.nodes[0].load_bytes = Some(136_499.2);
            look.nodes[0].address = "127.0.0.123:19042".into();
        }
        let mut look = kafka(3, 987_000_123, 986_543_000);
        if let Some(partition) = look.partitions.as_mut().and_then(|partitions| partitions.first_mut()) {
            partition.lag_seconds = Some(86_340.0);
        }
        state.update_kafka(Ok(look));
        let text = |width| lines(&drawn(&state, width, 24, false)).join("\n");
        let shown = |width: u16, whole: &[&str]| {
            let text = text(width);
            for value in whole {
                assert!(text.contains(value), "{value:?} is not in\n{text}");
            }
        };
        let always =
            ["127.0.0.123:19042", "down", "133.3 KiB", "457123", "23h 59m", "Cassandra: 2/3 nodes", "1.4M"];
        shown(60, &always);
        shown(80, &[&always[..], &["987000123", "986543000", "0.9 ms"]].concat());
        shown(
            120,
            &[&always[..], &["987000123", "986543000", "4.0 ms", "1/1", "pending", "1 member"]].concat(),
        );
        // Narrower still, a value is there whole or not at all.
        let values = ["133.3 KiB", "457123", "23h 59m", "987000123", "986543000", "0.9 ms", "4.0 ms"];
        for width in 40..=120 {
            let text = text(width);
            let fields = text.lines().skip(6).flat_map(|line| line.trim_matches('│').split("  "));
            let fields =
                fields.map(str::trim).filter(|field| field.contains(|char: char| char.is_ascii_digit()));
            for field in fields {
                for value in values.iter().filter(|value| value.ends_with(field) || value.starts_with(field))
                {
                    assert!(field == *value || field.len() < 3, "{field:?} of {value:?} at {width}:\n{text}");
                }
            }
        }
    }

    #[test]
    fn without_colours_no_cell_has_one_and_with_colours_a_down_node_is_red() {
        let plain = drawn(&state(), 80, 24, false);
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        let colored = drawn(&state(), 80, 24, true);
        assert!(colored.content.iter().any(|cell| cell.fg == Color::Red));
    }

    #[test]
    fn any_size_is_drawn_without_a_panic_and_a_tiny_one_names_the_minimum() {
        for width in (1..=200).step_by(7) {
            for height in 1..=60 {
                drawn(&state(), width, height, true);
            }
        }
        assert!(lines(&drawn(&state(), 39, 11, true)).join(" ").contains("too small: 40 by 12"));
    }

    #[test]
    fn an_unreachable_kafka_is_reported_and_the_nodes_stay() {
        let mut fresh = State::new(&crate::config::Config::default(), std::time::Duration::from_secs(1));
        fresh.cassandra = state().cassandra;
        fresh.update_kafka(Err("no Kafka broker answers at here:9092".into()));
        let text = lines(&drawn(&fresh, 80, 24, true)).join("\n");
        assert!(
            text.contains("Kafka: no answer") && text.contains("no Kafka broker answers at here"),
            "{text}"
        );
        assert!(text.contains("127.0.0.1:9042"), "{text}");
        // What was known before stays on the screen, marked as last known.
        let mut known = state();
        known.update_kafka(Err("no Kafka broker answers at here:9092".into()));
        let text = lines(&drawn(&known, 80, 24, true)).join("\n");
        assert!(
            text.contains("last known partitions") && text.contains("no Kafka broker answers at here"),
            "{text}"
        );
    }

    #[test]
    fn the_selected_partition_is_visible_on_a_screen_that_is_too_small_for_all() {
        let mut state = state();
        let mut look = kafka(3, 100, 50);
        let partition = look.partitions.as_ref().unwrap()[0].clone();
        let many = (0..64).map(|id| Partition { id, end: Some(7_000 + i64::from(id)), ..partition.clone() });
        look.partitions = Some(many.collect());
        state.update_kafka(Ok(look));
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
}
