//! From a key's text to its DER bytes, and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use super::KeyFault;
use crate::signature::BASE64;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Takes the one PEM block out of `text`, or all of it as bare base64.
pub(super) fn to_der(text: &[u8]) -> Result<Vec<u8>, KeyFault> {
    match memmem::find(text, BEGIN) {
        Some(begin) => pem(text, begin + BEGIN.len()),
        None => {
            let bom = b"\xEF\xBB\xBF";
            let start = if text.starts_with(bom) { bom.len() } else { 0 };
            base64(text.get(start..).unwrap_or_default(), start)
        }
    }
}

/// PEM with lines of 64 characters.
pub(super) fn to_pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        pem.push_str(rest);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn pem(text: &[u8], label_at: usize) -> Result<Vec<u8>, KeyFault> {
    let after = |at: usize| text.get(at..).unwrap_or_default();
    let label_len = memmem::find(after(label_at), DASHES).ok_or(KeyFault::NoEndLine)?;
    let label = text.get(label_at..label_at + label_len).unwrap_or_default();
    let body_at = label_at + label_len + DASHES.len();
    let end = [END, label, DASHES].concat();
    let body_len = memmem::find(after(body_at), &end).ok_or(KeyFault::NoEndLine)?;
    let body = text.get(body_at..body_at + body_len).unwrap_or_default();
    let encrypted =
        label == b"ENCRYPTED PRIVATE KEY" || memmem::find(body, b"Proc-Type:").is_some();
    if encrypted {
        return Err(KeyFault::Encrypted);
    }
    // A file of certificates may hold its whole chain: the first one tells what it is.
    let certificate = label == b"CERTIFICATE";
    if !certificate && memmem::find(after(body_at + body_len), BEGIN).is_some() {
        return Err(KeyFault::MoreThanOne);
    }
    base64(body, body_at)
}

/// Decodes base64 with blanks and line breaks in it; `offset` is where it starts in the file.
fn base64(text: &[u8], offset: usize) -> Result<Vec<u8>, KeyFault> {
    let mut kept = Vec::with_capacity(text.len());
    let mut padded = false;
    for (at, byte) in text.iter().enumerate() {
        let fits = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'=' => {
                padded = true;
                true
            }
            b'+' | b'/' => !padded,
            other => other.is_ascii_alphanumeric() && !padded,
        };
        if !fits {
            return Err(KeyFault::NotBase64 { offset: offset + at });
        }
        kept.push(*byte);
    }
    if kept.is_empty() {
        return Err(KeyFault::Empty);
    }
    // Every character is in the alphabet: what is left is a wrong length, seen at the end.
    BASE64.decode(&kept).map_err(|_| KeyFault::NotBase64 { offset: offset + text.len() })
}
