//! `wasm-image build`: modules and some files become an image for the platform wasi/wasm, in one of
//! its forms.
//!
//! Order: understand what is asked for, by the command line, `wasm-image.toml` or a Containerfile;
//! gather the names of the files; read, validate and change the modules; write the layer to a scratch
//! file (its digest is needed before it), write the layout, report. Nothing is published before all of
//! that has worked, and no input is ever written to.

mod component;
mod containerfile;
mod context;
mod image;
mod layer;
mod layout;
mod linux;
mod modules;
mod optimize;
mod output;
mod pattern;
mod plug;
mod project;
mod recipe;
mod report;
mod request;
mod sbom;
mod sections;
mod strip;
mod tree;

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::BuildArgs;
use crate::store::Store;
use image::Image;
use layer::Layer;
use output::Draft;
use recipe::{Recipe, Target};
use report::Report;
use request::{Request, Step};
use tree::{Node, Tree};

pub use optimize::{Level, in_child as optimize_module};
pub use recipe::Usage;
pub use report::bytes;

/// Builds the image that `args` describe.
pub fn run(args: BuildArgs) -> Result<()> {
    let epoch = std::env::var_os("SOURCE_DATE_EPOCH");
    let recipe = Recipe::new(request(&args)?, &args, epoch.as_deref())?;
    let target = resolve(&recipe)?;
    let sbom_target = match &recipe.sbom {
        Some(sbom) => Some(output::check(&sbom.output, &inputs(&recipe))?),
        None => None,
    };
    let store = recipe.store.as_ref().map(|folder| Store::open(folder.as_deref())).transpose()?;
    let mut tree = gather(&recipe)?;
    for output in [&target, &sbom_target].into_iter().flatten() {
        check_sources(&tree, output)?;
    }
    let (modules, entry) = modules::read(&recipe, &mut tree)?;
    let linux = linux::read(&recipe.linux)?;
    let sbom = recipe.sbom.as_ref().map(|sbom| {
        let name = recipe.names[0].to_string();
        sbom::document(sbom.format, &name, &modules, &recipe.epoch)
    });
    let sbom = sbom.transpose()?;

    let scratch = match &target {
        Some(path) => tempfile::tempfile_in(folder_of(path)),
        None => tempfile::tempfile(),
    };
    let scratch = scratch.with_context(|| {
        let folder =
            target.as_deref().map_or_else(std::env::temp_dir, |path| folder_of(path).into());
        format!("cannot make a temporary file in {}", folder.display())
    })?;
    let entry = &modules[entry];
    let layer = match recipe.form.is_artifact() {
        true => Layer::raw(&entry.binary, scratch)?,
        false => Layer::write(&tree, &modules, recipe.epoch.seconds, scratch)?,
    };
    let (image, layout) = Image::new(&recipe, entry, layer, linux, sbom.as_deref());
    if let (Some(path), Some(content)) = (&sbom_target, &sbom) {
        let written = write_file(path, |out| out.write_all(content));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut size = 0;
    match &target {
        Some(path) => {
            let written = write_file(path, |out| {
                size = layout.write(out)?;
                Ok(())
            });
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => {
            let out = BufWriter::new(io::stdout().lock());
            size = layout.write(out).context("cannot write to stdout")?;
        }
    }

    if let (Some(store), Some(path)) = (&store, &target) {
        let stored = fs::File::open(path).map_err(Into::into).and_then(|file| store.import(file));
        stored.context("the image is written, but cannot be stored")?;
    }

    let mut report = Report::new(&recipe, &modules, entry, &tree, &image, size);
    report.store = store.as_ref().map(Store::root);
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    print(&report, recipe.json, target.is_none())
}

/// Files that say what to build, in the order in which they are looked for.
const FILES: [&str; 3] = [project::NAME, "Containerfile", "Dockerfile"];

/// What is asked for, by the command line and the file that it goes by.
fn request(args: &BuildArgs) -> Result<Request> {
    let folders: Vec<_> = args.inputs.iter().filter(|input| input.is_dir()).collect();
    let (folder, modules) = match (folders.as_slice(), args.inputs.as_slice()) {
        ([], modules) => (None, modules),
        ([folder], [_]) => (Some(folder.as_path()), &[][..]),
        ([folder, ..], _) => {
            return Err(Usage(format!(
                "{} is a folder: name one folder alone, or .wasm files and --add for the rest",
                folder.display()
            ))
            .into());
        }
    };
    let here = folder.unwrap_or(Path::new("."));
    let file = match (&args.file, folder) {
        (Some(file), _) => Some(file.clone()),
        (None, None) if !modules.is_empty() => None,
        (None, _) => {
            let found = FILES.iter().map(|name| here.join(name)).find(|file| file.is_file());
            let file = found.ok_or_else(|| {
                Usage(format!(
                    "cannot build {}: it has no {}; write one, or name a .wasm file",
                    if folder.is_some() {
                        here.display().to_string()
                    } else {
                        "this folder".into()
                    },
                    FILES.join(", ")
                ))
            })?;
            // As people name it.
            Some(file.strip_prefix(".").map(Path::to_owned).unwrap_or(file))
        }
    };
    let over = Request::of_args(args, modules)?;
    let Some(file) = file else {
        no_build_args(args, "without a Containerfile")?;
        return Ok(over);
    };
    if file.extension().is_some_and(|ending| ending == "toml") {
        if folder.is_some() && args.file.is_some() {
            return Err(Usage(format!(
                "{} says which files to take, from its own folder: leave out {}",
                file.display(),
                here.display()
            ))
            .into());
        }
        no_build_args(args, "in wasm-image.toml")?;
        let request = project::read(&file)?.with(over);
        if request.modules.is_empty() {
            bail!("{}: it names no module: add modules = [\"FILE.wasm\"]", file.display());
        }
        return Ok(request);
    }
    if !modules.is_empty() {
        return Err(Usage(format!(
            "{} says which modules to take: leave out {}, or name a folder to copy from",
            file.display(),
            modules[0].display()
        ))
        .into());
    }
    let mut given = Vec::new();
    for argument in &args.build_arg {
        let (name, value) = argument
            .split_once('=')
            .ok_or_else(|| Usage(format!("bad --build-arg `{argument}`: it must be NAME=VALUE")))?;
        given.push((name.to_owned(), value.to_owned()));
    }
    let root = match (folder, &args.file) {
        (None, Some(_)) | (Some(_), _) => here,
        (None, None) => Path::new("."),
    };
    Ok(containerfile::read(&file, root, &given)?.with(over))
}

fn no_build_args(args: &BuildArgs, place: &str) -> Result<()> {
    match args.build_arg.is_empty() {
        true => Ok(()),
        false => Err(Usage(format!("--build-arg has no meaning {place}")).into()),
    }
}

/// The real path of the output; `None` is stdout.
fn resolve(recipe: &Recipe) -> Result<Option<PathBuf>> {
    match &recipe.output {
        Target::Stdout if io::stdout().is_terminal() => Err(Usage(
            "an image is not for a terminal: redirect stdout, or name a file with --output".into(),
        )
        .into()),
        Target::Stdout => Ok(None),
        Target::File(path) => output::check(path, &inputs(recipe)).map(Some),
    }
}

/// The files and folders that are named, and so are never written to.
fn inputs(recipe: &Recipe) -> Vec<&Path> {
    let added = recipe.steps.iter().filter_map(|step| match &step.value {
        Step::Add(add) => Some(add.source.as_path()),
        Step::Copy(_) | Step::Folder(_) => None,
    });
    let linux = recipe.linux.iter().map(PathBuf::as_path);
    let modules = recipe.modules.iter().map(|program| program.source.value.as_path());
    added.chain(linux).chain(modules).collect()
}

/// An output that a COPY has taken in would be in itself the next time.
fn check_sources(tree: &Tree, output: &Path) -> Result<()> {
    let taken = tree.iter().find(|(_, entry)| match &entry.node {
        Node::File { source, .. } => source == output,
        _ => false,
    });
    match taken {
        Some((path, _)) => bail!(
            "cannot write {}: it is copied into the image, to /{}; leave it out by .dockerignore, or name a file elsewhere with --output",
            output.display(),
            path.display()
        ),
        None => Ok(()),
    }
}

fn gather(recipe: &Recipe) -> Result<Tree> {
    let mut tree = Tree::default();
    for (number, program) in recipe.modules.iter().enumerate() {
        program.source.at.around(tree.insert(program.dest.clone(), Node::Module(number)))?;
    }
    for step in &recipe.steps {
        step.at.around(match &step.value {
            Step::Add(add) => tree.add(add),
            Step::Copy(copy) => tree.copy(copy),
            Step::Folder(path) => folder(&mut tree, path),
        })?;
    }
    // As docker build does: a container can then start there even on a read-only root.
    if let Some(workdir) = &recipe.config.workdir {
        folder(&mut tree, workdir).context("cannot make the --workdir")?;
    }
    Ok(tree)
}

fn folder(tree: &mut Tree, path: &str) -> Result<()> {
    let (path, _) = recipe::dest_of(path.as_ref()).map_err(anyhow::Error::msg)?;
    if path.as_os_str().is_empty() { Ok(()) } else { tree.insert(path, Node::Dir) }
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut draft = Draft::new(folder_of(path))?;
    let mut out = BufWriter::new(draft.file());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    draft.publish(path)
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
