//! What a registry answers, and Docker's file of credentials. The input: which, and the text.
#![no_main]

use fuzz::document::{Document, Platform};
use fuzz::{auth, check_words, credentials};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match which {
        b'c' => {
            for (scheme, realm) in auth::challenges(&text) {
                assert!(!scheme.is_empty() && scheme.len() <= rest.len() * 3);
                assert!(realm.is_none_or(|realm| realm.len() <= rest.len() * 3));
            }
        }
        b'k' => {
            let file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
            std::fs::write(file.path(), rest).expect("room");
            credentials::use_all(file.path(), "localhost:5000");
        }
        b'p' => {
            if let Ok(platform) = text.parse::<Platform>() {
                assert_eq!(platform.to_string(), text);
            }
        }
        _ => {
            let announced =
                (*which == b'i').then_some("application/vnd.oci.image.index.v1+json; a=b");
            match Document::parse(rest, announced) {
                Ok((Document::Manifest(manifest), _)) => {
                    assert!(manifest.layers.len() <= 1000 && manifest.blobs().count() <= 1001);
                    round(&manifest.config);
                }
                Ok((Document::Index(manifests), _)) => manifests.iter().for_each(round),
                Err(error) => check_words(&error.to_string()),
            }
        }
    }
});

fn round(descriptor: &fuzz::document::Descriptor) {
    let text = serde_json::to_string(descriptor).expect("JSON");
    assert_eq!(&serde_json::from_str::<fuzz::document::Descriptor>(&text).expect("ours"), descriptor);
}
