use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::cpu;
use super::figures::ns_each;
use super::notification::Signed;

/// What nobody who checks a notification can do without: one RSA-2048 verification (PKCS#1, SHA-256) over
/// its signed text, with a key that was read before.
pub(super) struct Bare {
    key: ParsedPublicKey,
    /// Signed text and signature.
    samples: Vec<(Vec<u8>, Vec<u8>)>,
    each_ns: Vec<u64>,
}

impl Bare {
    /// With Alipay's public key in bare base64, over the texts of these notifications.
    pub(super) fn new(public_key_base64: &str, signed: &[Signed]) -> anyhow::Result<Bare> {
        let der = BASE64_STANDARD.decode(public_key_base64).context("the key is base64")?;
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
            .map_err(|error| anyhow!("cannot read the key that was made: {error}"))?;
        let samples = signed
            .iter()
            .take(SAMPLES)
            .map(|signed| Ok((signed.signed_text(), BASE64_STANDARD.decode(signed.sign())?)))
            .collect::<Result<Vec<_>, base64::DecodeError>>()?;
        Ok(Bare { key, samples, each_ns: Vec::new() })
    }

    /// Measures a few times, in this thread's CPU time: before a load and again after it, so that a machine
    /// that changes its speed is noticed by both.
    pub(super) fn measure(&mut self) -> anyhow::Result<()> {
        for _ in 0..TIMES {
            let before = cpu::of_this_thread();
            let mut done = 0_u64;
            for (text, signature) in self.samples.iter().cycle().take(PER_TIME) {
                if self.key.verify_sig(text, signature).is_err() {
                    bail!("a signature that was made for the bench does not verify");
                }
                done += 1;
            }
            let spent: Duration = cpu::of_this_thread().saturating_sub(before);
            self.each_ns.push(ns_each(spent, done));
        }
        Ok(())
    }

    /// The median of everything measured, in nanoseconds.
    pub(super) fn median_ns(&mut self) -> u64 {
        self.each_ns.sort_unstable();
        let middle = self.each_ns.len() / 2;
        self.each_ns.get(middle).copied().unwrap_or(0)
    }
}

const SAMPLES: usize = 256;
const TIMES: usize = 7;
const PER_TIME: usize = 1_000;
