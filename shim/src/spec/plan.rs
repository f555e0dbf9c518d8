//! The validated reading of a specification. Only this travels on.

use super::{Entry, Error, Mount, invalid, mounts};
use crate::sys::pty::Size;
use nix::mount::MsFlags;
use oci_spec::runtime as oci;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use oci::{
    Hook, LinuxCapabilities, LinuxDevice, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType,
    LinuxResources, PosixRlimit,
};

/// A container, as it shall be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The bundle's folder, absolute.
    pub bundle: PathBuf,
    /// The version of the specification that the bundle was written for.
    pub oci_version: String,
    /// The program and whom it runs as.
    pub process: Process,
    /// The folder that becomes `/`, absolute on the host.
    pub rootfs: PathBuf,
    /// Whether the guest may not write to `/`.
    pub rootfs_read_only: bool,
    /// What of it shall look empty, where it is there at all.
    pub masked_paths: Vec<PathBuf>,
    /// What of it shall be read-only, where it is there at all.
    pub read_only_paths: Vec<PathBuf>,
    /// What is mounted on it, in order.
    pub mounts: Vec<Mount>,
    /// What separates it from the host.
    pub isolation: Isolation,
    /// What runs beside it at the moments of its life.
    pub hooks: Hooks,
    /// `linux.cgroupsPath` as written, or nothing for the default.
    pub cgroups_path: Option<String>,
    /// Its limits.
    pub resources: LinuxResources,
    /// The ceiling of its guest's memory, in bytes.
    pub max_guest_memory: Option<u64>,
    /// Its annotations.
    pub annotations: HashMap<String, String>,
}

/// The program of a container and whom it runs as.
#[derive(Debug, Clone)]
pub struct Process {
    /// What is run.
    pub entry: Entry,
    /// All arguments, the program's name first.
    pub args: Vec<String>,
    /// `KEY=VALUE` pairs.
    pub env: Vec<String>,
    /// The working directory, absolute within the rootfs.
    pub cwd: PathBuf,
    /// With a terminal.
    pub terminal: bool,
    /// The terminal's size, where whoever asks for it knows one.
    pub console_size: Option<Size>,
    /// User id within the container.
    pub uid: u32,
    /// Group id within the container.
    pub gid: u32,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Capability sets; nothing means none at all.
    pub capabilities: Option<LinuxCapabilities>,
    /// Resource limits of the process.
    pub rlimits: Vec<PosixRlimit>,
    /// What the OOM killer is told, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// What separates a container from the host.
#[derive(Debug, Clone)]
pub struct Isolation {
    /// Namespaces: new ones, or existing ones by path. A kind not listed is the host's.
    pub namespaces: Vec<LinuxNamespace>,
    /// Host name within a new UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name within a new UTS namespace.
    pub domainname: Option<String>,
    /// User ids of a new user namespace.
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// Group ids of a new user namespace.
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// How mounts spread between the host and the container.
    pub propagation: MsFlags,
    /// Device nodes beside the usual ones.
    pub devices: Vec<LinuxDevice>,
    /// Kernel settings of its namespaces, by dotted name.
    pub sysctl: Vec<(String, String)>,
}

impl Isolation {
    /// The namespace of this kind, when it is not the host's.
    pub fn namespace(&self, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
        self.namespaces.iter().find(|n| n.typ() == kind)
    }

    /// Whether it gets a new namespace of this kind.
    pub fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.namespace(kind).is_some_and(|n| n.path().is_none())
    }
}

/// What runs beside a container at the moments of its life
/// (<https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks>).
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// `prestart` and `createRuntime`, in this order: the host's namespaces, before pivot_root.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before pivot_root.
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    pub start_container: Vec<Hook>,
    /// In the host's namespaces, after its program was started.
    pub poststart: Vec<Hook>,
    /// In the host's namespaces, after it was deleted.
    pub poststop: Vec<Hook>,
}

