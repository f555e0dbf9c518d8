//! What a container leaves behind, which must be nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::bed::Bed;

/// A shim may still be on its way out when its container's removal has been answered.
const GRACE: Duration = Duration::from_secs(10);

/// Prints whatever in the bed carries the name that is read from standard input. The name must not
/// stand on the command line of the script, which would find itself.
const TRACES: &str = r#"
read -r id
pgrep -af -- "$id" | sed 's/^/process: /'
grep -lF -- "$id" /proc/[0-9]*/cgroup 2>/dev/null | sed 's/^/process in its cgroup: /'
grep -hF -- "$id" /proc/[0-9]*/mountinfo 2>/dev/null | sort -u | sed 's/^/mount: /'
find /sys/fs/cgroup -type d -name "*$id*" 2>/dev/null | sed 's/^/cgroup: /'
find /run /var/lib/containerd-shim-wasmtime -name "*$id*" 2>/dev/null | sed 's/^/file: /'
:"#;

/// Prints all that a quiet bed holds which containers could have added to.
const INVENTORY: &str = r#"
ps -eo pid=,args= | grep -v -e ' sleep 3600$' -e ' ps -eo ' -e ' sh -c' -e ' grep -v ' -e ' sed ' | sed 's/^ */process: /'
sed 's/^[0-9]* [0-9]* [^ ]* //; s/^/mount: /' /proc/1/mountinfo
find /sys/fs/cgroup -mindepth 2 -type d 2>/dev/null | sed 's/^/cgroup: /'
find /run/containerd /run/containerd-shim-wasmtime* -type s 2>/dev/null | sed 's/^/socket: /'
ls -d /run/containerd/io.containerd.runtime.v2.task/*/* 2>/dev/null | sed 's/^/bundle: /'
ip -o link | sed 's/^[0-9]*: \([^:]*\):.*/link: \1/'
:"#;

/// Whatever in the bed carries `id`.
#[track_caller]
pub fn traces(bed: &Bed, id: &str) -> Vec<String> {
    bed.exec_with(&["sh", "-c", TRACES], id.as_bytes()).ok().lines()
}

/// Waits until nothing in the bed carries `id` any more.
///
/// # Panics
/// Naming all that still does.
#[track_caller]
pub fn none_of(bed: &Bed, id: &str) {
    let left = settle(|| traces(bed, id), Vec::is_empty);
    assert!(left.is_empty(), "{id} left behind:\n{}", left.join("\n"));
}

/// All that a bed holds at one moment.
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Looks at a bed that nothing else uses.
    #[track_caller]
    pub fn of(bed: &Bed) -> Self {
        Self(bed.exec(&["sh", "-c", INVENTORY]).ok().lines().into_iter().collect())
    }

    /// Waits until the bed holds no more than it did.
    ///
    /// # Panics
    /// Naming all that came since.
    #[track_caller]
    pub fn unchanged(&self, bed: &Bed) {
        let left = settle(|| self.added(bed), Vec::is_empty);
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// What the bed holds now and did not hold then.
    #[track_caller]
    pub fn added(&self, bed: &Bed) -> Vec<String> {
        Self::of(bed).0.difference(&self.0).cloned().collect()
    }
}

fn settle<T>(look: impl Fn() -> T, well: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + GRACE;
    loop {
        let seen = look();
        if well(&seen) || Instant::now() > deadline {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
