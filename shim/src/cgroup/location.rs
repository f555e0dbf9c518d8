//! Where control groups are mounted and where a container's lie in them.

use super::systemd::Scope;
use super::{Error, write};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The two interfaces of the kernel
/// (<https://docs.kernel.org/admin-guide/cgroup-v2.html>, <https://docs.kernel.org/admin-guide/cgroup-v1/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub version: Version,
    pub mount_point: PathBuf,
    /// v1: those it was mounted with; v2: those it offers.
    pub controllers: Vec<String>,
}

/// The v1 controllers that a container is put under. Not `devices`: no mount of a container lets a
/// device node be opened but its own `/dev`.
const USED_V1: [&str; 9] =
    ["memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer", "hugetlb", "name=systemd"];

/// Where a container's groups lie below every hierarchy's mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    path: PathBuf,
    absolute: bool,
    scope: Option<Scope>,
}

impl Location {
    /// Reads `linux.cgroupsPath`: a path, or systemd's form `slice:prefix:name`, which Docker
    /// uses without an option that says so.
    ///
    /// # Errors
    /// When `systemd` says that it must be of that form and it is not.
    pub fn parse(cgroups_path: Option<&str>, id: &str, systemd: bool) -> Result<Self, Error> {
        let path = cgroups_path.map_or_else(|| format!("/{id}"), str::to_owned);
        let parts: Vec<&str> = path.split(':').collect();
        if let [slice, prefix, name] = parts[..]
            && !slice.contains('/')
        {
            let slice = if slice.is_empty() { "system.slice" } else { slice };
            let unit = unit(prefix, name);
            return Ok(Self {
                path: slice_path(slice).join(&unit),
                absolute: true,
                // A slice cannot be made around a process.
                scope: unit.ends_with(".scope").then(|| Scope { slice: slice.to_owned(), unit }),
            });
        }
        if systemd {
            return Err(Error::NotSystemd(path));
        }
        Ok(Self {
            absolute: path.starts_with('/'),
            scope: None,
            path: path.trim_start_matches('/').into(),
        })
    }

    /// The unit that it is where systemd runs.
    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Refuses a folder that others live in: ending the container would end them.
    pub(super) fn check_empty(&self, hierarchy: &Hierarchy) -> Result<(), Error> {
        let path = self.within(hierarchy)?;
        match first_process(&path) {
            Some(pid) => Err(Error::NotEmpty { path, pid }),
            None => Ok(()),
        }
    }

    /// The container's folder within `hierarchy`; a relative path is the caller's own group's.
    pub(super) fn within(&self, hierarchy: &Hierarchy) -> Result<PathBuf, Error> {
        if self.absolute {
            return Ok(hierarchy.mount_point.join(&self.path));
        }
        let own = own_group(hierarchy)?;
        Ok(hierarchy.mount_point.join(own).join(&self.path))
    }
}

/// The first process that a folder's list names.
fn first_process(dir: &Path) -> Option<Pid> {
    let list = fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    list.lines().next()?.parse().ok().map(Pid::from_raw)
}

/// `a-b.slice` is `a.slice/a-b.slice` (systemd.slice(5): a dash in a slice's name is a step of its
/// path), and `-.slice` the root.
fn slice_path(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    if stem == "-" {
        return PathBuf::new();
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.map(|end| format!("{}.slice", &stem[..end])).collect()
}

/// `docker` and `id` are `docker-id.scope`; a name that is a slice's stays.
fn unit(prefix: &str, name: &str) -> String {
    match name.ends_with(".slice") {
        true => name.to_owned(),
        false if prefix.is_empty() => format!("{name}.scope"),
        false => format!("{prefix}-{name}.scope"),
    }
}

/// The mounted hierarchies that matter: v2's one, or v1's used ones.
pub fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(Error::at("read", path))?;
    let mut all = parse_mountinfo(&text);
    let v1 = all.iter().any(|h| {
        h.version == Version::V1 && h.controllers.iter().any(|c| c == "memory" || c == "pids")
    });
    all.retain(|h| (h.version == Version::V1) == v1);
    if !v1 {
        all.truncate(1);
        for hierarchy in &mut all {
            hierarchy.controllers = offered(&hierarchy.mount_point)?;
        }
    }
    if all.is_empty() {
        return Err(Error::NotMounted);
    }
    Ok(all)
}

