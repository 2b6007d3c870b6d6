//! Progress on stderr: bars and live lines on a terminal, an occasional plain line elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Output, text};

impl Output {
    /// A live line that is redrawn in place; hidden where stderr is not a terminal or with `--quiet`.
    pub fn live_line(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.draw_target());
        bar.set_style(ProgressStyle::with_template("{spinner:.green} {msg}").expect("a constant template"));
        bar
    }

    /// A bar towards a known total.
    pub fn bar(&self, total: u64, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), self.draw_target());
        bar.set_style(
            ProgressStyle::with_template(
                "{prefix:>12} [{bar:32}] {human_pos}/{human_len} {per_sec} eta {eta} {msg}",
            )
            .expect("a constant template")
            .progress_chars("=> "),
        );
        bar.set_prefix(what);
        bar
    }

    /// A spinner for a step of unknown length; call `finish_with_message` when it is done.
    pub fn spinner(&self, what: impl Into<String>) -> ProgressBar {
        let bar = self.live_line();
        bar.set_message(text::visible(&what.into()).into_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar
    }

    /// Where progress is drawn: stderr, or nowhere.
    pub fn draw_target(&self) -> ProgressDrawTarget {
        if self.stderr_is_terminal && !self.quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }
}
