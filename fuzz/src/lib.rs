//! What reads hostile documents, as the fuzz targets call it: the project's own sources, included as
//! files. So a target is built of a parser and what it needs, without the compiler of WebAssembly, the
//! runtime and the network client that surround it in its crate, and in a minute instead of ten.
//!
//! Documents refer to each other by digest, which no fuzzer guesses. So inputs of several documents
//! say `@1` for the digest of the document after the first, and so on; see [`Documents`].
#![allow(dead_code, missing_docs, reason = "the sources are checked in their own crates")]

use artifact::digest::Digest as Sha;

/// `shim::image::manifest`.
#[path = "../../shim/src/image/manifest.rs"]
pub mod manifest;

/// `shim::spec`.
#[path = "../../shim/src/spec/mod.rs"]
pub mod spec;

/// Of `shim::sys`, the type that [`spec`] fills.
pub mod sys {
    pub mod pty {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Size {
            pub columns: u16,
            pub rows: u16,
        }
    }
}


/// `wasm_image::name`.
#[path = "../../oci-tools/cli/src/name.rs"]
pub mod name;

pub mod auth;
pub mod credentials;
pub mod inspect;

/// Of `registry`, its documents, at the root, where their sources look for each other.
#[path = "../../oci-tools/registry/src/digest.rs"]
pub mod digest;
#[path = "../../oci-tools/registry/src/document.rs"]
pub mod document;
#[path = "../../oci-tools/registry/src/error.rs"]
pub mod error;

/// Documents that refer to each other, in the form of one input: they are separated by zeros, and
/// `@N` in one stands for the digest of a later one, the first being 0.
pub struct Documents(Vec<Vec<u8>>);

impl Documents {
    /// At most ten documents; the last is whatever is left.
    pub fn read(input: &[u8]) -> Self {
        let mut documents: Vec<_> = input.splitn(10, |byte| *byte == 0).map(<[u8]>::to_vec).collect();
        for place in (0..documents.len()).rev() {
            let mut text = std::mem::take(&mut documents[place]);
            for later in place + 1..documents.len() {
                let digest = format!("sha256:{}", Sha::of(&documents[later]));
                text = replace(&text, format!("@{later}").as_bytes(), digest.as_bytes());
            }
            documents[place] = text;
        }
        Self(documents)
    }

    pub fn all(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The one with this digest, `sha256:` and 64 digits.
    pub fn called(&self, digest: &str) -> Option<&[u8]> {
        let called = |bytes: &&Vec<u8>| digest == format!("sha256:{}", Sha::of(bytes));
        self.0.iter().find(called).map(Vec::as_slice)
    }
}

fn replace(text: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(word.len()).position(|window| window == word) {
        out.extend(&rest[..at]);
        out.extend(by);
        rest = &rest[at + word.len()..];
    }
    out.extend(rest);
    out
}

/// What a person is told is short, whatever a document says, and moves no cursor.
pub fn check_words(words: &str) {
    assert!(words.len() < 20_000, "{} bytes: {:.200}", words.len(), words);
    let bad = words.chars().find(|c| c.is_control() && *c != '\n');
    assert!(bad.is_none(), "{bad:?} in {words:?}");
}
