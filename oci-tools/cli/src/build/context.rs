//! The folder that a Containerfile copies from. Nothing outside it is ever read, whatever is written
//! in the Containerfile and whatever links lie in the folder.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::pattern::{Pattern, is_pattern};

/// The largest Containerfile or list of what to leave out, in bytes.
pub const MAX_TEXT: u64 = 1 << 20;

/// The folder, and what of it is left out.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    /// Without links.
    real: PathBuf,
    rules: Vec<Rule>,
    /// The file that the rules are from.
    ignore_file: Option<PathBuf>,
}

/// A line of `.dockerignore`.
#[derive(Debug)]
struct Rule {
    /// Takes back what a rule above leaves out.
    negated: bool,
    pattern: Pattern,
}

/// A file or folder to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// From the root of the context, as it was named.
    pub relative: PathBuf,
    /// Without links.
    pub real: PathBuf,
}

impl Context {
    /// Opens `root`; `file` is the Containerfile, beside which there may be a list of its own.
    pub fn open(root: &Path, file: &Path) -> Result<Self> {
        let unreadable = || format!("cannot use the folder {}", root.display());
        let real = fs::canonicalize(root).with_context(unreadable)?;
        let beside = |ending: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let places = [
            beside(".containerignore"),
            beside(".dockerignore"),
            root.join(".containerignore"),
            root.join(".dockerignore"),
        ];
        let ignore_file = places.into_iter().find(|place| place.is_file());
        let rules = ignore_file.as_deref().map(rules).transpose()?.unwrap_or_default();
        Ok(Self { root: root.to_owned(), real, rules, ignore_file })
    }

    /// The folder as it was named.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a path, relative to the root, is left out: the last rule for it, or for a folder above
    /// it, counts.
    pub fn leaves_out(&self, relative: &Path) -> bool {
        let paths: Vec<_> = relative
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| path.to_string_lossy())
            .collect();
        let hit = |rule: &&Rule| paths.iter().any(|path| rule.pattern.matches(path));
        self.rules.iter().rfind(hit).is_some_and(|rule| !rule.negated)
    }

    /// Whether nothing in a folder that is left out is taken back.
    pub fn leaves_out_whole_folders(&self) -> bool {
        !self.rules.iter().any(|rule| rule.negated)
    }

    /// What `text` means: one file or folder, or with wildcards all that match, in order.
    ///
    /// # Errors
    /// Why it means nothing that may be copied.
    pub fn sources(&self, text: &str) -> Result<Vec<Source>, String> {
        let mut found = vec![PathBuf::new()];
        let mut wild = false;
        for component in Path::new(text).components() {
            let Component::Normal(name) = component else {
                match component {
                    Component::ParentDir => {
                        return Err("it leads out of the context: name what is in it, or give another context".into());
                    }
                    _ => continue,
                }
            };
            let name = name.to_string_lossy();
            if is_pattern(&name) {
                let pattern = Pattern::parse(&name)?;
                wild = true;
                found = found.iter().flat_map(|folder| self.matching(folder, &pattern)).collect();
            } else {
                found.iter_mut().for_each(|path| path.push(&*name));
            }
        }
        let mut sources = Vec::new();
        for relative in found {
            match self.source(&relative) {
                Err(_) if wild && fs::symlink_metadata(self.root.join(&relative)).is_err() => {}
                Ok(_) if wild && self.leaves_out(&relative) => {}
                Ok(_) if self.leaves_out(&relative) => {
                    let file = self.ignore_file.as_deref().unwrap_or(Path::new(".dockerignore"));
                    return Err(format!("{} leaves it out of the context", file.display()));
                }
                source => sources.push(source?),
            }
        }
        if sources.is_empty() {
            return Err(format!("nothing in {} matches it", self.root.display()));
        }
        Ok(sources)
    }

    /// The entries of a folder whose names match, in order; of what is no folder, none.
    fn matching(&self, folder: &Path, pattern: &Pattern) -> Vec<PathBuf> {
        if self.source(folder).is_err() {
            return Vec::new();
        }
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.retain(|name| pattern.matches(&name.to_string_lossy()));
        names.sort();
        names.into_iter().map(|name| folder.join(name)).collect()
    }

    fn source(&self, relative: &Path) -> Result<Source, String> {
        let path = self.root.join(relative);
        let real = fs::canonicalize(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if !real.starts_with(&self.real) {
            return Err(format!(
                "{} is a link out of the context, to {}; copy what it points to into the context",
                path.display(),
                real.display()
            ));
        }
        Ok(Source { relative: relative.to_owned(), real })
    }
}

