use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::key::{KeyError, Keys, SimulatorKey};
use crate::scenario::Plan;

/// Writes `suanpan.toml` and the key files that it refers to into `dir`, which is made if need be:
/// a merchant set up for the plan's app and for the pretend Alipay at `gateway_url`. Gives back the
/// file's path. Files of the same names are replaced.
pub fn write_settings(
    dir: &Path,
    plan: &Plan,
    keys: &Keys,
    gateway_url: &str,
    listen: Listen,
) -> Result<PathBuf, SettingsError> {
    let key_dir = dir.join("keys");
    make_dir(&key_dir)?;
    write(
        &key_dir.join(ALIPAY_PUBLIC),
        &keys.alipay.public_key_pem().map_err(SettingsError::Key)?,
    )?;
    write_private(
        &key_dir.join(APP_PRIVATE),
        &keys.app.private_key_pem().map_err(SettingsError::Key)?,
    )?;
    let path = dir.join("suanpan.toml");
    write(&path, &settings(plan, gateway_url, listen))?;
    Ok(path)
}

/// The pretend world's key pairs, kept in `dir`: read where they are, made and written where they
/// are not, so that a simulator started again speaks with the same keys.
pub fn open_keys(dir: &Path) -> Result<Keys, SettingsError> {
    make_dir(dir)?;
    Ok(Keys {
        alipay: open_key(&dir.join("alipay-private.pem"))?,
        app: open_key(&dir.join(APP_PRIVATE))?,
        stranger: open_key(&dir.join("stranger-private.pem"))?,
    })
}

/// Where the merchant's doors are; port 0 takes any free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Notifications.
    pub ingress: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

/// Why settings or keys cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot make the folder {path}; give one that can be written")]
    MakeDir {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("{path} holds no key of this simulator; delete it to have another made")]
    ReadKey {
        path: PathBuf,
        #[source]
        err: KeyError,
    },
    #[error("cannot prepare the throw-away keys")]
    Key(#[source] KeyError),
}

const ALIPAY_PUBLIC: &str = "alipay-public.pem";
const APP_PRIVATE: &str = "app-private.pem";

fn settings(plan: &Plan, gateway_url: &str, listen: Listen) -> String {
    // A JSON string is a TOML basic string, too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"# Written by the simulator: throw-away keys, and an Alipay that is made up.
data_dir = "./suanpan-data"

[ingress]
listen = "{ingress}"

[admin]
listen = "{admin}"

[[app]]
provider = "alipay"
id = {id}
seller_id = {seller_id}
environment = "sandbox"
verification_keys = ["file:keys/{ALIPAY_PUBLIC}"]
signing_key = "file:keys/{APP_PRIVATE}"
gateway = {gateway}
fee_rate = "{fee_rate}"
"#,
        ingress = listen.ingress,
        admin = listen.admin,
        id = quoted(plan.app_id.as_str()),
        seller_id = quoted(plan.seller_id.as_str()),
        gateway = quoted(gateway_url),
        fee_rate = fee_rate(plan.fee_rate_ppm),
    )
}

/// `0.006` of 6000 parts per million.
fn fee_rate(ppm: u32) -> String {
    format!("{}.{:06}", ppm / 1_000_000, ppm % 1_000_000)
}

fn open_key(path: &Path) -> Result<SimulatorKey, SettingsError> {
    match fs::read_to_string(path) {
        Ok(pem) => SimulatorKey::read_pem(&pem)
            .map_err(|err| SettingsError::ReadKey { path: path.to_owned(), err }),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let key = SimulatorKey::generate().map_err(SettingsError::Key)?;
            write_private(path, &key.private_key_pem().map_err(SettingsError::Key)?)?;
            Ok(key)
        }
        Err(err) => Err(SettingsError::Read { path: path.to_owned(), err }),
    }
}

fn make_dir(path: &Path) -> Result<(), SettingsError> {
    fs::create_dir_all(path).map_err(|err| SettingsError::MakeDir { path: path.to_owned(), err })
}

fn write(path: &Path, text: &str) -> Result<(), SettingsError> {
    fs::write(path, text).map_err(|err| SettingsError::Write { path: path.to_owned(), err })
}

/// Readable by its owner alone from the moment it exists.
fn write_private(path: &Path, text: &str) -> Result<(), SettingsError> {
    let failed = |err| SettingsError::Write { path: path.to_owned(), err };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::iter;

    use service::Settings;

    use super::*;
    use crate::testing::{KEYS, two_days};

    fn listen() -> Listen {
        Listen {
            ingress: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    #[test]
    fn the_settings_are_read_as_they_were_meant() {
        let dir = tempfile::tempdir().unwrap();
        let plan = two_days(1, 1);
        let gateway = "http://127.0.0.1:9/gateway.do";
        let path = write_settings(dir.path(), &plan, &KEYS, gateway, listen()).unwrap();
        let settings = Settings::load(&path, iter::empty()).unwrap();
        let app = &settings.apps[0];
        assert_eq!(app.id, plan.app_id.as_str());
        assert_eq!(app.seller_id, plan.seller_id.as_str());
        assert_eq!(app.gateway_url(), gateway);
        assert_eq!(app.fee_rate_millionths, Some(6_000));
        assert_eq!(settings.ingress.listen, listen().ingress);
        let public = app.verification_keys[0].read().unwrap();
        assert_eq!(public, KEYS.alipay.public_key_pem().unwrap().as_bytes());
        let private = app.signing_key.as_ref().unwrap().read().unwrap();
        assert_eq!(private, KEYS.app.private_key_pem().unwrap().as_bytes());
    }

    #[cfg(unix)]
    #[test]
    fn private_keys_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        write_settings(dir.path(), &two_days(1, 1), &KEYS, "http://a/", listen()).unwrap();
        let private = fs::metadata(dir.path().join("keys/app-private.pem")).unwrap();
        assert_eq!(private.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_simulator_started_again_has_its_old_keys() {
        let dir = tempfile::tempdir().unwrap();
        let first = open_keys(dir.path()).unwrap();
        let again = open_keys(dir.path()).unwrap();
        assert_eq!(
            first.alipay.public_key_base64().unwrap(),
            again.alipay.public_key_base64().unwrap()
        );
        fs::write(dir.path().join("app-private.pem"), "not a key").unwrap();
        let said = open_keys(dir.path()).unwrap_err().to_string();
        assert!(said.ends_with(
            "app-private.pem holds no key of this simulator; delete it to have another made"
        ));
    }
}
