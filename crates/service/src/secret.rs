use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Where a secret or a key lies: `file:path` or `env:NAME`. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Variable(String),
}

/// Why a reference could not be followed; names the reference, never what it leads to.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The file cannot be read.
    #[error("cannot read `{}`; check that it exists and that this user may read it", path.display())]
    File {
        /// The file, as resolved against the settings file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The variable is not set.
    #[error("the environment variable `{name}` is not set")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// A text was wanted, and this is none.
    #[error("`{name}` is not UTF-8 text")]
    NotText {
        /// The file or variable.
        name: String,
    },
}

impl Reference {
    /// Reads `file:path` or `env:NAME`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let place = match text.split_once(':')? {
            ("file", path) if !path.is_empty() => Place::File(PathBuf::from(path)),
            ("env", name) if is_variable_name(name) => Place::Variable(name.to_owned()),
            _ => return None,
        };
        Some(Reference(place))
    }

    /// A file by its path.
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Reference(Place::File(path.into()))
    }

    /// The text it leads to: UTF-8, without the line ends behind it.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when it is not text.
    pub fn read_text(&self) -> Result<String, ReferenceError> {
        let mut text = String::from_utf8(self.read()?)
            .map_err(|_| ReferenceError::NotText { name: self.name() })?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Ok(text)
    }

    /// The bytes it leads to, as they lie there.
    ///
    /// # Errors
    /// When the file cannot be read or the variable is not set.
    pub fn read(&self) -> Result<Vec<u8>, ReferenceError> {
        match &self.0 {
            Place::File(path) => {
                fs::read(path).map_err(|source| ReferenceError::File { path: path.clone(), source })
            }
            Place::Variable(name) => std::env::var_os(name)
                .map(std::os::unix::ffi::OsStringExt::into_vec)
                .ok_or_else(|| ReferenceError::NotSet { name: name.clone() }),
        }
    }

    /// What people call it: the file's name or the variable's.
    pub fn name(&self) -> String {
        match &self.0 {
            Place::File(path) => path.file_name().map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
            Place::Variable(name) => name.clone(),
        }
    }

    /// The same reference with its path taken from `folder`.
    pub(crate) fn relative_to(self, folder: &Path) -> Self {
        match self.0 {
            Place::File(path) => Reference(Place::File(folder.join(path))),
            Place::Variable(name) => Reference(Place::Variable(name)),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => write!(f, "file:{}", path.display()),
            Place::Variable(name) => write!(f, "env:{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is not repeated in the error: it may be the secret.
        let text = String::deserialize(deserializer)?;
        Reference::parse(&text).ok_or_else(|| {
            D::Error::custom("secrets and keys are references: write `file:path` or `env:NAME`")
        })
    }
}

/// How to reach the database: a URL in place, or a reference to one, since it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(UrlPlace);

#[derive(Clone, PartialEq, Eq)]
enum UrlPlace {
    Here(String),
    There(Reference),
}

impl DatabaseUrl {
    /// The URL, without blanks around it.
    ///
    /// # Errors
    /// When it is a reference that cannot be followed, or leads to something that is not text.
    pub fn read(&self) -> Result<String, ReferenceError> {
        match &self.0 {
            UrlPlace::Here(url) => Ok(url.clone()),
            UrlPlace::There(reference) => Ok(reference.read_text()?.trim().to_owned()),
        }
    }

    pub(crate) fn relative_to(self, folder: &Path) -> Self {
        match self.0 {
            UrlPlace::Here(url) => DatabaseUrl(UrlPlace::Here(url)),
            UrlPlace::There(place) => DatabaseUrl(UrlPlace::There(place.relative_to(folder))),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UrlPlace::Here(_) => f.write_str("DatabaseUrl(hidden)"),
            UrlPlace::There(reference) => write!(f, "DatabaseUrl({reference})"),
        }
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(DatabaseUrl(UrlPlace::Here(text)));
        }
        match Reference::parse(&text) {
            Some(reference) => Ok(DatabaseUrl(UrlPlace::There(reference))),
            None => Err(D::Error::custom(
                "must be `postgres://user@host/database`, or `file:path` or `env:NAME` that holds one",
            )),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_its_place_and_reads_what_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.pem"), "top secret\n").unwrap();
        let reference = Reference::parse("file:app.pem").unwrap().relative_to(folder.path());
        assert_eq!(reference.name(), "app.pem");
        assert_eq!(reference.read().unwrap(), b"top secret\n");
        assert_eq!(reference.read_text().unwrap(), "top secret");
        let missing = Reference::parse("file:/nowhere/app.pem").unwrap().relative_to(folder.path());
        assert!(missing.read().unwrap_err().to_string().contains("`/nowhere/app.pem`"));
        let unset = Reference::parse("env:SUANPAN_TEST_NEVER_SET").unwrap();
        assert!(unset.read().unwrap_err().to_string().contains("`SUANPAN_TEST_NEVER_SET`"));
        assert_eq!(unset.name(), "SUANPAN_TEST_NEVER_SET");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["MIIEvQIBADANBg", "file:", "env:", "env:A=B", "https://x/y", ""] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}
