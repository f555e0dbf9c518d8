//! What the container's entrypoint means: which file of the rootfs, and which export of it.

use super::{Error, invalid};
use std::path::{Path, PathBuf};

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first word of the container's arguments, understood: `FILE` or `FILE#EXPORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the image's author wrote it.
    pub word: String,
    /// The paths that it may mean, absolute within the rootfs, best first.
    pub candidates: Vec<PathBuf>,
    /// The function to call instead of the command's own entry point.
    pub export: Option<String>,
}

impl Entry {
    /// The word without the export.
    pub fn file(&self) -> &str {
        self.word.rsplit_once('#').map_or(&self.word, |(file, _)| file)
    }

    /// Reads `word` for a process with this environment and working directory.
    ///
    /// A word with a slash names a file, from `cwd` when it is relative; one without is looked for
    /// in each folder of PATH, then in `cwd`.
    ///
    /// # Errors
    /// When it is empty, or nothing stands before or behind a `#`.
    pub fn parse(word: &str, env: &[String], cwd: &Path) -> Result<Self, Error> {
        let (file, export) = match word.rsplit_once('#') {
            Some((file, export)) => (file, Some(export)),
            None => (word, None),
        };
        if file.is_empty() {
            return Err(invalid("process.args", format!("{word:?} names no file")));
        }
        if export == Some("") {
            let why = format!("{word:?} names no export behind its `#`");
            return Err(invalid("process.args", why));
        }
        let candidates = if file.contains('/') {
            vec![cwd.join(file)]
        } else {
            search_path(env).map(|dir| cwd.join(dir).join(file)).chain([cwd.join(file)]).collect()
        };
        Ok(Self { word: word.to_owned(), candidates, export: export.map(str::to_owned) })
    }
}

fn search_path(env: &[String]) -> impl Iterator<Item = &str> {
    env.iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH)
        .split(':')
        .filter(|dir| !dir.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(word: &str, env: &[&str], cwd: &str) -> Vec<String> {
        let env: Vec<String> = env.iter().map(|s| s.to_string()).collect();
        let entry = Entry::parse(word, &env, Path::new(cwd)).unwrap();
        entry.candidates.iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn an_absolute_path_means_itself() {
        assert_eq!(candidates("/app.wasm", &["PATH=/bin"], "/srv"), ["/app.wasm"]);
    }

    #[test]
    fn a_relative_path_is_taken_from_the_working_directory() {
        assert_eq!(candidates("./app.wasm", &[], "/srv"), ["/srv/./app.wasm"]);
        assert_eq!(candidates("bin/app.wasm", &[], "/"), ["/bin/app.wasm"]);
    }

    #[test]
    fn a_bare_name_is_looked_for_in_path_then_in_the_working_directory() {
        assert_eq!(
            candidates("app.wasm", &["PATH=/a:/b", "X=1"], "/srv"),
            ["/a/app.wasm", "/b/app.wasm", "/srv/app.wasm"]
        );
        assert_eq!(candidates("app.wasm", &["PATH="], "/"), ["/app.wasm"]);
    }

    #[test]
    fn a_fragment_names_an_export() {
        let entry = Entry::parse("/lib.wasm#run-me", &[], Path::new("/")).unwrap();
        assert_eq!(entry.export.as_deref(), Some("run-me"));
        assert_eq!(entry.candidates, [Path::new("/lib.wasm")]);
    }

    #[test]
    fn words_that_name_nothing_are_refused() {
        for word in ["", "#run", "/lib.wasm#"] {
            Entry::parse(word, &[], Path::new("/")).unwrap_err();
        }
    }
}
