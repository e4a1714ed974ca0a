//! What the DER bytes of a key hold.

use rsa::pkcs1::{self, UintRef};
use rsa::pkcs8::der::asn1::{AnyRef, OctetStringRef};
use rsa::pkcs8::der::{Decode, Reader, SliceReader, Tag, Tagged};
use rsa::pkcs8::spki::AlgorithmIdentifierRef;
use rsa::pkcs8::{ObjectIdentifier, PrivateKeyInfo, SubjectPublicKeyInfoRef};

/// The kinds of key (and not key) that people put into key files.
pub(super) enum Found<'a> {
    Public(pkcs1::RsaPublicKey<'a>),
    Private(Private<'a>),
    Certificate,
    /// A key for the named algorithm.
    NotRsa(&'static str),
    Nothing,
}

pub(super) struct Private<'a> {
    /// The whole `RSAPrivateKey` structure.
    pub(super) pkcs1: &'a [u8],
    /// Big-endian, without leading zeros.
    pub(super) modulus: &'a [u8],
}

/// Tells by the content; a PEM label is not believed.
pub(super) fn classify(der: &[u8]) -> Found<'_> {
    if let Ok(key) = SubjectPublicKeyInfoRef::from_der(der) {
        return match (other_than_rsa(&key.algorithm), key.subject_public_key.as_bytes()) {
            (Some(algorithm), _) => Found::NotRsa(algorithm),
            (None, Some(bits)) => {
                pkcs1::RsaPublicKey::from_der(bits).map_or(Found::Nothing, Found::Public)
            }
            (None, None) => Found::Nothing,
        };
    }
    if let Ok(key) = pkcs1::RsaPublicKey::from_der(der) {
        return Found::Public(key);
    }
    if let Ok(key) = PrivateKeyInfo::from_der(der) {
        return match other_than_rsa(&key.algorithm) {
            Some(algorithm) => Found::NotRsa(algorithm),
            None => private(key.private_key).map_or(Found::Nothing, Found::Private),
        };
    }
    if let Some(key) = private(der) {
        return Found::Private(key);
    }
    match AnyRef::from_der(der) {
        Ok(any) if any.tag() == Tag::Sequence && is_certificate(any.value()) => Found::Certificate,
        Ok(any) if any.tag() == Tag::Sequence && is_ec_private(any.value()) => Found::NotRsa("EC"),
        Ok(_) | Err(_) => Found::Nothing,
    }
}

fn private(der: &[u8]) -> Option<Private<'_>> {
    let key = pkcs1::RsaPrivateKey::from_der(der).ok()?;
    let modulus: UintRef<'_> = key.modulus;
    Some(Private { pkcs1: der, modulus: modulus.as_bytes() })
}

fn other_than_rsa(algorithm: &AlgorithmIdentifierRef<'_>) -> Option<&'static str> {
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const SM2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.301");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    const DSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10040.4.1");
    const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
    match algorithm.oid {
        pkcs1::ALGORITHM_OID => None,
        EC if algorithm.parameters_oid() == Ok(SM2) => Some("SM2"),
        EC => Some("EC"),
        ED25519 => Some("Ed25519"),
        DSA => Some("DSA"),
        RSA_PSS => Some("RSA-PSS only"),
        _ => Some("an algorithm unknown here"),
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { version [0] ...`
fn is_certificate(content: &[u8]) -> bool {
    let first = SliceReader::new(content).and_then(|mut reader| reader.decode::<AnyRef<'_>>());
    first.is_ok_and(|first| first.tag() == Tag::Sequence && first.value().first() == Some(&0xA0))
}

/// `ECPrivateKey ::= SEQUENCE { version INTEGER (1), privateKey OCTET STRING ...` (SEC 1)
fn is_ec_private(content: &[u8]) -> bool {
    SliceReader::new(content)
        .and_then(|mut reader| {
            let version: u8 = reader.decode()?;
            let _key: OctetStringRef<'_> = reader.decode()?;
            Ok(version == 1)
        })
        .unwrap_or(false)
}