/// <https://docs.docker.com/build/concepts/context/#dockerignore-files>
fn rules(file: &Path) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (index, line) in text(file)?.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let line = line.trim();
        let (negated, path) = match line.strip_prefix('!') {
            Some(path) => (true, path.trim()),
            None => (false, line),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        if parts.is_empty() {
            continue;
        }
        let pattern = Pattern::parse(&parts.join("/"));
        let pattern = pattern.map_err(|why| {
            anyhow!("{}:{}: bad pattern `{path}`: {why}", file.display(), index + 1)
        })?;
        rules.push(Rule { negated, pattern });
    }
    Ok(rules)
}

/// A small file of text, without a byte order mark.
pub fn text(file: &Path) -> Result<String> {
    let unreadable = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).with_context(unreadable)?;
    opened.take(MAX_TEXT + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(anyhow!("cannot use {}: it has more than 1 MiB", file.display()));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow!("cannot use {}: it is not UTF-8 text", file.display()))?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn open(folder: &tempfile::TempDir) -> Context {
        Context::open(folder.path(), &folder.path().join("Containerfile")).unwrap()
    }

    #[test]
    fn the_last_rule_for_a_path_or_a_folder_above_it_counts() {
        let list = "# comment\n\n/target/\n*.log\n!keep.log\n**/.git\ndocs/./a/../*.md\n";
        let context = open(&folder(&[(".dockerignore", list)]));
        for out in ["target", "target/x/y", "a.log", ".git", "d/.git/config", "docs/b.md"] {
            assert!(context.leaves_out(Path::new(out)), "{out}");
        }
        for kept in ["keep.log", "d/a.log", "src/target", "docs/a/b.md", "README.md"] {
            assert!(!context.leaves_out(Path::new(kept)), "{kept}");
        }
        assert!(!context.leaves_out_whole_folders());
    }

    #[test]
    fn the_list_beside_the_containerfile_goes_before_that_of_the_folder() {
        let files =
            [(".dockerignore", "a"), ("Containerfile.dockerignore", "b"), ("a", ""), ("b", "")];
        let context = open(&folder(&files));
        assert!(context.leaves_out(Path::new("b")) && !context.leaves_out(Path::new("a")));
    }

    #[test]
    fn wildcards_find_what_is_there_in_order_and_not_what_is_left_out() {
        let files = [("d/b.wasm", ""), ("d/a.wasm", ""), ("e/c.wasm", ""), ("d/x.wat", "")];
        let folder = folder(&[&files[..], &[(".dockerignore", "e")]].concat());
        let context = open(&folder);
        let names = |text: &str| -> Vec<_> {
            let sources = context.sources(text).unwrap();
            sources.iter().map(|source| source.relative.display().to_string()).collect()
        };
        assert_eq!(names("*/*.wasm"), ["d/a.wasm", "d/b.wasm"]);
        assert_eq!(names("./d//x.w?t"), ["d/x.wat"]);
        assert_eq!(names("/"), [""]);
        assert!(context.sources("*.none").unwrap_err().contains("nothing in"));
        assert!(context.sources("e/c.wasm").unwrap_err().contains("leaves it out"));
    }

    #[test]
    fn nothing_outside_is_reached_by_name_or_by_link() {
        let outside = folder(&[("secret", "")]);
        let folder = folder(&[("a", "")]);
        symlink(outside.path(), folder.path().join("out")).unwrap();
        symlink("a", folder.path().join("in")).unwrap();
        let context = open(&folder);
        for text in ["../x", "a/../../x", "out", "out/secret", "o*", "out/*"] {
            assert!(context.sources(text).is_err(), "{text}");
        }
        assert_eq!(
            context.sources("in").unwrap()[0].real,
            fs::canonicalize(folder.path().join("a")).unwrap()
        );
    }
}
