use std::fmt;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine as _};

use crate::charset::Charset;
use crate::excerpt::excerpt;
use crate::{FormError, KeyRing, UnverifiedForm};

/// Verifies over all parameters that came, known or not, in the bytes they were sent in.
///
/// Alipay signs by two rules, and nobody has seen a genuine message that tells whether empty values
/// take part; so up to four texts are tried, in this order: V1 with empty values, V1 without, V2 with,
/// V2 without. Taking any of them is safe: only Alipay can sign any of them. Equal texts are tried
/// once; for a payment signed as usual that is one verification.
pub fn verify(form: UnverifiedForm, keys: &KeyRing, trust: Trust) -> Result<VerifiedForm, Refusal> {
    let signature = signature(&form)?;
    let sign_types = sign_types(&form)?;
    if !keys.keys(trust).any(|key| key.signature_bytes() == signature.len()) {
        return Err(Refusal::SignatureLength { bytes: signature.len() });
    }
    let mut content = Vec::with_capacity(form.joined_len());
    for (rule, empty_values) in readings(&form) {
        join(&form, rule, empty_values, &mut content);
        for key in keys.keys(trust).filter(|key| key.signature_bytes() == signature.len()) {
            for sign_type in sign_types {
                if key.verifies(*sign_type, &content, &signature) {
                    let key = key.name().to_owned();
                    let proof = Proof { rule, sign_type: *sign_type, key, empty_values };
                    return Ok(VerifiedForm { form, proof });
                }
            }
        }
    }
    // The bytes are verified whatever the charset says, so this is a hint, not the cause.
    match (Charset::declared(form.get("charset")), form.get("charset")) {
        (None, Some(charset)) => Err(Refusal::UnknownCharset { charset: excerpt(charset) }),
        (None, None) | (Some(_), _) => Err(Refusal::WrongSignature),
    }
}

/// A message that Alipay has signed: no parameter can be added, dropped or changed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedForm {
    form: UnverifiedForm,
    proof: Proof,
}

/// How a message was found genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub rule: Rule,
    pub sign_type: SignType,
    /// The name of the key that verified it.
    pub key: String,
    pub empty_values: EmptyValues,
}

/// Which parameters the signing string leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `sign` and `sign_type`: payments.
    V1,
    /// `sign` alone: some messages to the application gateway.
    V2,
}

/// The algorithm a message is signed with (`sign_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignType {
    /// SHA1withRSA, of old apps.
    Rsa,
    /// SHA256withRSA.
    Rsa2,
}

/// What was done with parameters that came without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EmptyValues {
    /// There were none.
    Absent,
    /// They took part as `name=`.
    Included,
    /// They were left out.
    Skipped,
}

/// Which keys may vouch for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Those in use: for what arrives now.
    Active,
    /// Those of earlier times as well: for messages that were accepted once and are read again.
    ActiveAndRetired,
}

/// Why a message is not taken for genuine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the body cannot be read as a form")]
    Form(#[source] FormError),
    #[error("the parameter `sign` is missing")]
    MissingSign,
    #[error("the parameter `sign` is empty")]
    EmptySign,
    #[error(
        "the parameter `sign` is not base64 at its character {offset}; a blank there was a \
         `+` that somebody decoded twice"
    )]
    BadBase64 { offset: usize },
    #[error("the parameter `sign_type` is `{sign_type}`; supported are `RSA2` and `RSA`")]
    UnsupportedSignType { sign_type: String },
    #[error(
        "the signature has {bytes} bytes, which fits none of the keys; it was cut off, or \
         made with another key"
    )]
    SignatureLength { bytes: usize },
    #[error(
        "none of the keys has signed these parameters: one was changed on the way, or the key \
         belongs to another app or environment"
    )]
    WrongSignature,
    #[error(
        "none of the keys has signed these parameters, and their charset `{charset}` is unknown"
    )]
    UnknownCharset { charset: String },
}

impl VerifiedForm {
    /// The decoded value of a parameter, in the message's own charset.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.form.get(name)
    }

    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    pub(crate) fn into_proof(self) -> Proof {
        self.proof
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.form.pairs()
    }
}

impl Rule {
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::V1 => "v1",
            Rule::V2 => "v2",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SignType {
    pub fn as_str(self) -> &'static str {
        match self {
            SignType::Rsa => "RSA",
            SignType::Rsa2 => "RSA2",
        }
    }
}

