//! What was built, in words for a person or as JSON for a program, and what is wrong with it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use artifact::media;
use artifact::module::{Extern, Kind, Wasi, World};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::image::Image;
use super::modules::{Change, Module as Program};
use super::recipe::{Recipe, Target};
use super::tree::Tree;
use crate::inspect::obstacles;

/// How many exports are listed by name before the rest is only counted.
const LISTED: usize = 8;

/// The runtime that the commands for the user name.
const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// An image that has been written.
pub struct Report<'a> {
    recipe: &'a Recipe,
    modules: &'a [Program],
    /// The one that runs.
    entry: &'a Program,
    image: &'a Image,
    /// Length of the written tar in bytes.
    size: u64,
    /// Folder of the store that has the image too.
    pub store: Option<&'a Path>,
    /// Reasons why the image will not run as it is.
    pub warnings: Vec<String>,
}

impl<'a> Report<'a> {
    pub fn new(
        recipe: &'a Recipe,
        modules: &'a [Program],
        entry: &'a Program,
        tree: &Tree,
        image: &'a Image,
        size: u64,
    ) -> Self {
        let warnings = warnings(recipe, entry, tree);
        Self { recipe, modules, entry, image, size, store: None, warnings }
    }

    /// Everything the text says, for programs. Sizes are in bytes.
    pub fn json(&self) -> Value {
        let layer = &self.image.layer;
        let module = &self.entry.facts;
        json!({
            "module": {
                "file": self.entry.file.display().to_string(),
                "description": module.to_string(),
                "kind": match module.kind {
                    Kind::CoreModule => "core-module",
                    Kind::Component => "component",
                },
                "world": match module.world {
                    World::Command => "command",
                    World::HttpProxy => "http-proxy",
                    World::Reactor => "reactor",
                },
                "wasi": match &module.wasi {
                    Wasi::None => Value::Null,
                    Wasi::Preview1 => "preview1".into(),
                    newer => newer.to_string().into(),
                },
                "imports": externs_json(&module.imports),
                "exports": externs_json(&module.exports),
                "changes": changes_json(self.entry),
            },
            "beside": self.beside().map(|other| json!({
                "file": other.file.display().to_string(),
                "path": format!("/{}", other.dest.display()),
                "description": other.facts.to_string(),
                "changes": changes_json(other),
            })).collect::<Vec<_>>(),
            "image": {
                "names": self.recipe.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "form": self.form(),
                "platform": self.platform(),
                "beside": self.image.beside,
                "entrypoint": self.recipe.config.entrypoint,
                "cmd": self.recipe.config.cmd,
                "index": self.image.index,
                "manifest": self.image.manifest,
                "config": self.image.config,
                "layer": {
                    "digest": layer.digest,
                    "diffId": layer.diff_id,
                    "size": layer.size,
                    "files": layer.files,
                    "unpackedSize": layer.unpacked,
                },
            },
            "output": {
                "file": self.output_file().map(|path| path.display().to_string()),
                "size": self.size,
                "store": self.store.map(|folder| folder.display().to_string()),
                "sbom": self.recipe.sbom.as_ref().map(|sbom| sbom.output.display().to_string()),
            },
            "warnings": self.warnings,
            "next": self.next(),
        })
    }

    /// Commands that load and run the image; those that need a file are left out for stdout.
    fn next(&self) -> Vec<String> {
        let (platform, name) = (self.platform(), self.recipe.names[0].familiar());
        let mut run = format!("docker run --rm --runtime {RUNTIME} --platform {platform} {name}");
        if self.recipe.form.is_artifact() {
            // An artifact says no command, and Docker wants one.
            run.push_str(&format!(" /{}", self.entry.dest.display()));
        }
        let load = self.output_file().map(|path| format!("docker load -i {}", quoted(path)));
        load.into_iter().chain([run]).collect()
    }

    /// The modules that do not run unless something runs them.
    fn beside(&self) -> impl Iterator<Item = &Program> {
        self.modules.iter().filter(|module| module.dest != self.entry.dest)
    }

    fn platform(&self) -> String {
        format!("{}/{}", self.image.os, media::ARCHITECTURE)
    }

