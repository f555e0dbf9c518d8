//! An OCI layout as a tar. The input is that tar; or, after `documents` and a zero, an index and the
//! blobs that it names.
#![no_main]

use std::io::Write;

use fuzz::inspect::image::Image;
use fuzz::inspect::layout::Layout;
use fuzz::{Documents, check_words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let tar = match input.strip_prefix(b"documents\0") {
        Some(documents) => layout(&Documents::read(documents)),
        None => input.to_vec(),
    };
    let mut file = tempfile::tempfile_in("/dev/shm").expect("a file");
    file.write_all(&tar).expect("room");
    let read = Layout::tar(file).and_then(|layout| Image::read(&layout));
    match read {
        Ok((image, wasm)) => assert!(wasm.starts_with(b"\0asm") || image.module.contains("sha256")),
        Err(error) => check_words(&format!("{error:#}").replace(char::is_control, " ")),
    }
});

fn layout(documents: &Documents) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (place, bytes) in documents.all().iter().enumerate() {
        let hex = artifact::digest::Digest::of(bytes);
        let name = if place == 0 { "index.json".into() } else { format!("blobs/sha256/{hex}") };
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).expect("memory");
    }
    tar.into_inner().expect("memory")
}
