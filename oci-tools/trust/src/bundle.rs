//! Signatures as cosign 3 keeps them: a [Sigstore
//! bundle](https://github.com/sigstore/protobuf-specs/blob/v0.5.0/protos/sigstore_bundle.proto), the only
//! layer of an artifact that refers to the image. It holds an
//! [envelope](https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md) with an [in-toto
//! statement](https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) about the image, in
//! which cosign says that it is signed. What else bundles hold, certificates and entries of logs, says
//! nothing about keys and is not looked at.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use registry::{Descriptor, Digest, Document, Error as RegistryError, Repository, small};
use serde::Deserialize;

use crate::image::{Found, MAX_PAYLOAD, MAX_SIGNATURES, Signature};

/// The media type of a bundle, and the type of the artifact that it is.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What cosign 3.0 calls the artifact in a list that clients keep: by the type of its configuration.
const LISTED: &str = "application/vnd.oci.empty.v1+json";

/// What a statement is that says that an image is signed, and not for instance how it was built.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// By which an artifact tells outside what its statement is.
const ABOUT: &str = "dev.sigstore.bundle.predicateType";

/// The most artifacts that are looked at. What is attested about an image, day by day, is among them.
const MAX_ARTIFACTS: usize = 200;

/// What a statement in an envelope is.
const STATEMENT: (&str, &str) = ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1");

/// How that begins which is signed in place of an envelope's payload.
const ENCODING: &str = "DSSEv1";

/// A manifest, as far as its annotations go.
#[derive(Default, Deserialize)]
struct Annotated {
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Sig>,
}

#[derive(Deserialize)]
struct Sig {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: Digests,
}

#[derive(Default, Deserialize)]
struct Digests {
    sha256: Option<String>,
}

/// The bundles that `repository` has beside the image `digest` and that say that it is signed. One that
/// cannot be read hides no others.
///
/// # Errors
/// When the registry cannot be asked. That it has none is no error.
pub async fn fetch(repository: &Repository, digest: &Digest) -> Result<Found, RegistryError> {
    let mut found = Found::default();
    let artifacts = repository.referrers(digest, &[BUNDLE, LISTED]).await?;
    // The newest were added last, where the list is one that clients keep.
    let artifacts =
        artifacts.iter().rev().filter(|artifact| may_sign(artifact.annotations.as_ref()));
    for (count, artifact) in artifacts.enumerate() {
        if count == MAX_ARTIFACTS || found.signatures.len() == MAX_SIGNATURES {
            found.trouble = Some(format!("it has more than {count} artifacts that were looked at"));
            break;
        }
        match one(repository, artifact).await {
            Ok(signature) => found.signatures.extend(signature),
            Err(e) => found.trouble = Some(e.to_string()),
        }
    }
    Ok(found)
}

/// The signature in the bundle that `artifact` is; nothing where it is none, or says something else.
async fn one(
    repository: &Repository,
    artifact: &Descriptor,
) -> Result<Option<Signature>, RegistryError> {
    let fetched = repository.document(artifact.digest.as_str()).await?;
    let Document::Manifest(manifest) = fetched.document else { return Ok(None) };
    let notes = serde_json::from_slice::<Annotated>(&fetched.bytes).unwrap_or_default().annotations;
    match manifest.layers.iter().find(|layer| layer.media_type == BUNDLE) {
        Some(layer) if may_sign(notes.as_ref()) => {
            Ok(read(&small(repository, layer, MAX_PAYLOAD).await?))
        }
        _ => Ok(None),
    }
}

/// Whether a bundle can be about what is looked for, by what stands outside.
fn may_sign(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.and_then(|notes| notes.get(ABOUT)).is_none_or(|about| about == SIGNED)
}

/// What a bundle holds that says that something is signed: what was signed, and the signature. Nothing
/// of it is known to be true.
#[must_use]
pub fn read(bundle: &[u8]) -> Option<Signature> {
    let Bundle { dsse_envelope: envelope } = serde_json::from_slice(bundle).ok()?;
    let payload = BASE64_STANDARD.decode(envelope.payload).ok()?;
    let said: Statement = serde_json::from_slice(&payload).ok()?;
    let [Sig { sig }] = &envelope.signatures[..] else { return None };
    let signature = BASE64_STANDARD.decode(sig).ok()?;
    let kind = envelope.payload_type;
    let head = format!("{ENCODING} {} {kind} {} ", kind.len(), payload.len());
    let payload = [head.into_bytes(), payload].concat();
    (said.predicate_type == SIGNED).then_some(Signature { payload, signature })
}

