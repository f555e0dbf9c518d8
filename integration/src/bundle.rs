//! Bundles made by hand: a rootfs folder and a `config.json` as containerd writes it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

/// A bundle in the folder where containerd keeps those of a namespace.
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// The folder.
    pub path: PathBuf,
    /// What goes into `config.json`.
    pub spec: Value,
}

impl Bundle {
    /// An empty rootfs, and the spec of a container in namespaces of its own that runs `command`.
    pub fn new(folder: &Path, id: &str, command: &[&str]) -> Self {
        let path = folder.join(id);
        fs::create_dir_all(path.join("rootfs")).expect("the bundle's folder can be made");
        mkfifo(&path.join("log"), Mode::S_IRWXU).expect("the log fifo can be made");
        Self { id: id.to_owned(), path, spec: spec(id, command) }
    }

    /// Puts a file into the rootfs.
    pub fn with(self, file: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path.join("rootfs").join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a new folder");
        fs::write(path, content).expect("a new file");
        self
    }

    /// Puts a module into the rootfs, given as wat.
    #[track_caller]
    pub fn with_wat(self, file: &str, wat: &str) -> Self {
        let module = wat::parse_str(wat).expect("the wat of a test is well-formed");
        self.with(file, module)
    }

    /// Changes the spec: `at` is a JSON pointer whose parent exists.
    #[track_caller]
    pub fn set(mut self, at: &str, value: Value) -> Self {
        let (parent, key) = at.rsplit_once('/').expect("a JSON pointer");
        let parent =
            self.spec.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent} in the spec"));
        parent[key] = value;
        self
    }

    /// Adds to a list of the spec.
    #[track_caller]
    pub fn push(mut self, at: &str, value: Value) -> Self {
        self.spec
            .pointer_mut(at)
            .and_then(Value::as_array_mut)
            .unwrap_or_else(|| panic!("no list {at} in the spec"))
            .push(value);
        self
    }

    /// Takes a namespace of its own from the container.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let list =
            self.spec["linux"]["namespaces"].as_array_mut().expect("the spec has namespaces");
        list.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Adds a hook that keeps its standard input in a file named for the moment it runs at, and
    /// that adds the moment to the file `order`.
    pub fn with_hook(mut self, moment: &str, kept: &Path) -> Self {
        let script = kept.join(format!("{moment}.sh"));
        let order = kept.join("order");
        let state = kept.join(moment);
        // Inside a rootfs without a shell there is nothing that a startContainer hook could run, so
        // hooks of the container's own namespace are given a rootfs that has these tools.
        let body = format!(
            "#!/bin/sh\ncat >{state}\necho {moment} >>{order}\n",
            state = state.display(),
            order = order.display()
        );
        fs::write(&script, body).expect("a new file");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        let hook = json!({ "path": script, "args": [moment, "one"], "env": ["HOOK=yes", "PATH=/usr/bin:/bin"] });
        self.spec["hooks"][moment] = json!([hook]);
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.spec).expect("a JSON value can be written");
        fs::write(self.path.join("config.json"), text).expect("the bundle is writable");
    }
}

fn spec(id: &str, command: &[&str]) -> Value {
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": command,
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": [], "effective": [], "permitted": [] }
        },
        "root": { "path": "rootfs" },
        "hostname": "by-hand",
        "annotations": { "org.example.kept": "word for word" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {},
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "network" }
            ]
        }
    })
}
