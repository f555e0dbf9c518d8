//! The part of a Containerfile (or Dockerfile) that makes an image of files, without running
//! anything: what goes in and what the configuration says. The rest is refused with the line and what
//! to do instead.
//!
//! <https://docs.docker.com/reference/dockerfile/>

mod lines;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::context::{self, Context, Source};
use super::recipe::dest_of;
use super::request::{Place, Request, Said, Step};
use lines::Instruction;

/// One `COPY`.
#[derive(Clone, Debug)]
pub struct Copy {
    pub context: Rc<Context>,
    pub sources: Vec<Source>,
    /// Relative to the root of the image.
    pub dest: PathBuf,
    /// The destination is a folder to put things into.
    pub into: bool,
    /// User and group by number.
    pub owner: Option<(u64, u64)>,
    pub mode: Option<u32>,
}

/// What the platform's variables are here, for those who declare them.
const PLATFORM: [(&str, &str); 4] = [
    ("TARGETPLATFORM", "wasi/wasm"),
    ("TARGETOS", "wasi"),
    ("TARGETARCH", "wasm"),
    ("TARGETVARIANT", ""),
];

/// Reads the Containerfile `file` for the folder `root`. `given` are the values of `--build-arg`.
///
/// # Errors
/// Words that begin with file and line.
pub fn read(file: &Path, root: &Path, given: &[(String, String)]) -> Result<Request> {
    let text = context::text(file)?;
    let (instructions, escape) = lines::read(&text)
        .map_err(|wrong| anyhow!("{}:{}: {}", file.display(), wrong.line, wrong.why))?;
    let mut reader = Reader {
        file: file.into(),
        context: Rc::new(Context::open(root, file)?),
        escape,
        given: given.iter().cloned().collect(),
        known: Vec::new(),
        globals: BTreeMap::new(),
        arguments: BTreeMap::new(),
        environment: BTreeMap::new(),
        from: None,
        request: Request::default(),
    };
    for instruction in &instructions {
        reader
            .take(instruction)
            .map_err(|why| anyhow!("{}:{}: {why}", file.display(), instruction.line))?;
    }
    if reader.from.is_none() {
        bail!("{}: it has no FROM: begin it with FROM scratch", file.display());
    }
    if let Some((name, _)) = reader.given.iter().find(|(name, _)| !reader.known.contains(name)) {
        bail!("{}: no ARG declares the --build-arg `{name}`", file.display());
    }
    Ok(reader.request)
}

struct Reader {
    file: Rc<Path>,
    context: Rc<Context>,
    escape: char,
    /// `--build-arg`.
    given: BTreeMap<String, String>,
    /// What ARG has declared.
    known: Vec<String>,
    /// ARG before FROM.
    globals: BTreeMap<String, String>,
    /// ARG after it.
    arguments: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    /// The line of FROM.
    from: Option<usize>,
    request: Request,
}

/// Why an instruction cannot be followed.
type Why<T> = Result<T, String>;

