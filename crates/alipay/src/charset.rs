//! The character set a message declares, and strict decoding in it.

use std::borrow::Cow;

use encoding_rs::GB18030;

/// How the bytes of a message are read as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    /// gbk and gb2312 as well: GB18030 contains both.
    Gb18030,
}

impl Charset {
    /// The charset of that name, in any case; `None` where it is unknown.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("utf-8") || is("utf8") {
            Some(Charset::Utf8)
        } else if is("gbk") || is("gb2312") || is("gb18030") {
            Some(Charset::Gb18030)
        } else {
            None
        }
    }

    /// The charset declared by the parameter `charset`; a message without one is utf-8.
    pub(crate) fn declared(value: Option<&[u8]>) -> Option<Self> {
        match value {
            None | Some(b"") => Some(Charset::Utf8),
            Some(name) => Charset::named(name),
        }
    }

    /// The text, or `None` where a byte has no meaning in this charset: nothing is replaced.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Charset::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Charset::Gb18030 => GB18030.decode_without_bom_handling_and_without_replacement(bytes),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Charset::Utf8 => "utf-8",
            Charset::Gb18030 => "gb18030",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gbk_family_is_one_charset_and_names_have_no_case() {
        for name in ["GBK", "gbk", "gb2312", "GB18030"] {
            assert_eq!(Charset::named(name.as_bytes()), Some(Charset::Gb18030), "{name}");
        }
        for name in ["utf-8", "UTF-8", "utf8"] {
            assert_eq!(Charset::named(name.as_bytes()), Some(Charset::Utf8), "{name}");
        }
        for name in ["", "big5", "utf-16", "utf-8 "] {
            assert_eq!(Charset::named(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Charset::declared(None), Some(Charset::Utf8));
    }

    #[test]
    fn a_byte_without_meaning_is_not_replaced() {
        assert_eq!(Charset::Gb18030.decode(b"\xB2\xE2\xCA\xD4").as_deref(), Some("测试"));
        assert_eq!(Charset::Utf8.decode(b"\xB2\xE2\xCA\xD4"), None);
        assert_eq!(Charset::Gb18030.decode(b"\xB2"), None);
        assert_eq!(Charset::Gb18030.decode(b"\xFF"), None);
    }
}
