# Run by scripts/vm with a probe.tar of the tests' image. Says what it sees as `name: value`, one per
# line; what that should be is said in integration/tests/vm.rs.
set -u
wasm=(--runtime io.containerd.wasmtime.v1 --platform wasi/wasm)
image=docker.io/library/probe:test

files() { # NAME GROUP: the limits that hold in it
  local file
  for file in memory.max memory.swap.max memory.low cpu.max cpu.weight pids.max; do
    echo "$1 $file: $(cat "/sys/fs/cgroup$2/$file")"
  done
}

group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; } # PID

gone() { # NAME GROUP: neither the group nor a shim is left, which a moment ago ran
  local i left
  for ((i = 0; i < 100; i++)); do
    left=$(ls -d "/sys/fs/cgroup$2" 2>/dev/null; pgrep -fa containerd-shim)
    [[ -n $left ]] || break
    sleep 0.1
  done
  echo "$1 left: ${left:-nothing}"
}

docker load --quiet --input probe.tar >/dev/null
ctr image import --platform wasi/wasm probe.tar >/dev/null
echo "driver: $(docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}')"
echo "controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"

limits=(--memory 64m --memory-swap 96m --memory-reservation 32m --cpu-period 50000 --cpu-quota 25000 --cpu-shares 512 --pids-limit 20)
id=$(docker run -d --name limited "${limits[@]}" "${wasm[@]}" "$image" hold 8)
until docker logs limited | grep -q allocated; do sleep 0.2; done
scope=$(group_of "$(docker inspect --format '{{.State.Pid}}' limited)")
echo "docker group: ${scope/$id/ID}"
files docker "$scope"
systemctl daemon-reload
files reloaded "$scope"
docker update --memory 96m --memory-swap 160m --cpu-quota 10000 --cpu-shares 1024 --pids-limit 30 limited >/dev/null
files updated "$scope"
systemctl daemon-reload
files "updated and reloaded" "$scope"
docker update --memory 64m --memory-swap 96m limited >/dev/null
docker pause limited >/dev/null
echo "paused: $(docker inspect --format '{{.State.Status}}' limited) $(sed -n 's/^frozen //p' "/sys/fs/cgroup$scope/cgroup.events")"
docker unpause limited >/dev/null
echo "unpaused: $(docker inspect --format '{{.State.Status}}' limited) $(sed -n 's/^frozen //p' "/sys/fs/cgroup$scope/cgroup.events")"
echo "stats: $(docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' limited)"
docker rm -f limited >/dev/null
gone docker "$scope"

for i in 1 2 3; do
  docker run --name oom --memory 64m "${wasm[@]}" "$image" alloc 200 >/dev/null
  echo "oom $i: $? $(docker inspect --format '{{.State.OOMKilled}}' oom)"
  docker rm -f oom >/dev/null
done

# A process beside the container's own is killed, which runs on.
docker run -d --name beside --memory 64m "${wasm[@]}" "$image" sleep 1000 >/dev/null
scope=$(group_of "$(docker inspect --format '{{.State.Pid}}' beside)")
since=$(date +%s)
sh -c "echo \$\$ >/sys/fs/cgroup$scope/cgroup.procs; exec tail /dev/zero" 2>/dev/null
for ((i = 0; i < 50; i++)); do
  ooms=$(docker events --since "$since" --until "$(date +%s)" --filter container=beside --filter event=oom --format '{{.Action}}')
  [[ -z $ooms ]] || break
  sleep 0.2
done
echo "oom beside: $(docker inspect --format '{{.State.Status}}' beside) $(xargs <<<"$ooms")"
docker rm -f beside >/dev/null
gone beside "$scope"

# systemd has removed the scope before the shim looks, for the shim stands still.
docker run -d --name raced --memory 64m "${wasm[@]}" "$image" hold 32 >/dev/null
until docker logs raced | grep -q allocated; do sleep 0.2; done
pid=$(docker inspect --format '{{.State.Pid}}' raced)
scope=$(group_of "$pid")
shim=$(ps -o ppid= -p "$pid")
kill -STOP $shim
echo 4194304 >"/sys/fs/cgroup$scope/memory.max"
for ((i = 0; i < 200; i++)); do [[ -d /sys/fs/cgroup$scope ]] || break; sleep 0.1; done
echo "scope: $(ls -d "/sys/fs/cgroup$scope" 2>/dev/null || echo removed)"
kill -CONT $shim
echo "oom raced: $(docker wait raced) $(docker inspect --format '{{.State.OOMKilled}}' raced)"
docker rm -f raced >/dev/null
gone raced "$scope"

docker run -d --name busy --cpus 0.2 "${wasm[@]}" "$image" spin >/dev/null
scope=$(group_of "$(docker inspect --format '{{.State.Pid}}' busy)")
for ((i = 0; i < 300; i++)); do
  throttled=$(sed -n 's/^nr_throttled //p' "/sys/fs/cgroup$scope/cpu.stat")
  ((throttled > 5)) && break
  sleep 0.1
done
echo "throttled: $throttled"
docker rm -f busy >/dev/null
gone busy "$scope"

run=(ctr run --memory-limit 67108864 --cpus 0.5 "${wasm[@]}")
"${run[@]}" -d "$image" by-path /probe-p1.wasm sleep 1000 >/dev/null
group=$(group_of "$(ctr task ls | awk '$1 == "by-path" { print $2 }')")
echo "ctr group: $group"
files ctr "$group"
ctr task metrics by-path | awk '$1 == "memory.usage_limit" { print "ctr limit: " $2 }'
ctr task rm --force by-path >/dev/null 2>&1
ctr container rm by-path
gone ctr "$group"
ctr events >events &
"${run[@]}" --rm "$image" hungry /probe-p1.wasm alloc 200 >/dev/null 2>&1
echo "ctr oom: $? $(for ((i = 0; i < 50; i++)); do grep -o /tasks/oom events && break; sleep 0.1; done)"
kill %1
gone hungry /default/hungry
