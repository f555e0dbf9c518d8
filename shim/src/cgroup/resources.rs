//! The limits of the specification, as values for files of a control group
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups>).

use super::{Cgroup, Error, Version, write};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::fs;
use std::io;

/// A value for a file of a control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The limit's name in the specification.
    pub limit: &'static str,
    /// The controller whose file it is; none for `unified`, which names files itself.
    pub controller: Option<&'static str>,
    pub file: String,
    pub value: String,
    /// Where there is no such file the limit holds anyway.
    pub optional: bool,
}

/// What a file of a controller says now; nothing when there is none.
type Now<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

/// What keeps the limits that `resources` names, in an order in which the kernel takes them from
/// what holds `now`. What it leaves out stays as it is.
///
/// # Errors
/// When the limits contradict each other.
pub fn settings(
    version: Version,
    resources: &LinuxResources,
    now: Now<'_>,
) -> Result<Vec<Setting>, Error> {
    let mut list = List { version, now, settings: Vec::new() };
    if let Some(memory) = resources.memory() {
        list.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        list.cpu(cpu);
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        list.set("cpu.cpus", "cpuset", "cpuset.cpus", named(cpu.cpus()));
        list.set("cpu.mems", "cpuset", "cpuset.mems", named(cpu.mems()));
    }
    if let Some(pids) = resources.pids() {
        list.set("pids.limit", "pids", "pids.max", Some(pids.limit()).filter(|n| *n != 0).map(max));
    }
    if let Some(io) = resources.block_io() {
        list.block_io(io);
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let file = match version {
            Version::V1 => format!("hugetlb.{}.limit_in_bytes", huge.page_size()),
            Version::V2 => format!("hugetlb.{}.max", huge.page_size()),
        };
        list.set("hugepageLimits", "hugetlb", &file, Some(huge.limit()));
    }
    if version == Version::V2 {
        list.unified(resources)?;
    }
    Ok(list.settings)
}

/// Sets the limits of a new group.
///
/// # Errors
/// The first that cannot be kept; those before it are set.
pub fn apply(cgroup: &Cgroup, settings: &[Setting]) -> Result<(), Error> {
    for setting in settings {
        let Some(path) = cgroup.file_of(setting)? else { continue };
        write(&path, &setting.value).map_err(|error| cgroup.explain(setting, error))?;
    }
    Ok(())
}

/// Sets back what [`apply`] may have changed, the last first, to what was there `before`.
pub fn restore(cgroup: &Cgroup, settings: &[Setting], before: &[Option<String>]) {
    for (setting, before) in settings.iter().zip(before).rev() {
        let (Ok(Some(path)), Some(before)) = (cgroup.file_of(setting), before) else { continue };
        if fs::read_to_string(&path).ok().as_ref() == Some(before) {
            continue;
        }
        // One device a line; others have one line.
        for line in before.lines() {
            if let Err(e) = write(&path, line) {
                log::warn!("not set back: {e}");
            }
        }
    }
}

struct List<'a> {
    version: Version,
    now: Now<'a>,
    settings: Vec<Setting>,
}