impl Reader {
    fn take(&mut self, instruction: &Instruction) -> Why<()> {
        let Instruction { line, name, flags, arguments } = instruction;
        if self.from.is_none() && !matches!(name.as_str(), "FROM" | "ARG") {
            refuse(name)?;
            return Err(format!("{name} stands before FROM: begin with FROM scratch"));
        }
        let takes: &[&str] = match name.as_str() {
            "FROM" => &["platform"],
            "COPY" => &["chown", "chmod", "link"],
            "HEALTHCHECK" => &["interval", "timeout", "start-period", "start-interval", "retries"],
            _ => &[],
        };
        refuse(name)?;
        if let Some((flag, _)) = flags.iter().find(|(flag, _)| !takes.contains(&flag.as_str())) {
            return Err(unknown_flag(name, flag, takes));
        }
        if arguments.is_empty() {
            return Err(format!("{name} says nothing"));
        }
        if arguments.contains("<<") && name == "COPY" {
            return Err("COPY <<: put the text into a file of the context and copy that".into());
        }
        match name.as_str() {
            "FROM" => self.from(*line, flags, arguments),
            "ARG" => self.arg(arguments),
            "COPY" => self.copy(*line, flags, arguments),
            "ENV" => self.env(*line, arguments),
            "LABEL" => {
                let pairs = self.pairs("LABEL", arguments)?;
                let labels = pairs.into_iter().map(|(key, value)| format!("{key}={value}"));
                let labels: Vec<_> = labels.map(|label| self.said(label, *line, "LABEL")).collect();
                self.request.labels.extend(labels);
                Ok(())
            }
            "EXPOSE" => {
                for word in words::split(arguments, self.escape) {
                    for port in self.expand(&word)?.split_whitespace() {
                        let said = self.said(port.to_owned(), *line, "EXPOSE");
                        self.request.expose.push(said);
                    }
                }
                Ok(())
            }
            "WORKDIR" => self.workdir(*line, arguments),
            "USER" => {
                let user = self.expand(arguments)?;
                self.request.user = Some(self.said(user, *line, "USER"));
                Ok(())
            }
            "STOPSIGNAL" => {
                let signal = self.expand(arguments)?;
                self.request.stop_signal = Some(self.said(signal, *line, "STOPSIGNAL"));
                Ok(())
            }
            "ENTRYPOINT" => {
                let words = exec_form("ENTRYPOINT", arguments)?;
                self.request.entrypoint = Some(self.said(words, *line, "ENTRYPOINT"));
                Ok(())
            }
            "CMD" => {
                let words = exec_form("CMD", arguments)?;
                self.request.cmd = Some(self.said(words, *line, "CMD"));
                Ok(())
            }
            "HEALTHCHECK" => {
                let check = healthcheck(flags, arguments)?;
                self.request.healthcheck = Some(self.said(check, *line, "HEALTHCHECK"));
                Ok(())
            }
            other => Err(format!("there is no instruction {other}")),
        }
    }

    fn said<T: std::fmt::Debug>(&self, value: T, line: usize, key: &'static str) -> Said<T> {
        Said::new(value, Place::Line { file: self.file.clone(), line, key })
    }

    fn from(&mut self, line: usize, flags: &[(String, Option<String>)], words: &str) -> Why<()> {
        if let Some(first) = self.from {
            return Err(format!(
                "a second FROM, after line {first}: there are no stages here, since nothing is run in them; build the module with your own tools and COPY it"
            ));
        }
        let globals = self.globals.clone();
        let expand = |word: &str| {
            words::expand(word, self.escape, &|name| {
                globals.get(name).cloned().or_else(|| platform(name))
            })
        };
        for (_, platform) in flags {
            let platform = expand(platform.as_deref().unwrap_or_default())?;
            if !["wasi/wasm", "wasip1/wasm", "wasip2/wasm"].contains(&platform.as_str()) {
                return Err(format!("the platform {platform} is not made here: say wasi/wasm"));
            }
        }
        let words = words::split(words, self.escape);
        let image = expand(words.first().map_or("", String::as_str))?;
        if image != "scratch" {
            return Err(format!(
                "FROM {image}: a Wasm image begins with nothing, since what other images hold is native code: say FROM scratch"
            ));
        }
        match &words[1..] {
            [] => {}
            [word, _] if word.eq_ignore_ascii_case("as") => {}
            _ => return Err("FROM takes `scratch`, or `scratch AS NAME`".into()),
        }
        self.from = Some(line);
        Ok(())
    }

