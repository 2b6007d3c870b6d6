//! Fills `{{name}}` in the embedded configuration templates.

use crate::encoding::percent_encoded;

/// `template` with each `{{key}}` replaced by its value.
pub fn render(template: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{{{key}}}}}"), value))
}

/// A path for a Java properties file, which is Latin-1: everything beyond ASCII becomes `\uXXXX`.
pub fn property(path: &std::path::Path) -> String {
    let mut text = String::new();
    for char in path.to_string_lossy().chars() {
        match char {
            ' '..='~' => text.push(char),
            _ => {
                let mut units = [0; 2];
                text.extend(char.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    text
}

/// A path as a `file://` URL.
pub fn file_url(path: &std::path::Path) -> String {
    format!("file://{}", percent_encoded(path.as_os_str().as_encoded_bytes(), b"/"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_occurrence_is_replaced() {
        let text = render("{{a}}:{{b}},{{a}}", &[("a", "127.0.0.1".into()), ("b", "9042".into())]);
        assert_eq!(text, "127.0.0.1:9042,127.0.0.1");
    }

    #[test]
    fn paths_with_spaces_and_accents_survive_urls_and_properties() {
        assert_eq!(file_url(Path::new("/home/zoé x/a")), "file:///home/zo%C3%A9%20x/a");
        assert_eq!(property(Path::new("/home/zoé x")), "/home/zo\\u00e9 x");
    }
}