impl fmt::Display for SignType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Refusal {
    /// Where in the body, or in the signature's text, it went wrong, in bytes, where that is one place.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Refusal::Form(error) => error.offset(),
            Refusal::BadBase64 { offset } => Some(*offset),
            Refusal::MissingSign
            | Refusal::EmptySign
            | Refusal::UnsupportedSignType { .. }
            | Refusal::SignatureLength { .. }
            | Refusal::WrongSignature
            | Refusal::UnknownCharset { .. } => None,
        }
    }

    /// Every word that [`cause`](Self::cause) says.
    pub const CAUSES: [&'static str; 13] = [
        "empty_body",
        "not_a_form",
        "bad_escape",
        "control_byte",
        "repeated_key",
        "too_many_parameters",
        "missing_sign",
        "empty_sign",
        "bad_base64",
        "unsupported_sign_type",
        "signature_length",
        "wrong_signature",
        "unknown_charset",
    ];

    /// One word for metrics and for programs; a closed set.
    pub fn cause(&self) -> &'static str {
        match self {
            Refusal::Form(FormError::Empty) => "empty_body",
            Refusal::Form(FormError::NotAForm { .. } | FormError::Nameless { .. }) => "not_a_form",
            Refusal::Form(FormError::BadEscape { .. }) => "bad_escape",
            Refusal::Form(FormError::ControlByte { .. }) => "control_byte",
            Refusal::Form(FormError::RepeatedKey { .. }) => "repeated_key",
            Refusal::Form(FormError::TooManyParameters { .. }) => "too_many_parameters",
            Refusal::MissingSign => "missing_sign",
            Refusal::EmptySign => "empty_sign",
            Refusal::BadBase64 { .. } => "bad_base64",
            Refusal::UnsupportedSignType { .. } => "unsupported_sign_type",
            Refusal::SignatureLength { .. } => "signature_length",
            Refusal::WrongSignature => "wrong_signature",
            Refusal::UnknownCharset { .. } => "unknown_charset",
        }
    }
}

/// Standard base64. Padding is lost now and then and carries nothing; everything else is strict.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn signature(form: &UnverifiedForm) -> Result<Vec<u8>, Refusal> {
    let sign = form.get("sign").ok_or(Refusal::MissingSign)?;
    if sign.is_empty() {
        return Err(Refusal::EmptySign);
    }
    BASE64.decode(sign).map_err(|error| Refusal::BadBase64 {
        offset: match error {
            DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol(offset, _) => {
                offset
            }
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => sign.len(),
        },
    })
}

/// The algorithms to try: the one named, both where none is.
fn sign_types(form: &UnverifiedForm) -> Result<&'static [SignType], Refusal> {
    match form.get("sign_type") {
        None => Ok(&[SignType::Rsa2, SignType::Rsa]),
        Some(b"RSA2") => Ok(&[SignType::Rsa2]),
        Some(b"RSA") => Ok(&[SignType::Rsa]),
        Some(other) => Err(Refusal::UnsupportedSignType { sign_type: excerpt(other) }),
    }
}

/// The ways to read the rules that lead to different texts, in the order they are tried.
fn readings(form: &UnverifiedForm) -> impl Iterator<Item = (Rule, EmptyValues)> + use<> {
    // `sign` and `sign_type` are never empty here, so the question is the same for both rules.
    let with_empty = form.pairs().any(|(_, value)| value.is_empty());
    let empty_values: &'static [EmptyValues] = if with_empty {
        &[EmptyValues::Included, EmptyValues::Skipped]
    } else {
        &[EmptyValues::Absent]
    };
    let rules: &'static [Rule] =
        if form.get("sign_type").is_some() { &[Rule::V1, Rule::V2] } else { &[Rule::V1] };
    rules.iter().flat_map(move |rule| empty_values.iter().map(move |empty| (*rule, *empty)))
}

/// Writes the signing string, `name=value` in order and joined by `&`, over what `content` held.
fn join(form: &UnverifiedForm, rule: Rule, empty_values: EmptyValues, content: &mut Vec<u8>) {
    content.clear();
    for (name, value) in form.pairs() {
        let dropped = match (rule, name) {
            (Rule::V1 | Rule::V2, b"sign") | (Rule::V1, b"sign_type") => true,
            (Rule::V1 | Rule::V2, _) => false,
        };
        let skipped = match empty_values {
            EmptyValues::Skipped => value.is_empty(),
            EmptyValues::Absent | EmptyValues::Included => false,
        };
        if dropped || skipped {
            continue;
        }
        if !content.is_empty() {
            content.push(b'&');
        }
        content.extend_from_slice(name);
        content.push(b'=');
        content.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests;
