//! Guests that `wasm-image build` has optimized, made components of, and stripped: they are still what
//! they were.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use containerd_shim_protos::api::CreateTaskRequest;
use integration::mock::{Mock, Outlet};
use integration::{images, paths};

/// What is done to them.
const CHANGES: [&[&str]; 5] = [
    &["--optimize"],
    &["--optimize=4"],
    &["--strip"],
    &["--component"],
    &["--optimize=z", "--component", "--strip"],
];

/// The module that an image is made of.
#[track_caller]
fn changed(folder: &Path, flags: &[&str], guest: &str) -> Vec<u8> {
    let archive = folder.join("image.tar");
    let flags = [flags, &["--form", "artifact"]].concat();
    images::build("changed", &archive, &flags, &paths::guest(guest));
    let mut archive = tar::Archive::new(File::open(archive).expect("the image is there"));
    let entries = archive.entries().expect("the image is a tar");
    let mut blobs = entries.map(|entry| {
        let mut blob = Vec::new();
        entry.expect("an entry").read_to_end(&mut blob).expect("its content");
        blob
    });
    blobs.find(|blob| blob.starts_with(b"\0asm")).expect("the layer is the module")
}

/// What the guest says, and what it ends with.
#[track_caller]
fn run(module: &[u8], arguments: &[&str]) -> (String, u32) {
    let mock = Mock::new();
    let command = [&["/app.wasm"], arguments].concat();
    let bundle = mock.bundle(&command).with("app.wasm", module).with("file", "from a file");
    let path = mock.fifo(&bundle, "stdout");
    let stdout = Outlet::of(&path);
    let request =
        CreateTaskRequest { stdout: path.to_string_lossy().into_owned(), ..Default::default() };
    let shim = mock.create_with(&bundle, request).unwrap_or_else(|e| panic!("refused: {e:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    let code = shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
    (stdout.all(), code)
}

fn still_runs(guest: &str, arguments: &[&str], changes: &[&[&str]]) {
    let folder = tempfile::tempdir().expect("there is room");
    let original = std::fs::read(paths::guest(guest)).expect("the guest is there");
    let expected = run(&original, arguments);
    assert!(!expected.0.is_empty(), "{guest} says something");
    for flags in changes {
        let found = run(&changed(folder.path(), flags, guest), arguments);
        assert_eq!(found, expected, "{guest} {flags:?}");
    }
}

#[test]
fn rust_runs_as_before() {
    still_runs("probe-p1.wasm", &["cat", "/file"], &CHANGES);
    still_runs("probe-p2.wasm", &["args", "one", "two"], &CHANGES);
}

#[test]
fn c_runs_as_before() {
    still_runs("hello-c.wasm", &["--cat", "/file"], &CHANGES);
}

#[test]
fn go_runs_as_before() {
    // It is big: all at once.
    still_runs("hello-go.wasm", &["--cat", "/file"], &CHANGES[4..]);
}

#[test]
fn a_component_of_wasi_0_3_runs_as_before() {
    still_runs("command3.wasm", &["three", "words"], &CHANGES);
}