    fn arg(&mut self, text: &str) -> Why<()> {
        for word in words::split(text, self.escape) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name.to_owned(), Some(self.expand(default)?)),
                None => (word, None),
            };
            if name.is_empty() {
                return Err("ARG takes NAME or NAME=DEFAULT".into());
            }
            let value = self.given.get(&name).cloned().or(default);
            let value = value.or_else(|| self.globals.get(&name).cloned());
            let value = value.or_else(|| platform(&name));
            self.known.push(name.clone());
            let place = match self.from {
                None => &mut self.globals,
                Some(_) => &mut self.arguments,
            };
            match value {
                Some(value) => drop(place.insert(name, value)),
                None => drop(place.remove(&name)),
            }
        }
        Ok(())
    }

    fn expand(&self, word: &str) -> Why<String> {
        words::expand(word, self.escape, &|name| {
            let scope = if self.from.is_some() { &self.arguments } else { &self.globals };
            self.environment.get(name).or_else(|| scope.get(name)).cloned()
        })
    }

    /// `KEY=VALUE ...`, or `KEY VALUE` as it was once written.
    fn pairs(&self, name: &str, text: &str) -> Why<Vec<(String, String)>> {
        let words = words::split(text, self.escape);
        let pairs: Vec<(String, String)> = if words[0].contains('=') {
            let pair = |word: &String| {
                let (key, value) = word.split_once('=').ok_or_else(|| {
                    format!("{name}: `{word}` is no KEY=VALUE; put values with blanks into quotes")
                })?;
                Ok((key.to_owned(), value.to_owned()))
            };
            words.iter().map(pair).collect::<Why<_>>()?
        } else {
            let key = &words[0];
            let value = text[key.len()..].trim();
            if value.is_empty() {
                return Err(format!("{name}: `{key}` has no value: write {key}=VALUE"));
            }
            vec![(key.clone(), value.to_owned())]
        };
        pairs.iter().map(|(key, value)| Ok((self.expand(key)?, self.expand(value)?))).collect()
    }

    fn env(&mut self, line: usize, text: &str) -> Why<()> {
        for (key, value) in self.pairs("ENV", text)? {
            let said = self.said(format!("{key}={value}"), line, "ENV");
            self.request.env.push(said);
            self.environment.insert(key, value);
        }
        Ok(())
    }

    fn workdir(&mut self, line: usize, text: &str) -> Why<()> {
        let path = self.absolute(&self.expand(text)?);
        self.request.workdir = Some(self.said(path.clone(), line, "WORKDIR"));
        let step = self.said(Step::Folder(path), line, "WORKDIR");
        self.request.steps.push(step);
        Ok(())
    }

    /// A path as seen from the working folder.
    fn absolute(&self, path: &str) -> String {
        let folder = self.request.workdir.as_ref().map_or("/", |said| said.value.as_str());
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", folder.trim_end_matches('/'))
        }
    }

    fn copy(&mut self, line: usize, flags: &[(String, Option<String>)], text: &str) -> Why<()> {
        let (mut owner, mut mode) = (None, None);
        for (flag, value) in flags {
            let value = self.expand(value.as_deref().unwrap_or_default())?;
            match flag.as_str() {
                "chown" => owner = Some(numbers(&value)?),
                "chmod" => mode = Some(octal(&value)?),
                // Everything is one layer.
                _ => {}
            }
        }
        let mut paths = match text.starts_with('[') {
            true => exec_form("COPY", text)?,
            false => text.split_whitespace().map(str::to_owned).collect(),
        };
        for path in &mut paths {
            *path = self.expand(path)?;
        }
        let Some(dest) = paths.pop().filter(|_| !paths.is_empty()) else {
            return Err("COPY takes at least one SRC and a DST".into());
        };
        let mut sources = Vec::new();
        for path in &paths {
            let found = self.context.sources(path);
            sources.extend(found.map_err(|why| format!("COPY {path}: {why}"))?);
        }
        let (place, into) = dest_of(OsStr::new(&self.absolute(&dest)))?;
        let into = into || dest == "." || dest.ends_with("/.");
        if sources.len() > 1 && !into {
            return Err(format!(
                "COPY of {} things into one: end DST with a slash, as in {dest}/",
                sources.len()
            ));
        }
        let context = self.context.clone();
        let copy = Copy { context, sources, dest: place, into, owner, mode };
        let step = self.said(Step::Copy(copy), line, "COPY");
        self.request.steps.push(step);
        Ok(())
    }
}

fn platform(name: &str) -> Option<String> {
    let known = PLATFORM.iter().find(|(known, _)| *known == name);
    known.map(|(_, value)| (*value).to_owned())
}

