# The private RabbitMQ node. Sourced by services.
# shellcheck shell=bash

# Everything that would otherwise be shared with a RabbitMQ of the machine: name, cookie, port
# mapper, files.
rabbitmq_environment() {
  export HOME=$dir/rabbitmq
  export ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
  ERL_EPMD_PORT=$(port epmd)
  export RABBITMQ_NODENAME=windlass@localhost
  export RABBITMQ_DIST_PORT
  RABBITMQ_DIST_PORT=$(port distribution)
  export RABBITMQ_BASE=$HOME
  export RABBITMQ_MNESIA_BASE=$HOME/mnesia
  export RABBITMQ_LOG_BASE=$HOME/log
  export RABBITMQ_LOGS=-
  export RABBITMQ_PID_FILE=$HOME/pid
  export RABBITMQ_CONF_ENV_FILE=$HOME/rabbitmq-env.conf
  export RABBITMQ_CONFIG_FILE=$HOME/rabbitmq.conf
  export RABBITMQ_ADVANCED_CONFIG_FILE=$HOME/advanced.config
  export RABBITMQ_ENABLED_PLUGINS_FILE=$HOME/enabled_plugins
  export RABBITMQ_GENERATED_CONFIG_DIR=$HOME/generated
  export RABBITMQ_FEATURE_FLAGS_FILE=$HOME/feature_flags
}

rabbitmq_files() {
  local home=$dir/rabbitmq
  [[ -f $home/definitions.json ]] && return
  mkdir -p "$home/mnesia" "$home/log"
  (umask 077 && head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$home/.erlang.cookie")
  : >"$home/rabbitmq-env.conf"
  echo '[rabbitmq_consistent_hash_exchange].' >"$home/enabled_plugins"
  cat >"$home/rabbitmq.conf" <<TEXT
listeners.tcp.1 = 127.0.0.1:$(port rabbitmq)
listeners.ssl.1 = 127.0.0.1:$(port amqps)
ssl_options.cacertfile = $dir/tls/ca.crt
ssl_options.certfile = $dir/tls/server.crt
ssl_options.keyfile = $dir/tls/server.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
load_definitions = $home/definitions.json
# The default stops publishers when less than 50 MB of disk are free; tests want to know at once.
vm_memory_high_watermark.relative = 0.3
log.console.level = info
TEXT
  cat >"$home/definitions.json" <<'TEXT'
{
  "vhosts": [{"name": "/"}],
  "users": [{"name": "windlass", "password": "windlass", "tags": ""}],
  "permissions": [
    {"user": "windlass", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
  ]
}
TEXT
}

launch_rabbitmq() {
  alive rabbitmq && return
  rabbitmq_files
  (
    rabbitmq_environment
    # Our own port mapper: one that the node starts by itself would outlive it unrecorded.
    alive epmd || launch epmd epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT"
    # With input allowed the script becomes the VM, so that the recorded id is the VM's.
    export RABBITMQ_ALLOW_INPUT=1
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput -kernel inet_dist_use_interface {127,0,0,1}'
    launch rabbitmq /usr/lib/rabbitmq/bin/rabbitmq-server
  )
}

start_rabbitmq() {
  launch_rabbitmq
}

ctl() {
  (
    rabbitmq_environment
    /usr/lib/rabbitmq/bin/rabbitmqctl "$@"
  )
}

await_rabbitmq() {
  await rabbitmq 60 eval ": </dev/tcp/127.0.0.1/$(port rabbitmq)"
  # The listener opens only after the definitions are in, but the quorum queues recover after it.
  ctl await_startup --timeout 60 >/dev/null 2>&1 || die_with_log rabbitmq "rabbitmq did not start up"
}
