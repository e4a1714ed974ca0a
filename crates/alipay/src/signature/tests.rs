use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::VerificationKey;
use crate::samples::{
    PRIVATE_1024, PRIVATE_2048, PUBLIC_1024, PUBLIC_2048, body, cases, content, encode, paid_trade,
    ring, samples_key, sign, signed_body,
};

fn samples_ring() -> KeyRing {
    KeyRing::new(vec![samples_key()], Vec::new()).unwrap()
}

fn check(body: &[u8], keys: &KeyRing) -> Result<VerifiedForm, Refusal> {
    verify(UnverifiedForm::parse(body).unwrap(), keys, Trust::Active)
}

/// A body with these parameters and this signature, and no `sign_type` but what is among them.
fn with_sign(parameters: &[(&str, &[u8])], sign: &[u8]) -> String {
    let mut all = parameters.to_vec();
    all.push(("sign", sign));
    encode(&all)
}

fn with_signature(parameters: &[(&str, &[u8])], signature: &[u8]) -> String {
    with_sign(parameters, STANDARD.encode(signature).as_bytes())
}

#[test]
fn every_sample_is_genuine_by_its_own_rule_and_no_other() {
    for case in cases().cases {
        let verdict = check(case.raw_body.as_bytes(), &samples_ring());
        if case.expect.as_deref() == Some("invalid") {
            assert_eq!(verdict, Err(Refusal::WrongSignature), "{}", case.name);
            continue;
        }
        let form = verdict.unwrap_or_else(|refusal| panic!("{}: {refusal}", case.name));
        let proof = form.proof();
        assert_eq!(proof.key, "samples");
        assert_eq!(Some(proof.sign_type.as_str()), case.sign_type.as_deref(), "{}", case.name);
        assert_eq!(proof.rule.as_str(), case.rule.to_lowercase(), "{}", case.name);
        let has_empty = form.pairs().any(|(_, value)| value.is_empty());
        let expected = match case.empty_values.as_deref() {
            _ if !has_empty => EmptyValues::Absent,
            Some("included") => EmptyValues::Included,
            Some("skipped") => EmptyValues::Skipped,
            other => panic!("{}: {other:?}", case.name),
        };
        assert_eq!(proof.empty_values, expected, "{}", case.name);

        let mut signed = Vec::new();
        join(&form.form, proof.rule, proof.empty_values, &mut signed);
        let charset = Charset::named(case.charset.as_bytes()).unwrap();
        assert_eq!(charset.decode(&signed).as_deref(), case.expected_sign_content.as_deref());
    }
}

#[test]
fn the_order_of_parameters_does_not_matter() {
    let body = body("pay_success_plus_in_sign");
    let mut segments: Vec<&str> = body.split('&').collect();
    for _ in 0..segments.len() {
        segments.rotate_left(1);
        assert!(check(segments.join("&").as_bytes(), &samples_ring()).is_ok());
    }
    segments.reverse();
    assert!(check(segments.join("&").as_bytes(), &samples_ring()).is_ok());
}

#[test]
fn no_byte_can_be_changed() {
    let keys = samples_ring();
    for name in ["pay_success_plus_in_sign", "pay_success_gbk", "service_market_v2"] {
        let body = body(name).into_bytes();
        let genuine = UnverifiedForm::parse(&body).unwrap();
        let mut refused = 0;
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            let Ok(form) = UnverifiedForm::parse(&changed) else { continue };
            assert_ne!(form, genuine);
            assert!(verify(form, &keys, Trust::Active).is_err(), "{name}: byte {at}");
            refused += 1;
        }
        assert!(refused > 300, "{name}: {refused}");
    }
}

#[test]
fn no_parameter_can_be_added_or_taken_away() {
    let body = body("pay_success_plus_in_sign");
    assert!(check(format!("{body}&extra=1").as_bytes(), &samples_ring()).is_err());
    // An empty one could have been skipped by the signer: this one alone changes nothing signed.
    assert!(check(format!("{body}&extra=").as_bytes(), &samples_ring()).is_ok());
    let segments: Vec<&str> = body.split('&').collect();
    for gone in &segments {
        let rest: Vec<&str> = segments.iter().copied().filter(|part| part != gone).collect();
        let rest = check(rest.join("&").as_bytes(), &samples_ring());
        // Without a `sign_type` both algorithms are tried, and V1 never covered it.
        assert_eq!(rest.is_ok(), gone.starts_with("sign_type="), "{gone}");
    }
}

