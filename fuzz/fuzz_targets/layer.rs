//! A layer's tar, read for one file of it.
#![no_main]

use std::path::{Component, Path};

use fuzz::inspect::layer::{normal, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for wanted in ["app.wasm", "bin/app.wasm"] {
        let Ok(layer) = read(input, Path::new(wanted)) else { continue };
        if let Some(link) = &layer.link {
            assert!(link.components().all(|part| matches!(part, Component::Normal(_))), "{link:?}");
        }
        if let Some(wasm) = &layer.wasm {
            assert!(wasm.starts_with(b"\0asm") && wasm.len() <= input.len());
            assert!(layer.link.is_none() && !layer.other);
        }
    }
    let path = normal(Path::new(&*String::from_utf8_lossy(input)));
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
});
