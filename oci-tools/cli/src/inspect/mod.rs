//! `wasm-image inspect` and `wasm-image explain`: what a module, a component or an image is, whether
//! this runtime can run it, and what it is granted then.
//!
//! All input is hostile. It is read in bounded memory, validated before anything else looks at it,
//! and never compiled nor run; what it says is printed without control characters.

mod anatomy;
pub mod image;
pub mod layer;
pub mod layout;
mod needs;
mod report;
mod zstd;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use artifact::digest::Digest;
use artifact::module::MAX_WASM;
use artifact::module::{self, Module, to_binary};
use serde_json::Value;
use wasmparser::WasmFeatures;
use wit_component::{DecodedWasm, WitPrinter};

use crate::cli::{ExplainArgs, Format, InspectArgs, StoreArgs};
use crate::reference::Reference;
use crate::store::Store;
use anatomy::Anatomy;
use image::Image;
use layout::Layout;
use needs::Needs;
use report::Report;

/// All that is known of what was looked at.
pub struct Facts {
    /// What it was called on the command line.
    subject: String,
    /// The image that the module was found in.
    image: Option<Image>,
    module: Module,
    /// Length of the module in bytes.
    size: usize,
    digest: Digest,
    features: WasmFeatures,
    anatomy: Anatomy,
    /// The world of a component, as WIT.
    wit: Option<String>,
    needs: Needs,
}

/// Prints what the subject is.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    if args.wat {
        let (_, bytes) = open(&args.subject, &args.store)?;
        Module::parse_with(&bytes, WasmFeatures::all())
            .map_err(|error| unusable(&args.subject, &error))?;
        let out = BufWriter::new(io::stdout().lock());
        return finished(wat(&bytes, out));
    }
    let facts = Facts::of(&args.subject, &args.store)?;
    let report = Report(&facts);
    print(match args.format {
        Format::Text => report.inspection(),
        Format::Json => format!("{:#}\n", report.json()),
    })
}

/// Prints what the subject is granted.
pub fn explain(args: &ExplainArgs) -> Result<()> {
    let facts = Facts::of(&args.subject, &args.store)?;
    let report = Report(&facts);
    print(match args.format {
        Format::Text => report.explanation(),
        Format::Json => format!("{:#}\n", report.explanation_json()),
    })
}

impl Facts {
    fn of(path: &Path, store: &StoreArgs) -> Result<Self> {
        let (image, bytes) = open(path, store)?;
        Self::new(path, image, &bytes)
    }

    fn new(path: &Path, image: Option<Image>, bytes: &[u8]) -> Result<Self> {
        let unusable = |error: module::Error| unusable(path, &error);
        let module = match Module::parse(bytes) {
            // What this engine does not run can be shown all the same.
            Err(module::Error::Proposal { .. }) => {
                Module::parse_with(bytes, WasmFeatures::all()).map_err(unusable)?
            }
            parsed => parsed.map_err(unusable)?,
        };
        let features = anatomy::features(bytes);
        let anatomy =
            Anatomy::of(bytes).with_context(|| format!("cannot take {} apart", path.display()))?;
        Ok(Self {
            subject: path.display().to_string(),
            image,
            size: bytes.len(),
            digest: Digest::of(bytes),
            features,
            wit: (module.kind == module::Kind::Component).then(|| wit(bytes)).flatten(),
            needs: Needs::of(&module, features, &anatomy.memories),
            anatomy,
            module,
        })
    }
}

/// Why a module, whose bytes are valid and `binary`, cannot run here; none where it can.
pub fn obstacles(module: &Module, binary: &[u8]) -> Vec<String> {
    let memories = Anatomy::of(binary).map(|anatomy| anatomy.memories).unwrap_or_default();
    let needs = Needs::of(module, anatomy::features(binary), &memories);
    needs.verdict.err().unwrap_or_default()
}

/// What a path means.
pub enum Subject {
    /// An image.
    Layout(Layout),
    /// A file that is none, and its first bytes.
    File(File, Vec<u8>),
}

impl Subject {
    /// Looks what `path` means.
    pub fn at(path: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read {}", path.display());
        let metadata = fs::metadata(path).with_context(unreadable)?;
        if metadata.is_dir() {
            return Ok(Self::Layout(Layout::folder(path)));
        }
        ensure!(metadata.is_file(), "cannot read {}: it is not a plain file", path.display());
        let mut file = File::open(path).with_context(unreadable)?;
        let mut head = Vec::new();
        (&file).take(512).read_to_end(&mut head).with_context(unreadable)?;
        file.rewind().with_context(unreadable)?;
        if head.get(257..262) != Some(b"ustar") {
            return Ok(Self::File(file, head));
        }
        Ok(Self::Layout(Layout::tar(file).with_context(unreadable)?))
    }
}

/// The module that a path means, or where there is no such file, an image of the store; and the image
/// that it is in.
fn open(path: &Path, store: &StoreArgs) -> Result<(Option<Image>, Vec<u8>)> {
    let unreadable = || format!("cannot read {}", path.display());
    if !path.exists()
        && let Some((store, index)) = stored(path, store)?
    {
        let _in_use = store.in_use()?;
        let read = Image::read_of(&Layout::folder(store.root()), &index);
        let (image, bytes) = read.with_context(unreadable)?;
        return Ok((Some(image), bytes));
    }
    match Subject::at(path)? {
        Subject::File(file, head) => Ok((None, read_module(path, file, &head)?)),
        Subject::Layout(layout) => {
            let read = Image::read(&layout);
            let (image, bytes) = read.with_context(unreadable)?;
            Ok((Some(image), bytes))
        }
    }
}