/// Reads proc_pid_mountinfo(5): the mount point is field 5; behind a lone `-` stand type, source
/// and the super block's options, which name v1's controllers.
fn parse_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount_point) = mount.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut filesystem = filesystem.split(' ');
        let version = match filesystem.next() {
            Some("cgroup") => Version::V1,
            Some("cgroup2") => Version::V2,
            _ => continue,
        };
        let controllers: Vec<String> = filesystem
            .nth(1)
            .unwrap_or_default()
            .split(',')
            .filter(|c| USED_V1.contains(c))
            .map(str::to_owned)
            .collect();
        let new = !found.iter().any(|h| h.version == version && h.controllers == controllers);
        if new && (version == Version::V2 || !controllers.is_empty()) {
            found.push(Hierarchy { version, mount_point, controllers });
        }
    }
    found
}

/// The caller's own group in `hierarchy`, relative (proc_pid_cgroup(5)).
fn own_group(hierarchy: &Hierarchy) -> Result<PathBuf, Error> {
    let path = Path::new("/proc/self/cgroup");
    let text = fs::read_to_string(path).map_err(Error::at("read", path))?;
    let own = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = match hierarchy.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => {
                controllers.split(',').any(|c| hierarchy.controllers.iter().any(|h| h == c))
            }
        };
        ours.then(|| path.trim_start_matches('/').into())
    });
    Ok(own.unwrap_or_default())
}

/// Makes a v1 group. A new cpuset is empty and takes nobody, so each one on the way inherits.
pub fn make_v1(hierarchy: &Hierarchy, path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::at("make", path))?;
    if !hierarchy.controllers.iter().any(|c| c == "cpuset") {
        return Ok(());
    }
    let below = path.strip_prefix(&hierarchy.mount_point).unwrap_or(path);
    let mut parent = hierarchy.mount_point.clone();
    for step in below.components() {
        let child = parent.join(step);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (parent.join(file), child.join(file));
            let own = fs::read_to_string(&to).map_err(Error::at("read", &to))?;
            if own.trim().is_empty() {
                let inherited = fs::read_to_string(&from).map_err(Error::at("read", &from))?;
                write(&to, inherited.trim())?;
            }
        }
        parent = child;
    }
    Ok(())
}

/// Makes a v2 group, with every controller that its ancestors can hand down; gives those.
pub fn make_v2(hierarchy: &Hierarchy, path: &Path) -> Result<Vec<String>, Error> {
    fs::create_dir_all(path).map_err(Error::at("make", path))?;
    let below = path.strip_prefix(&hierarchy.mount_point).unwrap_or(path);
    let mut ancestor = hierarchy.mount_point.clone();
    for step in below.components() {
        let control = ancestor.join("cgroup.subtree_control");
        let offered = fs::read_to_string(ancestor.join("cgroup.controllers")).unwrap_or_default();
        let handed = fs::read_to_string(&control).unwrap_or_default();
        for controller in offered.split_whitespace() {
            if !handed.split_whitespace().any(|c| c == controller) {
                // One that cannot be handed down here is missed only by a limit that needs it.
                let _ = fs::write(&control, format!("+{controller}"));
            }
        }
        ancestor.push(step);
    }
    offered(path)
}

fn offered(group: &Path) -> Result<Vec<String>, Error> {
    let path = group.join("cgroup.controllers");
    let text = fs::read_to_string(&path).map_err(Error::at("read", &path))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        let location = Location::parse(Some(text), "id", false).unwrap();
        location.path.display().to_string()
    }

    #[test]
    fn systemds_form_names_a_scope_within_its_slices() {
        assert_eq!(path("system.slice:docker:abc"), "system.slice/docker-abc.scope");
        assert_eq!(
            path("kubepods-burstable-pod1.slice:cri-containerd:x"),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-x.scope"
        );
        assert_eq!(path(":docker:abc"), "system.slice/docker-abc.scope");
        assert_eq!(path("-.slice:docker:abc"), "docker-abc.scope");
    }

    #[test]
    fn a_path_stays_a_path() {
        assert_eq!(path("/docker/abc"), "docker/abc");
        assert_eq!(path("/k8s.io/a:b"), "k8s.io/a:b");
        assert_eq!(Location::parse(None, "id", false).unwrap().path, Path::new("id"));
    }

    #[test]
    fn systemd_cgroups_demand_systemds_form() {
        let error = Location::parse(Some("/docker/abc"), "id", true).unwrap_err();
        assert!(error.to_string().contains("slice:prefix:name"), "{error}");
    }

    #[test]
    fn mounts_are_found_with_their_controllers() {
        let found = parse_mountinfo(
            "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             32 30 0:28 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
             33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        let seen: Vec<_> = found.iter().map(|h| (h.version, h.controllers.join(","))).collect();
        assert_eq!(
            seen,
            [
                (Version::V1, "cpu,cpuacct".into()),
                (Version::V1, "name=systemd".into()),
                (Version::V2, String::new())
            ]
        );
    }
}
