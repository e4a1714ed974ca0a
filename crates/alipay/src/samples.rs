//! What the tests of several files share: sample messages, throw-away keys, and a signer that
//! shares no code with the crate.

use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::{KeyRing, SignType, Trust, UnverifiedForm, VerificationKey, VerifiedForm, verify};

pub(crate) const PRIVATE_2048: &str = include_str!("fixtures/keys/rsa-2048-pkcs1-private.pem");
pub(crate) const PUBLIC_2048: &str = include_str!("fixtures/keys/rsa-2048-spki-public.pem");
pub(crate) const PRIVATE_1024: &str = include_str!("fixtures/keys/rsa-1024-pkcs1-private.pem");
pub(crate) const PUBLIC_1024: &str = include_str!("fixtures/keys/rsa-1024-spki-public.pem");

#[derive(Deserialize)]
pub(crate) struct Cases {
    pub(crate) public_key_b64_spki: String,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) charset: String,
    pub(crate) rule: String,
    pub(crate) empty_values: Option<String>,
    pub(crate) sign_type: Option<String>,
    pub(crate) raw_body: String,
    pub(crate) expected_sign_content: Option<String>,
    pub(crate) expect: Option<String>,
}

pub(crate) fn cases() -> Cases {
    serde_json::from_str(include_str!("fixtures/alipay-signed-bodies.json")).unwrap()
}

/// The raw body of the sample of that name.
pub(crate) fn body(name: &str) -> String {
    cases().cases.into_iter().find(|case| case.name == name).unwrap().raw_body
}

/// The key that verifies the samples.
pub(crate) fn samples_key() -> VerificationKey {
    VerificationKey::read("samples", cases().public_key_b64_spki.as_bytes()).unwrap()
}

pub(crate) fn ring(keys: &[(&str, &str)]) -> KeyRing {
    let read = |(name, text): &(&str, &str)| VerificationKey::read(name, text.as_bytes()).unwrap();
    KeyRing::new(keys.iter().map(read).collect(), Vec::new()).unwrap()
}

/// `sign` as Alipay would make it.
pub(crate) fn sign(private_pem: &str, sign_type: SignType, content: &[u8]) -> Vec<u8> {
    let key = RsaPrivateKey::from_pkcs1_pem(private_pem).unwrap();
    match sign_type {
        SignType::Rsa => key.sign(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(content)),
        SignType::Rsa2 => key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(content)),
    }
    .unwrap()
}

/// `name=value` in order, joined by `&`.
pub(crate) fn content<N: AsRef<[u8]>, V: AsRef<[u8]>>(parameters: &[(N, V)]) -> Vec<u8> {
    let mut pairs: Vec<Vec<u8>> = parameters
        .iter()
        .map(|(name, value)| [name.as_ref(), b"=", value.as_ref()].concat())
        .collect();
    pairs.sort();
    pairs.join(&b'&')
}

/// A form body, every byte of every value percent-encoded.
pub(crate) fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(parameters: &[(N, V)]) -> String {
    let escaped =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pair =
        |(name, value): &(N, V)| format!("{}={}", escaped(name.as_ref()), escaped(value.as_ref()));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// A body with these parameters, signed by V1 and RSA2 with the 2048-bit key.
pub(crate) fn signed_body(parameters: &[(&str, &[u8])]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let signature = sign(PRIVATE_2048, SignType::Rsa2, &content(parameters));
    let sign = STANDARD.encode(signature);
    let rest: [(&str, &[u8]); 2] = [("sign_type", b"RSA2"), ("sign", sign.as_bytes())];
    [encode(parameters), encode(&rest)].join("&")
}

/// A genuine message with these parameters.
pub(crate) fn genuine(parameters: &[(&str, &[u8])]) -> VerifiedForm {
    let form = UnverifiedForm::parse(signed_body(parameters).as_bytes()).unwrap();
    verify(form, &ring(&[("own", PUBLIC_2048)]), Trust::Active).unwrap()
}

/// A paid trade's parameters with some of them changed; `None` takes one away.
pub(crate) fn paid_trade<'a>(changes: &[(&'a str, Option<&'a [u8]>)]) -> Vec<(&'a str, &'a [u8])> {
    let mut parameters: Vec<(&str, &[u8])> = vec![
        ("app_id", b"2021000000000001"),
        ("charset", b"utf-8"),
        ("gmt_create", b"2024-03-05 09:00:00"),
        ("gmt_payment", b"2024-03-05 09:00:12"),
        ("notify_id", b"2024030501222090012000000000000001"),
        ("notify_type", b"trade_status_sync"),
        ("out_trade_no", b"ORD20240305000101"),
        ("receipt_amount", b"100.00"),
        ("seller_id", b"2088000000000001"),
        ("subject", "测试".as_bytes()),
        ("total_amount", b"100.00"),
        ("trade_no", b"2024030522001400000000000101"),
        ("trade_status", b"TRADE_SUCCESS"),
        ("version", b"1.0"),
    ];
    for (name, value) in changes {
        parameters.retain(|(present, _)| present != name);
        parameters.extend(value.map(|value| (*name, value)));
    }
    parameters
}
