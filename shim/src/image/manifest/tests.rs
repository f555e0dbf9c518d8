use super::*;
use serde_json::{Value, json};

/// Blobs by digest.
#[derive(Default)]
struct Store(HashMap<String, Vec<u8>>);

impl Store {
    fn put(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = format!("sha256:{}", Digest::of(content));
        self.0.insert(digest.clone(), content.to_vec());
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    fn document(&mut self, media_type: &str, document: &Value) -> Value {
        self.put(media_type, document.to_string().as_bytes())
    }

    fn manifest(&mut self, layers: &[Value]) -> Value {
        self.document(media::MANIFEST, &json!({ "schemaVersion": 2, "layers": layers }))
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        self.document(media::INDEX, &json!({ "schemaVersion": 2, "manifests": manifests }))
    }

    fn find(&self, target: &Value, word: &str) -> Result<Found, Error> {
        self.find_as(target, Wanted { word, own: None })
    }

    fn find_as(&self, target: &Value, wanted: Wanted<'_>) -> Result<Found, Error> {
        let target = serde_json::from_value(target.clone()).unwrap();
        find(&target, wanted, &mut |blob| {
            self.0.get(&blob.digest).cloned().ok_or("not there".into())
        })
    }

    fn words(&self, target: &Value) -> String {
        self.find(target, "/").unwrap_err().to_string()
    }
}

fn on(mut descriptor: Value, platform: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    descriptor["platform"] = json!({ "os": os, "architecture": architecture });
    descriptor
}

fn titled(mut layer: Value, title: &str) -> Value {
    layer["annotations"] = json!({ media::ANNOTATION_TITLE: title });
    layer
}

#[track_caller]
fn found(result: Result<Found, Error>, content: &[u8]) {
    match result.unwrap() {
        Found::Layer(layer) => {
            assert_eq!((layer.digest, layer.size), (Digest::of(content), content.len() as u64));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_only_layer_that_is_wasm_is_meant_by_any_word() {
    for media_type in media::WASM_LAYERS {
        let mut store = Store::default();
        let layers = [store.put(media::LAYER_TAR_GZIP, b"files"), store.put(media_type, b"wasm")];
        let image = store.manifest(&layers);
        for word in ["/", "/app.wasm", "app"] {
            found(store.find(&image, word), b"wasm");
        }
    }
}

#[test]
fn one_of_several_is_named_by_its_title() {
    let mut store = Store::default();
    let layers = [
        titled(store.put(media::WASM_LAYER, b"one"), "one.wasm"),
        titled(store.put(media::WASM_LAYER, b"two"), "./bin/two.wasm"),
        store.put(media::WASM_LAYER, b"three"),
    ];
    let image = store.manifest(&layers);
    found(store.find(&image, "/one.wasm"), b"one");
    found(store.find(&image, "bin/two.wasm"), b"two");
    let words = store.find(&image, "/three.wasm").unwrap_err().to_string();
    for part in ["3 layers", "/three.wasm", "one.wasm, ./bin/two.wasm, (no title)"] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn another_process_means_a_layer_only_by_its_name_or_the_containers_own() {
    let mut store = Store::default();
    let layer = titled(store.put(media::WASM_LAYER, b"app"), "app.wasm");
    let image = store.manifest(&[layer]);
    let find = |word| store.find_as(&image, Wanted { word, own: Some("/") });
    found(find("/app.wasm"), b"app");
    found(find("/"), b"app");
    assert_eq!(find("/bin/sh").unwrap(), Found::Nothing);
}

#[test]
fn an_image_of_files_has_nothing() {
    let mut store = Store::default();
    let layer = store.put(media::LAYER_TAR_GZIP, b"files");
    let image = store.manifest(&[layer]);
    assert_eq!(store.find(&image, "/app.wasm").unwrap(), Found::Nothing);
    let index = store.index(&[on(image, "wasi/wasm")]);
    assert_eq!(store.find(&index, "/app.wasm").unwrap(), Found::Nothing);
}

#[test]
fn of_an_index_the_manifest_for_webassembly_is_taken() {
    for platform in ["wasi/wasm", "wasip1/wasm", "wasip2/wasm"] {
        let mut store = Store::default();
        let (linux, wasm) =
            (store.put(media::LAYER_TAR_GZIP, b"files"), store.put(media::WASM_LAYER, b"wasm"));
        let (linux, wasm) = (store.manifest(&[linux]), store.manifest(&[wasm]));
        let index = store.index(&[on(linux, "linux/amd64"), on(wasm, platform)]);
        found(store.find(&index, "/"), b"wasm");
        // As a name stands for it that has one index more.
        let outer = store.index(&[index]);
        found(store.find(&outer, "/"), b"wasm");
    }
}

#[test]
fn a_manifest_that_says_no_platform_is_looked_into() {
    let mut store = Store::default();
    let layers = [store.put("text/plain", b"signature"), store.put(media::WASM_LAYER, b"wasm")];
    let manifests = layers.map(|layer| store.manifest(&[layer]));
    let index = store.index(&manifests);
    found(store.find(&index, "/"), b"wasm");
}

#[test]
fn an_index_for_other_platforms_says_which() {
    let mut store = Store::default();
    let manifest = store.manifest(&[]);
    let index = store.index(&[on(manifest.clone(), "linux/arm64"), on(manifest, "wasip3/wasm")]);
    let Found::Platforms(names) = store.find(&index, "/").unwrap() else {
        panic!("there is nothing for WebAssembly");
    };
    assert_eq!(names, "linux/arm64, wasip3/wasm");
}

#[test]
fn indexes_within_indexes_have_a_bottom() {
    let mut store = Store::default();
    let mut image = store.manifest(&[]);
    for _ in 0..3 {
        image = store.index(&[image]);
    }
    assert!(store.words(&image).contains("an index within an index within an index"));
}

#[test]
fn documents_that_are_not_what_they_are_called_are_refused() {
    let mut store = Store::default();
    let changed = store.manifest(&[]);
    let digest = changed["digest"].as_str().unwrap().to_owned();
    store.0.insert(digest.clone(), b"{}".to_vec());
    let words = store.words(&changed);
    assert!(words.contains(&digest) && words.contains("pull it again"), "{words}");
    store.0.clear();
    let words = store.words(&changed);
    assert!(words.contains(&digest) && words.contains("not there"), "{words}");
}

#[test]
fn documents_of_another_form_are_refused_by_name() {
    let mut store = Store::default();
    let cases = [
        (store.put(media::MANIFEST, b"not json"), "image manifest"),
        (store.put(media::MANIFEST, b"{}"), "layers"),
        (store.put(media::INDEX, br#"{"manifests": 7}"#), "image index"),
        (store.put("text/html", b"<html>"), "text/html"),
        (json!({ "mediaType": media::MANIFEST, "digest": "md5:00", "size": 1 }), "md5:00"),
        (
            json!({ "mediaType": media::INDEX, "digest": "sha256:00", "size": 1u64 << 40 }),
            "sha256:00",
        ),
    ];
    for (target, part) in cases {
        let words = store.words(&target);
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn what_is_too_large_or_too_many_is_not_read() {
    let mut store = Store::default();
    let mut huge = store.manifest(&[]);
    huge["size"] = json!(1u64 << 40);
    assert!(store.words(&huge).contains("1099511627776 bytes"));
    let layer = store.put(media::WASM_LAYER, b"wasm");
    let many = store.manifest(&vec![layer.clone(); 5000]);
    let words = store.words(&many);
    assert!(words.contains("5000 layers"), "{words}");
    let many = store.index(&vec![layer.clone(); 5000]);
    let words = store.words(&many);
    assert!(words.contains("5000 manifests"), "{words}");
    let mut large = layer;
    large["size"] = json!(1u64 << 31);
    let image = store.manifest(&[large]);
    let words = store.words(&image);
    assert!(words.contains("1 GiB"), "{words}");
}

#[test]
fn names_of_strangers_are_cut_and_escaped() {
    let mut store = Store::default();
    let layers = [1, 2].map(|_| titled(store.put(media::WASM_LAYER, b"x"), "a\u{1b}[2J\n"));
    let image = store.manifest(&layers);
    assert!(store.words(&image).contains("a\\u{1b}[2J\\n"));
    let long = store.put(&"x".repeat(9999), b"");
    assert!(store.words(&long).len() < 400);
}

#[test]
fn hostile_documents_are_refused_in_few_words_or_mean_a_layer() {
    let digest = format!("sha256:{}", Digest::of(b"wasm"));
    let layer = |title: &str| {
        titled(json!({ "mediaType": media::WASM_LAYER, "digest": digest, "size": 4 }), title)
    };
    let manifest = json!({ "schemaVersion": 2, "layers": [layer("app.wasm"), layer("b.wasm")] });
    // The digests are those of whatever becomes of the manifest.
    let entry = json!({ "mediaType": media::MANIFEST, "digest": "MANIFEST", "size": 4 });
    let index = json!({
        "schemaVersion": 2,
        "manifests": [on(entry.clone(), "wasi/wasm"), entry.clone(), on(entry, "linux/amd64")],
    });
    let documents = (hostile::changed(manifest), hostile::changed(index));
    let layers = std::cell::Cell::new(0);
    hostile::check("an image's documents", 4000, documents, |(manifest, index)| {
        let mut store = Store::default();
        let manifest = store.document(media::MANIFEST, &manifest);
        let index = index.to_string().replace("MANIFEST", manifest["digest"].as_str().unwrap());
        let index = store.put(media::INDEX, index.as_bytes());
        for target in [manifest, index] {
            for own in [None, Some("/")] {
                match store.find_as(&target, Wanted { word: "/app.wasm", own }) {
                    Ok(Found::Layer(layer)) => {
                        assert!(layer.size <= MAX_WASM);
                        layers.set(layers.get() + 1);
                    }
                    Ok(Found::Platforms(words)) => assert!(words.len() < 10_000),
                    Ok(Found::Nothing) => {}
                    Err(error) => {
                        let words = error.to_string();
                        assert!(words.len() < 10_000, "{} bytes", words.len());
                        assert!(!words.contains(char::is_control), "{words:?}");
                    }
                }
            }
        }
    });
    assert!(layers.get() > 1000, "{} meant a layer", layers.get());
}
