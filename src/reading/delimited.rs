//! Delimited text (CSV) as pandas, polars, DuckDB, Spark and Excel write it: which delimiter, which decimal mark, which
//! words mean that a value is missing. Used by every reader of such files.

use std::io::{self, BufRead, BufReader, Read};

use encoding_rs_io::DecodeReaderBytesBuilder;

/// An open text file.
pub type Text = Box<dyn BufRead + Send>;

/// Bytes of a heading line that are looked at.
const MAX_HEADING: u64 = 64 * 1024;

/// How a file separates its columns and writes its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    pub delimiter: u8,
    /// 21,5 is a number, as Excel writes it where the comma is the decimal mark. Never if the comma is the delimiter.
    pub has_decimal_comma: bool,
}

impl Dialect {
    /// The dialect of a file, by its heading line, and the file from its heading on. A first line `sep=;`, which tells Excel
    /// the delimiter, is left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn detect(mut reader: Text) -> io::Result<(Self, Text)> {
        let mut heading = Vec::new();
        (&mut reader).take(MAX_HEADING).read_until(b'\n', &mut heading)?;
        if let [b's', b'e', b'p', b'=', delimiter, b'\n' | b'\r', ..] = heading[..] {
            return Ok((Self::with(delimiter), reader));
        }
        let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
        let mut is_quoted = false;
        for &byte in &heading {
            match byte {
                b'"' => is_quoted = !is_quoted,
                _ if is_quoted => {}
                _ => counts.iter_mut().filter(|(it, _)| *it == byte).for_each(|(_, count)| *count += 1),
            }
        }
        // Of equal counts, the first in the list.
        let (delimiter, _) = counts.into_iter().rev().max_by_key(|(_, count)| *count).unwrap_or((b',', 0));
        Ok((Self::with(delimiter), Box::new(io::Cursor::new(heading).chain(reader))))
    }

    fn with(delimiter: u8) -> Self {
        Self { delimiter, has_decimal_comma: delimiter != b',' }
    }

    /// The number in a cell. A number with both marks, such as 1.013,25, is not guessed at.
    pub fn number(self, cell: &str) -> Option<f64> {
        match cell.split_once(',') {
            Some((whole, decimals)) if self.has_decimal_comma && !whole.contains('.') => {
                format!("{whole}.{decimals}").parse().ok()
            }
            _ => cell.parse().ok(),
        }
    }
}

/// Whether a cell says that there is no value: empty, or a word that some program writes for it.
pub fn is_missing(cell: &str) -> bool {
    const WORDS: [&str; 9] = ["na", "n/a", "#n/a", "<na>", "nan", "null", "none", "\\n", "-"];
    cell.is_empty() || WORDS.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// The truth in a cell; pandas writes 1.0 and 0.0 for a column with missing values.
pub fn boolean(cell: &str) -> Option<bool> {
    match cell.to_ascii_lowercase().as_str() {
        "true" | "1" | "1.0" | "yes" | "on" => Some(true),
        "false" | "0" | "0.0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Text as UTF-8 without a byte-order mark, whatever the mark names: Excel writes one before UTF-8, and UTF-16 as "Unicode
/// text". Without a mark the bytes are passed through.
pub fn text<R: Read + Send + 'static>(reader: R) -> Text {
    let decoded = DecodeReaderBytesBuilder::new().strip_bom(true).utf8_passthru(true).build(reader);
    Box::new(BufReader::with_capacity(128 * 1024, decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(start: &str) -> (Dialect, String) {
        let (dialect, mut reader) = Dialect::detect(text(io::Cursor::new(start.to_owned()))).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        (dialect, rest)
    }

    #[test]
    fn the_delimiter_is_the_one_that_the_heading_has_most_of_outside_of_quotes() {
        for (text, delimiter) in [
            ("a,b,c\n1;2;3;4\n", b','),
            ("a;b;c\r\n1,5;2,5;3\r\n", b';'),
            ("a\tb\n1,5\t2\n", b'\t'),
            ("a|b\n", b'|'),
            ("\"x, y, z\";b\n", b';'),
            ("alone\n1,5\n", b','),
            ("", b','),
        ] {
            let (dialect, rest) = detected(text);
            assert_eq!((dialect.delimiter, rest.as_str()), (delimiter, text), "{text:?}");
        }
        let (dialect, rest) = detected("sep=;\r\na,b;c\r\n");
        assert_eq!((dialect.delimiter, rest.as_str()), (b';', "a,b;c\r\n"));
    }

    #[test]
    fn a_decimal_comma_is_read_unless_the_comma_separates_columns() {
        let [comma, semicolon] = [b',', b';'].map(Dialect::with);
        assert_eq!(semicolon.number("-21,5"), Some(-21.5));
        assert_eq!(semicolon.number("21.5"), Some(21.5));
        assert_eq!(semicolon.number("1.013,25"), None);
        assert_eq!(semicolon.number("1,013,25"), None);
        assert_eq!(comma.number("21,5"), None);
        assert_eq!(comma.number("1e3"), Some(1000.0));
    }

    #[test]
    fn words_for_missing_values_are_known() {
        for word in ["", "NA", "NaN", "null", "NULL", "None", "\\N", "-", "#N/A", "<NA>"] {
            assert!(is_missing(word), "{word}");
        }
        assert!(!is_missing("0") && !is_missing("-1") && !is_missing("north"));
    }

    #[test]
    fn a_byte_order_mark_is_removed_and_utf_16_is_decoded() {
        let utf_16 = |text: &str| {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect::<Vec<_>>()
        };
        for bytes in [b"\xef\xbb\xbfa;\xc3\xa4".to_vec(), utf_16("a;ä"), "a;ä".as_bytes().to_vec()] {
            let mut found = String::new();
            text(io::Cursor::new(bytes)).read_to_string(&mut found).unwrap();
            assert_eq!(found, "a;ä");
        }
    }
}
