//! A measurement in the messages that containerd's clients know: one for each cgroup version.

use crate::cgroup::{Amount, IoEntry, Stats, Version};
use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField, Result};

/// The message for this version, packed with the type's name that containerd registers.
pub fn metrics(version: Version, stats: &Stats) -> Result<Any> {
    let (name, value) = match version {
        Version::V1 => ("io.containerd.cgroups.v1.Metrics", of_v1(stats).write_to_bytes()?),
        Version::V2 => ("io.containerd.cgroups.v2.Metrics", of_v2(stats).write_to_bytes()?),
    };
    Ok(Any { type_url: name.into(), value, ..Default::default() })
}

fn of_v1(stats: &Stats) -> v1::Metrics {
    let io = |operations: fn(&IoEntry) -> [(&'static str, u64); 2]| {
        stats
            .io
            .iter()
            .flat_map(|entry| operations(entry).map(|operation| (entry, operation)))
            .map(|(entry, (op, value))| v1::BlkIOEntry {
                op: op.into(),
                major: entry.major,
                minor: entry.minor,
                value,
                ..Default::default()
            })
            .collect()
    };
    let event = |key: &str| stats.memory.events.get(key).copied().unwrap_or(0);
    let huge = |(size, amount): (&String, &Amount)| v1::HugetlbStat {
        usage: amount.usage,
        max: amount.max,
        failcnt: amount.failures,
        pagesize: size.clone(),
        ..Default::default()
    };
    v1::Metrics {
        pids: MessageField::some(v1::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..Default::default()
        }),
        cpu: MessageField::some(v1::CPUStat {
            usage: MessageField::some(v1::CPUUsage {
                total: stats.cpu.total,
                kernel: stats.cpu.system,
                user: stats.cpu.user,
                per_cpu: stats.cpu.per_cpu.clone(),
                ..Default::default()
            }),
            throttling: MessageField::some(v1::Throttle {
                periods: stats.cpu.periods,
                throttled_periods: stats.cpu.throttled_periods,
                throttled_time: stats.cpu.throttled,
                ..Default::default()
            }),
            ..Default::default()
        }),
        memory: MessageField::some(memory_v1(stats)),
        blkio: MessageField::some(v1::BlkIOStat {
            io_service_bytes_recursive: io(|e| {
                [("Read", e.read_bytes), ("Write", e.written_bytes)]
            }),
            io_serviced_recursive: io(|e| [("Read", e.reads), ("Write", e.writes)]),
            ..Default::default()
        }),
        memory_oom_control: MessageField::some(v1::MemoryOomControl {
            oom_kill_disable: event("oom_kill_disable"),
            under_oom: event("under_oom"),
            oom_kill: event("oom_kill"),
            ..Default::default()
        }),
        hugetlb: stats.huge.iter().map(huge).collect(),
        ..Default::default()
    }
}

fn memory_v1(stats: &Stats) -> v1::MemoryStat {
    let memory = &stats.memory;
    let get = |key: &str| memory.stat.get(key).copied().unwrap_or(0);
    let entry = |amount: &Amount| {
        MessageField::some(v1::MemoryEntry {
            limit: amount.limit,
            usage: amount.usage,
            max: amount.max,
            failcnt: amount.failures,
            ..Default::default()
        })
    };
    v1::MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry(&memory.all),
        swap: entry(&memory.swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
        ..Default::default()
    }
}

fn of_v2(stats: &Stats) -> v2::Metrics {
    let io = |entry: &IoEntry| v2::IOEntry {
        major: entry.major,
        minor: entry.minor,
        rbytes: entry.read_bytes,
        wbytes: entry.written_bytes,
        rios: entry.reads,
        wios: entry.writes,
        ..Default::default()
    };
    let event = |key: &str| stats.memory.events.get(key).copied().unwrap_or(0);
    let huge = |(size, amount): (&String, &Amount)| v2::HugeTlbStat {
        current: amount.usage,
        max: amount.limit,
        failcnt: amount.failures,
        pagesize: size.clone(),
        ..Default::default()
    };
    v2::Metrics {
        pids: MessageField::some(v2::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..Default::default()
        }),
        cpu: MessageField::some(v2::CPUStat {
            usage_usec: stats.cpu.total / 1000,
            user_usec: stats.cpu.user / 1000,
            system_usec: stats.cpu.system / 1000,
            nr_periods: stats.cpu.periods,
            nr_throttled: stats.cpu.throttled_periods,
            throttled_usec: stats.cpu.throttled / 1000,
            nr_bursts: stats.cpu.bursts,
            burst_usec: stats.cpu.burst / 1000,
            ..Default::default()
        }),
        memory: MessageField::some(memory_v2(stats)),
        io: MessageField::some(v2::IOStat {
            usage: stats.io.iter().map(io).collect(),
            ..Default::default()
        }),
        memory_events: MessageField::some(v2::MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
            oom_group_kill: event("oom_group_kill"),
            ..Default::default()
        }),
        hugetlb: stats.huge.iter().map(huge).collect(),
        ..Default::default()
    }
}

fn memory_v2(stats: &Stats) -> v2::MemoryStat {
    let memory = &stats.memory;
    let get = |key: &str| memory.stat.get(key).copied().unwrap_or(0);
    v2::MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault_anon") + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate_anon") + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: memory.all.usage,
        usage_limit: memory.all.limit,
        max_usage: memory.all.max,
        swap_usage: memory.swap.usage,
        swap_limit: memory.swap.limit,
        swap_max_usage: memory.swap.max,
        ..Default::default()
    }
}
