//! Foreign text in error messages: short and on one line.

/// How many characters of a foreign value an error message shows.
const MAX_CHARS: usize = 40;

/// The beginning of `bytes` as printable text; what is not text is shown escaped.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    // No character is longer than four bytes, so nothing shown is lost by cutting here.
    let head = bytes.get(..MAX_CHARS * 4).unwrap_or(bytes);
    shorten(&String::from_utf8_lossy(head), MAX_CHARS)
}

/// The same for text, with a limit of its own.
pub(crate) fn shorten(text: &str, max_chars: usize) -> String {
    let mut shown = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == max_chars {
            shown.push('…');
            break;
        }
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_shown_short_and_on_one_line() {
        assert_eq!(excerpt(b"88.88"), "88.88");
        assert_eq!(excerpt(b"a\nb\x00"), "a\\nb\\u{0}");
        assert_eq!(excerpt(&b"9".repeat(1000)), format!("{}…", "9".repeat(40)));
        assert_eq!(excerpt(b"\xB2\xE2"), "\u{FFFD}\u{FFFD}");
    }
}
