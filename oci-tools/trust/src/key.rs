//! Keys in PEM, as openssl and cosign write them: ECDSA over P-256 with SHA-256, and Ed25519.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};

/// What stands before the point in the `SubjectPublicKeyInfo` of a P-256 key
/// (<https://www.rfc-editor.org/rfc/rfc5480>).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The same of an Ed25519 key (<https://www.rfc-editor.org/rfc/rfc8410>).
const ED: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The largest file that is taken for a key, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Why a file is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the key {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// It is something else.
    #[error("{name} is no {wanted} key: {why}")]
    Form {
        /// The file.
        name: String,
        /// `public` or `private`.
        wanted: &'static str,
        /// What it is, or should be.
        why: &'static str,
    },
}

/// A key that signatures are checked with.
#[derive(Clone, Serialize, Deserialize)]
pub struct PublicKey {
    name: String,
    info: Vec<u8>,
}

impl PublicKey {
    /// Reads a key in PEM; `name` is what it is called in messages.
    ///
    /// # Errors
    /// When it is none, or of an unknown kind.
    pub fn parse(name: &str, pem: &[u8]) -> Result<Self, Error> {
        let form = |why| Error::Form { name: name.to_owned(), wanted: "public", why };
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| form("it must be PEM that begins with -----BEGIN PUBLIC KEY-----"))?;
        let key = Self { name: name.to_owned(), info: info.to_vec() };
        match key.parts() {
            Some(_) => Ok(key),
            None => Err(form("its kind is neither ECDSA over P-256 nor Ed25519")),
        }
    }

    /// Reads the file at `path`, after which the key is called.
    ///
    /// # Errors
    /// As [`Self::parse`], and when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&path.display().to_string(), &file(path)?)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells it from others, whatever it is called: 16 hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        registry::Digest::of(&self.info).hex()[..16].to_owned()
    }

    /// As it is kept in files.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.info)
    }

    /// Whether the owner of this key has signed `message` with `signature`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parts().is_some_and(|(algorithm, point)| {
            UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        })
    }

    fn parts(&self) -> Option<(&'static dyn VerificationAlgorithm, &[u8])> {
        let p256 = self.info.strip_prefix(&P256[..]).filter(|point| point.len() == 65);
        let ed = self.info.strip_prefix(&ED[..]).filter(|point| point.len() == 32);
        match (p256, ed) {
            (Some(point), _) => Some((&ECDSA_P256_SHA256_ASN1, point)),
            (_, Some(point)) => Some((&ED25519, point)),
            _ => None,
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.info == other.info
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.name)
    }
}

/// A key that signs.
pub struct PrivateKey(Pair);

enum Pair {
    P256(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl PrivateKey {
    /// A new key (ECDSA over P-256, as cosign makes them), in PEM.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> io::Result<String> {
        let random = SystemRandom::new();
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map(|document| pem("PRIVATE KEY", document.as_ref()))
            .map_err(|_| io::Error::other("the system gives no random numbers"))
    }

    /// Reads a key in PEM (PKCS #8, not encrypted); `name` is what it is called in messages.
    ///
    /// # Errors
    /// When it is none, or of an unknown kind.
    pub fn parse(name: &str, pem: &[u8]) -> Result<Self, Error> {
        let form = |why| Error::Form { name: name.to_owned(), wanted: "private", why };
        let is = |title: &str| pem.windows(title.len()).any(|at| at == title.as_bytes());
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| {
            form(if is("ENCRYPTED") {
                "it is encrypted; decrypt it, or sign with the tool that encrypted it"
            } else if is("BEGIN EC PRIVATE KEY") {
                "it is in the old form; convert it with `openssl pkcs8 -topk8 -nocrypt -in KEY`"
            } else if is("BEGIN PUBLIC KEY") {
                "it is the public one of a pair"
            } else {
                "it must be PEM that begins with -----BEGIN PRIVATE KEY-----"
            })
        })?;
        let der = der.secret_pkcs8_der();
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            return Ok(Self(Pair::P256(pair)));
        }
        // openssl leaves the public key out of these.
        match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(pair) => Ok(Self(Pair::Ed(pair))),
            Err(_) => Err(form("its kind is neither ECDSA over P-256 nor Ed25519")),
        }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// As [`Self::parse`], and when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&path.display().to_string(), &file(path)?)
    }

    /// The key that checks what this one signs, called `name`.
    #[must_use]
    pub fn public(&self, name: &str) -> PublicKey {
        let info = match &self.0 {
            Pair::P256(pair) => [&P256[..], pair.public_key().as_ref()].concat(),
            Pair::Ed(pair) => [&ED[..], pair.public_key().as_ref()].concat(),
        };
        PublicKey { name: name.to_owned(), info }
    }

    /// The signature of `message`.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        match &self.0 {
            Pair::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => match pair.sign(&SystemRandom::new(), message) {
                Ok(signature) => Ok(signature.as_ref().to_vec()),
                Err(_) => Err(io::Error::other("the system gives no random numbers")),
            },
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |why| Error::Unreadable { path: path.to_owned(), why };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(failed(io::Error::other("it is too large for one")));
    }
    fs::read(path).map_err(failed)
}

