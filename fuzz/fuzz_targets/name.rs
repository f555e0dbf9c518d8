//! Names of images: what is shown of one reads back as the same.
#![no_main]

use fuzz::name::Name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(name) = Name::parse(text) else { return };
    assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(&name), "{text:?}");
    assert_eq!(Name::parse(&name.familiar()).as_ref(), Ok(&name), "{text:?}, {:?}", name.familiar());
});
