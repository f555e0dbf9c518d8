//! Names of contents.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:` and 64 hexadecimal digits in lower case, so always safe as part of a path or URL.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests>
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDigest {
    /// Registered or not, no tool of ours computes it.
    #[error("`{0}` is a digest of another algorithm; only sha256 is known")]
    Algorithm(String),
    /// Too long, too short, or not hexadecimal.
    #[error("`{0}` is no digest: it must be `sha256:` and 64 hexadecimal digits in lower case")]
    Form(String),
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.digest()
    }

    /// The 64 digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        let short = || text.chars().filter(|c| !c.is_control()).take(100).collect();
        match text.split_once(':') {
            Some(("sha256", hex))
                if hex.len() == 64
                    && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Self(text))
            }
            Some((algorithm, _)) if algorithm != "sha256" => Err(BadDigest::Algorithm(short())),
            _ => Err(BadDigest::Form(short())),
        }
    }
}

impl std::str::FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        text.to_owned().try_into()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Computes a digest as bytes come by.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let hash = self.0.clone().finalize();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest(format!("sha256:{hex}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha256_in_lower_case_and_nothing_else() {
        let empty = Digest::of(b"");
        assert!(empty.as_str().starts_with("sha256:e3b0c44298fc1c14"));
        assert_eq!(empty.as_str().parse(), Ok(empty.clone()));
        for bad in [
            "",
            "sha256:",
            "sha256:../../../../etc/passwd",
            &empty.as_str().to_uppercase(),
            &empty.as_str()[..70],
            empty.hex(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        let other = "sha512:00".parse::<Digest>();
        assert_eq!(other, Err(BadDigest::Algorithm("sha512:00".to_owned())));
    }
}