#[test]
fn every_cut_of_a_body_is_refused() {
    let body = body("pay_success_plus_in_sign");
    // Two cuts leave a whole signature: base64's padding carries nothing.
    let padding = "%3D%3D".len();
    for length in 1..body.len() - padding {
        let refused = match UnverifiedForm::parse(&body.as_bytes()[..length]) {
            Ok(form) => verify(form, &samples_ring(), Trust::Active).is_err(),
            Err(_) => true,
        };
        assert!(refused, "{length}");
    }
}

#[test]
fn any_of_several_keys_may_have_signed_and_is_named() {
    let keys = ring(&[("short", PUBLIC_1024), ("long", PUBLIC_2048)]);
    for (private, name) in [(PRIVATE_1024, "short"), (PRIVATE_2048, "long")] {
        let parameters: [(&str, &[u8]); 1] = [("a", b"1")];
        let signature = sign(private, SignType::Rsa2, &content(&parameters));
        let form = check(with_signature(&parameters, &signature).as_bytes(), &keys).unwrap();
        assert_eq!(form.proof().key, name);
    }
}

#[test]
fn a_retired_key_vouches_for_replays_only() {
    let key = |name: &str, text: &str| VerificationKey::read(name, text.as_bytes()).unwrap();
    let keys = KeyRing::new(vec![key("new", PUBLIC_1024)], vec![key("old", PUBLIC_2048)]).unwrap();
    let body = signed_body(&paid_trade(&[]));
    let form = || UnverifiedForm::parse(body.as_bytes()).unwrap();
    assert!(verify(form(), &keys, Trust::Active).is_err());
    let proof = verify(form(), &keys, Trust::ActiveAndRetired).unwrap().into_proof();
    assert_eq!(proof.key, "old");
}

#[test]
fn without_sign_type_both_algorithms_are_tried() {
    let parameters: [(&str, &[u8]); 1] = [("a", b"1")];
    for sign_type in [SignType::Rsa, SignType::Rsa2] {
        let signature = sign(PRIVATE_2048, sign_type, b"a=1");
        let body = with_signature(&parameters, &signature);
        let form = check(body.as_bytes(), &ring(&[("own", PUBLIC_2048)])).unwrap();
        assert_eq!(form.proof().sign_type, sign_type);
    }
}

#[test]
fn a_named_algorithm_is_the_only_one_tried() {
    for (named, used) in [("RSA", SignType::Rsa2), ("RSA2", SignType::Rsa)] {
        let signature = sign(PRIVATE_2048, used, b"a=1");
        let body = with_signature(&[("a", b"1"), ("sign_type", named.as_bytes())], &signature);
        let refusal = check(body.as_bytes(), &ring(&[("own", PUBLIC_2048)])).unwrap_err();
        assert_eq!(refusal, Refusal::WrongSignature);
    }
}

#[test]
fn each_refusal_has_a_cause() {
    let keys = ring(&[("own", PUBLIC_2048)]);
    let signature = sign(PRIVATE_2048, SignType::Rsa2, b"a=3");
    let good = STANDARD.encode(&signature);
    let cause = |parameters: &[(&str, &[u8])], sign: &str| {
        check(with_sign(parameters, sign.as_bytes()).as_bytes(), &keys).map_err(|r| r.cause())
    };
    assert!(cause(&[("a", b"3")], &good).is_ok());
    assert!(cause(&[("a", b"3")], good.trim_end_matches('=')).is_ok());
    assert_eq!(check(b"a=1", &keys).unwrap_err().cause(), "missing_sign");
    assert_eq!(cause(&[("a", b"3")], ""), Err("empty_sign"));
    assert!(good.contains('+'));
    assert_eq!(cause(&[("a", b"3")], &good.replace('+', " ")), Err("bad_base64"));
    assert_eq!(cause(&[("a", b"3")], &format!("{good}\n")), Err("bad_base64"));
    assert_eq!(cause(&[("a", b"3")], &good[..341]), Err("bad_base64"));
    assert_eq!(cause(&[("a", b"3")], &good[..172]), Err("signature_length"));
    assert_eq!(cause(&[("a", b"2")], &good), Err("wrong_signature"));
    for sign_type in ["", "rsa2", "MD5", "SM2"] {
        let parameters: [(&str, &[u8]); 2] = [("a", b"3"), ("sign_type", sign_type.as_bytes())];
        assert_eq!(cause(&parameters, &good), Err("unsupported_sign_type"));
    }
    assert_eq!(cause(&[("a", b"2"), ("charset", b"big5")], &good), Err("unknown_charset"));
}