/// Instructions that there are elsewhere, and what to do without them.
fn refuse(name: &str) -> Why<()> {
    let advice = match name {
        "RUN" => "nothing is run while an image is built: do it before, and COPY what it makes",
        "ADD" => "use COPY; fetch or unpack before what is not a plain file of the context",
        "VOLUME" => "give the folder a volume where it is run: docker run -v NAME:PATH",
        "SHELL" => "there is no shell in a Wasm image; write commands as [\"FILE\", \"ARGUMENT\"]",
        "ONBUILD" => "no image is built from a Wasm image; leave it out",
        "MAINTAINER" => "use LABEL org.opencontainers.image.authors=\"NAME\"",
        _ => return Ok(()),
    };
    Err(format!("{name} is not known here: {advice}"))
}

fn unknown_flag(name: &str, flag: &str, takes: &[&str]) -> String {
    let advice = match (name, flag) {
        ("COPY", "from") => {
            "there are no stages and no other images here: COPY from the context".into()
        }
        ("COPY", "parents" | "exclude") => {
            "name what is to be copied, or leave things out in .dockerignore".into()
        }
        _ if takes.is_empty() => "it takes no flags".into(),
        _ => format!("it takes --{}", takes.join(", --")),
    };
    format!("{name} --{flag} is not known here: {advice}")
}

/// A JSON array of strings.
fn exec_form(name: &str, text: &str) -> Why<Vec<String>> {
    if !text.starts_with('[') {
        let words: Vec<_> = text.split_whitespace().collect();
        return Err(format!(
            "{name} in the shell form: there is no shell in a Wasm image that could read it; write {name} {}",
            json!(words)
        ));
    }
    serde_json::from_str(text).map_err(|error| {
        format!("{name} {text}: not a JSON array of strings, which have double quotes: {error}")
    })
}

/// `USER[:GROUP]` by number; the group is the user's number if not given, as docker has it.
fn numbers(text: &str) -> Why<(u64, u64)> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let read = |text: &str| text.parse::<u32>().ok().map(u64::from);
    read(user).zip(read(group)).ok_or_else(|| {
        format!(
            "--chown={text}: give numbers, as in 1000:1000; names cannot be looked up in the image"
        )
    })
}

fn octal(text: &str) -> Why<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("--chmod={text}: it must be an octal number such as 755"))
}

/// <https://github.com/moby/docker-image-spec/blob/v1.3.1/specs-go/v1/image.go>
fn healthcheck(flags: &[(String, Option<String>)], text: &str) -> Why<Value> {
    let (word, command) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mut check = match word.to_ascii_uppercase().as_str() {
        "NONE" if command.trim().is_empty() => return Ok(json!({ "Test": ["NONE"] })),
        "CMD" => {
            let mut test = vec!["CMD".to_owned()];
            test.extend(exec_form("HEALTHCHECK CMD", command.trim())?);
            json!({ "Test": test })
        }
        _ => return Err("HEALTHCHECK takes NONE, or CMD [\"FILE\", \"ARGUMENT\"]".into()),
    };
    for (flag, value) in flags {
        let value = value.as_deref().unwrap_or_default();
        let key = match flag.as_str() {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            _ => {
                let retries = value
                    .parse::<u32>()
                    .map_err(|_| format!("HEALTHCHECK --retries={value}: it must be a number"))?;
                check["Retries"] = retries.into();
                continue;
            }
        };
        let duration = nanoseconds(value).ok_or_else(|| {
            format!("HEALTHCHECK --{flag}={value}: it must be a duration such as 30s or 1m30s")
        })?;
        check[key] = duration.into();
    }
    Ok(check)
}

/// A duration as Go writes it, `1h2m3.5s`; not less than a millisecond, as docker demands, or 0.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    let valid = text == "0s" || (1e6..9.2e18).contains(&total);
    valid.then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(nanoseconds("30s"), Some(30_000_000_000));
        assert_eq!(nanoseconds("1m30.5s"), Some(90_500_000_000));
        assert_eq!(nanoseconds("100ms"), Some(100_000_000));
        for bad in ["", "30", "s", "1x", "-1s", "1ns"] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn owners_are_numbers() {
        assert_eq!(numbers("1000"), Ok((1000, 1000)));
        assert_eq!(numbers("1:2"), Ok((1, 2)));
        assert!(numbers("me").is_err() && numbers("1:").is_err() && numbers("4294967296").is_err());
    }
}
