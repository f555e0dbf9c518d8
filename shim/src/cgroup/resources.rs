//! The limits of the specification, written to a control group
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups>).

use super::{Cgroup, Error, Version, write};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::path::Path;

/// Sets every limit that `resources` names. What it leaves out stays as it is.
pub fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    let limits = Limits { cgroup };
    if let Some(memory) = resources.memory() {
        limits.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        limits.cpu(cpu)?;
        limits.set(
            "cpu.cpus",
            "cpuset",
            "cpuset.cpus",
            cpu.cpus().clone().filter(|c| !c.is_empty()),
        )?;
        limits.set(
            "cpu.mems",
            "cpuset",
            "cpuset.mems",
            cpu.mems().clone().filter(|m| !m.is_empty()),
        )?;
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        let value = (limit != 0).then(|| if limit < 0 { "max".into() } else { limit.to_string() });
        limits.set("pids.limit", "pids", "pids.max", value)?;
    }
    if let Some(io) = resources.block_io() {
        limits.block_io(io)?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let file = match cgroup.version {
            Version::V1 => format!("hugetlb.{}.limit_in_bytes", huge.page_size()),
            Version::V2 => format!("hugetlb.{}.max", huge.page_size()),
        };
        limits.set("hugepageLimits", "hugetlb", &file, Some(huge.limit().to_string()))?;
    }
    limits.unified(resources)
}

struct Limits<'a> {
    cgroup: &'a Cgroup,
}

