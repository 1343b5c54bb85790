# Installing what is missing from Debian packages. Sourced by services and by k8s/local.
# shellcheck shell=bash

need_packages() {
  local -a missing=()
  /usr/bin/python3 -c 'import pika' 2>/dev/null || missing+=(python3-pika)
  [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || missing+=(rabbitmq-server)
  [[ -x $(mariadb_server) ]] || missing+=(mariadb-server)
  command -v mariadb-install-db >/dev/null || missing+=(mariadb-server)
  if ((${#missing[@]})); then
    install_packages "${missing[@]}"
  fi
  # MySQL 9 is in Debian's unstable release only.
  unpack_packages "$cache/mysql" mysql-server-core
}

install_packages() {
  local -a as=()
  if ((EUID)); then
    command -v sudo >/dev/null || die "install ${*} first: it takes root, and there is no sudo"
    as=(sudo)
  fi
  printf 'installing %s\n' "$*" >&2
  local log
  log=$(mktemp)
  # Where policy forbids starting services the packages are installed all the same.
  {
    "${as[@]}" apt-get update &&
      "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
  } >"$log" 2>&1 || {
    tail -n 25 "$log" >&2
    die "apt-get could not install $* (whole log: $log)"
  }
  rm -f "$log"
}

# The mirror that this machine takes Debian's packages from.
debian_mirror() {
  # shellcheck disable=SC2016 # apt expands it
  local -a ask=(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian')
  local mirror
  mirror=$("${ask[@]}" | head -n 1)
  if [[ -z $mirror ]]; then
    apt-get update >/dev/null
    mirror=$("${ask[@]}" | head -n 1)
  fi
  [[ -n $mirror ]] || die "apt knows no mirror of Debian: add one to /etc/apt/sources.list"
  printf '%s\n' "$mirror"
}

# own_apt DIR TYPE SUITE: an apt in a directory of its own, of nothing but this suite, so that nothing of the
# machine changes. Sets the array `own`: the options that make apt-get use it.
own_apt() {
  local at=$1 keys=/usr/share/keyrings/debian-archive-keyring.gpg
  rm -rf -- "$at"
  mkdir -p "$at/lists/partial" "$at/cache/archives/partial" "$at/log" "$at/etc"
  : >"$at/status"
  printf '%s [signed-by=%s] %s %s main\n' "$2" "$keys" "$(debian_mirror)" "$3" >"$at/sources.list"
  own=(
    -o "Dir::Etc::sourcelist=$at/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State=$at" -o "Dir::State::lists=$at/lists" -o "Dir::State::status=$at/status"
    -o "Dir::Cache=$at/cache" -o "Dir::Cache::archives=$at/cache/archives"
    -o "Dir::Log=$at/log" -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none
    -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o APT::Keep-Downloaded-Packages=1
  )
}

# unpack_packages DIR PACKAGE…: these packages of Debian's unstable release and all they depend on, C
# library included, under DIR/root; once, since no script of theirs runs.
unpack_packages() {
  local at=$1
  shift
  [[ ! -f $at/root/complete ]] || return 0
  mkdir -p "$at"
  (
    flock 7
    [[ ! -f $at/root/complete ]] || exit 0
    printf 'unpacking %s into %s\n' "$*" "$at/root" >&2
    local log=$at/log deb
    local -a own
    rm -rf -- "$at/root"
    mkdir -p "$at/root"
    own_apt "$at/apt" deb sid
    {
      apt-get "${own[@]}" update &&
        apt-get "${own[@]}" install -y --download-only --no-install-recommends "$@"
    } >"$log" 2>&1 || {
      tail -n 25 "$log" >&2
      die "apt-get could not fetch $* (whole log: $log)"
    }
    for deb in "$at"/apt/cache/archives/*.deb; do
      dpkg -x "$deb" "$at/root"
    done
    rm -rf -- "$at/apt"
    touch "$at/root/complete"
  ) 7>"$at/lock"
}
