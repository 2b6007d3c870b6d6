//! Styles, with and without colours.

use ratatui::style::{Color, Modifier, Style};

/// Colours, or none: then bold, dim and reverse carry the same information.
#[derive(Clone, Copy)]
pub(super) struct Palette {
    pub is_colored: bool,
}

impl Palette {
    pub(super) fn color(self, color: Color) -> Style {
        match self.is_colored {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    pub(super) fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn good(self) -> Style {
        self.color(Color::Green)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
