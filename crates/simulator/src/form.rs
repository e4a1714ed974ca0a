//! The form bodies that Alipay sends, and the text it signs. Written from the protocol's
//! description and apart from the receiving side on purpose: two that agree by accident would be
//! wrong together.

/// One parameter, its value in the bytes of the message's charset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

impl Param {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Param { name: name.into(), value: value.into() }
    }
}

/// Which parameters take no part in the signed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// `sign` and `sign_type`: payment notifications.
    V1,
    /// `sign` alone: old application-gateway pushes, and requests to the gateway.
    V2,
}

/// Whether a parameter without a value takes part in the signed text; implementations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptyValues {
    Signed,
    Skipped,
}

/// `key=value` of every signed parameter, sorted by key, joined with `&`; nothing quoted, nothing
/// encoded.
pub(crate) fn signed_text(params: &[Param], rule: Rule, empty: EmptyValues) -> Vec<u8> {
    let mut signed: Vec<&Param> = params
        .iter()
        .filter(|param| match rule {
            Rule::V1 => param.name != "sign" && param.name != "sign_type",
            Rule::V2 => param.name != "sign",
        })
        .filter(|param| empty == EmptyValues::Signed || !param.value.is_empty())
        .collect();
    signed.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut text = Vec::new();
    for param in signed {
        if !text.is_empty() {
            text.push(b'&');
        }
        text.extend_from_slice(param.name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(&param.value);
    }
    text
}

/// The body as it goes over the wire, in the order given, encoded as `java.net.URLEncoder` does:
/// a blank is `+`, `*-._` stay bare, hex is upper-case.
pub(crate) fn body(params: &[Param]) -> Vec<u8> {
    let mut body = Vec::new();
    for param in params {
        if !body.is_empty() {
            body.push(b'&');
        }
        encode(param.name.as_bytes(), &mut body);
        body.push(b'=');
        encode(&param.value, &mut body);
    }
    body
}

pub(crate) fn encode(text: &[u8], into: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => into.push(*byte),
            b' ' => into.push(b'+'),
            other => {
                into.push(b'%');
                into.push(hex_digit(other >> 4));
                into.push(hex_digit(other & 15));
            }
        }
    }
}

/// Reads a body or a query string; `None` where an escape is broken or a name is not UTF-8.
pub(crate) fn read(text: &[u8]) -> Option<Vec<Param>> {
    text.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            Some(Param { name: String::from_utf8(name).ok()?, value })
        })
        .collect()
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_value(*bytes.next()?)? << 4 | hex_value(*bytes.next()?)?,
            other => *other,
        });
    }
    Some(decoded)
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_encoded_as_java_does_and_reads_back() {
        let params = [
            Param::new("subject", "测试 A+B & \"C\" 100%"),
            Param::new("buyer_logon_id", "138****01"),
            Param::new("body", ""),
        ];
        let body = body(&params);
        assert_eq!(
            String::from_utf8_lossy(&body),
            "subject=%E6%B5%8B%E8%AF%95+A%2BB+%26+%22C%22+100%25&buyer_logon_id=138****01&body="
        );
        assert_eq!(read(&body).unwrap(), params);
        assert_eq!(read(b"a=%E6%B"), None);
    }

    #[test]
    fn the_signed_text_is_sorted_and_leaves_out_what_the_rule_says() {
        let params = [
            Param::new("sign_type", "RSA2"),
            Param::new("b", "2"),
            Param::new("sign", "xyz"),
            Param::new("empty", ""),
            Param::new("a", "1"),
        ];
        let text = |rule, empty| String::from_utf8(signed_text(&params, rule, empty)).unwrap();
        assert_eq!(text(Rule::V1, EmptyValues::Skipped), "a=1&b=2");
        assert_eq!(text(Rule::V1, EmptyValues::Signed), "a=1&b=2&empty=");
        assert_eq!(text(Rule::V2, EmptyValues::Skipped), "a=1&b=2&sign_type=RSA2");
    }
}
