//! Keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    Pause,
    /// Move the focus between the nodes and the partitions.
    Switch,
    Up,
    Down,
}

pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        // In raw mode Ctrl-C is a key, not a signal.
        KeyCode::Char('c') if has_control => Action::Quit,
        _ if has_control => return None,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => Action::Switch,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_that_the_footer_names_does_what_it_says() {
        let key = |code| action(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(key(KeyCode::Char('q')), Some(Action::Quit));
        assert_eq!(key(KeyCode::Esc), Some(Action::Quit));
        assert_eq!(key(KeyCode::Char('p')), Some(Action::Pause));
        assert_eq!(key(KeyCode::Tab), Some(Action::Switch));
        assert_eq!(key(KeyCode::Down), Some(Action::Down));
        assert_eq!(key(KeyCode::Char('x')), None);
        let control = |char| action(KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL));
        assert_eq!(control('c'), Some(Action::Quit));
        assert_eq!(control('p'), None);
    }
}
