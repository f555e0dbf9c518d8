//! The modules of an image: found, read, and changed as was asked for.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use artifact::module::{self, MAX_WASM, to_binary};

use super::plug::Plug;
use super::recipe::{Changes, Recipe};
use super::tree::{Node, Tree};
use super::{component, optimize, strip};

/// A module that goes into the image.
pub struct Module {
    /// As it was named.
    pub file: PathBuf,
    /// Where it is in the image, relative to its root.
    pub dest: PathBuf,
    /// As it was read, in the binary format.
    pub original: Vec<u8>,
    /// As it goes into the image.
    pub binary: Vec<u8>,
    /// What `binary` is.
    pub facts: module::Module,
    pub changes: Vec<Change>,
}

/// Something that was done to a module.
pub struct Change {
    /// `optimized`, `wrapped`, `plugged` or `stripped`.
    pub what: &'static str,
    /// In bytes.
    pub before: usize,
    pub after: usize,
}

/// All modules of the image, and the number of the one that runs.
///
/// # Errors
/// When one cannot be used, or none is what runs.
pub fn read(recipe: &Recipe, tree: &mut Tree) -> Result<(Vec<Module>, usize)> {
    let mut modules = Vec::new();
    let changes = &recipe.changes;
    let plugs = changes.plugs.iter().map(|file| {
        Plug::read(file, |path| {
            let bytes = read_module(path)?;
            let facts = parse(path, &bytes)?;
            Ok((bytes, facts))
        })
    });
    let plugs = plugs.collect::<Result<Vec<_>>>()?;
    for program in &recipe.modules {
        let file = &program.source;
        modules.push(file.at.around(Module::read(&file.value, &program.dest, changes, &plugs))?);
    }
    let places = recipe.config.program().map(|program| recipe.config.places(program));
    let places = places.unwrap_or_default();
    if modules.is_empty() {
        let found = copied(tree, &places)?;
        for (number, (dest, source)) in found.into_iter().enumerate() {
            modules.push(Module::read(shown(&source), &dest, changes, &plugs)?);
            tree.make_module(&dest, number);
        }
    }
    plugs.iter().try_for_each(Plug::check_used)?;
    let entry = places.iter().find_map(|place| modules.iter().position(|m| m.dest == *place));
    if recipe.modules.is_empty() && entry.is_none() {
        bail!(
            "the image has no file for `{}`, which it says to run: COPY the module there",
            recipe.config.program().unwrap_or_default()
        );
    }
    Ok((modules, entry.unwrap_or(0)))
}

/// Files that are modules, by their paths in the image and on this machine: what runs, and whatever
/// is called `.wasm` and is.
fn copied(tree: &Tree, places: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let runs = places
        .iter()
        .find(|place| tree.get(place).is_some_and(|entry| matches!(entry.node, Node::File { .. })));
    let mut found = Vec::new();
    for (path, entry) in tree.iter() {
        let Node::File { source, .. } = &entry.node else { continue };
        let named = path.extension().is_some_and(|ending| ending == "wasm");
        let mut head = Vec::new();
        if named && Some(path) != runs.map(PathBuf::as_path) {
            let file = File::open(source);
            file.and_then(|file| file.take(4).read_to_end(&mut head))
                .with_context(|| format!("cannot read {}", source.display()))?;
        }
        if Some(path) == runs.map(PathBuf::as_path) || head == b"\0asm" {
            found.push((path.to_owned(), source.clone()));
        }
    }
    Ok(found)
}

/// As seen from the current folder.
fn shown(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path)
}

impl Module {
    fn read(file: &Path, dest: &Path, changes: &Changes, plugs: &[Plug<'_>]) -> Result<Self> {
        let original = read_module(file)?;
        // Before anything else is fed with it.
        let mut facts = parse(file, &original)?;
        let mut binary = original.clone();
        let mut done = Vec::new();
        let wrong = |what: &str| format!("cannot {what} {}", file.display());
        let mut changed = |what, new: Vec<u8>, binary: &mut Vec<u8>| {
            done.push(Change { what, before: binary.len(), after: new.len() });
            *binary = new;
        };
        if let Some(level) = changes.optimize {
            let new = optimize::optimize(&binary, level).with_context(|| wrong("optimize"))?;
            changed("optimized", new, &mut binary);
        }
        if changes.component && facts.kind == module::Kind::CoreModule {
            let new =
                component::wrap(&binary, &facts).with_context(|| wrong("make a component of"))?;
            changed("wrapped", new, &mut binary);
        }
        if changes.component || facts.kind == module::Kind::Component {
            for plug in plugs {
                let new = plug.put_into(&binary).with_context(|| wrong("put components into"))?;
                if let Some(new) = new {
                    changed("plugged", new, &mut binary);
                }
            }
        }
        if changes.strip {
            let new = strip::strip(&binary).with_context(|| wrong("strip"))?;
            changed("stripped", new, &mut binary);
        }
        if !done.is_empty() {
            facts = module::Module::parse(&binary).map_err(|error| {
                anyhow!(
                    "{} is no longer valid once it is {}: {error}; leave that out",
                    file.display(),
                    done[done.len() - 1].what
                )
            })?;
        }
        let (file, dest) = (file.to_owned(), dest.to_owned());
        Ok(Self { file, dest, original, binary, facts, changes: done })
    }
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let unreadable = || format!("cannot read {}", path.display());
    let metadata = fs::metadata(path).with_context(unreadable)?;
    ensure!(
        !metadata.is_dir(),
        "cannot read {}: it is a folder; name the .wasm file, and use --add for other files",
        path.display()
    );
    ensure!(metadata.is_file(), "cannot read {}: it is not a plain file", path.display());
    ensure!(
        metadata.len() <= MAX_WASM,
        "cannot use {}: it is larger than {MAX_WASM} bytes",
        path.display()
    );
    let bytes = fs::read(path).with_context(unreadable)?;
    to_binary(path, bytes).map_err(|error| unusable(path, &error))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<module::Module> {
    module::Module::parse(bytes).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &module::Error) -> anyhow::Error {
    use artifact::module::Error;
    let is = |end: &str| path.extension().is_some_and(|ending| ending == end);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let advice = match error {
        Error::NotWasm(_) if is("toml") || name == "Containerfile" || name == "Dockerfile" => {
            "; what says how to build is given with -f"
        }
        Error::NotWasm(_) if is("tar") => "; an image is run, loaded or pushed as it is",
        Error::NotWasm(_) => "; compile for wasm32-wasip1 or wasm32-wasip2 and name that file",
        Error::Truncated { .. } => "; copy or build the file again",
        Error::Version(_) => "; build it again with current tools",
        Error::Invalid { .. } | Error::Proposal { .. } | Error::Text(_) => "",
    };
    anyhow!("cannot use {}: {error}{advice}", path.display())
}
