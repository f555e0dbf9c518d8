//! What is asked for, with where each part of it was said: on the command line, in `wasm-image.toml`
//! or in a Containerfile. Nothing is checked here.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, anyhow};

use super::containerfile::Copy;
use super::optimize::Level;
use super::recipe::Usage;
use crate::cli::{BuildArgs, Form, SbomFormat};

/// Where something was said.
#[derive(Clone, Debug)]
pub enum Place {
    /// An option of the command line, such as `--env`.
    Option(&'static str),
    /// A key or an instruction in a line of a file.
    Line { file: Rc<Path>, line: usize, key: &'static str },
}

impl Place {
    /// What was said there cannot be taken.
    pub fn bad(&self, value: impl Display, why: impl Display) -> anyhow::Error {
        match self {
            Self::Option(option) => Usage(format!("bad {option} `{value}`: {why}")).into(),
            Self::Line { key, .. } => anyhow!("{}bad {key} `{value}`: {why}", self.prefix()),
        }
    }

    /// It cannot be said there; `why` goes on after its name.
    pub fn wrong(&self, why: impl Display) -> anyhow::Error {
        match self {
            Self::Option(option) => Usage(format!("{option} {why}")).into(),
            Self::Line { key, .. } => anyhow!("{}{key} {why}", self.prefix()),
        }
    }

    /// Puts the line, if it is one, before what went wrong.
    pub fn around<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match self {
            Self::Line { .. } if !error.is::<Usage>() => anyhow!("{}{error:#}", self.prefix()),
            _ => error,
        })
    }

    /// `FILE:LINE: `, or nothing.
    fn prefix(&self) -> String {
        match self {
            Self::Option(_) => String::new(),
            Self::Line { file, line, .. } => format!("{}:{line}: ", file.display()),
        }
    }
}

/// A value and where it was said.
#[derive(Clone, Debug)]
pub struct Said<T> {
    pub value: T,
    pub at: Place,
}

impl<T: fmt::Debug> Said<T> {
    pub fn new(value: T, at: Place) -> Self {
        Self { value, at }
    }

    /// The value as `read` understands it; its errors say why it cannot be.
    pub fn check<U>(&self, read: impl FnOnce(&T) -> Result<U, String>) -> Result<U>
    where
        T: Display,
    {
        read(&self.value).map_err(|why| self.at.bad(&self.value, why))
    }
}

/// What goes into the image beside the modules, in order.
#[derive(Clone, Debug)]
pub enum Step {
    /// A file or folder of this machine.
    Add(super::recipe::Add),
    /// `COPY` of a Containerfile.
    Copy(Copy),
    /// A folder, by its absolute path in the image.
    Folder(String),
}

/// All that can be said of an image.
#[derive(Debug, Default)]
pub struct Request {
    pub modules: Vec<Said<PathBuf>>,
    pub form: Option<Said<Form>>,
    pub linux: Vec<Said<PathBuf>>,
    pub tags: Vec<Said<String>>,
    pub output: Option<Said<PathBuf>>,
    pub steps: Vec<Said<Step>>,
    pub entrypoint: Option<Said<Vec<String>>>,
    pub cmd: Option<Said<Vec<String>>>,
    pub env: Vec<Said<String>>,
    pub workdir: Option<Said<String>>,
    pub user: Option<Said<String>>,
    pub labels: Vec<Said<String>>,
    pub expose: Vec<Said<String>>,
    pub stop_signal: Option<Said<String>>,
    /// As the image's configuration holds it.
    pub healthcheck: Option<Said<serde_json::Value>>,
    pub optimize: Option<Said<Level>>,
    pub strip: Option<Said<bool>>,
    pub component: Option<Said<bool>>,
    pub plugs: Vec<Said<PathBuf>>,
    pub sbom: Option<Said<SbomFormat>>,
    pub sbom_output: Option<Said<PathBuf>>,
}

impl Request {
    /// What the command line says, but for which files are to be read for more.
    pub fn of_args(args: &BuildArgs, modules: &[PathBuf]) -> Result<Self> {
        fn each<T: Clone + fmt::Debug>(values: &[T], option: &'static str) -> Vec<Said<T>> {
            values.iter().map(|value| Said::new(value.clone(), Place::Option(option))).collect()
        }
        fn one<T: Clone + fmt::Debug>(value: &Option<T>, option: &'static str) -> Option<Said<T>> {
            value.clone().map(|value| Said::new(value, Place::Option(option)))
        }
        let words = |text: &Option<String>, option| -> Result<_> {
            let Some(said) = one(text, option) else { return Ok(None) };
            Ok(Some(Said::new(said.check(|text| super::recipe::argv(text))?, said.at)))
        };
        let add = |text: &std::ffi::OsString| -> Result<_> {
            let at = Place::Option("--add");
            let add = super::recipe::add(text).map_err(|why| at.bad(text.display(), why))?;
            Ok(Said::new(Step::Add(add), at))
        };
        Ok(Self {
            modules: each(modules, "module"),
            form: one(&args.form, "--form"),
            linux: each(&args.linux, "--linux"),
            tags: each(&args.tags, "--tag"),
            output: one(&args.output, "--output"),
            steps: args.adds.iter().map(add).collect::<Result<_>>()?,
            entrypoint: words(&args.entrypoint, "--entrypoint")?,
            cmd: words(&args.cmd, "--cmd")?,
            env: each(&args.env, "--env"),
            workdir: one(&args.workdir, "--workdir"),
            user: one(&args.user, "--user"),
            labels: each(&args.labels, "--label"),
            expose: each(&args.expose, "--expose"),
            stop_signal: one(&args.stop_signal, "--stop-signal"),
            healthcheck: None,
            optimize: one(&args.optimize, "--optimize"),
            strip: one(&args.strip, "--strip"),
            component: one(&args.component, "--component"),
            plugs: each(&args.plugs, "--plug"),
            sbom: one(&args.sbom, "--sbom"),
            sbom_output: one(&args.sbom_output, "--sbom-output"),
        })
    }

    /// This with `over` laid over it: what is one thing is replaced, and so are modules, names and
    /// layouts; files, variables, labels and ports are added.
    pub fn with(mut self, over: Self) -> Self {
        fn replace<T>(mine: &mut Vec<T>, over: Vec<T>) {
            if !over.is_empty() {
                *mine = over;
            }
        }
        replace(&mut self.modules, over.modules);
        replace(&mut self.linux, over.linux);
        replace(&mut self.tags, over.tags);
        replace(&mut self.plugs, over.plugs);
        self.steps.extend(over.steps);
        self.env.extend(over.env);
        self.labels.extend(over.labels);
        self.expose.extend(over.expose);
        Self {
            form: over.form.or(self.form),
            output: over.output.or(self.output),
            entrypoint: over.entrypoint.or(self.entrypoint),
            cmd: over.cmd.or(self.cmd),
            workdir: over.workdir.or(self.workdir),
            user: over.user.or(self.user),
            stop_signal: over.stop_signal.or(self.stop_signal),
            healthcheck: over.healthcheck.or(self.healthcheck),
            optimize: over.optimize.or(self.optimize),
            strip: over.strip.or(self.strip),
            component: over.component.or(self.component),
            sbom: over.sbom.or(self.sbom),
            sbom_output: over.sbom_output.or(self.sbom_output),
            ..self
        }
    }
}
