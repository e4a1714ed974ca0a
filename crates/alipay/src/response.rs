//! Answers of the open API: the signed text is cut out of them as it came, then verified.

use base64::Engine as _;
use memchr::memmem;
use serde_json::{Map, Value};

use crate::signature::BASE64;
use crate::{KeyRing, SignType, Trust};
use members::{Member, members};

mod members;

/// An answer of the open API, opened.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Whether one of Alipay's keys has signed it. A success always is; an error may not be, and
    /// is then good for telling people and nothing else.
    pub(crate) signed: bool,
    pub(crate) success: bool,
    pub(crate) fields: Map<String, Value>,
}

/// Why an answer of the open API cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("the answer is not the JSON of the open API: byte {offset} should be {expected}")]
    Malformed { offset: usize, expected: &'static str },
    #[error("the answer names a member of its outer object twice")]
    RepeatedMember,
    #[error("the answer holds neither `{node}` nor `error_response`")]
    NoNode { node: String },
    #[error("the answer's node is not a JSON object with a `code`")]
    NotAnObject,
    #[error("the answer's `sign` is not base64")]
    BadSign,
    #[error("none of Alipay's keys has signed the answer")]
    WrongSignature,
    #[error("the answer says it is a success and nobody has signed it")]
    UnsignedSuccess,
    #[error(
        "the answer is encrypted, which this version does not support; turn off content \
         encryption (接口内容加密方式) for the app"
    )]
    Encrypted,
}

impl Answer {
    /// Opens the answer to `method`. The text that is verified is the raw text of the node, escapes
    /// and blanks as they came.
    pub(crate) fn open(body: &[u8], method: &str, keys: &KeyRing) -> Result<Self, ResponseError> {
        let members = members(body)?;
        let name = format!("{}_response", method.replace('.', "_"));
        let find = |name: &str| members.iter().find(|member| member.name == name.as_bytes());
        let (node, is_error) = match (find(&name), find("error_response")) {
            (Some(Member { value, .. }), _) => (*value, false),
            (None, Some(Member { value, .. })) => (*value, true),
            (None, None) => return Err(ResponseError::NoNode { node: name }),
        };
        let sign = match find("sign") {
            Some(Member { value, .. }) => {
                serde_json::from_slice::<String>(value).map_err(|_| ResponseError::BadSign)?
            }
            None => String::new(),
        };
        let signed = !sign.is_empty();
        if signed && !is_signed(node, &sign, keys)? {
            return Err(ResponseError::WrongSignature);
        }
        if node.starts_with(b"\"") {
            return Err(ResponseError::Encrypted);
        }
        let fields: Map<String, Value> =
            serde_json::from_slice(node).map_err(|_| ResponseError::NotAnObject)?;
        let code = fields.get("code").and_then(Value::as_str).ok_or(ResponseError::NotAnObject)?;
        let success = !is_error && code == "10000";
        if success && !signed {
            return Err(ResponseError::UnsignedSuccess);
        }
        Ok(Answer { signed, success, fields })
    }

    /// A member of the node that is text; empty text counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

fn is_signed(node: &[u8], sign: &str, keys: &KeyRing) -> Result<bool, ResponseError> {
    let signature = BASE64.decode(sign).map_err(|_| ResponseError::BadSign)?;
    let verifies = |content: &[u8]| {
        keys.keys(Trust::Active).any(|key| key.verifies(SignType::Rsa2, content, &signature))
    };
    Ok(verifies(node) || unescaped(node).is_some_and(|content| verifies(&content)))
}

/// Some answers are escaped after they were signed; Alipay's own SDKs allow for it the same way.
fn unescaped(node: &[u8]) -> Option<Vec<u8>> {
    memmem::find(node, br"\/")?;
    let mut content = Vec::with_capacity(node.len());
    let mut rest = node;
    while let Some(at) = memmem::find(rest, br"\/") {
        content.extend_from_slice(rest.get(..at).unwrap_or_default());
        // The slash itself is kept with what follows.
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    content.extend_from_slice(rest);
    Some(content)
}

#[cfg(test)]
mod tests;