impl Plan {
    /// What `spec`, of the bundle at `bundle`, says of the container `id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(spec: oci::Spec, bundle: &Path, id: &str) -> Result<Self, Error> {
        let mut process = spec.process().clone().ok_or(Error::Missing("process"))?;
        if process.args().as_ref().is_none_or(Vec::is_empty) {
            process.set_args(Some(vec![ONLY_PROGRAM.into()]));
        }
        let root = spec.root().as_ref().ok_or(Error::Missing("root"))?;
        let linux = spec.linux().clone().ok_or(Error::Missing("linux"))?;
        let mounts = spec
            .mounts()
            .iter()
            .flatten()
            .map(|mount| Mount::new(mount, bundle))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            oci_version: spec.version().clone(),
            process: Process::new(&process)?,
            rootfs: bundle.join(root.path()),
            rootfs_read_only: root.readonly().unwrap_or(false),
            masked_paths: paths(linux.masked_paths()),
            read_only_paths: paths(linux.readonly_paths()),
            mounts,
            isolation: Isolation::new(&spec, &linux)?,
            hooks: Hooks::new(spec.hooks().as_ref())?,
            cgroups_path: cgroups_path(&linux)?,
            resources: linux.resources().clone().unwrap_or_default(),
            max_guest_memory: max_guest_memory(spec.annotations().as_ref())?,
            annotations: spec.annotations().clone().unwrap_or_default(),
        })
    }
}

fn paths(list: &Option<Vec<String>>) -> Vec<PathBuf> {
    list.iter().flatten().map(PathBuf::from).collect()
}

/// Devices are checked here because no device control group stands behind them: what is asked for
/// is granted whole, or not at all.
fn devices(linux: &oci::Linux) -> Result<Vec<LinuxDevice>, Error> {
    let devices = linux.devices().clone().unwrap_or_default();
    let rules = linux.resources().as_ref().and_then(|r| r.devices().as_ref());
    for device in &devices {
        let path = device.path();
        if path.components().any(|c| c.as_os_str() == "..") {
            return Err(invalid("linux.devices", format!("{} leads upwards", path.display())));
        }
        let number = (Some(device.major()), Some(device.minor()));
        let rule = rules
            .iter()
            .copied()
            .flatten()
            .rfind(|r| r.allow() && (r.major(), r.minor()) == number);
        let access = rule.and_then(|rule| rule.access().as_deref()).unwrap_or("rwm");
        if !(access.contains('r') && access.contains('w')) {
            return Err(Error::Unsupported {
                field: format!("linux.resources.devices: {}", path.display()),
                why: format!("access {access:?}; a device is granted for reading and writing"),
            });
        }
    }
    Ok(devices)
}

/// The argument that stands for the only program of an image: one whose layer is the program needs no
/// name for it.
const ONLY_PROGRAM: &str = "/";

/// The annotation by which a container chooses a ceiling for its guest's memory.
const MAX_GUEST_MEMORY: &str = "io.containerd.wasmtime.max-guest-memory";

fn max_guest_memory(annotations: Option<&HashMap<String, String>>) -> Result<Option<u64>, Error> {
    let Some(text) = annotations.and_then(|all| all.get(MAX_GUEST_MEMORY)) else {
        return Ok(None);
    };
    let bytes = artifact::amount::bytes(text).map_err(|why| invalid(MAX_GUEST_MEMORY, why))?;
    Ok(Some(bytes))
}

