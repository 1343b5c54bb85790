# Starts one server: ordinal 0 is the primary, the others replicate from it. The image need only have a
# shell, mysqld and what that needs.
set -eu
umask 077
ordinal=${POD##*-}
data=/var/lib/mysql/data

quoted() {
  printf "'%s'" "$(printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"
}

# account NAME PASSWORD GRANT…: on every server, since replicas take over only what comes after.
account() {
  name=$1 password=$(quoted "$2")
  shift 2
  printf "CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s;\n" "$name" "$password"
  printf "ALTER USER %s@'%%' IDENTIFIED BY %s;\n" "$name" "$password"
  printf "GRANT %s TO %s@'%%';\n" "$*" "$name"
}

# One statement a line, at every start, so that changed passwords take effect with a restart.
{
  printf 'SET GLOBAL super_read_only = OFF;\n'
  printf 'SET GLOBAL read_only = OFF;\n'
  printf 'SET sql_log_bin = 0;\n'
  printf 'CREATE DATABASE IF NOT EXISTS windlass;\n'
  # shellcheck disable=SC2016 # SQL's quotes
  account windlass "$PASSWORD" 'ALL PRIVILEGES ON `windlass`.*'
  # shellcheck disable=SC2016
  account windlass_reader "$READER_PASSWORD" 'SELECT ON `windlass`.*'
  account windlass_replica "$REPLICA_PASSWORD" 'REPLICATION SLAVE ON *.*'
  printf 'SET sql_log_bin = 1;\n'
  if [ "$ordinal" != 0 ]; then
    printf 'STOP REPLICA;\n'
    printf "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = 3306" windlass-mysql-0.windlass-mysql-nodes
    printf ", SOURCE_USER = 'windlass_replica', SOURCE_PASSWORD = %s" "$(quoted "$REPLICA_PASSWORD")"
    printf ', SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 1000000, SOURCE_HEARTBEAT_PERIOD = 2'
    printf ', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;\n'
    printf 'START REPLICA;\n'
    printf 'SET GLOBAL super_read_only = ON;\n'
  fi
} >/run/mysqld/start.sql
unset PASSWORD READER_PASSWORD REPLICA_PASSWORD

set -- --no-defaults --datadir="$data" --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mysqld.pid \
  --port=3306 --server-id="$((ordinal + 1))" --skip-name-resolve --skip-replica-start --mysqlx=OFF \
  --secure-file-priv=NULL --gtid-mode=ON --enforce-gtid-consistency=ON --log-bin=binlog --sync-binlog=1 \
  --innodb-flush-log-at-trx-commit=1 --relay-log=relay --relay-log-recovery=ON --replica-net-timeout=10 \
  --character-set-server=utf8mb4 --tmpdir=/tmp "$@"
if [ ! -f "$data/windlass-ready" ]; then
  # What a start that was cut short left is no database.
  rm -rf "$data"
  mysqld "$@" --initialize-insecure
  : >"$data/windlass-ready"
fi
exec mysqld "$@" --init-file=/run/mysqld/start.sql
