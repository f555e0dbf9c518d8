//! The command line that containerd uses, in the manner of Go's flag package
//! (<https://github.com/containerd/containerd/blob/main/docs/runtime-v2.md#command-like-interface>).

use std::path::{Path, PathBuf};

/// What is asked of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Start,
    Delete,
    Zygote,
    Info,
    Version,
}

/// The command line, understood.
#[derive(Debug)]
pub struct Args {
    pub action: Action,
    pub id: String,
    pub namespace: String,
    /// containerd's own gRPC socket; what tells one containerd of a machine from another.
    pub address: String,
    pub bundle: Option<PathBuf>,
    pub debug: bool,
}

/// The name that the binary was called by, or its own.
pub fn program_name(argv: &[String]) -> String {
    argv.first()
        .and_then(|path| Path::new(path).file_name()?.to_str())
        .unwrap_or("containerd-shim-wasmtime-v1")
        .to_owned()
}

impl Args {
    /// Reads `argv`, the program's name first.
    pub fn parse(argv: &[String]) -> Result<Self, String> {
        let mut args = Self {
            action: Action::Start,
            id: String::new(),
            namespace: String::new(),
            address: String::new(),
            bundle: None,
            debug: false,
        };
        let mut action = None;
        let mut words = argv.iter().skip(1).map(String::as_str);
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                action = Some(action_named(word)?);
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (flag, None),
            };
            let mut value =
                || value.or_else(|| words.next()).ok_or(format!("flag -{flag} needs a value"));
            match flag {
                "v" | "version" => action = Some(Action::Version),
                "info" => action = Some(Action::Info),
                "debug" => args.debug = true,
                "id" => args.id = value()?.to_owned(),
                "namespace" => args.namespace = value()?.to_owned(),
                "address" => args.address = value()?.to_owned(),
                "bundle" => args.bundle = Some(value()?.into()),
                "publish-binary" | "socket" => drop(value()?),
                _ => return Err(format!("unknown flag -{flag}")),
            }
        }
        args.action = action.ok_or("say one of: start, delete, -info, -v")?;
        let of_container = matches!(args.action, Action::Start | Action::Delete);
        if of_container && (args.id.is_empty() || args.namespace.is_empty()) {
            return Err("-id and -namespace are needed".into());
        }
        Ok(args)
    }
}

fn action_named(word: &str) -> Result<Action, String> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        "zygote" => Ok(Action::Zygote),
        _ => Err(format!("unknown action {word:?}; say one of: start, delete, -info, -v")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Args, String> {
        let argv: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Args::parse(&argv)
    }

    #[test]
    fn containerds_command_line_is_understood() {
        let args = parse("shim -namespace moby -address /c.sock -publish-binary /c -id abc -bundle /b -debug delete").unwrap();
        assert_eq!(args.action, Action::Delete);
        assert_eq!((args.id.as_str(), args.namespace.as_str()), ("abc", "moby"));
        assert_eq!(args.bundle.as_deref(), Some(Path::new("/b")));
        assert!(args.debug);
    }

    #[test]
    fn flags_may_have_two_dashes_and_an_equals_sign() {
        let args = parse("shim --namespace=a --id=b start").unwrap();
        assert_eq!((args.id.as_str(), args.namespace.as_str()), ("b", "a"));
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        for (words, part) in [
            ("shim", "start, delete"),
            ("shim -id x start", "-namespace"),
            ("shim -id", "needs a value"),
            ("shim -nonsense start", "-nonsense"),
            ("shim -id a -namespace b stop", "stop"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
