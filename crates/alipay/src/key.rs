//! Keys: Alipay's public keys, with which messages are verified, and the app's own private key.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::BigUint;

use crate::{SignType, Trust};
use der::Found;

mod der;
mod text;

/// The shortest and the longest RSA key that may verify; Alipay's old keys have 1024 bits.
const VERIFY_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;
/// The same for signing: RSA2 asks for 2048.
const SIGN_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// One of Alipay's RSA public keys (支付宝公钥), read once and ready to verify.
#[derive(Clone)]
pub struct VerificationKey {
    name: String,
    bits: usize,
    rsa2: ParsedPublicKey,
    rsa: ParsedPublicKey,
}

/// The keys that may vouch for one app's messages, in the order they are tried.
#[derive(Clone, Debug)]
pub struct KeyRing {
    active: Vec<VerificationKey>,
    retired: Vec<VerificationKey>,
}

/// The app's RSA private key (应用私钥), with which its requests are signed.
pub struct SigningKey {
    name: String,
    pair: KeyPair,
    public_key_base64: String,
}

/// Why a key, or a set of keys, cannot be used. Never holds key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("key `{name}` {fault}")]
    Unusable { name: String, fault: KeyFault },
    #[error("there is no key to verify with; list at least one of Alipay's public keys")]
    NoActiveKey,
    #[error("keys `{first}` and `{second}` are the same key; list it once, active or retired")]
    Repeated { first: String, second: String },
    #[error("key `{name}` did not sign")]
    NotSigned { name: String },
    #[error("no key could be generated")]
    NotGenerated,
}

/// What is wrong with one key's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("is empty")]
    Empty,
    #[error("is neither PEM nor base64: byte {offset} does not belong there")]
    NotBase64 { offset: usize },
    #[error("begins with a `-----BEGIN` line and lacks the `-----END` line that goes with it")]
    NoEndLine,
    #[error("holds more than one PEM block; give one key per file")]
    MoreThanOne,
    #[error("is well-formed base64 and not an RSA key")]
    NotAKey,
    #[error("is a private key; Alipay's public key (支付宝公钥) belongs here")]
    PrivateGiven,
    #[error("is a public key; the app's private key (应用私钥) belongs here")]
    PublicGiven,
    #[error(
        "is a certificate; certificates are given as `verification_certificates`, which this \
         version does not support: give the public key"
    )]
    CertificateGiven,
    #[error("is encrypted with a passphrase; give it without one")]
    Encrypted,
    #[error("is a key for {algorithm}; only RSA keys are supported")]
    NotRsa { algorithm: &'static str },
    #[error("has {bits} bits; at least {least} are needed")]
    TooShort { bits: usize, least: usize },
    #[error("has {bits} bits; at most {most} are supported")]
    TooLong { bits: usize, most: usize },
}

impl VerificationKey {
    /// Reads PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`) or the bare base64 of either, as Alipay's
    /// console shows it; line breaks, blanks and a byte order mark do not matter.
    ///
    /// `name` is what errors, logs and [`Proof`](crate::Proof) call the key.
    pub fn read(name: &str, text: &[u8]) -> Result<Self, KeyError> {
        Self::parse(name, text).map_err(|fault| KeyError::Unusable { name: name.to_owned(), fault })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length of the modulus, 1024 to 8192.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// Whether `signature` is this key's signature of `content`.
    pub(crate) fn verifies(&self, sign_type: SignType, content: &[u8], signature: &[u8]) -> bool {
        let key = match sign_type {
            SignType::Rsa => &self.rsa,
            SignType::Rsa2 => &self.rsa2,
        };
        key.verify_sig(content, signature).is_ok()
    }

    /// How many bytes every signature of this key has.
    pub(crate) fn signature_bytes(&self) -> usize {
        self.bits.div_ceil(8)
    }

    fn parse(name: &str, text: &[u8]) -> Result<Self, KeyFault> {
        let der = text::to_der(text)?;
        let public = match der::classify(&der) {
            Found::Public(public) => public,
            Found::Private(_) => return Err(KeyFault::PrivateGiven),
            Found::Certificate => return Err(KeyFault::CertificateGiven),
            Found::NotRsa(algorithm) => return Err(KeyFault::NotRsa { algorithm }),
            Found::Nothing => return Err(KeyFault::NotAKey),
        };
        let (n, e) = (public.modulus.as_bytes(), public.public_exponent.as_bytes());
        let bits = check_bits(n, VERIFY_BITS)?;
        // Refuses even moduli and exponents that are even, 1 or out of proportion.
        rsa::RsaPublicKey::new_with_max_size(
            BigUint::from_bytes_be(n),
            BigUint::from_bytes_be(e),
            *VERIFY_BITS.end(),
        )
        .map_err(|_| KeyFault::NotAKey)?;
        let components = PublicKeyComponents { n, e };
        let parsed =
            |algorithm| components.to_parsed_public_key(algorithm).map_err(|_| KeyFault::NotAKey);
        Ok(VerificationKey {
            name: name.to_owned(),
            bits,
            rsa2: parsed(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY)?,
            rsa: parsed(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY)?,
        })
    }

    /// Equal for equal keys, whatever text they were read from.
    fn der(&self) -> &[u8] {
        self.rsa2.as_ref()
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationKey({}, {} bits)", self.name, self.bits)
    }
}

impl KeyRing {
    /// `active` keys vouch for what arrives now; `retired` ones only for messages of their time
    /// that are read again ([`Trust::ActiveAndRetired`]).
    pub fn new(
        active: Vec<VerificationKey>,
        retired: Vec<VerificationKey>,
    ) -> Result<Self, KeyError> {
        if active.is_empty() {
            return Err(KeyError::NoActiveKey);
        }
        let mut seen: Vec<&VerificationKey> = Vec::new();
        for key in active.iter().chain(&retired) {
            if let Some(first) = seen.iter().find(|first| first.der() == key.der()) {
                return Err(KeyError::Repeated {
                    first: first.name.clone(),
                    second: key.name.clone(),
                });
            }
            seen.push(key);
        }
        Ok(KeyRing { active, retired })
    }