impl List<'_> {
    /// Adds `value`, if there is one, for a file of `controller`.
    fn set(
        &mut self,
        limit: &'static str,
        controller: &'static str,
        file: &str,
        value: Option<impl ToString>,
    ) {
        self.add(limit, controller, file, value, false);
    }

    fn add(
        &mut self,
        limit: &'static str,
        controller: &'static str,
        file: &str,
        value: Option<impl ToString>,
        optional: bool,
    ) {
        self.settings.extend(value.map(|value| Setting {
            limit,
            controller: Some(controller),
            file: file.to_owned(),
            value: value.to_string(),
            optional,
        }));
    }

    /// The number that a file says now.
    fn number(&self, controller: &str, file: &str) -> Option<i64> {
        (self.now)(controller, file)?.trim().parse().ok()
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let bytes = |n: Option<i64>| n.filter(|n| *n != 0);
        let (limit, reservation) = (bytes(memory.limit()), bytes(memory.reservation()));
        let swap = match (limit, bytes(memory.swap())) {
            // Memory and swap together cannot be limited where memory alone is not.
            (Some(-1), None) => Some(-1),
            (Some(limit), Some(swap)) if (0..limit).contains(&swap) => {
                let why = format!("{swap} is less than memory.limit, {limit}, which is part of it");
                return Err(Error::Limit { limit: "memory.swap", why });
            }
            (_, swap) => swap,
        };
        let usage = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        if memory.check_before_update() == Some(true)
            && let (Some(limit @ 0..), Some(used)) = (limit, self.number("memory", usage))
            && used > limit
        {
            let why = format!("{limit} is less than what is in use, {used}");
            return Err(Error::Limit { limit: "memory.limit", why });
        }
        match self.version {
            Version::V1 => {
                let memory_alone = "memory.limit_in_bytes";
                // The one is never above the other, so both go up in this order and down in that.
                let raised = match (swap, self.number("memory", memory_alone)) {
                    (Some(-1), _) => true,
                    (Some(swap), Some(now)) => now < swap,
                    _ => false,
                };
                if !raised {
                    self.set("memory.limit", "memory", memory_alone, limit);
                }
                // Where swap is not accounted the file is missing, and there is nothing to limit.
                self.add("memory.swap", "memory", "memory.memsw.limit_in_bytes", swap, true);
                if raised {
                    self.set("memory.limit", "memory", memory_alone, limit);
                }
                let soft = "memory.soft_limit_in_bytes";
                self.set("memory.reservation", "memory", soft, reservation);
                let swappiness = memory.swappiness();
                self.set("memory.swappiness", "memory", "memory.swappiness", swappiness);
                let disable = memory.disable_oom_killer().filter(|off| *off).map(|_| 1);
                self.set("memory.disableOOMKiller", "memory", "memory.oom_control", disable);
            }
            Version::V2 => {
                self.set("memory.limit", "memory", "memory.max", limit.map(max));
                // The specification's swap is memory and swap together; v2's is swap alone.
                let limit = limit.or_else(|| self.number("memory", "memory.max"));
                let swap =
                    swap.map(|n| if n < 0 { -1 } else { n - limit.unwrap_or(0).clamp(0, n) });
                self.add("memory.swap", "memory", "memory.swap.max", swap.map(max), true);
                self.set("memory.reservation", "memory", "memory.low", reservation.map(max));
            }
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        // 1024 is what holds where there is no controller for it.
        let shares = cpu.shares().filter(|n| *n != 0);
        let usual = shares == Some(1024);
        let (period, quota) = (cpu.period().filter(|n| *n != 0), cpu.quota().filter(|n| *n != 0));
        let burst = match self.version {
            Version::V1 => "cpu.cfs_burst_us",
            Version::V2 => "cpu.max.burst",
        };
        // A burst is never above the quota, so it goes down before that and up after it.
        let new_burst = cpu.burst().map(|n| n as i64);
        let lowered = new_burst < self.number("cpu", burst);
        if lowered {
            self.set("cpu.burst", "cpu", burst, new_burst);
        }
        match self.version {
            Version::V1 => {
                self.add("cpu.shares", "cpu", "cpu.shares", shares, usual);
                // The quota in a period is never above its parent's: a longer period comes first.
                let shorter = period.map(|n| n as i64) < self.number("cpu", "cpu.cfs_period_us");
                if !shorter {
                    self.set("cpu.period", "cpu", "cpu.cfs_period_us", period);
                }
                self.set("cpu.quota", "cpu", "cpu.cfs_quota_us", quota);
                if shorter {
                    self.set("cpu.period", "cpu", "cpu.cfs_period_us", period);
                }
                let realtime = cpu.realtime_period().filter(|n| *n != 0);
                self.set("cpu.realtimePeriod", "cpu", "cpu.rt_period_us", realtime);
                let runtime = cpu.realtime_runtime().filter(|n| *n != 0);
                self.set("cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", runtime);
            }
            Version::V2 => {
                self.add("cpu.shares", "cpu", "cpu.weight", shares.map(weight_of_shares), usual);
                if quota.is_some() || period.is_some() {
                    let now = (self.now)("cpu", "cpu.max").unwrap_or_else(|| "max 100000".into());
                    let (old_quota, old_period) = now.trim().split_once(' ').unwrap_or(("max", ""));
                    let quota = quota.map_or_else(|| old_quota.to_owned(), max);
                    let period = period.map_or_else(|| old_period.to_owned(), |n| n.to_string());
                    self.set("cpu.quota", "cpu", "cpu.max", Some(format!("{quota} {period}")));
                }
                self.set("cpu.idle", "cpu", "cpu.idle", cpu.idle());
            }
        }
        if !lowered {
            self.set("cpu.burst", "cpu", burst, new_burst);
        }
    }

    fn block_io(&mut self, io: &LinuxBlockIo) {
        let weight = io.weight().filter(|n| *n != 0).map(u64::from);
        // The scheduler BFQ keeps weights in a file of its own.
        let (controller, files, weight) = match self.version {
            Version::V1 => ("blkio", ["blkio.weight", "blkio.bfq.weight"], weight),
            // v1's 10..1000 to v2's 1..10000
            Version::V2 => (
                "io",
                ["io.weight", "io.bfq.weight"],
                weight.map(|n| 1 + (n.clamp(10, 1000) - 10) * 9999 / 990),
            ),
        };
        let file = files.into_iter().find(|file| (self.now)(controller, file).is_some());
        self.set("blockIO.weight", controller, file.unwrap_or(files[0]), weight);
        let throttles = [
            (io.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
            (io.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
            (io.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
            (io.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
        ];
        for (devices, v1, v2) in throttles {
            for device in devices.iter().flatten() {
                self.throttle(device, v1, v2);
            }
        }
    }

    fn throttle(&mut self, device: &LinuxThrottleDevice, v1: &str, v2: &str) {
        let (major, minor, rate) = (device.major(), device.minor(), device.rate());
        let (controller, file, value) = match self.version {
            Version::V1 => ("blkio", v1, format!("{major}:{minor} {rate}")),
            Version::V2 => ("io", "io.max", format!("{major}:{minor} {v2}={rate}")),
        };
        self.set("blockIO.throttle", controller, file, Some(value));
    }

    fn unified(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut files: Vec<_> = resources.unified().iter().flatten().collect();
        files.sort();
        for (file, value) in files {
            if file.contains('/') {
                let why = format!("{file:?} is not the name of a file");
                return Err(Error::Limit { limit: "unified", why });
            }
            self.settings.push(Setting {
                limit: "unified",
                controller: None,
                file: file.clone(),
                value: value.clone(),
                optional: false,
            });
        }
        Ok(())
    }
}

impl Cgroup {
    /// Where a setting is written; nowhere when it holds anyway.
    fn file_of(&self, setting: &Setting) -> Result<Option<std::path::PathBuf>, Error> {
        let dir = match setting.controller {
            Some(controller) => self.dir(controller),
            None => self.dirs.first().map(|dir| dir.path.as_path()),
        };
        let path = dir.map(|dir| dir.join(&setting.file));
        match path {
            Some(path) if setting.optional && !path.exists() => Ok(None),
            None if setting.optional => Ok(None),
            None => Err(Error::NoController {
                limit: setting.limit,
                controller: setting.controller.unwrap_or("unified"),
            }),
            path => Ok(path),
        }
    }

    /// What a setting's file says.
    pub(super) fn before(&self, setting: &Setting) -> Option<String> {
        fs::read_to_string(self.file_of(setting).ok()??).ok()
    }

    /// v1 refuses a limit of memory that it cannot push the group below.
    fn explain(&self, setting: &Setting, error: Error) -> Error {
        match &error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                let used = self.text("memory", "memory.usage_in_bytes").unwrap_or_default();
                let why = format!("{} is less than what is in use, {}", setting.value, used.trim());
                Error::Limit { limit: setting.limit, why }
            }
            _ => error,
        }
    }
}

/// -1 is no limit.
fn max(n: i64) -> String {
    if n < 0 { "max".into() } else { n.to_string() }
}

/// v1's 2..262144 to v2's 1..10000, by the curve through both ends and through 1024 and 100, which a
/// new group has: that of the other runtimes.
fn weight_of_shares(shares: u64) -> u64 {
    let l = match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        between => (between as f64).log2(),
    };
    10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn list(version: Version, resources: Value, now: &[(&str, &str)]) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        let read = |_: &str, file: &str| {
            now.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned())
        };
        let settings = settings(version, &resources, &read).unwrap();
        settings.into_iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn shares_become_weights_over_the_whole_range() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(512), 59);
    }

    #[test]
    fn memory_and_swap_go_up_in_one_order_and_down_in_the_other() {
        let both = json!({ "memory": { "limit": 100, "swap": 200 } });
        let (memory, swap) = ("memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200");
        let now = |n| [("memory.limit_in_bytes", n)];
        assert_eq!(list(Version::V1, both.clone(), &now("50")), [swap, memory]);
        assert_eq!(list(Version::V1, both, &now("400")), [memory, swap]);
        let unlimited = json!({ "memory": { "limit": -1 } });
        let (memory, swap) = ("memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1");
        assert_eq!(list(Version::V1, unlimited, &now("400")), [swap, memory]);
    }

    #[test]
    fn swap_alone_is_what_is_left_beside_the_memory_that_holds() {
        let both = json!({ "memory": { "limit": 100, "swap": 300 } });
        assert_eq!(list(Version::V2, both, &[]), ["memory.max=100", "memory.swap.max=200"]);
        let swap = json!({ "memory": { "swap": 300 } });
        assert_eq!(list(Version::V2, swap, &[("memory.max", "250\n")]), ["memory.swap.max=50"]);
    }

    #[test]
    fn a_longer_period_comes_before_its_quota_and_a_shorter_one_after_it() {
        let cpu = json!({ "cpu": { "quota": 100, "period": 200 } });
        let (quota, period) = ("cpu.cfs_quota_us=100", "cpu.cfs_period_us=200");
        let now = |n| [("cpu.cfs_period_us", n)];
        assert_eq!(list(Version::V1, cpu.clone(), &now("150")), [period, quota]);
        assert_eq!(list(Version::V1, cpu, &now("400")), [quota, period]);
    }

    #[test]
    fn a_quota_without_a_period_keeps_the_one_that_holds() {
        let now = [("cpu.max", "1000 50000\n")];
        let quota = json!({ "cpu": { "quota": 2000 } });
        assert_eq!(list(Version::V2, quota, &now), ["cpu.max=2000 50000"]);
        let period = json!({ "cpu": { "quota": 0, "period": 100_000 } });
        assert_eq!(list(Version::V2, period, &now), ["cpu.max=1000 100000"]);
        let none = json!({ "cpu": { "quota": -1 } });
        assert_eq!(list(Version::V2, none, &now), ["cpu.max=max 50000"]);
    }

    #[test]
    fn a_burst_goes_down_before_the_quota_and_up_after_it() {
        let cpu = json!({ "cpu": { "quota": 1000, "burst": 500 } });
        let (quota, burst) = ("cpu.cfs_quota_us=1000", "cpu.cfs_burst_us=500");
        assert_eq!(list(Version::V1, cpu.clone(), &[("cpu.cfs_burst_us", "900")]), [burst, quota]);
        assert_eq!(list(Version::V1, cpu, &[("cpu.cfs_burst_us", "0")]), [quota, burst]);
    }

    #[test]
    fn limits_that_contradict_each_other_are_named() {
        let resources = json!({ "memory": { "limit": 100, "swap": 50 } });
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        let error = settings(Version::V1, &resources, &|_, _| None).unwrap_err().to_string();
        assert!(error.contains("memory.swap: 50 is less than memory.limit, 100"), "{error}");
    }
}
