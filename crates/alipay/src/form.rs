use std::fmt;
use std::ops::Range;

use memchr::memchr;

use crate::excerpt::excerpt;

/// How many parameters one message may have; real ones have about forty.
pub const MAX_PARAMETERS: usize = 256;

/// The parameters of a message nobody has vouched for yet: decoded to bytes, sorted by name.
///
/// [`verify`](crate::verify) turns it into a [`VerifiedForm`](crate::VerifiedForm).
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedForm {
    /// All names and values, decoded, one behind the other.
    decoded: Vec<u8>,
    /// In ascending order of their names' bytes; no name twice.
    parameters: Vec<Parameter>,
}

#[derive(Clone, PartialEq, Eq)]
struct Parameter {
    name: Range<usize>,
    value: Range<usize>,
    /// Where it starts in the body, for error messages.
    offset: usize,
}

/// Why bytes are not a form. Offsets are bytes of the raw body, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the body is empty; a message is `name=value` pairs joined by `&`")]
    Empty,
    #[error(
        "what starts at byte {offset} of the body has no `=`; a message is `name=value` pairs \
         joined by `&`"
    )]
    NotAForm { offset: usize },
    #[error("the parameter at byte {offset} of the body has no name before its `=`")]
    Nameless { offset: usize },
    #[error("the `%` at byte {offset} of the body is not followed by two hexadecimal digits")]
    BadEscape { offset: usize },
    #[error("byte {offset} of the body is a control character; a form has it percent-encoded")]
    ControlByte { offset: usize },
    #[error(
        "the parameter `{name}` at byte {offset} of the body was there before; each may stand once"
    )]
    RepeatedKey { name: String, offset: usize },
    #[error("the body has more than {limit} parameters")]
    TooManyParameters { limit: usize },
}

impl FormError {
    /// Where in the body it went wrong, in bytes from 0, where that is one place.
    pub fn offset(&self) -> Option<usize> {
        match self {
            FormError::NotAForm { offset }
            | FormError::Nameless { offset }
            | FormError::BadEscape { offset }
            | FormError::ControlByte { offset }
            | FormError::RepeatedKey { offset, .. } => Some(*offset),
            FormError::Empty | FormError::TooManyParameters { .. } => None,
        }
    }
}

impl UnverifiedForm {
    /// Reads a raw body or a raw query string: splits at `&` and at the first `=`, then decodes
    /// exactly once (`%XX` is a byte, `+` is a blank). The order of arrival is of no account.
    ///
    /// Bytes from 0x80 up stand for themselves where a sender has not encoded them; empty
    /// segments (`a=1&&b=2`) are skipped.
    pub fn parse(body: &[u8]) -> Result<Self, FormError> {
        let mut decoded = Vec::with_capacity(body.len());
        let mut parameters = Vec::with_capacity(48);
        let mut offset = 0;
        for segment in Segments(Some(body)) {
            if !segment.is_empty() {
                if parameters.len() == MAX_PARAMETERS {
                    return Err(FormError::TooManyParameters { limit: MAX_PARAMETERS });
                }
                parameters.push(parameter(segment, offset, &mut decoded)?);
            }
            offset += segment.len() + 1;
        }
        if parameters.is_empty() {
            return Err(FormError::Empty);
        }
        let form = UnverifiedForm { decoded, parameters };
        form.sorted()
    }

    /// The decoded value of a parameter; `Some(b"")` where it stands without one.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let at = self
            .parameters
            .binary_search_by(|parameter| self.bytes(&parameter.name).cmp(name.as_bytes()))
            .ok()?;
        self.parameters.get(at).map(|parameter| self.bytes(&parameter.value))
    }

    /// All names and values, in ascending order of the names' bytes.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parameters
            .iter()
            .map(|parameter| (self.bytes(&parameter.name), self.bytes(&parameter.value)))
    }

    /// Enough room for every `name=value` joined by `&`.
    pub(crate) fn joined_len(&self) -> usize {
        self.decoded.len() + 2 * self.parameters.len()
    }

    fn sorted(mut self) -> Result<Self, FormError> {
        let decoded = &self.decoded;
        let name = |parameter: &Parameter| decoded.get(parameter.name.clone()).unwrap_or_default();
        self.parameters
            .sort_unstable_by(|a, b| name(a).cmp(name(b)).then_with(|| a.offset.cmp(&b.offset)));
        let mut neighbours = self.parameters.iter().zip(self.parameters.iter().skip(1));
        match neighbours.find(|(first, second)| name(first) == name(second)) {
            Some((_, repeated)) => Err(FormError::RepeatedKey {
                name: excerpt(name(repeated)),
                offset: repeated.offset,
            }),
            None => Ok(self),
        }
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.decoded.get(range.clone()).unwrap_or_default()
    }
}

/// Names only: values are the buyer's business.
impl fmt::Debug for UnverifiedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs().map(|(name, _)| excerpt(name))).finish()
    }
}

/// What stands between `&`s.
struct Segments<'b>(Option<&'b [u8]>);

impl<'b> Iterator for Segments<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let rest = self.0?;
        let (segment, rest) = match memchr(b'&', rest) {
            Some(at) => (rest.get(..at), rest.get(at + 1..)),
            None => (Some(rest), None),
        };
        self.0 = rest;
        segment
    }
}

fn parameter(segment: &[u8], offset: usize, decoded: &mut Vec<u8>) -> Result<Parameter, FormError> {
    let Some(equals) = memchr(b'=', segment) else {
        return Err(FormError::NotAForm { offset });
    };
    if equals == 0 {
        return Err(FormError::Nameless { offset });
    }
    let (name, rest) = segment.split_at(equals);
    let name = decode(name, offset, decoded)?;
    let value = decode(rest.get(1..).unwrap_or_default(), offset + equals + 1, decoded)?;
    Ok(Parameter { name, value, offset })
}

