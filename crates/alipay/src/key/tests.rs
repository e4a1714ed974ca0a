use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use expect_test::{Expect, expect};
use rsa::pkcs1::UintRef;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::pkcs8::der::Encode as _;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest as _, Sha256};

use super::*;

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../fixtures/keys/", $name, ".pem"))
    };
}

/// The text between the PEM lines, as Alipay's console would show it.
fn bare(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn public_refused(text: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&VerificationKey::read("k.pem", text.as_ref()).unwrap_err().to_string());
}

fn private_refused(text: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&SigningKey::read("k.pem", text.as_ref()).unwrap_err().to_string());
}

#[test]
fn a_public_key_is_the_same_in_every_form() {
    let (spki, pkcs1) = (key!("rsa-2048-spki-public"), key!("rsa-2048-pkcs1-public"));
    let texts = [
        spki.to_owned(),
        pkcs1.to_owned(),
        bare(spki),
        bare(pkcs1),
        bare(spki).trim_end_matches('=').to_owned(),
        format!("\u{FEFF}{}\r\n", bare(spki)),
        format!("\u{FEFF}{spki}"),
        spki.replace('\n', "\r\n"),
        format!("Alipay's key, from the console\n\n{spki}\n\n"),
        bare(spki)
            .as_bytes()
            .chunks(10)
            .map(|part| String::from_utf8_lossy(part) + " \t\n")
            .collect(),
    ];
    let first = VerificationKey::read("first", spki.as_bytes()).unwrap();
    for text in texts {
        let key = VerificationKey::read("other", text.as_bytes()).unwrap();
        assert_eq!(key.bits(), 2048, "{text}");
        assert_eq!(key.der(), first.der(), "{text}");
    }
}

#[test]
fn a_key_that_cannot_verify_is_refused_with_its_reason() {
    public_refused("", expect!["key `k.pem` is empty"]);
    public_refused(" \n", expect!["key `k.pem` is empty"]);
    public_refused(
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        expect!["key `k.pem` is empty"],
    );
    public_refused(
        "MIIB*jAN",
        expect!["key `k.pem` is neither PEM nor base64: byte 4 does not belong there"],
    );
    public_refused(
        "MIIBI",
        expect!["key `k.pem` is neither PEM nor base64: byte 5 does not belong there"],
    );
    public_refused(
        "MI==IB",
        expect!["key `k.pem` is neither PEM nor base64: byte 4 does not belong there"],
    );
    public_refused(
        "-----BEGIN PUBLIC KEY-----\nMI#",
        expect![
            "key `k.pem` begins with a `-----BEGIN` line and lacks the `-----END` line that goes with it"
        ],
    );
    public_refused(
        "-----BEGIN PUBLIC KEY-----\nM#I\n-----END PUBLIC KEY-----",
        expect!["key `k.pem` is neither PEM nor base64: byte 28 does not belong there"],
    );
    public_refused(
        key!("rsa-2048-spki-public").repeat(2),
        expect!["key `k.pem` holds more than one PEM block; give one key per file"],
    );
    public_refused("MIIB", expect!["key `k.pem` is well-formed base64 and not an RSA key"]);
    public_refused(
        key!("rsa-2048-pkcs1-private"),
        expect!["key `k.pem` is a private key; Alipay's public key (支付宝公钥) belongs here"],
    );
    public_refused(
        bare(key!("rsa-2048-pkcs8-private")),
        expect!["key `k.pem` is a private key; Alipay's public key (支付宝公钥) belongs here"],
    );
    public_refused(
        key!("certificate"),
        expect![
            "key `k.pem` is a certificate; certificates are given as `verification_certificates`, which this version does not support: give the public key"
        ],
    );
    public_refused(
        key!("certificate").repeat(2),
        expect![
            "key `k.pem` is a certificate; certificates are given as `verification_certificates`, which this version does not support: give the public key"
        ],
    );
    public_refused(
        bare(key!("certificate")),
        expect![
            "key `k.pem` is a certificate; certificates are given as `verification_certificates`, which this version does not support: give the public key"
        ],
    );
    public_refused(
        key!("ec-spki-public"),
        expect!["key `k.pem` is a key for EC; only RSA keys are supported"],
    );
    public_refused(
        key!("sm2-spki-public"),
        expect!["key `k.pem` is a key for SM2; only RSA keys are supported"],
    );
    public_refused(
        key!("ed25519-spki-public"),
        expect!["key `k.pem` is a key for Ed25519; only RSA keys are supported"],
    );
    public_refused(
        key!("rsa-512-spki-public"),
        expect!["key `k.pem` has 512 bits; at least 1024 are needed"],
    );
    public_refused(
        public(&[0xFF; 1025], &[1, 0, 1]),
        expect!["key `k.pem` has 8200 bits; at most 8192 are supported"],
    );
    public_refused(
        public(&[0xFE; 256], &[1, 0, 1]),
        expect!["key `k.pem` is well-formed base64 and not an RSA key"],
    );
    public_refused(
        public(&[0xFF; 256], &[1]),
        expect!["key `k.pem` is well-formed base64 and not an RSA key"],
    );
}

