# Installing what is missing from Debian packages. Sourced by services.
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
  [[ -f $cache/mysql/root/complete ]] || unpack_mysql
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

# MySQL 9 is in Debian's unstable release only. Its packages and all they depend on are unpacked
# into a prefix of their own, so that nothing of the machine changes.
unpack_mysql() {
  local at=$cache/mysql keys=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$at"
  (
    flock 7
    [[ ! -f $at/root/complete ]] || exit 0
    printf 'unpacking MySQL 9 into %s\n' "$at/root" >&2
    local log=$at/log deb
    rm -rf -- "$at/root" "$at/apt"
    mkdir -p "$at/root" "$at/apt/lists/partial" "$at/apt/cache/archives/partial" "$at/apt/log" "$at/apt/etc"
    : >"$at/apt/status"
    printf 'deb [signed-by=%s] %s sid main\n' "$keys" "$(debian_mirror)" >"$at/apt/sources.list"
    local -a own=(
      -o "Dir::Etc::sourcelist=$at/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
      -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
      -o "Dir::State=$at/apt" -o "Dir::State::lists=$at/apt/lists" -o "Dir::State::status=$at/apt/status"
      -o "Dir::Cache=$at/apt/cache" -o "Dir::Cache::archives=$at/apt/cache/archives"
      -o "Dir::Log=$at/apt/log" -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none
      -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o APT::Keep-Downloaded-Packages=1
    )
    {
      apt-get "${own[@]}" update &&
        apt-get "${own[@]}" install -y --download-only --no-install-recommends mysql-server-core
    } >"$log" 2>&1 || {
      tail -n 25 "$log" >&2
      die "apt-get could not fetch MySQL 9 (whole log: $log)"
    }
    for deb in "$at"/apt/cache/archives/*.deb; do
      dpkg -x "$deb" "$at/root"
    done
    rm -rf -- "$at/apt"
    touch "$at/root/complete"
  ) 7>"$at/lock"
}
