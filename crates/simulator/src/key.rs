use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The key pairs of one pretend world. Throw-away: made for it, worth nothing outside it.
#[derive(Debug)]
pub struct Keys {
    /// Alipay's, for our app: signs notifications and gateway answers.
    pub alipay: SimulatorKey,
    /// The merchant's own: signs requests to the gateway.
    pub app: SimulatorKey,
    /// Alipay's, for somebody else's app: a signature of it is genuine, and none of our business.
    pub stranger: SimulatorKey,
}

/// An RSA-2048 key pair. `Debug` shows nothing of it.
pub struct SimulatorKey(KeyPair);

/// What can go wrong with a key pair. Nothing of the key is told.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot make an RSA-2048 key pair")]
    Generate,
    #[error("the private key is not PEM; it begins with `-----BEGIN PRIVATE KEY-----` (PKCS#8)")]
    NotPem,
    #[error("the private key is not an RSA key in PKCS#8 that can be used")]
    NotAKey,
    #[error("cannot write the key pair as PEM")]
    Export,
    #[error("cannot sign")]
    Sign,
}

impl Keys {
    /// Three fresh pairs; takes some tenths of a second.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Keys {
            alipay: SimulatorKey::generate()?,
            app: SimulatorKey::generate()?,
            stranger: SimulatorKey::generate()?,
        })
    }
}

impl SimulatorKey {
    /// A fresh pair.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate(KeySize::Rsa2048).map(SimulatorKey).map_err(|_| KeyError::Generate)
    }

    /// Reads a private key as [`SimulatorKey::private_key_pem`] writes it.
    pub fn read_pem(pem: &str) -> Result<Self, KeyError> {
        let base64: String = pem
            .trim()
            .strip_prefix(PRIVATE.begin)
            .and_then(|rest| rest.strip_suffix(PRIVATE.end))
            .ok_or(KeyError::NotPem)?
            .split_whitespace()
            .collect();
        let der = BASE64_STANDARD.decode(base64).map_err(|_| KeyError::NotPem)?;
        KeyPair::from_pkcs8(&der).map(SimulatorKey).map_err(|_| KeyError::NotAKey)
    }

    /// The public key as Alipay's console shows it: bare base64 of the SubjectPublicKeyInfo, one
    /// line.
    pub fn public_key_base64(&self) -> Result<String, KeyError> {
        let der: PublicKeyX509Der<'_> =
            self.0.public_key().as_der().map_err(|_| KeyError::Export)?;
        Ok(BASE64_STANDARD.encode(der.as_ref()))
    }

    /// The public key as PEM (`PUBLIC KEY`).
    pub fn public_key_pem(&self) -> Result<String, KeyError> {
        self.public_key_base64().map(|base64| PUBLIC.around(&base64))
    }

    /// The private key as PEM (`PRIVATE KEY`, PKCS#8).
    pub fn private_key_pem(&self) -> Result<String, KeyError> {
        let der: Pkcs8V1Der<'_> = self.0.as_der().map_err(|_| KeyError::Export)?;
        Ok(PRIVATE.around(&BASE64_STANDARD.encode(der.as_ref())))
    }

    /// SHA256withRSA (`RSA2`) over `content`, standard base64. The same content gives the same
    /// signature.
    pub(crate) fn sign(&self, content: &[u8]) -> Result<String, KeyError> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content, &mut signature)
            .map_err(|_| KeyError::Sign)?;
        Ok(BASE64_STANDARD.encode(signature))
    }

    /// Whether `sign` (standard base64) is this key's RSA2 signature over `content`.
    pub(crate) fn verifies(&self, content: &[u8], sign: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.0.public_key());
        BASE64_STANDARD
            .decode(sign)
            .is_ok_and(|signature| public.verify(content, &signature).is_ok())
    }
}

impl std::fmt::Debug for SimulatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimulatorKey(RSA-2048)")
    }
}

struct Pem {
    begin: &'static str,
    end: &'static str,
}

const PUBLIC: Pem = Pem { begin: "-----BEGIN PUBLIC KEY-----", end: "-----END PUBLIC KEY-----" };
const PRIVATE: Pem = Pem { begin: "-----BEGIN PRIVATE KEY-----", end: "-----END PRIVATE KEY-----" };

impl Pem {
    fn around(&self, base64: &str) -> String {
        let mut pem = format!("{}\n", self.begin);
        let mut rest = base64;
        while let Some((line, tail)) = rest.split_at_checked(64) {
            pem.push_str(line);
            pem.push('\n');
            rest = tail;
        }
        if !rest.is_empty() {
            pem.push_str(rest);
            pem.push('\n');
        }
        pem.push_str(self.end);
        pem.push('\n');
        pem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_read_back_from_its_pem_signs_alike() {
        let key = SimulatorKey::generate().unwrap();
        let again = SimulatorKey::read_pem(&key.private_key_pem().unwrap()).unwrap();
        let sign = key.sign(b"a=1&b=2").unwrap();
        assert_eq!(again.sign(b"a=1&b=2").unwrap(), sign);
        assert!(again.verifies(b"a=1&b=2", sign.as_bytes()));
        assert!(!again.verifies(b"a=1&b=3", sign.as_bytes()));
        assert_eq!(sign.len(), 344);
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        let key = SimulatorKey::generate().unwrap();
        let public = key.public_key_pem().unwrap();
        assert!(matches!(SimulatorKey::read_pem(&public), Err(KeyError::NotPem)));
        let mislabelled = public.replace("PUBLIC", "PRIVATE");
        assert!(matches!(SimulatorKey::read_pem(&mislabelled), Err(KeyError::NotAKey)));
    }
}
