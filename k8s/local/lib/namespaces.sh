# The namespaces that a cluster lives in, and the link into them. Sourced by up and down.
# shellcheck shell=bash

# Everything of the cluster runs in namespaces of its own: processes, mounts, network, name. So the
# machine's own iptables, ports and mounts stay as they are, two clusters do not meet, and when the
# first process is killed the kernel itself takes down all the rest, however it came to be.
start_namespaces() {
  rm -f "$dir/init.machine-pid"
  launch unshare unshare --mount --uts --ipc --net --pid --fork --kill-child --propagation private \
    "$here/lib/init" "$dir"
  await unshare 10 test -s "$dir/init.machine-pid"
  local pid
  pid=$(cat "$dir/init.machine-pid")
  printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$dir/init.pid"
}

# Numbers that no route of the machine covers yet.
choose_network() {
  local n
  for ((n = 80; n < 200; n++)); do
    [[ -z $(ip route show "10.$n.0.0/16") && -z $(ip route show root "10.$n.0.0/16") ]] || continue
    printf '%s\n' "$n" >"$dir/network"
    return
  done
  die "found no free network between 10.80.0.0/16 and 10.199.0.0/16"
}

# The link disappears with the namespace at its other end, and its routes with it.
link_network() {
  local link init
  link=windlass$(network number)
  init=$(pid_of init)
  ip link add "$link" type veth peer name eth0 netns "$init"
  ip address add "$(network machine)/24" dev "$link"
  ip link set "$link" up
  enter ip address add "$(network node)/24" dev eth0
  enter ip link set eth0 up
  enter ip route add default via "$(network machine)"
  ip route add "$(network whole)" via "$(network node)"
}

# The pods' cgroups are under one of ours, in every hierarchy that the machine has.
cgroups() {
  local name at
  name=windlass-$(network number)
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
    printf '/sys/fs/cgroup/%s\n' "$name"
    return
  fi
  for at in /sys/fs/cgroup/*/; do
    # The unified hierarchy beside the others, too: it has no controllers, but the container runtime uses it.
    [[ ! -f $at/cgroup.procs ]] || printf '%s%s\n' "$at" "$name"
  done
}

make_cgroups() {
  local at file
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
    for file in cpuset cpu memory pids; do
      echo "+$file" >/sys/fs/cgroup/cgroup.subtree_control || true
    done
  fi
  while read -r at; do
    mkdir -p "$at"
    # A new cpuset of the first version is empty, and no process can join it.
    for file in cpuset.cpus cpuset.mems; do
      [[ ! -f ${at%/*}/tasks || ! -f $at/$file ]] || cat "${at%/*}/$file" >"$at/$file"
    done
  done < <(cgroups)
}

remove_cgroups() {
  local at i
  while read -r at; do
    # The last processes may still be leaving.
    for ((i = 0; i < 100; i++)); do
      [[ -d $at ]] || break
      find "$at" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.1
    done
    [[ ! -d $at ]] || die "the cgroup $at could not be removed: something still runs in it"
  done < <(cgroups)
}

# Ends a cluster, running or left by a crash, and removes what it made outside its directory.
stop_namespaces() {
  stop_process init KILL
  stop_process unshare KILL
  [[ -f $dir/network ]] || return 0
  local link
  link=windlass$(network number)
  # It went with its namespace; unless that was never finished.
  ! ip link show "$link" >/dev/null 2>&1 || ip link delete "$link" 2>/dev/null || true
  remove_cgroups
}