/// A public key of these numbers, whether or not they make sense.
fn public(n: &[u8], e: &[u8]) -> String {
    let (modulus, public_exponent) = (UintRef::new(n).unwrap(), UintRef::new(e).unwrap());
    STANDARD.encode(rsa::pkcs1::RsaPublicKey { modulus, public_exponent }.to_der().unwrap())
}

#[test]
fn a_key_of_1023_bits_is_too_short() {
    let mut n = [0xFF; 128];
    n[0] = 0x7F;
    public_refused(
        public(&n, &[1, 0, 1]),
        expect!["key `k.pem` has 1023 bits; at least 1024 are needed"],
    );
}

#[test]
fn a_key_that_cannot_sign_is_refused_with_its_reason() {
    private_refused(
        key!("rsa-2048-spki-public"),
        expect!["key `k.pem` is a public key; the app's private key (应用私钥) belongs here"],
    );
    private_refused(
        key!("certificate"),
        expect![
            "key `k.pem` is a certificate; certificates are given as `verification_certificates`, which this version does not support: give the public key"
        ],
    );
    private_refused(
        key!("rsa-2048-encrypted-private"),
        expect!["key `k.pem` is encrypted with a passphrase; give it without one"],
    );
    private_refused(
        key!("ec-sec1-private"),
        expect!["key `k.pem` is a key for EC; only RSA keys are supported"],
    );
    private_refused(
        key!("ed25519-private"),
        expect!["key `k.pem` is a key for Ed25519; only RSA keys are supported"],
    );
    private_refused(
        key!("rsa-1024-pkcs1-private"),
        expect!["key `k.pem` has 1024 bits; at least 2048 are needed"],
    );
}

#[test]
fn every_cut_of_a_key_is_refused() {
    let text = key!("rsa-2048-spki-public");
    for length in 0..text.trim_end().len() - 1 {
        assert!(VerificationKey::read("cut", &text.as_bytes()[..length]).is_err(), "{length}");
    }
}

#[test]
fn signatures_are_what_the_rsa_crate_expects() {
    let public = RsaPublicKey::from_public_key_pem(key!("rsa-2048-spki-public")).unwrap();
    for text in [
        key!("rsa-2048-pkcs1-private").to_owned(),
        key!("rsa-2048-pkcs8-private").to_owned(),
        bare(key!("rsa-2048-pkcs1-private")),
        bare(key!("rsa-2048-pkcs8-private")),
    ] {
        let key = SigningKey::read("app", text.as_bytes()).unwrap();
        let signature = STANDARD.decode(key.sign_rsa2(b"a=1&b=2").unwrap()).unwrap();
        let scheme = Pkcs1v15Sign::new::<Sha256>();
        public.verify(scheme, &Sha256::digest(b"a=1&b=2"), &signature).unwrap();
        assert_eq!(key.public_key_base64(), bare(key!("rsa-2048-spki-public")));
    }
}

#[test]
fn a_generated_key_reads_back_and_its_signatures_verify() {
    let (key, pem) = SigningKey::generate().unwrap();
    let again = SigningKey::read("kept.pem", pem.as_bytes()).unwrap();
    assert_eq!(key.public_key_base64(), again.public_key_base64());
    assert!(pem.lines().all(|line| line.len() <= 64));
    let public = VerificationKey::read("p", key.public_key_base64().as_bytes()).unwrap();
    let signature = STANDARD.decode(again.sign_rsa2(b"content").unwrap()).unwrap();
    assert!(public.verifies(SignType::Rsa2, b"content", &signature));
    assert!(!public.verifies(SignType::Rsa2, b"Content", &signature));
    assert!(!public.verifies(SignType::Rsa, b"content", &signature));
}

#[test]
fn a_ring_needs_an_active_key_and_takes_each_key_once() {
    let key = |name: &str, text: &str| VerificationKey::read(name, text.as_bytes()).unwrap();
    let (spki, pkcs1) = (key!("rsa-2048-spki-public"), key!("rsa-2048-pkcs1-public"));
    let refused = |active, retired| KeyRing::new(active, retired).unwrap_err().to_string();
    expect!["there is no key to verify with; list at least one of Alipay's public keys"]
        .assert_eq(&refused(vec![], vec![key("old", spki)]));
    let expected =
        expect!["keys `new` and `old` are the same key; list it once, active or retired"];
    expected.assert_eq(&refused(vec![key("new", spki), key("old", pkcs1)], vec![]));
    expected.assert_eq(&refused(vec![key("new", spki)], vec![key("old", pkcs1)]));
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let private = SigningKey::read("app.pem", key!("rsa-2048-pkcs8-private").as_bytes()).unwrap();
    let public = VerificationKey::read("a.pem", key!("rsa-2048-spki-public").as_bytes()).unwrap();
    assert_eq!(
        format!("{private:?} {public:?}"),
        "SigningKey(app.pem) VerificationKey(a.pem, 2048 bits)"
    );
}
