# MariaDB and MySQL primaries and replicas. Sourced by services.
# shellcheck shell=bash

# Settings common to all four. Durability is what a careful installation has: a commit is on disk.
database_options() {
  local name=$1 data=$dir/$1
  printf '%s\n' \
    "--datadir=$data" "--socket=$dir/$name.sock" "--pid-file=$dir/$name.server-pid" \
    --bind-address=127.0.0.1 "--port=$(port "$name")" "--server-id=$(port "$name")" \
    --skip-name-resolve --log-bin=binlog --binlog-format=ROW --sync-binlog=1 \
    --innodb-flush-log-at-trx-commit=1 --max-connections=200 \
    --character-set-server=utf8mb4 \
    "--ssl-ca=$dir/tls/ca.crt" "--ssl-cert=$dir/tls/server.crt" "--ssl-key=$dir/tls/server.key"
  if [[ $name == *-replica ]]; then
    printf '%s\n' --innodb-buffer-pool-size=128M --relay-log=relay --relay-log-recovery=ON
  else
    printf '%s\n' --innodb-buffer-pool-size=256M
  fi
  # Servers refuse to run as root unless told to; test machines often have no other user.
  ((EUID)) || printf '%s\n' --user=root
}

# client NAME […]: root through the socket, which needs no password.
client() {
  local name=$1
  shift
  mariadb --no-defaults --skip-ssl --socket="$dir/$name.sock" --user=root --batch --skip-column-names "$@"
}

start_mariadb() {
  local name=$1 data=$dir/$1 fresh=
  local -a options
  mapfile -t options < <(database_options "$name")
  options+=(--gtid-strict-mode=ON --log-slave-updates=ON --slave-net-timeout=10 --innodb-log-file-size=128M)
  [[ $name != *-replica ]] || options+=(--read-only=ON)
  if [[ ! -f $data/windlass-ready ]]; then
    fresh=1
    rm -rf -- "$data"
    local -a as=()
    ((EUID)) || as=(--user=root)
    mariadb-install-db --no-defaults "--datadir=$data" --skip-test-db \
      --auth-root-authentication-method=normal "${as[@]}" >"$dir/$name.log" 2>&1 ||
      die_with_log "$name" "could not create MariaDB's data directory"
  fi
  launch "$name" "$(mariadb_server)" --no-defaults "${options[@]}"
  await "$name" 60 client "$name" -e 'SELECT 1'
  [[ -z $fresh ]] || prepare_mariadb "$name"
}

# mysqld of the same name is MySQL's where both are installed, so ask for MariaDB's own.
mariadb_server() {
  command -v mariadbd || echo /usr/sbin/mariadbd
}

prepare_mariadb() {
  if [[ $1 == *-replica ]]; then
    client "$1" <<TEXT
CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=$(port mariadb), MASTER_USER='replica',
  MASTER_PASSWORD='replica', MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=2,
  MASTER_USE_GTID=slave_pos;
START SLAVE;
TEXT
  else
    create_users "$1" 'SLAVE MONITOR'
  fi
  touch "$dir/$1/windlass-ready"
}

# mysqld of the Debian packages unpacked under the cache, run with their own C library.
mysql_server() {
  local usr=$cache/mysql/root/usr
  mysqld=(
    "$(find "$usr/lib64" "$usr/lib" -maxdepth 1 -name 'ld-linux-*.so.*' 2>/dev/null | head -n 1)"
    --library-path "$(dirname "$(find "$usr/lib" -maxdepth 2 -name libc.so.6 | head -n 1)")"
    "$usr/sbin/mysqld" --no-defaults "--basedir=$usr"
    "--lc-messages-dir=$usr/share/mysql" "--character-sets-dir=$usr/share/mysql/charsets"
    "--plugin-dir=$usr/lib/mysql/plugin" --secure-file-priv=NULL --mysqlx=OFF
  )
}

start_mysql() {
  local name=$1 data=$dir/$1 fresh=
  local -a options mysqld
  mysql_server
  mapfile -t options < <(database_options "$name")
  options+=(--gtid-mode=ON --enforce-gtid-consistency=ON --replica-net-timeout=10 --innodb-redo-log-capacity=256M)
  if [[ ! -f $data/windlass-ready ]]; then
    fresh=1
    rm -rf -- "$data"
    "${mysqld[@]}" "${options[@]}" --initialize-insecure >"$dir/$name.log" 2>&1 ||
      die_with_log "$name" "could not create MySQL's data directory"
  fi
  # Not while it is made: a read-only server would refuse its own set-up.
  [[ $name != *-replica ]] || options+=(--super-read-only=ON)
  # A server that was killed leaves its lock. While no parent has taken note of its end, a new one would
  # take it for alive and give up; callers have made sure that it is gone.
  rm -f "$dir/$name.sock.lock"
  launch "$name" "${mysqld[@]}" "${options[@]}"
  await "$name" 60 client "$name" -e 'SELECT 1'
  [[ -z $fresh ]] || prepare_mysql "$name"
}

prepare_mysql() {
  if [[ $1 == *-replica ]]; then
    client "$1" <<TEXT
CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=$(port mysql), SOURCE_USER='replica',
  SOURCE_PASSWORD='replica', SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=1000000,
  SOURCE_HEARTBEAT_PERIOD=2, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1;
START REPLICA;
TEXT
  else
    create_users "$1" 'REPLICATION CLIENT'
  fi
  touch "$dir/$1/windlass-ready"
}

# create_users NAME PRIVILEGE: the privilege is the one that a replica tells of its replication for.
create_users() {
  client "$1" <<'TEXT'
CREATE USER replica@'%' IDENTIFIED BY 'replica';
GRANT REPLICATION SLAVE ON *.* TO replica@'%';
CREATE USER windlass@'%' IDENTIFIED BY 'windlass';
GRANT ALL PRIVILEGES ON `windlass\_%`.* TO windlass@'%';
CREATE USER windlass_reader@'%' IDENTIFIED BY 'reader';
GRANT SELECT ON `windlass\_%`.* TO windlass_reader@'%';
CREATE DATABASE windlass_test;
TEXT
  client "$1" -e "GRANT $2 ON *.* TO windlass_reader@'%'"
}

# await_replica PRIMARY: until its replica has applied what the primary has committed so far.
await_replica() {
  local replica=$1-replica position
  if [[ $1 == mariadb ]]; then
    position=$(client mariadb -e 'SELECT @@gtid_binlog_pos')
    await "$replica" 30 applied "$replica" "SELECT MASTER_GTID_WAIT('$position', 20)"
  else
    position=$(client mysql -e 'SELECT REPLACE(@@gtid_executed, "\n", "")')
    await "$replica" 30 applied "$replica" "SELECT WAIT_FOR_EXECUTED_GTID_SET('$position', 20)"
  fi
}

applied() {
  [[ $(client "$1" -e "$2") == 0 ]]
}