/// Appends the decoded bytes and says where they lie.
fn decode(text: &[u8], offset: usize, decoded: &mut Vec<u8>) -> Result<Range<usize>, FormError> {
    let start = decoded.len();
    let mut rest = text;
    // What stands for itself is taken in one piece.
    while let Some(plain) = rest.iter().position(|byte| !stands_for_itself(*byte)) {
        let (run, special) = rest.split_at(plain);
        decoded.extend_from_slice(run);
        let at = || offset + text.len() - special.len();
        rest = match special {
            [b'+', rest @ ..] => {
                decoded.push(b' ');
                rest
            }
            [b'%', high, low, rest @ ..] => {
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Err(FormError::BadEscape { offset: at() });
                };
                decoded.push(high << 4 | low);
                rest
            }
            [b'%', ..] => return Err(FormError::BadEscape { offset: at() }),
            _ => return Err(FormError::ControlByte { offset: at() }),
        };
    }
    decoded.extend_from_slice(rest);
    Ok(start..decoded.len())
}

fn stands_for_itself(byte: u8) -> bool {
    !matches!(byte, b'%' | b'+' | 0..=0x1F | 0x7F)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &[u8], expected: Expect) {
        expected.assert_eq(&UnverifiedForm::parse(body).unwrap_err().to_string());
    }

    #[test]
    fn a_body_is_split_first_and_decoded_once() {
        let form =
            UnverifiedForm::parse(b"z=%26%3D%2541&a=1+2%2b3&m=x=y&e=&raw=\xB2\xE2&b%61=c").unwrap();
        assert_eq!(form.get("z"), Some(&b"&=%41"[..]));
        assert_eq!(form.get("a"), Some(&b"1 2+3"[..]));
        assert_eq!(form.get("m"), Some(&b"x=y"[..]));
        assert_eq!(form.get("e"), Some(&b""[..]));
        assert_eq!(form.get("raw"), Some(&b"\xB2\xE2"[..]));
        assert_eq!(form.get("ba"), Some(&b"c"[..]));
        assert_eq!(form.get("absent"), None);
        let names: Vec<_> = form.pairs().map(|(name, _)| name.to_vec()).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn empty_segments_are_skipped() {
        let form = UnverifiedForm::parse(b"&a=1&&b=2&").unwrap();
        assert_eq!(form.pairs().count(), 2);
    }

    #[test]
    fn what_is_no_form_is_refused_with_its_place() {
        refused(b"", expect!["the body is empty; a message is `name=value` pairs joined by `&`"]);
        refused(b"&&", expect!["the body is empty; a message is `name=value` pairs joined by `&`"]);
        refused(
            b"{\"a\":1}",
            expect![
                "what starts at byte 0 of the body has no `=`; a message is `name=value` pairs joined by `&`"
            ],
        );
        refused(
            b"a=1&sig",
            expect![
                "what starts at byte 4 of the body has no `=`; a message is `name=value` pairs joined by `&`"
            ],
        );
        refused(
            b"a=1&=2",
            expect!["the parameter at byte 4 of the body has no name before its `=`"],
        );
        refused(
            b"a=%E6%B",
            expect!["the `%` at byte 5 of the body is not followed by two hexadecimal digits"],
        );
        refused(
            b"a=%",
            expect!["the `%` at byte 2 of the body is not followed by two hexadecimal digits"],
        );
        refused(
            b"a=1&b%=2%G1",
            expect!["the `%` at byte 5 of the body is not followed by two hexadecimal digits"],
        );
        refused(
            b"a=%+1",
            expect!["the `%` at byte 2 of the body is not followed by two hexadecimal digits"],
        );
        refused(
            b"a=1\n",
            expect!["byte 3 of the body is a control character; a form has it percent-encoded"],
        );
        refused(
            b"a=\x00",
            expect!["byte 2 of the body is a control character; a form has it percent-encoded"],
        );
        refused(
            b"a=1&b=2&%61=3",
            expect![
                "the parameter `a` at byte 8 of the body was there before; each may stand once"
            ],
        );
    }

    #[test]
    fn the_number_of_parameters_is_limited() {
        let body = |count: usize| {
            (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join("&")
        };
        assert!(UnverifiedForm::parse(body(MAX_PARAMETERS).as_bytes()).is_ok());
        assert_eq!(
            UnverifiedForm::parse(body(MAX_PARAMETERS + 1).as_bytes()),
            Err(FormError::TooManyParameters { limit: MAX_PARAMETERS })
        );
    }

    #[test]
    fn values_do_not_show_in_debug_output() {
        let form = UnverifiedForm::parse(b"buyer_logon_id=138").unwrap();
        assert_eq!(format!("{form:?}"), "[\"buyer_logon_id\"]");
    }

    proptest! {
        #[test]
        fn any_bytes_come_through_encoded_once(
            pairs in proptest::collection::btree_map("[a-z_]{1,12}", any::<Vec<u8>>(), 1..20),
            seed in any::<u64>(),
        ) {
            let mut encoded: Vec<String> = pairs
                .iter()
                .map(|(name, value)| {
                    let value: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
                    format!("{name}={value}")
                })
                .collect();
            let turn = usize::try_from(seed % 20).unwrap() % encoded.len();
            encoded.rotate_left(turn);
            let form = UnverifiedForm::parse(encoded.join("&").as_bytes()).unwrap();
            let read: Vec<_> = form.pairs().collect();
            let sent: Vec<_> =
                pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn no_bytes_bring_the_parser_down(body in any::<Vec<u8>>()) {
            if let Ok(form) = UnverifiedForm::parse(&body) {
                prop_assert!(form.pairs().count() > 0);
            }
        }
    }
}
