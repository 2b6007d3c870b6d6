//! Bytes as text: hexadecimal digits, and the percent-encoding of URLs.

use std::fmt::Write as _;

/// Two lower-case digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whatever is no letter, no digit, none of `-._~` and not in `plain` is written as %XX.
pub fn percent_encoded(bytes: &[u8], plain: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_digits_or_escapes() {
        assert_eq!(hex(&[0, 0x0f, 0xab]), "000fab");
        assert_eq!(percent_encoded("a-z/ü~".as_bytes(), b""), "a-z%2F%C3%BC~");
        assert_eq!(percent_encoded(b"/a b", b"/"), "/a%20b");
    }
}