    /// As `--form` takes it.
    fn form(&self) -> String {
        let value = self.recipe.form.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn output_file(&self) -> Option<&Path> {
        match &self.recipe.output {
            Target::File(path) => Some(path),
            Target::Stdout => None,
        }
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = &self.image.layer;
        let module = &self.entry.facts;
        writeln!(f, "{}: {module}", self.entry.file.display())?;
        for (index, import) in module.imports.iter().enumerate() {
            let title = if index == 0 { "imports" } else { "" };
            writeln!(f, "  {title:<11}{}", counted(import))?;
        }
        writeln!(f, "  {:<11}{}", "exports", listed(&module.exports))?;
        write_changes(f, self.entry)?;
        for other in self.beside() {
            writeln!(f, "{}: {}", other.file.display(), other.facts)?;
            writeln!(f, "  {:<11}/{}", "beside, at", other.dest.display())?;
            write_changes(f, other)?;
        }
        writeln!(f)?;
        for (index, name) in self.recipe.names.iter().enumerate() {
            writeln!(f, "{:<6}{name}", if index == 0 { "image" } else { "" })?;
        }
        if let Some(index) = &self.image.index {
            let platforms = [&[self.platform()], self.image.beside.as_slice()].concat();
            writeln!(f, "  {:<11}{index}", "index")?;
            writeln!(f, "  {:<11}{}", "platforms", platforms.join(", "))?;
        }
        if self.recipe.form.is_artifact() {
            writeln!(f, "  {:<11}{}", "manifest", self.image.manifest)?;
            writeln!(f, "  {:<11}the module, {}", "layer", bytes(layer.size))?;
        } else {
            let entrypoint = json!(self.recipe.config.entrypoint);
            let (unpacked, packed) = (bytes(layer.unpacked), bytes(layer.size));
            let files = files(layer.files);
            writeln!(f, "  {:<11}{entrypoint}", "entrypoint")?;
            writeln!(f, "  {:<11}{}", "manifest", self.image.manifest)?;
            writeln!(f, "  {:<11}{files}, {unpacked}, compressed {packed}", "layer")?;
        }
        let place = self.output_file().map_or("stdout".into(), |path| path.display().to_string());
        writeln!(f, "  {:<11}{place}, {}", "written to", bytes(self.size))?;
        if let Some(store) = self.store {
            writeln!(f, "  {:<11}{}", "stored in", store.display())?;
        }
        if let Some(sbom) = &self.recipe.sbom {
            writeln!(f, "  {:<11}{}", "SBOM in", sbom.output.display())?;
        }
        writeln!(f, "\nnext")?;
        self.next().iter().try_for_each(|command| writeln!(f, "  {command}"))
    }
}

/// `optimized  1.3 MiB to 0.9 MiB`, one a line.
fn write_changes(f: &mut fmt::Formatter<'_>, module: &Program) -> fmt::Result {
    for Change { what, before, after } in &module.changes {
        writeln!(f, "  {what:<11}{} to {}", bytes(*before as u64), bytes(*after as u64))?;
    }
    Ok(())
}

fn changes_json(module: &Program) -> Vec<Value> {
    let one = |change: &Change| json!({ "change": change.what, "sizeBefore": change.before, "sizeAfter": change.after });
    module.changes.iter().map(one).collect()
}

fn warnings(recipe: &Recipe, entry: &Program, tree: &Tree) -> Vec<String> {
    let (file, module) = (entry.file.display(), &entry.facts);
    let mut warnings = Vec::new();
    let obstacles = obstacles(module, &entry.binary);
    let program = recipe.config.program().unwrap_or_default();
    match (module.world, module.kind) {
        // What is called by its name.
        _ if program.contains('#') => {}
        (World::Reactor, Kind::CoreModule) => warnings.push(format!(
            "{file} cannot be run: it exports no function `_start` without parameters and results; build it as a program, not as a library"
        )),
        (World::Reactor, Kind::Component) => warnings.push(format!(
            "{file} cannot be run: it exports neither wasi:cli/run nor wasi:http/incoming-handler; build it for one of these worlds"
        )),
        (World::Command | World::HttpProxy, _) => {}
    }
    if !obstacles.is_empty() {
        warnings.push(format!("{file} will not start: {}", obstacles.join("; ")));
    }
    let is_file = |place: &PathBuf| tree.get(place).is_some();
    if !recipe.form.is_artifact() && !recipe.config.places(program).iter().any(is_file) {
        warnings.push(format!(
            "the entrypoint `{program}` is no file in the image; the module is at /{}",
            entry.dest.display()
        ));
    }
    let by_name = |user: &&String| user.starts_with(|c: char| !c.is_ascii_digit());
    if let Some(user) = recipe.config.user.as_ref().filter(by_name)
        && tree.get(Path::new("etc/passwd")).is_none()
    {
        warnings.push(format!(
            "the user `{user}` cannot be looked up: the image has no /etc/passwd; give a number"
        ));
    }
    warnings
}

/// `wasi:cli/environment@0.2.6 (3)`.
fn counted(item: &Extern) -> String {
    match item.members.len() {
        0 => item.name.clone(),
        count => format!("{} ({count})", item.name),
    }
}

fn listed(exports: &[Extern]) -> String {
    let mut words: Vec<_> = exports.iter().take(LISTED).map(counted).collect();
    if exports.len() > LISTED {
        words.push(format!("and {} more", exports.len() - LISTED));
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

fn externs_json(externs: &[Extern]) -> Vec<Value> {
    let one = |item: &Extern| json!({ "name": item.name, "members": item.members });
    externs.iter().map(one).collect()
}

fn files(count: usize) -> String {
    format!("{count} file{}", if count == 1 { "" } else { "s" })
}

/// A size with one digit after the point from 1 KiB on.
pub fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut size, mut unit) = (count as f64 / 1024.0, "KiB");
    for next in ["MiB", "GiB"] {
        if size >= 1024.0 {
            (size, unit) = (size / 1024.0, next);
        }
    }
    format!("{size:.1} {unit}")
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn a_path_in_a_command_survives_the_shell() {
        assert_eq!(quoted(Path::new("a/b.tar")), "a/b.tar");
        assert_eq!(quoted(Path::new("it's a.tar")), r"'it'\''s a.tar'");
    }
}
