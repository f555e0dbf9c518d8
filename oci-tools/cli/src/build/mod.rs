//! `wasm-image build`: a module and some files become an image for the platform wasi/wasm, in one of
//! its forms.
//!
//! Order: understand the command line, read and validate the module, gather the names of the files,
//! write the layer to a scratch file (its digest is needed before it), write the layout, report.
//! Nothing is published before all of that has worked, and no input is ever written to.

mod image;
mod layer;
mod layout;
mod linux;
mod output;
mod recipe;
mod report;
mod tree;

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use artifact::module::{Module, to_binary};

use crate::cli::BuildArgs;
use crate::store::Store;
use image::Image;
use layer::Layer;
use layout::Layout;
use output::Draft;
use recipe::{Recipe, Target};
use report::Report;
use tree::{Node, Tree};

pub use recipe::Usage;
pub use report::bytes;

/// Builds the image that `args` describe.
pub fn run(args: BuildArgs) -> Result<()> {
    let epoch = std::env::var_os("SOURCE_DATE_EPOCH");
    let recipe = Recipe::new(args, epoch.as_deref())?;
    let target = resolve(&recipe)?;
    let store = recipe.store.as_ref().map(|folder| Store::open(folder.as_deref())).transpose()?;
    let binary = read_module(&recipe.module)?;
    let module = Module::parse(&binary).map_err(|error| unusable(&recipe.module, error))?;
    let tree = gather(&recipe)?;
    let linux = linux::read(&recipe.linux)?;

    let scratch = match &target {
        Some(path) => tempfile::tempfile_in(folder_of(path)),
        None => tempfile::tempfile(),
    };
    let scratch = scratch.context("cannot make a temporary file")?;
    let layer = match recipe.form.is_artifact() {
        true => Layer::raw(&binary, scratch)?,
        false => Layer::write(&tree, &binary, recipe.epoch.seconds, scratch)?,
    };
    let (image, layout) = Image::new(&recipe, &module, layer, linux);
    let size = match &target {
        Some(path) => {
            write_file(layout, path).with_context(|| format!("cannot write {}", path.display()))?
        }
        None => {
            layout.write(BufWriter::new(io::stdout().lock())).context("cannot write to stdout")?
        }
    };

    if let (Some(store), Some(path)) = (&store, &target) {
        let stored = fs::File::open(path).map_err(Into::into).and_then(|file| store.import(file));
        stored.context("the image is written, but cannot be stored")?;
    }

    let mut report = Report::new(&recipe, &module, &tree, &image, size);
    report.store = store.as_ref().map(Store::root);
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    print(&report, recipe.json, target.is_none())
}

/// The real path of the output; `None` is stdout.
fn resolve(recipe: &Recipe) -> Result<Option<PathBuf>> {
    match &recipe.output {
        Target::Stdout if io::stdout().is_terminal() => Err(Usage(
            "an image is not for a terminal: redirect stdout, or name a file with --output".into(),
        )
        .into()),
        Target::Stdout => Ok(None),
        Target::File(path) => {
            let added = recipe.adds.iter().map(|add| add.source.as_path());
            let linux = recipe.linux.iter().map(PathBuf::as_path);
            let inputs: Vec<_> = added.chain(linux).chain([recipe.module.as_path()]).collect();
            output::check(path, &inputs).map(Some)
        }
    }
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => bail!(
            "cannot read {}: it is a folder; name the .wasm file, and use --add for other files",
            path.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    to_binary(path, bytes).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: artifact::module::Error) -> anyhow::Error {
    use artifact::module::Error;
    let advice = match error {
        Error::NotWasm(_) => "; compile for wasm32-wasip1 or wasm32-wasip2 and name that file",
        Error::Truncated { .. } => "; copy or build the file again",
        Error::Version(_) => "; build it again with current tools",
        Error::Invalid { .. } | Error::Proposal { .. } | Error::Text(_) => "",
    };
    anyhow!("cannot use {}: {error}{advice}", path.display())
}

fn gather(recipe: &Recipe) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.insert(recipe.module_dest.clone(), Node::Module)?;
    for add in &recipe.adds {
        tree.add(add)?;
    }
    // As docker build does: a container can then start there even on a read-only root.
    let workdir = recipe.config.workdir.as_deref().map(|path| path.trim_start_matches('/'));
    if let Some(workdir) = workdir.filter(|path| !path.is_empty()) {
        tree.insert(workdir.into(), Node::Dir).context("cannot make the --workdir")?;
    }
    Ok(tree)
}

fn write_file(layout: Layout, path: &Path) -> io::Result<u64> {
    let mut draft = Draft::new(folder_of(path))?;
    let size = layout.write(BufWriter::new(draft.file()))?;
    draft.publish(path)?;
    Ok(size)
}

/// Of a real path, which always has one.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Stdout, unless the image is there.
fn print(report: &Report, json: bool, image_on_stdout: bool) -> Result<()> {
    let text = if json { format!("{:#}\n", report.json()) } else { report.to_string() };
    let written = if image_on_stdout {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
    match written {
        // The reader, such as `head`, has seen enough; the image is in place.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the image is written, but the report cannot be"),
    }
}
