//! The bundle of a container: what containerd would have made of the same flags.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::options::{Limits, Options, Tmpfs, Volume};
use super::user::User;
use crate::cli::{Network, RunArgs};

/// Where programs are looked for when nobody says otherwise; as docker has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Of what docker grants, what a guest can exercise.
const CAPABILITIES: [&str; 4] =
    ["CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_NET_BIND_SERVICE"];

/// What is run, and as whom.
pub struct Program {
    /// The program's name first.
    pub args: Vec<String>,
    /// The image's.
    pub env: Vec<String>,
    pub cwd: String,
    pub user: User,
    /// Whether its user has root's rights in it.
    pub privileged: bool,
    /// Files that it consists of: of the host, and where they are in the container.
    pub files: Vec<(String, String)>,
}

/// Writes `config.json` and what it names into the folder `bundle`.
pub fn write(
    bundle: &Path,
    id: &str,
    args: &RunArgs,
    options: &Options,
    program: &Program,
    cgroup: bool,
) -> Result<()> {
    let hostname = hostname(id, args);
    let mut mounts = mounts();
    for (name, content) in [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts(args.network, &hostname)),
        ("resolv.conf", fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
    ] {
        let path = bundle.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        mounts.push(bind(&path.display().to_string(), &format!("/etc/{name}"), &["bind"]));
    }
    for (host, container) in &program.files {
        mounts.push(bind(host, container, &["bind", "ro"]));
    }
    for Tmpfs { container, options } in &options.tmpfs {
        mounts.push(json!({
            "destination": container, "type": "tmpfs", "source": "tmpfs", "options": options
        }));
    }
    for Volume { host, container, options } in &options.volumes {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        mounts.push(bind(&host.display().to_string(), container, &options));
    }
    // Those above others first.
    mounts.sort_by_key(|mount| {
        Path::new(mount["destination"].as_str().unwrap_or_default()).components().count()
    });
    let mut namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind })).into();
    if args.network == Network::None {
        namespaces.push(json!({ "type": "network" }));
    }
    let granted = if program.privileged { &CAPABILITIES[..] } else { &[] };
    let spec = json!({
        "ociVersion": "1.1.0",
        "process": {
            "terminal": args.tty,
            "consoleSize": console_size(args),
            "user": {
                "uid": program.user.uid,
                "gid": program.user.gid,
                "additionalGids": program.user.groups,
            },
            "args": program.args,
            "env": env(args, options, program, &hostname),
            "cwd": program.cwd,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": granted, "effective": granted, "permitted": granted
            },
        },
        "root": { "path": "rootfs", "readonly": args.read_only },
        "hostname": hostname,
        "mounts": mounts,
        "linux": {
            "cgroupsPath": if cgroup { json!(cgroups_path(id)) } else { Value::Null },
            "resources": resources(&options.limits),
            "namespaces": namespaces,
        },
    });
    let path = bundle.join("config.json");
    fs::write(&path, spec.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// In the host's network it has the host's name.
fn hostname(id: &str, args: &RunArgs) -> String {
    if let Some(name) = &args.hostname {
        return name.clone();
    }
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    host.filter(|_| args.network == Network::Host).unwrap_or_else(|| id[..12].to_owned())
}

fn hosts(network: Network, hostname: &str) -> String {
    let own = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost\n");
    match network {
        Network::Host => fs::read_to_string("/etc/hosts").unwrap_or(own),
        Network::None => own,
    }
}

/// The later of two of one name counts.
fn env(args: &RunArgs, options: &Options, program: &Program, hostname: &str) -> Vec<String> {
    let mut all = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if args.tty {
        all.push("TERM=xterm".into());
    }
    for pair in program.env.iter().chain(&options.env) {
        let key = |pair: &str| pair.split('=').next().map(str::to_owned);
        match all.iter_mut().find(|other| key(other) == key(pair)) {
            Some(other) => pair.clone_into(other),
            None => all.push(pair.clone()),
        }
    }
    all
}

fn mounts() -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ]
}

fn bind(host: &str, container: &str, options: &[&str]) -> Value {
    json!({ "destination": container, "type": "bind", "source": host, "options": options })
}

fn console_size(args: &RunArgs) -> Value {
    let size = args.tty.then(shim::cli::run::terminal_size).flatten();
    size.map_or(Value::Null, |size| json!({ "height": size.rows, "width": size.columns }))
}

/// Where systemd runs it is asked for a scope; elsewhere the groups lie beside those of others.
fn cgroups_path(id: &str) -> String {
    match Path::new("/run/systemd/system").is_dir() {
        true => format!("system.slice:wasm-image:{id}"),
        false => format!("/wasm-image-{id}"),
    }
}

/// What a period of a share of CPUs is, in microseconds.
const PERIOD: i64 = 100_000;

fn resources(limits: &Limits) -> Value {
    let mut resources = json!({});
    if let Some(bytes) = limits.memory {
        resources["memory"] = json!({ "limit": bytes });
    }
    if let Some(cpus) = limits.cpus {
        let quota = cpus * PERIOD / 1_000_000;
        resources["cpu"] = json!({ "quota": quota, "period": PERIOD });
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    resources
}
