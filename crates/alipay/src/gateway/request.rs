//! Requests to the open API: the public parameters, signed, as a form.

use chrono::{DateTime, Utc};
use payment::AppId;

use crate::{KeyError, SigningKey};

pub(super) const CHARSET: &str = "utf-8";
pub(super) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded;charset=utf-8";

/// The body of a request. What is signed is everything but `sign`, `sign_type` included, in
/// ascending order of names, parameters without a value left out.
pub(super) fn signed(
    app_id: &AppId,
    signing_key: &SigningKey,
    method: &str,
    biz_content: &str,
    now: DateTime<Utc>,
) -> Result<String, KeyError> {
    let timestamp = payment::to_local(now);
    let mut parameters = [
        ("app_id", app_id.as_str()),
        ("biz_content", biz_content),
        ("charset", CHARSET),
        ("format", "JSON"),
        ("method", method),
        ("sign_type", "RSA2"),
        ("timestamp", &timestamp),
        ("version", "1.0"),
    ];
    parameters.sort_unstable();
    let mut content = String::new();
    let mut body = String::new();
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        if !content.is_empty() {
            content.push('&');
        }
        content.push_str(name);
        content.push('=');
        content.push_str(value);
        append(&mut body, name, value);
    }
    append(&mut body, "sign", &signing_key.sign_rsa2(content.as_bytes())?);
    Ok(body)
}

fn append(body: &mut String, name: &str, value: &str) {
    if !body.is_empty() {
        body.push('&');
    }
    body.push_str(name);
    body.push('=');
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                body.push(char::from(byte));
            }
            b' ' => body.push('+'),
            other => body.push_str(&format!("%{other:02X}")),
        }
    }
}
