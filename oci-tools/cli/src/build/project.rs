//! `wasm-image.toml`: all that the command line can say of an image, kept beside the sources.
//! Paths in it start at its folder.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use serde::Deserialize;
use toml::Spanned;

use super::context;
use super::recipe::{Add, argv, dest_of};
use super::request::{Place, Request, Said, Step};

/// The file's usual name.
pub const NAME: &str = "wasm-image.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "the keys of an image")]
struct Document {
    #[serde(default)]
    modules: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    tags: Vec<Spanned<String>>,
    form: Option<Spanned<String>>,
    #[serde(default)]
    linux: Vec<Spanned<PathBuf>>,
    output: Option<Spanned<PathBuf>>,
    entrypoint: Option<Spanned<Words>>,
    cmd: Option<Spanned<Words>>,
    workdir: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    #[serde(default)]
    expose: Vec<Spanned<NumberOrText>>,
    stop_signal: Option<Spanned<NumberOrText>>,
    optimize: Option<Spanned<Optimize>>,
    strip: Option<Spanned<bool>>,
    component: Option<Spanned<bool>>,
    #[serde(default)]
    plug: Vec<Spanned<PathBuf>>,
    sbom: Option<Spanned<String>>,
    sbom_output: Option<Spanned<PathBuf>>,
    /// By their places in the image.
    #[serde(default)]
    files: BTreeMap<Spanned<String>, Spanned<PathBuf>>,
    #[serde(default)]
    env: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an array of strings, or a string")]
enum Words {
    List(Vec<String>),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a string")]
enum NumberOrText {
    Number(i64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, or a level: 0 to 4, \"s\" or \"z\"")]
enum Optimize {
    Switch(bool),
    Number(i64),
    Text(String),
}

impl NumberOrText {
    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Reads the file.
///
/// # Errors
/// Words that begin with file and line.
pub fn read(file: &Path) -> Result<Request> {
    let text = context::text(file)?;
    let reader = Reader { file: file.into(), text: &text };
    let document: Document = toml::from_str(&text).map_err(|error| {
        let line = reader.line(&error.span().unwrap_or_default());
        anyhow!("{}:{line}: {}", file.display(), error.message().replace('\n', ": "))
    })?;
    reader.request(document)
}

struct Reader<'a> {
    file: Rc<Path>,
    text: &'a str,
}

impl Reader<'_> {
    /// From 1.
    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn said<T, U: std::fmt::Debug>(
        &self,
        key: &'static str,
        value: Spanned<T>,
        read: impl FnOnce(T) -> U,
    ) -> Said<U> {
        let line = self.line(&value.span());
        let at = Place::Line { file: self.file.clone(), line, key };
        Said::new(read(value.into_inner()), at)
    }

    /// The same, for what may be wrong.
    fn checked<T, U: std::fmt::Debug>(
        &self,
        key: &'static str,
        value: Spanned<T>,
        read: impl FnOnce(T) -> Result<U, (String, String)>,
    ) -> Result<Said<U>> {
        let Said { value, at } = self.said(key, value, read);
        let value = value.map_err(|(value, why)| at.bad(value, why))?;
        Ok(Said::new(value, at))
    }

    fn path(&self, path: PathBuf) -> PathBuf {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        if path.as_os_str() == "-" { path } else { folder.join(path) }
    }

    fn request(&self, document: Document) -> Result<Request> {
        let path = |key| move |value| self.said(key, value, |path| self.path(path));
        let text = |key| move |value: Spanned<String>| self.said(key, value, |text| text);
        let either =
            |key| move |value: Spanned<NumberOrText>| self.said(key, value, NumberOrText::text);
        let words = |key| {
            move |value: Spanned<Words>| {
                self.checked(key, value, |words| match words {
                    Words::List(words) => Ok(words),
                    Words::Text(text) => argv(&text).map_err(|why| (text, why)),
                })
            }
        };
        Ok(Request {
            modules: document.modules.into_iter().map(path("modules")).collect(),
            form: document.form.map(|form| self.checked("form", form, choice)).transpose()?,
            linux: document.linux.into_iter().map(path("linux")).collect(),
            plugs: document.plug.into_iter().map(path("plug")).collect(),
            tags: document.tags.into_iter().map(text("tags")).collect(),
            output: document.output.map(path("output")),
            steps: self.files(document.files)?,
            entrypoint: document.entrypoint.map(words("entrypoint")).transpose()?,
            cmd: document.cmd.map(words("cmd")).transpose()?,
            env: self.pairs("env", document.env),
            workdir: document.workdir.map(text("workdir")),
            user: document.user.map(text("user")),
            labels: self.pairs("labels", document.labels),
            expose: document.expose.into_iter().map(either("expose")).collect(),
            stop_signal: document.stop_signal.map(either("stop-signal")),
            healthcheck: None,
            optimize: match document.optimize {
                Some(value) if matches!(value.get_ref(), Optimize::Switch(false)) => None,
                Some(value) => Some(self.checked("optimize", value, |value| match value {
                    Optimize::Switch(_) => choice("s".into()),
                    Optimize::Number(number) => choice(number.to_string()),
                    Optimize::Text(text) => choice(text),
                })?),
                None => None,
            },
            strip: document.strip.map(|value| self.said("strip", value, |on| on)),
            component: document.component.map(|value| self.said("component", value, |on| on)),
            sbom: document.sbom.map(|value| self.checked("sbom", value, choice)).transpose()?,
            sbom_output: document.sbom_output.map(path("sbom-output")),
        })
    }

    /// In the order of the file.
    fn files(&self, files: BTreeMap<Spanned<String>, Spanned<PathBuf>>) -> Result<Vec<Said<Step>>> {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by_key(|(dest, _)| dest.span().start);
        let step = |(dest, source): (Spanned<String>, Spanned<PathBuf>)| {
            self.checked("files", dest, |dest| match dest_of(dest.as_ref()) {
                Ok((inside, into)) => {
                    let source = self.path(source.into_inner());
                    Ok(Step::Add(Add { source, dest: inside, into }))
                }
                Err(why) => Err((dest, why)),
            })
        };
        files.into_iter().map(step).collect()
    }

    /// `KEY=VALUE`, in the order of the file.
    fn pairs(
        &self,
        key: &'static str,
        pairs: BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Vec<Said<String>> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by_key(|(name, _)| name.span().start);
        let pair = |(name, value): (Spanned<String>, Spanned<String>)| {
            self.said(key, name, |name| format!("{name}={}", value.get_ref()))
        };
        pairs.into_iter().map(pair).collect()
    }
}

/// One of a few words.
fn choice<T: ValueEnum>(text: String) -> Result<T, (String, String)> {
    T::from_str(&text, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
        (text, format!("it must be one of {}", names.join(", ")))
    })
}
