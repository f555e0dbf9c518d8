//! The mounts of the specification and their options.

use super::{Error, invalid};
use nix::mount::MsFlags;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// What kind of thing a mount brings into the rootfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or folder of the host.
    Bind {
        /// Its path on the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A file system of its own: tmpfs, overlay, nfs, ...
    Filesystem {
        /// Its type, as in mount(2).
        fstype: String,
        /// Its source, as in mount(2).
        source: PathBuf,
    },
    /// A view into the kernel, which a guest is not given: through `/proc/self/mem` it could write
    /// its own runtime's memory, and WASI has no use for the others.
    Withheld,
}

/// One mount, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it appears, absolute within the rootfs.
    pub destination: PathBuf,
    /// What it brings.
    pub kind: MountKind,
    /// The flags of mount(2) without those of bind and propagation.
    pub flags: MsFlags,
    /// Read-only with all that is mounted below it.
    pub recursively_read_only: bool,
    /// How mounts spread, or nothing for the rootfs's way.
    pub propagation: Option<MsFlags>,
    /// What the file system itself is told, comma-separated.
    pub data: String,
}

/// What a container's rootfs, or a layer of it, is mounted from, as containerd hands it over: type,
/// source and options of mount(8).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootfsPart {
    /// Its type.
    pub fstype: String,
    /// Its source.
    pub source: String,
    /// Its options, not yet sorted.
    pub options: Vec<String>,
}

/// File systems that show the kernel rather than files.
const KERNEL_VIEWS: [&str; 14] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "configfs",
    "selinuxfs",
    "binfmt_misc",
    "fusectl",
];

/// (option, flag, whether it sets the flag or clears it)
const FLAGS: [(&str, MsFlags, bool); 23] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("nomand", MsFlags::MS_MANDLOCK, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("silent", MsFlags::MS_SILENT, true),
    ("loud", MsFlags::MS_SILENT, false),
];

/// Every option that is understood here and not left to the file system.
pub fn options() -> Vec<&'static str> {
    let flags = FLAGS.iter().map(|(name, ..)| *name);
    flags.chain(PROPAGATIONS).chain(["bind", "rbind", "rro"]).collect()
}

const PROPAGATIONS: [&str; 8] =
    ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];

/// The propagation that an option of a mount, or `linux.rootfsPropagation`, names.
pub fn propagation(word: &str) -> Option<MsFlags> {
    Some(match word {
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | MsFlags::MS_REC,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | MsFlags::MS_REC,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | MsFlags::MS_REC,
        _ => return None,
    })
}

impl Mount {
    /// Checks one mount of the specification; relative bind sources are the bundle's.
    ///
    /// # Errors
    /// When it lacks a source, or asks for an idmapped mount.
    pub fn new(mount: &oci_spec::runtime::Mount, bundle: &Path) -> Result<Self, Error> {
        let destination = absolute(mount.destination());
        let field = || format!("mounts: {}", destination.display());
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(Error::Unsupported { field: field(), why: "idmapped mounts".into() });
        }
        let words = mount.options().clone().unwrap_or_default();
        let options = Options::parse(&words);
        let fstype = mount.typ().clone().unwrap_or_default();
        let kind = if options.bind.is_some() || fstype == "bind" {
            let source = mount
                .source()
                .as_ref()
                .ok_or_else(|| invalid(field(), "a bind mount needs a source"))?;
            MountKind::Bind {
                source: bundle.join(source),
                recursive: options.bind.unwrap_or(false),
            }
        } else if KERNEL_VIEWS.contains(&fstype.as_str()) {
            MountKind::Withheld
        } else if fstype.is_empty() {
            return Err(invalid(field(), "it has neither a type nor the option bind"));
        } else {
            let source = mount.source().clone();
            MountKind::Filesystem {
                source: source.unwrap_or_else(|| PathBuf::from(&fstype)),
                fstype,
            }
        };
        Ok(Self {
            destination,
            kind,
            flags: options.flags,
            recursively_read_only: options.recursively_read_only,
            propagation: options.propagation,
            data: options.data.join(","),
        })
    }

    /// One of the mounts that make the rootfs, as containerd hands them over.
    pub fn of_rootfs(part: &RootfsPart) -> Self {
        let options = Options::parse(&part.options);
        let source = PathBuf::from(&part.source);
        let kind = match options.bind {
            Some(recursive) => MountKind::Bind { source, recursive },
            None => MountKind::Filesystem { fstype: part.fstype.clone(), source },
        };
        Self {
            destination: "/".into(),
            kind,
            flags: options.flags,
            recursively_read_only: false,
            propagation: None,
            data: options.data.join(","),
        }
    }

    /// Whether the mount keeps the guest from writing there.
    pub fn read_only(&self) -> bool {
        self.flags.contains(MsFlags::MS_RDONLY) || self.recursively_read_only
    }
}

