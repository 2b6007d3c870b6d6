//! A live line for each server while it starts; where stderr is not a terminal, a plain line at the start and at the end.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::Output;

/// The lines of one `up` or `down`.
#[derive(Debug)]
pub struct ProgressLines {
    output: Output,
    bars: MultiProgress,
}

/// One server's line. Dropped without [`Step::done`], it disappears.
#[derive(Debug)]
pub struct Step {
    name: String,
    output: Output,
    bar: ProgressBar,
    started: Instant,
}

impl ProgressLines {
    pub fn new(output: Output) -> Self {
        Self { output, bars: MultiProgress::with_draw_target(output.draw_target()) }
    }

    /// A note above the lines.
    pub fn note(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| self.output.note(text));
    }

    /// A new line: `name` and its current activity.
    pub fn step(&self, name: &str, doing: &str) -> Step {
        let style = ProgressStyle::with_template("{spinner:.green} {prefix:<12} {msg} {elapsed}");
        let bar = ProgressBar::new_spinner()
            .with_style(style.expect("a constant template"))
            .with_prefix(name.to_owned())
            .with_message(doing.to_owned());
        let bar = self.bars.add(bar);
        bar.enable_steady_tick(Duration::from_millis(120));
        if bar.is_hidden() {
            self.output.note(format!("{name}: {doing}"));
        }
        Step { name: name.to_owned(), output: self.output, bar, started: Instant::now() }
    }
}

impl Step {
    pub fn set(&self, doing: impl Into<String>) {
        self.bar.set_message(doing.into());
    }

    /// Leaves the line with its result and how long it took.
    pub fn done(self, result: &str) {
        let text = format!("{result} in {:.1} s", self.started.elapsed().as_secs_f64());
        if self.bar.is_hidden() {
            self.output.note(format!("{}: {text}", self.name));
        }
        let style = ProgressStyle::with_template("✔ {prefix:<12} {msg}");
        self.bar.set_style(style.expect("a constant template"));
        self.bar.finish_with_message(text);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}