/// The statement in what was signed, if that is an envelope's. Another's begins otherwise.
#[must_use]
pub fn statement(signed: &[u8]) -> Option<&[u8]> {
    let (kind, _) = STATEMENT;
    let head = format!("{ENCODING} {} {kind} ", kind.len());
    let rest = signed.strip_prefix(head.as_bytes())?;
    let blank = rest.iter().position(|byte| *byte == b' ')?;
    let (length, payload) = (str::from_utf8(&rest[..blank]).ok()?, &rest[blank + 1..]);
    (length == payload.len().to_string()).then_some(payload)
}

/// Whether `statement`, which is signed, says that the image `digest` is.
///
/// # Errors
/// When it does not: what it says instead.
pub fn vouches(statement: &[u8], digest: &Digest) -> Result<(), String> {
    let said: Statement = serde_json::from_slice(statement).map_err(|e| e.to_string())?;
    for (what, wanted) in [(said.predicate_type, SIGNED), (said.kind, STATEMENT.1)] {
        if what != wanted {
            return Err(format!("{what:?}"));
        }
    }
    let digests = said.subject.into_iter().filter_map(|subject| subject.digest.sha256);
    let mut others = Vec::new();
    for named in digests {
        if named == digest.hex() {
            return Ok(());
        }
        others.push(format!("sha256:{named}"));
    }
    Err(others.into_iter().next().unwrap_or_else(|| "nothing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Unsigned, signer};
    use crate::key::PrivateKey;
    use serde_json::{Value, json};

    fn key() -> PrivateKey {
        PrivateKey::parse("key", PrivateKey::generate().unwrap().as_bytes()).unwrap()
    }

    fn said(digest: &Digest) -> Value {
        json!({
            "_type": STATEMENT.1,
            "subject": [{ "digest": { "sha256": digest.hex() }, "annotations": {} }],
            "predicateType": SIGNED,
            "predicate": {},
        })
    }

    /// A bundle with `said`, signed as DSSE asks for.
    fn bundle(key: &PrivateKey, kind: &str, said: &Value) -> Value {
        let payload = said.to_string();
        let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let sig = BASE64_STANDARD.encode(key.sign(signed.as_bytes()).unwrap());
        json!({
            "mediaType": BUNDLE,
            "verificationMaterial": { "publicKey": { "hint": "abc" }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": BASE64_STANDARD.encode(payload),
                "payloadType": kind,
                "signatures": [{ "sig": sig }],
            },
        })
    }

    fn read(bundle: &Value) -> Vec<Signature> {
        super::read(bundle.to_string().as_bytes()).into_iter().collect()
    }

    #[test]
    fn a_bundle_vouches_for_the_image_that_its_statement_names() {
        let (ours, image) = (key(), Digest::of(b"image"));
        let keys = [key().public("nobody"), ours.public("ours")];
        let signatures = read(&bundle(&ours, STATEMENT.0, &said(&image)));
        let (key, _) = signer(&signatures, &image, &keys).unwrap();
        assert_eq!(key.name(), "ours");
        assert_eq!(signer(&signatures, &image, &keys[..1]), Err(Unsigned::Strangers(1)));
        let other = Digest::of(b"other");
        let refusal = Unsigned::Other(image.to_string());
        assert_eq!(signer(&signatures, &other, &keys), Err(refusal));
    }

    #[test]
    fn a_statement_that_says_something_else_is_no_signature_of_the_image() {
        let (ours, image) = (key(), Digest::of(b"image"));
        let keys = [ours.public("ours")];
        let changed = |path: &str, to: Value| {
            let mut said = said(&image);
            *said.pointer_mut(path).unwrap() = to;
            said
        };
        for (said, word) in [
            (changed("/_type", json!("another")), "another"),
            (changed("/subject", json!([])), "nothing"),
            (changed("/subject/0/digest", json!({ "sha512": image.hex() })), "nothing"),
            (changed("/subject/0/digest/sha256", json!("")), "sha256:"),
        ] {
            let signatures = read(&bundle(&ours, STATEMENT.0, &said));
            assert_eq!(signatures.len(), 1);
            let refusal = signer(&signatures, &image, &keys).unwrap_err().to_string();
            assert!(refusal.contains(word), "{said}: {refusal}");
        }
        // A statement indeed, but in an envelope that says that it is something else.
        let signatures = read(&bundle(&ours, "text/plain", &said(&image)));
        assert!(matches!(signer(&signatures, &image, &keys), Err(Unsigned::Other(_))));
        // What was found in an image, or no statement, is not even looked at.
        let found = changed("/predicateType", json!("https://slsa.dev/provenance/v1"));
        for said in [found.clone(), json!("no statement")] {
            assert_eq!(read(&bundle(&ours, STATEMENT.0, &said)), []);
        }
        // And counts as little where it is.
        let refusal = vouches(found.to_string().as_bytes(), &image).unwrap_err();
        assert!(refusal.contains("provenance"), "{refusal}");
    }

    #[test]
    fn any_of_several_subjects_does_and_of_several_signatures_none() {
        let (ours, image) = (key(), Digest::of(b"image"));
        let keys = [ours.public("ours")];
        let mut two = said(&Digest::of(b"other"));
        let subject = said(&image)["subject"][0].take();
        two["subject"].as_array_mut().unwrap().push(subject);
        let good = bundle(&ours, STATEMENT.0, &two);
        assert!(signer(&read(&good), &image, &keys).is_ok());
        let mut twice = good.clone();
        let sig = good["dsseEnvelope"]["signatures"][0].clone();
        twice["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(sig);
        assert_eq!(read(&twice), []);
    }

    #[test]
    fn what_is_signed_in_one_form_is_nothing_in_another() {
        let (ours, image) = (key(), Digest::of(b"image"));
        let keys = [ours.public("ours")];
        let simple = Signature::new(&ours, "a", &image).unwrap();
        let sig = BASE64_STANDARD.encode(&simple.signature);
        let envelope = |payload: &[u8]| {
            let payload = BASE64_STANDARD.encode(payload);
            let signatures = json!([{ "sig": sig }]);
            json!({ "dsseEnvelope": { "payload": payload, "payloadType": STATEMENT.0, "signatures": signatures } })
        };
        // The document of the other form in an envelope, and its signature over a statement.
        assert_eq!(read(&envelope(&simple.payload)), []);
        let stolen = read(&envelope(said(&image).to_string().as_bytes()));
        assert_eq!(signer(&stolen, &image, &keys), Err(Unsigned::Strangers(1)));
        // A statement that was signed as it stands, and not as an envelope's.
        let payload = said(&image).to_string().into_bytes();
        let signature = ours.sign(&payload).unwrap();
        let bare = [Signature { payload, signature }];
        assert!(matches!(signer(&bare, &image, &keys), Err(Unsigned::Other(_))));
    }

    #[test]
    fn nothing_counts_but_what_was_signed() {
        let (ours, image) = (key(), Digest::of(b"image"));
        let keys = [ours.public("ours")];
        let good = bundle(&ours, STATEMENT.0, &said(&image));
        let mut moved = good.clone();
        let payload = said(&Digest::of(b"other")).to_string();
        moved["dsseEnvelope"]["payload"] = json!(BASE64_STANDARD.encode(payload));
        let other = Digest::of(b"other");
        assert_eq!(signer(&read(&moved), &other, &keys), Err(Unsigned::Strangers(1)));
        for broken in [
            json!({}),
            json!({ "dsseEnvelope": 1 }),
            json!({ "dsseEnvelope": { "payload": "?", "payloadType": "", "signatures": [] } }),
        ] {
            assert_eq!(read(&broken), []);
        }
        assert_eq!(super::read(b"\xff"), None);
    }

    #[test]
    fn changed_bundles_and_statements_vouch_for_no_other_image() {
        let (ours, image, other) = (key(), Digest::of(b"image"), Digest::of(b"other"));
        let keys = [ours.public("ours")];
        let good = bundle(&ours, STATEMENT.0, &said(&image));
        hostile::check("bundles", 3000, hostile::changed(good), |document| {
            let signatures = read(&document);
            assert!(signer(&signatures, &other, &keys).is_err());
            let _ = signer(&signatures, &image, &keys);
        });
        hostile::check("statements", 3000, hostile::changed(said(&image)), |document| {
            let text = document.to_string();
            assert!(vouches(text.as_bytes(), &other).is_err());
            assert!(text.contains(image.hex()) || vouches(text.as_bytes(), &image).is_err());
            assert_eq!(statement(text.as_bytes()), None);
        });
    }

    #[test]
    fn only_what_is_encoded_as_an_envelope_holds_a_statement() {
        let (kind, _) = STATEMENT;
        let encoded = |length: &str| format!("DSSEv1 {} {kind} {length} {{}}", kind.len());
        assert_eq!(statement(encoded("2").as_bytes()), Some(&b"{}"[..]));
        for other in ["1", "3", "02", "", " 2", "-2", "99999999999999999999999"] {
            assert_eq!(statement(encoded(other).as_bytes()), None, "{other}");
        }
        assert_eq!(statement(b"{}"), None);
        assert_eq!(statement(format!("DSSEv1 {} {kind} ", kind.len()).as_bytes()), None);
    }
}