/// The path from the root, without `.` and `..`, as runc reads a destination.
fn absolute(path: &Path) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => drop(absolute.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    absolute
}

/// Mount options, sorted into what each is for.
struct Options<'a> {
    bind: Option<bool>,
    flags: MsFlags,
    recursively_read_only: bool,
    propagation: Option<MsFlags>,
    data: Vec<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(words: &'a [String]) -> Self {
        let mut options = Self {
            bind: None,
            flags: MsFlags::empty(),
            recursively_read_only: false,
            propagation: None,
            data: Vec::new(),
        };
        for word in words {
            options.take(word);
        }
        options
    }

    fn take(&mut self, word: &'a str) {
        if let Some((_, flag, set)) = FLAGS.iter().find(|(name, ..)| *name == word) {
            self.flags.set(*flag, *set);
        } else if let Some(propagation) = propagation(word) {
            self.propagation = Some(propagation);
        } else {
            match word {
                "bind" => self.bind = Some(self.bind.unwrap_or(false)),
                "rbind" => self.bind = Some(true),
                "rro" => self.recursively_read_only = true,
                "defaults" | "copy-up" | "tmpcopyup" => {}
                data => self.data.push(data),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mount(value: serde_json::Value) -> Result<Mount, Error> {
        Mount::new(&serde_json::from_value(value).unwrap(), Path::new("/bundle"))
    }

    #[test]
    fn a_destination_is_a_path_from_the_root() {
        for (written, meant) in
            [("/a/b", "/a/b"), ("a", "/a"), ("/a/../b/.", "/b"), ("../../etc", "/etc"), ("", "/")]
        {
            let mount = mount(json!({ "destination": written, "type": "tmpfs" })).unwrap();
            assert_eq!(mount.destination, Path::new(meant), "{written}");
        }
    }

    #[test]
    fn options_are_sorted_into_flags_propagation_and_data() {
        let mount = mount(json!({
            "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "ro", "rw", "size=64k", "mode=1777", "rprivate"]
        }))
        .unwrap();
        assert_eq!(mount.flags, MsFlags::MS_NOSUID);
        assert_eq!(mount.data, "size=64k,mode=1777");
        assert_eq!(mount.propagation, Some(MsFlags::MS_PRIVATE | MsFlags::MS_REC));
        assert!(!mount.read_only());
    }

    #[test]
    fn a_bind_mount_is_known_by_its_options_and_its_source_by_the_bundle() {
        let mount = mount(json!({
            "destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]
        }))
        .unwrap();
        assert_eq!(mount.kind, MountKind::Bind { source: "/bundle/data".into(), recursive: true });
        assert!(mount.read_only());
    }

    #[test]
    fn views_into_the_kernel_are_withheld() {
        for fstype in ["proc", "sysfs", "cgroup", "devpts", "mqueue"] {
            let mount = mount(json!({"destination": "/x", "type": fstype, "source": fstype}));
            assert_eq!(mount.unwrap().kind, MountKind::Withheld, "{fstype}");
        }
    }

    #[test]
    fn a_bind_mount_without_source_and_a_mount_without_type_are_refused() {
        mount(json!({"destination": "/x", "options": ["bind"]})).unwrap_err();
        mount(json!({"destination": "/x"})).unwrap_err();
    }
}