fn pem(title: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {title}-----\n{}\n-----END {title}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn openssl(dir: &Path, words: &str) {
        let done = Command::new("openssl").args(words.split(' ')).current_dir(dir).output();
        let done = done.expect("openssl is installed");
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn keys_of_openssl_sign_and_what_they_sign_openssl_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("message"), "hello").unwrap();
        openssl(dir.path(), "genpkey -algorithm ed25519 -out ed");
        openssl(dir.path(), "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec");
        for name in ["ed", "ec"] {
            openssl(dir.path(), &format!("pkey -in {name} -pubout -out {name}.pub"));
            let private = PrivateKey::read(&at(name)).unwrap();
            let public = PublicKey::read(&at(&format!("{name}.pub"))).unwrap();
            assert_eq!(private.public("same"), public);
            let text = fs::read_to_string(at(&format!("{name}.pub"))).unwrap();
            assert_eq!(public.pem(), text);
            let signature = private.sign(b"hello").unwrap();
            assert!(public.verifies(b"hello", &signature));
            assert!(!public.verifies(b"hellp", &signature));
            assert!(!public.verifies(b"hello", &signature[1..]));
            fs::write(at("signature"), &signature).unwrap();
            let flags = if name == "ed" { "-rawin " } else { "-rawin -digest sha256 " };
            openssl(
                dir.path(),
                &format!(
                    "pkeyutl -verify -pubin -inkey {name}.pub {flags}-in message -sigfile signature"
                ),
            );
        }
    }

    #[test]
    fn a_new_key_is_one_that_openssl_reads() {
        let dir = tempfile::tempdir().unwrap();
        let text = PrivateKey::generate().unwrap();
        fs::write(dir.path().join("new"), &text).unwrap();
        openssl(dir.path(), "pkey -in new -pubout -out new.pub");
        let public = PublicKey::read(&dir.path().join("new.pub")).unwrap();
        assert_eq!(PrivateKey::parse("new", text.as_bytes()).unwrap().public("x"), public);
        assert_ne!(text, PrivateKey::generate().unwrap());
    }

    #[test]
    fn what_is_no_key_is_told_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        openssl(dir.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa");
        openssl(dir.path(), "pkey -in rsa -pubout -out rsa.pub");
        openssl(dir.path(), "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec");
        openssl(dir.path(), "pkcs8 -topk8 -in ec -out locked -passout pass:x");
        openssl(dir.path(), "ec -in ec -out old");
        openssl(dir.path(), "pkey -in ec -pubout -out ec.pub");
        fs::write(dir.path().join("text"), "hello").unwrap();
        for (name, word) in [
            ("rsa", "neither"),
            ("locked", "encrypted"),
            ("old", "convert"),
            ("ec.pub", "public one"),
            ("text", "BEGIN PRIVATE KEY"),
            ("nowhere", "No such file"),
        ] {
            let error = PrivateKey::read(&dir.path().join(name)).err().unwrap().to_string();
            assert!(error.contains(word) && error.contains(name), "{name}: {error}");
        }
        for (name, word) in [("rsa.pub", "neither"), ("text", "BEGIN PUBLIC KEY")] {
            let error = PublicKey::read(&dir.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(name), "{name}: {error}");
        }
    }
}