/// The store and, as the only one of an index, the image in it that is called `name`.
fn stored(name: &Path, args: &StoreArgs) -> Result<Option<(Store, Value)>> {
    let Some(store) = Store::there(args.store.as_deref())? else { return Ok(None) };
    let name = name.to_str().and_then(|name| Reference::parse(name).ok());
    let entry = name.and_then(|name| store.find(&name.to_string()).ok());
    Ok(entry.map(|entry| (store, entry.index())))
}

fn read_module(path: &Path, file: File, head: &[u8]) -> Result<Vec<u8>> {
    if head.starts_with(&[0x1f, 0x8b]) {
        bail!(
            "cannot read {0}: it is compressed; unpack it with `gunzip {0}` first",
            path.display()
        );
    }
    let mut bytes = Vec::new();
    file.take(MAX_WASM + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MAX_WASM,
        "cannot use {}: it is larger than {MAX_WASM} bytes",
        path.display()
    );
    to_binary(path, bytes).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &module::Error) -> anyhow::Error {
    anyhow!("cannot use {}: {error}", path.display())
}

/// The world of a valid component; none where its types cannot be written as WIT.
fn wit(bytes: &[u8]) -> Option<String> {
    let (resolve, package) = match wit_component::decode(bytes).ok()? {
        DecodedWasm::Component(resolve, world) => {
            let package = resolve.worlds[world].package?;
            (resolve, package)
        }
        DecodedWasm::WitPackage(resolve, package) => (resolve, package),
    };
    let mut printer = WitPrinter::default();
    printer.print(&resolve, package, &[]).ok()?;
    Some(printer.output.to_string())
}

/// Prints a valid module as text, as it goes.
fn wat(bytes: &[u8], mut out: impl Write) -> Result<()> {
    let mut printed = Printed { out: &mut out, error: None };
    let result =
        wasmprinter::Config::new().print(bytes, &mut wasmprinter::PrintIoWrite(&mut printed));
    if let Some(error) = printed.error {
        return Err(error.into());
    }
    result?;
    Ok(out.flush()?)
}

/// Keeps an error of writing, which the printer puts other words around.
struct Printed<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn print(text: String) -> Result<()> {
    let mut out = io::stdout().lock();
    finished(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Into::into))
}

/// A reader that has seen enough, such as `head`, is no failure.
fn finished(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        printed => printed.context("cannot print"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Numbers as they come from a seed (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % end as u64).unwrap()
        }
    }

    /// All that is done with bytes, and whether they were taken.
    fn taken(bytes: &[u8]) -> bool {
        let Ok(facts) = Facts::new(Path::new("x"), None, bytes) else {
            let _ = Anatomy::of(bytes);
            return false;
        };
        let report = Report(&facts);
        assert!(!report.inspection().is_empty() && !report.explanation().is_empty());
        assert!(report.json().is_object());
        wat(bytes, io::sink()).expect("what is valid can be printed");
        true
    }

    fn guest(name: &str) -> Vec<u8> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            PathBuf::from,
        );
        let path = target.join("guests").join(name);
        fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; build it with `scripts/guests`", path.display())
        })
    }

    const COMPONENT: &str = r#"(component
      (type $t (record (field "a" (list string)) (field "b" (option u8))))
      (export $e "t" (type $t))
      (import "wasi:io/error@0.2.0" (instance (export "error" (type (sub resource)))))
      (core module $m (memory (export "memory") 1 2) (func (export "f") (param i32)))
      (core instance $i (instantiate $m))
      (func (export "f") (param "x" bool) (canon lift (core func $i "f"))))"#;

    #[test]
    fn bytes_at_random_are_refused() {
        let mut numbers = Numbers(0x5eed);
        for _ in 0..5000 {
            let length = numbers.below(200);
            let mut bytes: Vec<u8> = (0..length).map(|_| numbers.below(256) as u8).collect();
            assert!(!taken(&bytes));
            if let Some(head) = bytes.get_mut(..8) {
                head.copy_from_slice(b"\0asm\x01\0\0\0");
                taken(&bytes);
                bytes[4..8].copy_from_slice(b"\x0d\0\x01\0");
                taken(&bytes);
            }
        }
    }

    #[test]
    fn modules_with_other_bytes_in_them_are_taken_or_refused() {
        let mut numbers = Numbers(0xf11e);
        let small = wat::parse_str(COMPONENT).unwrap();
        assert!(taken(&small));
        let guests = ["probe-p1.wasm", "probe-p2.wasm", "hello-c.wasm"].map(guest);
        for (whole, rounds) in
            [(&small, 20_000), (&guests[0], 60), (&guests[1], 60), (&guests[2], 60)]
        {
            for _ in 0..rounds {
                let mut bytes = whole.clone();
                for _ in 0..=numbers.below(3) {
                    let at = numbers.below(bytes.len());
                    bytes[at] = numbers.below(256) as u8;
                }
                taken(&bytes);
            }
        }
    }

    #[test]
    fn modules_that_are_cut_off_are_refused() {
        let mut numbers = Numbers(0xc07);
        for name in ["probe-p1.wasm", "probe-p2.wasm"] {
            let whole = guest(name);
            assert!(taken(&whole));
            for _ in 0..100 {
                // The custom sections at the end can be left out.
                assert!(!taken(&whole[..numbers.below(whole.len() / 2)]));
            }
        }
    }
}
