//! What a module or component is said to be, by what only reads it.
#![no_main]

use std::io::Cursor;

use artifact::module::{Module, kind};
use artifact::names::names;
use fuzz::inspect::anatomy::{self, Anatomy};
use libfuzzer_sys::fuzz_target;
use wasmparser::WasmFeatures;

fuzz_target!(|input: &[u8]| {
    let _ = names(&mut Cursor::new(input), &[(0, 0), (0, 1), (1, 0), (7, u32::MAX)]);
    let _ = Anatomy::of(input);
    let own = Module::parse(input);
    let all = Module::parse_with(input, WasmFeatures::all());
    if let Ok(module) = &own {
        assert_eq!(Some(module.kind), kind(input));
        assert!(all.is_ok(), "more proposals take no module away: {:?}", all.err());
    }
    if all.is_ok() {
        let _ = anatomy::features(input);
        Anatomy::of(input).expect("what is valid can be taken apart");
    }
});