    /// The keys that count under `trust`, in the order they are tried.
    pub(crate) fn keys(&self, trust: Trust) -> impl Iterator<Item = &VerificationKey> {
        let retired = match trust {
            Trust::Active => &[],
            Trust::ActiveAndRetired => self.retired.as_slice(),
        };
        self.active.iter().chain(retired)
    }
}

impl SigningKey {
    /// Reads PEM (`PRIVATE KEY` or `RSA PRIVATE KEY`) or the bare base64 of either, without a
    /// passphrase, of 2048 bits or more.
    pub fn read(name: &str, text: &[u8]) -> Result<Self, KeyError> {
        Self::parse(name, text).map_err(|fault| KeyError::Unusable { name: name.to_owned(), fault })
    }

    /// A new key of 2048 bits, and its PKCS#8 PEM to keep.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::NotGenerated)?;
        let pkcs8: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| KeyError::NotGenerated)?;
        let pem = text::to_pem("PRIVATE KEY", pkcs8.as_ref());
        let key = Self::with_pair("generated", pair).map_err(|_| KeyError::NotGenerated)?;
        Ok((key, pem))
    }

    /// The RSA2 signature (SHA256withRSA) of `content`, as the standard base64 that `sign` holds.
    pub fn sign_rsa2(&self, content: &[u8]) -> Result<String, KeyError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content, &mut signature)
            .map_err(|_| KeyError::NotSigned { name: self.name.clone() })?;
        Ok(STANDARD.encode(signature))
    }

    /// The public half as the bare base64 that Alipay's console asks for (应用公钥).
    pub fn public_key_base64(&self) -> String {
        self.public_key_base64.clone()
    }

    fn parse(name: &str, text: &[u8]) -> Result<Self, KeyFault> {
        let der = text::to_der(text)?;
        let private = match der::classify(&der) {
            Found::Private(private) => private,
            Found::Public(_) => return Err(KeyFault::PublicGiven),
            Found::Certificate => return Err(KeyFault::CertificateGiven),
            Found::NotRsa(algorithm) => return Err(KeyFault::NotRsa { algorithm }),
            Found::Nothing => return Err(KeyFault::NotAKey),
        };
        check_bits(private.modulus, SIGN_BITS)?;
        let pair = KeyPair::from_der(private.pkcs1).map_err(|_| KeyFault::NotAKey)?;
        Self::with_pair(name, pair)
    }

    fn with_pair(name: &str, pair: KeyPair) -> Result<Self, KeyFault> {
        let public: PublicKeyX509Der<'static> =
            pair.public_key().as_der().map_err(|_| KeyFault::NotAKey)?;
        let public_key_base64 = STANDARD.encode(public.as_ref());
        Ok(SigningKey { name: name.to_owned(), pair, public_key_base64 })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.name)
    }
}

/// The modulus' length in bits, where it is within `allowed`.
fn check_bits(modulus: &[u8], allowed: std::ops::RangeInclusive<usize>) -> Result<usize, KeyFault> {
    let bits = BigUint::from_bytes_be(modulus).bits();
    let (least, most) = (*allowed.start(), *allowed.end());
    if bits < least {
        return Err(KeyFault::TooShort { bits, least });
    }
    if bits > most {
        return Err(KeyFault::TooLong { bits, most });
    }
    Ok(bits)
}

#[cfg(test)]
mod tests;