fn cgroups_path(linux: &oci::Linux) -> Result<Option<String>, Error> {
    let Some(path) = linux.cgroups_path() else {
        return Ok(None);
    };
    let text = path.to_str().ok_or_else(|| invalid("linux.cgroupsPath", "not UTF-8"))?;
    if path.components().any(|c| c.as_os_str() == "..") {
        return Err(invalid("linux.cgroupsPath", format!("{text:?} leads upwards")));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

impl Process {
    pub(super) fn new(process: &oci::Process) -> Result<Self, Error> {
        let args = without_init(process.args().clone().unwrap_or_default());
        let word = args.first().ok_or(Error::Missing("process.args"))?;
        let cwd = process.cwd().clone();
        if !cwd.is_absolute() {
            let why = format!("{:?} is not an absolute path", cwd.display().to_string());
            return Err(invalid("process.cwd", why));
        }
        let env = process.env().clone().unwrap_or_default();
        for (field, texts) in [("process.args", &args), ("process.env", &env)] {
            if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
                return Err(invalid(field, format!("{text:?} has a NUL in it")));
            }
        }
        let user = process.user();
        Ok(Self {
            entry: Entry::parse(word, &env, &cwd)?,
            env,
            cwd,
            args,
            terminal: process.terminal().unwrap_or(false),
            console_size: process.console_size().and_then(console_size),
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
            capabilities: process.capabilities().clone(),
            rlimits: process.rlimits().clone().unwrap_or_default(),
            oom_score_adj: process.oom_score_adj(),
        })
    }
}

impl Process {
    /// The same with other arguments.
    ///
    /// # Errors
    /// When there is none, or the first names nothing.
    pub fn with_args(self, args: Vec<String>) -> Result<Self, Error> {
        let word = args.first().ok_or(Error::Missing("process.args"))?;
        Ok(Self { entry: Entry::parse(word, &self.env, &self.cwd)?, args, ..self })
    }
}

/// Nothing for a size that is none, as daemons write it.
fn console_size(size: oci::Box) -> Option<Size> {
    let size = Size {
        columns: u16::try_from(size.width()).ok()?,
        rows: u16::try_from(size.height()).ok()?,
    };
    (size.columns > 0 && size.rows > 0).then_some(size)
}

/// `docker run --init` puts a Linux program in front that forwards signals and reaps orphans. A
/// guest's process ends by signals as it is, and has no children.
fn without_init(mut args: Vec<String>) -> Vec<String> {
    if args.len() > 2 && args[0] == "/sbin/docker-init" && args[1] == "--" {
        args.drain(..2);
    }
    args
}

impl Isolation {
    fn new(spec: &oci::Spec, linux: &oci::Linux) -> Result<Self, Error> {
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        for (index, namespace) in namespaces.iter().enumerate() {
            let kind = namespace.typ();
            if namespaces[..index].iter().any(|n| n.typ() == kind) {
                return Err(invalid("linux.namespaces", format!("{kind} is there twice")));
            }
            if kind == LinuxNamespaceType::Time {
                return Err(Error::Unsupported {
                    field: "linux.namespaces".into(),
                    why: "time namespaces".into(),
                });
            }
        }
        // Docker writes the empty path for a namespace that shall be new.
        let namespaces: Vec<LinuxNamespace> = namespaces
            .into_iter()
            .map(|mut n| {
                n.set_path(n.path().clone().filter(|p| !p.as_os_str().is_empty()));
                n
            })
            .collect();
        if !namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Mount && n.path().is_none()) {
            return Err(Error::Unsupported {
                field: "linux.namespaces".into(),
                why: "a container without a mount namespace of its own".into(),
            });
        }
        let propagation = match linux.rootfs_propagation().as_deref() {
            None | Some("") => MsFlags::MS_SLAVE | MsFlags::MS_REC,
            Some(word) => mounts::propagation(word).ok_or_else(|| {
                invalid("linux.rootfsPropagation", format!("unknown value {word:?}"))
            })?,
        };
        let mut sysctl: Vec<_> = linux.sysctl().clone().unwrap_or_default().into_iter().collect();
        sysctl.sort();
        let isolation = Self {
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
            namespaces,
            uid_mappings: linux.uid_mappings().clone().unwrap_or_default(),
            gid_mappings: linux.gid_mappings().clone().unwrap_or_default(),
            propagation,
            devices: devices(linux)?,
            sysctl,
        };
        if isolation.hostname.is_some() && isolation.namespace(LinuxNamespaceType::Uts).is_none() {
            return Err(invalid("hostname", "it needs a UTS namespace, or it would be the host's"));
        }
        if isolation.is_new(LinuxNamespaceType::User)
            && (isolation.uid_mappings.is_empty() || isolation.gid_mappings.is_empty())
        {
            return Err(Error::Missing("linux.uidMappings or linux.gidMappings"));
        }
        Ok(isolation)
    }
}

