//! The choice of a layer by the shim. The input: a word, then documents, the first of which is the
//! target, a manifest or an index.
#![no_main]

use artifact::module::MAX_WASM;
use fuzz::manifest::{Descriptor, Found, Wanted, find};
use fuzz::{Documents, check_words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let word = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let documents = Documents::read(parts.next().unwrap_or_default());
    let first = &documents.all()[0];
    let digest = format!("sha256:{}", artifact::digest::Digest::of(first));
    let types = [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ];
    for media_type in types {
        for own in [None, Some("/")] {
            let target = Descriptor::new(media_type.into(), digest.clone(), first.len() as u64);
            let mut reads = 0;
            let found = find(&target, Wanted { word: &word, own }, &mut |wanted| {
                reads += 1;
                documents.called(&wanted.digest).map(<[u8]>::to_vec).ok_or("not there".into())
            });
            // Two indexes and a manifest, and of each index as many as say no platform.
            assert!(reads <= 1 + 8 + 8 * 8, "{reads} documents were read");
            match found {
                Ok(Found::Layer(layer)) => assert!(layer.size <= MAX_WASM),
                Ok(Found::Platforms(words)) => check_words(&words),
                Ok(Found::Nothing) => {}
                Err(error) => check_words(&error.to_string()),
            }
        }
    }
});