impl Limits<'_> {
    /// Writes `value`, if there is one, to a file of `controller`.
    fn set(
        &self,
        limit: &'static str,
        controller: &'static str,
        file: &str,
        value: Option<String>,
    ) -> Result<(), Error> {
        let Some(value) = value else { return Ok(()) };
        write(&self.dir(limit, controller)?.join(file), &value)
    }

    fn dir(&self, limit: &'static str, controller: &'static str) -> Result<&Path, Error> {
        self.cgroup.dir(controller).ok_or(Error::NoController { limit, controller })
    }

    fn memory(&self, memory: &LinuxMemory) -> Result<(), Error> {
        let set = |limit, file: &str, value| self.set(limit, "memory", file, value);
        let bytes = |n: Option<i64>| n.filter(|n| *n != 0);
        let (limit, swap) = (bytes(memory.limit()), bytes(memory.swap()));
        let reservation = bytes(memory.reservation());
        match self.cgroup.version {
            Version::V1 => {
                let text = |n: Option<i64>| n.map(|n| n.to_string());
                set("memory.limit", "memory.limit_in_bytes", text(limit))?;
                // Where swap is not accounted the file is missing, and there is nothing to limit.
                let accounted = self.cgroup.text("memory", "memory.memsw.limit_in_bytes").is_some();
                set(
                    "memory.swap",
                    "memory.memsw.limit_in_bytes",
                    text(swap).filter(|_| accounted),
                )?;
                set("memory.reservation", "memory.soft_limit_in_bytes", text(reservation))?;
                let swappiness = memory.swappiness().map(|n| n.to_string());
                set("memory.swappiness", "memory.swappiness", swappiness)?;
                let disable = memory.disable_oom_killer().filter(|off| *off);
                set("memory.disableOOMKiller", "memory.oom_control", disable.map(|_| "1".into()))
            }
            Version::V2 => {
                let max = |n: i64| if n == -1 { "max".into() } else { n.to_string() };
                set("memory.limit", "memory.max", limit.map(max))?;
                // The specification's swap is memory and swap together; v2's is swap alone.
                let swap = swap.map(|n| if n < 0 { -1 } else { n - limit.unwrap_or(0).max(0) });
                let accounted = self.cgroup.text("memory", "memory.swap.max").is_some();
                set("memory.swap", "memory.swap.max", swap.map(max).filter(|_| accounted))?;
                set("memory.reservation", "memory.low", reservation.map(max))
            }
        }
    }

    fn cpu(&self, cpu: &LinuxCpu) -> Result<(), Error> {
        let set = |limit, file: &str, value| self.set(limit, "cpu", file, value);
        // 1024 is what a new group has anyway.
        let shares = cpu.shares().filter(|n| *n != 0 && *n != 1024);
        let period = cpu.period().filter(|n| *n != 0);
        let quota = cpu.quota().filter(|n| *n != 0);
        match self.cgroup.version {
            Version::V1 => {
                set("cpu.shares", "cpu.shares", shares.map(|n| n.to_string()))?;
                set("cpu.period", "cpu.cfs_period_us", period.map(|n| n.to_string()))?;
                set("cpu.quota", "cpu.cfs_quota_us", quota.map(|n| n.to_string()))?;
                let runtime = cpu.realtime_runtime().filter(|n| *n != 0);
                let realtime = cpu.realtime_period().filter(|n| *n != 0);
                set("cpu.realtimePeriod", "cpu.rt_period_us", realtime.map(|n| n.to_string()))?;
                set("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime.map(|n| n.to_string()))
            }
            Version::V2 => {
                set("cpu.shares", "cpu.weight", shares.map(|n| weight_of_shares(n).to_string()))?;
                let max = (quota.is_some() || period.is_some()).then(|| {
                    let quota = quota.filter(|n| *n > 0).map_or("max".into(), |n| n.to_string());
                    format!("{quota} {}", period.unwrap_or(100_000))
                });
                set("cpu.quota", "cpu.max", max)?;
                set("cpu.idle", "cpu.idle", cpu.idle().map(|n| n.to_string()))
            }
        }
    }

    fn block_io(&self, io: &LinuxBlockIo) -> Result<(), Error> {
        let weight = io.weight().filter(|n| *n != 0);
        let (controller, file, weight) = match self.cgroup.version {
            Version::V1 => ("blkio", "blkio.weight", weight.map(u64::from)),
            // v1's 10..1000 to v2's 1..10000
            Version::V2 => (
                "io",
                "io.weight",
                weight.map(|n| 1 + (u64::from(n).clamp(10, 1000) - 10) * 9999 / 990),
            ),
        };
        self.set("blockIO.weight", controller, file, weight.map(|n| n.to_string()))?;
        let throttles = [
            (io.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
            (io.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
            (io.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
            (io.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
        ];
        for (devices, v1, v2) in throttles {
            for device in devices.iter().flatten() {
                self.throttle(device, v1, v2)?;
            }
        }
        Ok(())
    }

    fn throttle(&self, device: &LinuxThrottleDevice, v1: &str, v2: &str) -> Result<(), Error> {
        let (major, minor, rate) = (device.major(), device.minor(), device.rate());
        match self.cgroup.version {
            Version::V1 => {
                self.set("blockIO.throttle", "blkio", v1, Some(format!("{major}:{minor} {rate}")))
            }
            Version::V2 => self.set(
                "blockIO.throttle",
                "io",
                "io.max",
                Some(format!("{major}:{minor} {v2}={rate}")),
            ),
        }
    }

    fn unified(&self, resources: &LinuxResources) -> Result<(), Error> {
        if self.cgroup.version == Version::V1 {
            return Ok(());
        }
        for (file, value) in resources.unified().iter().flatten() {
            let dir = &self.cgroup.dirs[0].path;
            if file.contains('/') {
                let bad = std::io::Error::from(std::io::ErrorKind::InvalidInput);
                return Err(Error::at("write to", &dir.join(file))(bad));
            }
            write(&dir.join(file), value)?;
        }
        Ok(())
    }
}

/// v1's 2..262144 to v2's 1..10000.
pub fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::weight_of_shares;

    #[test]
    fn shares_become_weights_over_the_whole_range() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
        assert_eq!(weight_of_shares(512), 20);
    }
}
