//! What a module needs of its host, what a container is granted without being asked, and which flags
//! grant the rest.

use artifact::module::{Extern, Kind, Module, World};
use wasmparser::WasmFeatures;

use super::anatomy::{self, Memory};

/// What a module can need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Arguments,
    Environment,
    Input,
    Output,
    Files,
    Network,
    HttpOut,
    HttpIn,
    Clocks,
    Random,
    /// Sockets of preview 1, which has none of its own.
    Sockets,
}

/// Every need, in the order of the report.
const ALL: [Need; 11] = [
    Need::Arguments,
    Need::Environment,
    Need::Input,
    Need::Output,
    Need::Files,
    Need::Network,
    Need::Sockets,
    Need::HttpIn,
    Need::HttpOut,
    Need::Clocks,
    Need::Random,
];

/// Whether a need is met by `docker run` without flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    Granted,
    InPart,
    Withheld,
}

impl Need {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Environment => "environment",
            Self::Input => "input",
            Self::Output => "output",
            Self::Files => "files",
            Self::Network => "network",
            Self::Sockets => "sockets",
            Self::HttpIn => "serves HTTP",
            Self::HttpOut => "asks by HTTP",
            Self::Clocks => "clocks",
            Self::Random => "random",
        }
    }

    /// Whether it is met without flags.
    pub fn grant(self) -> Grant {
        match self {
            Self::Input | Self::HttpIn | Self::Network => Grant::InPart,
            Self::Sockets => Grant::Withheld,
            _ => Grant::Granted,
        }
    }

    /// What is granted without flags.
    pub fn granted(self) -> &'static str {
        match self {
            Self::Arguments => "the image's, or the words behind its name",
            Self::Environment => "the image's, and PATH, HOSTNAME, HOME and PWD",
            Self::Input => "empty: its end is read at once",
            Self::Output => "standard output and error, as in `docker logs`",
            Self::Files => {
                "the image's, as /, to read and to write in a copy of its own; none of the host's"
            }
            Self::Network => "goes out by docker's bridge; its ports are not published",
            Self::Sockets => "none: preview 1 cannot open sockets, and is handed none",
            Self::HttpIn => "listens on port 8080 of the container, which is not published",
            Self::HttpOut => "goes out by docker's bridge",
            Self::Clocks => "the time, and waiting",
            Self::Random => "random numbers, from the kernel",
        }
    }

    /// Flags that grant more, or take away, and what each does.
    pub fn flags(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Arguments | Self::Output | Self::Clocks | Self::Random | Self::Sockets => &[],
            Self::Environment => &[("-e KEY=VALUE", "adds to it")],
            Self::Input => &[("-i", "passes on the caller's"), ("-t", "with -i, a terminal")],
            Self::Files => &[
                ("-v FOLDER:/PATH[:ro]", "adds a folder of the host"),
                ("--tmpfs /PATH", "adds an empty one"),
                ("--read-only", "takes the writing away"),
            ],
            Self::Network => &[
                ("-p 8080:80", "publishes a port, here 80 as 8080"),
                ("--network NAME", "joins another network"),
                ("--network none", "takes it away"),
            ],
            Self::HttpIn => &[
                ("-p 80:8080", "publishes it as port 80 of the host"),
                ("-e WASMTIME_HTTP_PROXY_SOCKET_ADDR=IP:PORT", "moves it"),
            ],
            Self::HttpOut => &[("--network none", "takes it away")],
        }
    }

    /// The need that a function of preview 1 stands for; `Err` where there is no such function.
    /// <https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md>
    fn of_preview1(function: &str) -> Result<Option<Self>, ()> {
        Ok(Some(match function {
            "args_get" | "args_sizes_get" => Self::Arguments,
            "environ_get" | "environ_sizes_get" => Self::Environment,
            "clock_res_get" | "clock_time_get" | "poll_oneoff" => Self::Clocks,
            "random_get" => Self::Random,
            "fd_read" => Self::Input,
            "fd_write" => Self::Output,
            "fd_prestat_get" | "fd_prestat_dir_name" | "fd_readdir" | "fd_pread" | "fd_pwrite" => {
                Self::Files
            }
            "path_create_directory"
            | "path_filestat_get"
            | "path_filestat_set_times"
            | "path_link"
            | "path_open"
            | "path_readlink"
            | "path_remove_directory"
            | "path_rename"
            | "path_symlink"
            | "path_unlink_file" => Self::Files,
            "sock_accept" | "sock_recv" | "sock_send" | "sock_shutdown" => Self::Sockets,
            "fd_advise"
            | "fd_allocate"
            | "fd_close"
            | "fd_datasync"
            | "fd_fdstat_get"
            | "fd_fdstat_set_flags"
            | "fd_fdstat_set_rights"
            | "fd_filestat_get"
            | "fd_filestat_set_size"
            | "fd_filestat_set_times"
            | "fd_renumber"
            | "fd_seek"
            | "fd_sync"
            | "fd_tell"
            | "proc_exit"
            | "proc_raise"
            | "sched_yield" => {
                return Ok(None);
            }
            _ => return Err(()),
        }))
    }

    /// The need that an interface of WASI stands for; `Err` where it is not offered.
    /// <https://github.com/WebAssembly/WASI/tree/main/proposals>
    fn of_interface(interface: &str) -> Result<Option<Self>, ()> {
        let (name, version) = interface.split_once('@').ok_or(())?;
        let third = version.starts_with("0.3.");
        // What was before a release has names of its own.
        if !(third || version.starts_with("0.2.")) || version.contains('-') {
            return Err(());
        }
        Ok(Some(match name {
            "wasi:cli/environment" => Self::Environment,
            "wasi:cli/stdin" => Self::Input,
            "wasi:cli/stdout" | "wasi:cli/stderr" => Self::Output,
            "wasi:cli/exit"
            | "wasi:cli/terminal-input"
            | "wasi:cli/terminal-output"
            | "wasi:cli/terminal-stdin"
            | "wasi:cli/terminal-stdout"
            | "wasi:cli/terminal-stderr"
            | "wasi:http/types" => return Ok(None),
            "wasi:cli/types" | "wasi:clocks/types" if third => return Ok(None),
            "wasi:io/error" | "wasi:io/poll" | "wasi:io/streams" if !third => return Ok(None),
            "wasi:clocks/monotonic-clock" => Self::Clocks,
            "wasi:clocks/wall-clock" if !third => Self::Clocks,
            "wasi:clocks/system-clock" if third => Self::Clocks,
            "wasi:filesystem/types" | "wasi:filesystem/preopens" => Self::Files,
            "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => {
                Self::Random
            }
            "wasi:sockets/network" if !third => return Ok(None),
            "wasi:sockets/types" if third => Self::Network,
            "wasi:sockets/ip-name-lookup" => Self::Network,
            "wasi:sockets/instance-network"
            | "wasi:sockets/tcp"
            | "wasi:sockets/tcp-create-socket"
            | "wasi:sockets/udp"
            | "wasi:sockets/udp-create-socket"
                if !third =>
            {
                Self::Network
            }
            "wasi:http/outgoing-handler" if !third => Self::HttpOut,
            "wasi:http/client" if third => Self::HttpOut,
            _ => return Err(()),
        }))
    }
}