#[test]
fn a_bad_sign_names_the_character() {
    let refusal = check(b"a=1&sign=AAAA BBB", &ring(&[("own", PUBLIC_2048)])).unwrap_err();
    assert_eq!(refusal, Refusal::BadBase64 { offset: 4 });
}

#[test]
fn the_charset_has_no_part_in_verification() {
    let form = crate::samples::genuine(&paid_trade(&[("charset", Some(b"big5"))]));
    assert_eq!(form.get("charset"), Some(&b"big5"[..]));
}

/// The same question asked of the `rsa` crate.
fn second_opinion(public_pem: &str, sign_type: SignType, content: &[u8], signature: &[u8]) -> bool {
    let key = RsaPublicKey::from_public_key_pem(public_pem).unwrap();
    match sign_type {
        SignType::Rsa => key.verify(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(content), signature),
        SignType::Rsa2 => {
            key.verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(content), signature)
        }
    }
    .is_ok()
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Content { at: usize, bit: u8 },
    Signature { at: usize, bit: u8 },
    OtherKey,
}

fn faults() -> impl Strategy<Value = Fault> {
    let place = || (any::<usize>(), 0..8_u8);
    prop_oneof![
        Just(Fault::None),
        place().prop_map(|(at, bit)| Fault::Content { at, bit }),
        place().prop_map(|(at, bit)| Fault::Signature { at, bit }),
        Just(Fault::OtherKey),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn two_libraries_agree_on_what_is_genuine(
        parameters in proptest::collection::btree_map("[a-r_]{1,8}", proptest::collection::vec(any::<u8>(), 1..40), 1..8),
        long in any::<bool>(),
        rsa2 in any::<bool>(),
        fault in faults(),
    ) {
        let keys = [(PRIVATE_1024, PUBLIC_1024), (PRIVATE_2048, PUBLIC_2048)];
        let (private, public) = keys[usize::from(long)];
        let sign_type = if rsa2 { SignType::Rsa2 } else { SignType::Rsa };
        let parameters: Vec<(&str, &[u8])> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let mut values: Vec<Vec<u8>> = parameters.iter().map(|(_, value)| value.to_vec()).collect();
        let mut signature = sign(private, sign_type, &content(&parameters));
        let mut ring_key = public;
        match fault {
            Fault::None => {}
            Fault::Content { at, bit } => {
                let value = &mut values[at % parameters.len()];
                let at = at % value.len();
                value[at] ^= 1 << bit;
            }
            Fault::Signature { at, bit } => {
                let at = at % signature.len();
                signature[at] ^= 1 << bit;
            }
            Fault::OtherKey => ring_key = keys[usize::from(!long)].1,
        }
        let received: Vec<(&str, &[u8])> =
            parameters.iter().zip(&values).map(|((name, _), value)| (*name, value.as_slice())).collect();
        let mut sent = received.clone();
        sent.push(("sign_type", sign_type.as_str().as_bytes()));
        let verdict = check(with_signature(&sent, &signature).as_bytes(), &ring(&[("k", ring_key)]));

        let genuine = second_opinion(ring_key, sign_type, &content(&received), &signature);
        prop_assert_eq!(genuine, matches!(fault, Fault::None));
        prop_assert_eq!(verdict.is_ok(), genuine);
        if let Ok(form) = verdict {
            let proof = form.into_proof();
            prop_assert_eq!((proof.rule, proof.sign_type), (Rule::V1, sign_type));
        }
    }
}
