//! Documents and archives as an attacker would write them, for the tests of what reads them: real ones,
//! changed in a few places, the same in every run. (`fuzz/` looks further, and for longer.)

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Map, Value};
use tar::{EntryType, Header};

/// Runs `test` with `cases` values of `strategy`, always the same, and says so. A value with which it
/// panics is made as small as it can be, and shown.
///
/// # Panics
/// When `test` does.
pub fn check<S>(what: &str, cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S: Strategy,
    S::Value: Debug,
{
    let mut config = Config::with_cases(cases);
    config.rng_seed = RngSeed::Fixed(0x5eed);
    config.failure_persistence = None;
    let run = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{what}: {failure}"));
    println!("{what}: {cases} cases");
}

/// What may stand where something else is expected.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![0, 1, -1, i64::MAX, i64::MIN, 1 << 32, (1 << 30) + 1]).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Words that mean something to somebody, or nothing to anybody.
pub fn text() -> impl Strategy<Value = String> {
    let known = select(vec![
        "",
        "/",
        ".",
        "..",
        "../../etc/passwd",
        "/a/../../b",
        "a//b",
        "a\0b",
        "\u{1b}[2J\r\n",
        "@",
        ":",
        "sha256:",
        "sha512:00",
        "é",
        "\u{202e}",
        "%2e%2e",
        "A=B",
        "=",
        "-1",
        "1e99",
        "NaN",
        "0x10",
        "application/vnd.oci.image.index.v1+json",
        "application/wasm",
        "bind",
        "proc",
        "/dev/null",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        4 => known,
        2 => ".{0,40}",
        1 => ("[a-z/.]{1,3}", 1usize..40_000).prop_map(|(part, times)| part.repeat(times)),
    ]
}

/// A change of one place.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Twice,
    Wrap(usize),
}

/// `document` with a few changes anywhere.
pub fn changed(document: Value) -> impl Strategy<Value = Value> {
    let change = prop_oneof![
        4 => json().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        2 => Just(Change::Twice),
        1 => (1usize..100).prop_map(Change::Wrap),
    ];
    vec((any::<Index>(), change), 0..4).prop_map(move |changes| {
        let mut document = document.clone();
        for (place, change) in changes {
            let mut left = place.index(count(&document));
            apply(&mut document, &mut left, &change);
        }
        document
    })
}

/// Values in a document, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the value that comes `left` after this one, itself being 0, and says whether it was here.
fn apply(value: &mut Value, left: &mut usize, change: &Change) -> bool {
    if *left == 0 {
        *value = match change {
            Change::Replace(other) => other.clone(),
            Change::Wrap(depth) => {
                (0..*depth).fold(value.take(), |inner, _| Value::from(vec![inner]))
            }
            Change::Twice => Value::from(vec![value.clone(), value.clone()]),
            Change::Remove => Value::Null,
        };
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(list) => {
            for at in 0..list.len() {
                if *left == 0 {
                    match change {
                        Change::Remove => drop(list.remove(at)),
                        Change::Twice => list.insert(at, list[at].clone()),
                        _ => return apply(&mut list[at], left, change),
                    }
                    return true;
                }
                if apply(&mut list[at], left, change) {
                    return true;
                }
            }
        }
        Value::Object(map) => {
            let keys: Vec<_> = map.keys().cloned().collect();
            for key in keys {
                if *left == 0 && matches!(change, Change::Remove) {
                    map.remove(&key);
                    return true;
                }
                if map.get_mut(&key).is_some_and(|inner| apply(inner, left, change)) {
                    return true;
                }
            }
        }
        _ => {}
    }
    false
}

/// A tar with files, links, devices, whiteouts and names that lead out, some of them twice, and with
/// some of its bytes changed or missing in some cases. `wanted` is one of the names.
pub fn tars(wanted: &'static str, content: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => Just(wanted.to_owned()),
        3 => select(vec![
            "./app.wasm", "bin/", "bin/app.wasm", "../app.wasm", "/app.wasm", "a/../../app.wasm",
            ".wh.app.wasm", ".wh..wh..opq", "bin/.wh.app.wasm", "etc/passwd", "dev/null", ".", "/", "",
        ])
        .prop_map(str::to_owned),
        1 => text(),
    ];
    let kind = select(vec![
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNUSparse,
        EntryType::new(b'?'),
    ]);
    let bytes = prop_oneof![
        2 => Just(content.to_vec()),
        1 => text().prop_map(String::into_bytes),
        1 => (text(), text()).prop_map(|(key, value)| record(&key, &value)),
        1 => (select(vec!["path", "linkpath", "size"]), text())
            .prop_map(|(key, value)| record(key, &value)),
    ];
    let size = prop_oneof![20 => Just(None), 1 => any::<u64>().prop_map(Some)];
    let entry = (name.clone(), kind, name, bytes, size);
    let noise = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec((any::<Index>(), any::<u8>()), 1..8),
    ];
    let cut = prop_oneof![5 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (vec(entry, 1..4), noise, cut).prop_map(|(entries, noise, cut)| {
        let mut tar = Vec::new();
        for (name, kind, target, bytes, size) in entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            let fields = header.as_mut_bytes();
            fill(&mut fields[..100], name.as_bytes());
            fill(&mut fields[157..257], target.as_bytes());
            header.set_size(size.unwrap_or(bytes.len() as u64));
            header.set_cksum();
            tar.extend(header.as_bytes());
            tar.extend(&bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        for (place, byte) in noise {
            let at = place.index(tar.len());
            tar[at] = byte;
        }
        if let Some(place) = cut {
            tar.truncate(place.index(tar.len()));
        }
        tar
    })
}

/// A record of the pax format, whose length counts itself.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

fn fill(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}