/// What a module needs, and whether it can be had here.
pub struct Needs {
    /// What is asked for.
    pub needs: Vec<Need>,
    /// How it runs, or why it does not.
    pub verdict: Result<&'static str, Vec<String>>,
}

impl Needs {
    /// Judges a module that uses `features`, and whose memories are `memories`.
    pub fn of(module: &Module, features: WasmFeatures, memories: &[Memory]) -> Self {
        let (mut needs, mut reasons) = (Vec::new(), Vec::new());
        for import in &module.imports {
            let missing = match module.kind {
                Kind::CoreModule => missing_in_module(import, &mut needs),
                Kind::Component => missing_in_component(import, &mut needs).into_iter().collect(),
            };
            reasons.extend(missing);
        }
        if module.world == World::HttpProxy {
            needs.push(Need::HttpIn);
        }
        let off = features - artifact::module::features();
        for name in anatomy::names(off) {
            reasons.push(format!("it needs {name}, which is not switched on"));
        }
        if memories.iter().any(|memory| memory.shared) {
            reasons
                .push("its memory is shared between threads, of which a guest has one".to_owned());
        }
        let verdict = match (module.world, module.kind) {
            _ if !reasons.is_empty() => Err(reasons),
            (World::Command, _) => Ok("it runs once, and ends with an exit code"),
            (World::HttpProxy, _) => Ok("it serves HTTP until it is stopped"),
            (World::Reactor, _) if module.exports.is_empty() => {
                Err(vec!["it exports nothing that could be called".to_owned()])
            }
            (World::Reactor, Kind::CoreModule) => {
                Ok("only by a function's name, as FILE#EXPORT: it has no _start")
            }
            (World::Reactor, Kind::Component) => {
                Ok("only by a function's name, as FILE#EXPORT: it has no wasi:cli/run")
            }
        };
        let needs = ALL.into_iter().filter(|need| needs.contains(need)).collect();
        Self { needs, verdict }
    }
}

fn missing_in_module(import: &Extern, needs: &mut Vec<Need>) -> Vec<String> {
    // The second is what preview 1 was called before.
    if !["wasi_snapshot_preview1", "wasi_unstable"].contains(&import.name.as_str()) {
        return vec![format!("it imports {}, which nobody here offers", import.name)];
    }
    let mut missing = Vec::new();
    for function in &import.members {
        match Need::of_preview1(function) {
            Ok(need) => needs.extend(need),
            Err(()) => missing.push(format!("preview 1 has no {function}")),
        }
    }
    missing
}

fn missing_in_component(import: &Extern, needs: &mut Vec<Need>) -> Option<String> {
    match Need::of_interface(&import.name) {
        Ok(need) => {
            // One interface of two things.
            if need == Some(Need::Environment) {
                let asks = |function: &str| import.members.iter().any(|one| one == function);
                needs.extend(asks("get-arguments").then_some(Need::Arguments));
                needs.extend(asks("get-environment").then_some(Need::Environment));
            } else {
                needs.extend(need);
            }
            None
        }
        Err(()) => Some(format!("it imports {}, which nobody here offers", import.name)),
    }
}
