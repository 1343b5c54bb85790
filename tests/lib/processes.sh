# Starting, finding and stopping the servers' processes, by recorded id only. Sourced by services and by k8s/local.
# shellcheck shell=bash

die() {
  printf '%s: %s\n' "${program:-tests/services}" "$1" >&2
  exit 1
}

# die_with_log NAME MESSAGE: the message and the end of the server's log.
die_with_log() {
  printf '%s: %s; its log %s ends:\n' "${program:-tests/services}" "$2" "$dir/$1.log" >&2
  tail -n 25 "$dir/$1.log" >&2 || true
  exit 1
}

# The kernel's start time of a process: an id alone may have been given to another since. One that ended
# and waits for its parent to take note has none, once its last thread is gone too.
started_at() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The name in parentheses may hold spaces; field 22 counts from before it, 20 after it.
  read -ra stat <<<"${stat##*) }"
  [[ ${stat[0]} != Z ]] || ((stat[17] > 1)) || return 1
  printf '%s\n' "${stat[19]}"
}

# launch NAME COMMAND…: starts a process of its own session and records it.
launch() {
  local name=$1
  shift
  setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 8>&- &
  local pid=$!
  disown "$pid"
  printf '%s %s\n' "$pid" "$(started_at "$pid" || true)" >"$dir/$name.pid"
}

# The id of a running server; fails when it is not running.
pid_of() {
  local pid since
  [[ -f $dir/$1.pid ]] && read -r pid since <"$dir/$1.pid" || return 1
  [[ -n $since && $(started_at "$pid") == "$since" ]] && printf '%s\n' "$pid"
}

alive() {
  pid_of "$1" >/dev/null
}

signal_process() {
  local pid
  pid=$(pid_of "$1") || die "$1 is not running in $dir"
  kill "-$2" "$pid"
}

# stop_process NAME SIGNAL: signals a server and waits until it is gone.
stop_process() {
  local pid i
  pid=$(pid_of "$1") || { rm -f "$dir/$1.pid"; return 0; }
  kill "-$2" "$pid" 2>/dev/null || true
  # A frozen process acts on SIGTERM only when thawed.
  kill -CONT "$pid" 2>/dev/null || true
  for ((i = 0; i < 600; i++)); do
    alive "$1" || break
    ((i < 500)) || kill -KILL "$pid" 2>/dev/null || true
    sleep 0.05
  done
  alive "$1" && die "$1 (process $pid) did not end"
  rm -f "$dir/$1.pid"
}

# await NAME SECONDS COMMAND…: repeats a command until it succeeds.
await() {
  local name=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$name" || die_with_log "$name" "$name ended while starting"
    ((SECONDS < deadline)) || die_with_log "$name" "$name did not become ready in time"
    sleep 0.1
  done
}

# Ports stay the same for the life of the directory, so that a restarted server is found again.
choose_ports() {
  [[ -f $dir/port ]] && return
  local base offset try
  for ((try = 0; try < 100; try++)); do
    # Below the range from which the kernel gives ports to clients.
    base=$((20000 + RANDOM % 1200 * 10))
    for ((offset = 0; offset < 8; offset++)); do
      (: <"/dev/tcp/127.0.0.1/$((base + offset))") 2>/dev/null && continue 2
    done
    printf '%s\n' "$base" >"$dir/port"
    return
  done
  die "found no ten free ports between 20000 and 32000"
}

port() {
  local base
  base=$(cat "$dir/port" 2>/dev/null) || die "no servers in $dir: run \`tests/services up\` first"
  case $1 in
    rabbitmq) echo "$base" ;;
    mariadb) echo $((base + 1)) ;;
    mariadb-replica) echo $((base + 2)) ;;
    mysql) echo $((base + 3)) ;;
    mysql-replica) echo $((base + 4)) ;;
    epmd) echo $((base + 5)) ;;
    distribution) echo $((base + 6)) ;;
    amqps) echo $((base + 7)) ;;
  esac
}