impl Hooks {
    fn new(hooks: Option<&oci::Hooks>) -> Result<Self, Error> {
        let Some(hooks) = hooks else {
            return Ok(Self::default());
        };
        let list = |hooks: &Option<Vec<Hook>>| hooks.clone().unwrap_or_default();
        #[allow(deprecated, reason = "Docker before 28 and BuildKit still send prestart hooks")]
        let mut create_runtime = list(hooks.prestart());
        create_runtime.extend(list(hooks.create_runtime()));
        let hooks = Self {
            create_runtime,
            create_container: list(hooks.create_container()),
            start_container: list(hooks.start_container()),
            poststart: list(hooks.poststart()),
            poststop: list(hooks.poststop()),
        };
        for hook in hooks.all() {
            if !hook.path().is_absolute() {
                let why = format!("{} is not an absolute path", hook.path().display());
                return Err(invalid("hooks", why));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                let why = format!("{}: a timeout must be above zero", hook.path().display());
                return Err(invalid("hooks", why));
            }
        }
        Ok(hooks)
    }

    fn all(&self) -> impl Iterator<Item = &Hook> {
        [
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
            &self.poststart,
            &self.poststop,
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec() -> Value {
        json!({
            "ociVersion": "1.1.0",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/app.wasm"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "hostname": "box",
            "linux": {
                "cgroupsPath": "/docker/abc",
                "namespaces": [
                    {"type": "mount"}, {"type": "uts"}, {"type": "network", "path": ""},
                    {"type": "ipc", "path": "/proc/7/ns/ipc"}
                ]
            }
        })
    }

    fn plan(spec: &Value) -> Result<Plan, Error> {
        Plan::new(serde_json::from_value(spec.clone()).unwrap(), Path::new("/b"), "abc")
    }

    fn words_after(change: impl FnOnce(&mut Value)) -> String {
        let mut spec = spec();
        change(&mut spec);
        plan(&spec).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_namespace_path_means_a_new_one() {
        let plan = plan(&spec()).unwrap();
        assert!(plan.isolation.is_new(LinuxNamespaceType::Network));
        assert!(!plan.isolation.is_new(LinuxNamespaceType::Ipc));
        assert!(plan.isolation.namespace(LinuxNamespaceType::Pid).is_none());
        assert_eq!(plan.rootfs, Path::new("/b/rootfs"));
    }

    #[test]
    fn without_arguments_the_only_program_is_meant() {
        let mut spec = spec();
        spec["process"]["args"] = json!([]);
        let process = plan(&spec).unwrap().process;
        assert_eq!((process.args, process.entry.file()), (vec!["/".to_owned()], "/"));
    }

    #[test]
    fn prestart_hooks_run_before_create_runtime_hooks() {
        let mut spec = spec();
        spec["hooks"] = json!({
            "createRuntime": [{"path": "/b"}], "prestart": [{"path": "/a"}]
        });
        let hooks = plan(&spec).unwrap().hooks.create_runtime;
        assert_eq!(hooks[0].path(), Path::new("/a"));
        assert_eq!(hooks[1].path(), Path::new("/b"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 6] = [
            ("process is missing", |s| drop(s.as_object_mut().unwrap().remove("process"))),
            ("root is missing", |s| drop(s.as_object_mut().unwrap().remove("root"))),
            ("process.cwd", |s| s["process"]["cwd"] = json!("work")),
            ("leads upwards", |s| s["linux"]["cgroupsPath"] = json!("/a/../../b")),
            ("UTS namespace", |s| s["linux"]["namespaces"] = json!([{"type": "mount"}])),
            ("mount namespace", |s| s["linux"]["namespaces"] = json!([{"type": "uts"}])),
        ];
        for (words, change) in cases {
            let error = words_after(change);
            assert!(error.contains(words), "{error}");
        }
    }
}
