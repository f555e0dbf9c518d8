//! Commands that `exec` runs without any file of the image, so that a container with nothing but a
//! module can be looked into. They run like any process of it: as its user, within its root.

mod files;
mod stack;
mod stat;

use super::messages::{Failure, Order, Reason};
use crate::cgroup::Cgroup;
use crate::spec::Plan;
use crate::sys;
use std::fs::File;
use std::io::{self, Write};

/// All of them.
pub const NAMES: [&str; 5] = ["@help", "@stack", "@stat", "@ls", "@cat"];

const HELP: &str = "\
@help            this
@stack           where the guest is: its calls, innermost first
@stat            memory, CPU time, processes and their code, folders, sockets
@ls [PATH]...    lists folders and files as the guest sees them
@cat PATH...     prints files as the guest sees them

Beside these, exec runs the .wasm files of the image, by path or by name in PATH,
and with FILE#EXPORT a function without parameters that such a file exports.
";

/// A built-in command, understood.
pub enum BuiltIn {
    Help,
    Stack,
    Stat,
    Ls(Vec<String>),
    Cat(Vec<String>),
}

impl BuiltIn {
    /// The command that `args` mean, if their first names one or looks like it.
    pub fn parse(args: &[String]) -> Option<Result<Self, Failure>> {
        let (name, rest) = args.split_first()?;
        if !name.starts_with('@') {
            return None;
        }
        let usage = |words: &str| Err(Failure::new(Reason::Unusable, format!("exec: {words}")));
        Some(match (name.as_str(), rest) {
            ("@help", []) => Ok(Self::Help),
            ("@stack", []) => Ok(Self::Stack),
            ("@stat", []) => Ok(Self::Stat),
            ("@help" | "@stack" | "@stat", _) => usage(&format!("{name} takes no arguments")),
            ("@ls", paths) => Ok(Self::Ls(paths.to_vec())),
            ("@cat", []) => usage("@cat: which file? @cat PATH..."),
            ("@cat", paths) => Ok(Self::Cat(paths.to_vec())),
            _ => Err(Failure::new(
                Reason::NotFound,
                format!(
                    "exec: {name:?}: executable file not found in $PATH; built in are {}",
                    NAMES.join(", ")
                ),
            )),
        })
    }
}

/// What only the host shows, gathered before the container is entered.
pub enum View {
    Nothing,
    Stack(stack::Stacks),
    Stat(stat::Stat),
}

impl View {
    /// What `command` needs of the container that has the control group `cgroup` and the guest that
    /// `wasm` opens.
    pub fn gather(
        command: &BuiltIn,
        order: &Order,
        cgroup: &Cgroup,
        wasm: impl FnOnce() -> Option<File>,
    ) -> Result<Self, Failure> {
        Ok(match command {
            BuiltIn::Stack => Self::Stack(stack::Stacks::gather(order, wasm())?),
            BuiltIn::Stat => Self::Stat(stat::Stat::gather(order, cgroup)?),
            _ => Self::Nothing,
        })
    }
}

/// Runs it, within the container, and gives its exit code.
pub fn run(command: BuiltIn, plan: &Plan, view: &View) -> i32 {
    // Nobody else writes to them.
    let blocking = (1..=2).try_for_each(|n| sys::fd::make_blocking(sys::fd::standard(n)?));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = blocking.and_then(|()| match command {
        BuiltIn::Help => out.write_all(HELP.as_bytes()).map(|()| 0),
        BuiltIn::Stack | BuiltIn::Stat => match view {
            View::Stack(stacks) => stacks.print(&mut out).map(|()| 0),
            View::Stat(stat) => stat.print(plan, &mut out).map(|()| 0),
            View::Nothing => Ok(1),
        },
        BuiltIn::Ls(paths) => files::list(plan, &paths, &mut out),
        BuiltIn::Cat(paths) => files::print(plan, &paths, &mut out),
    });
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        Err(e) => {
            let _ = writeln!(io::stderr(), "cannot write: {e}");
            1
        }
    }
}
