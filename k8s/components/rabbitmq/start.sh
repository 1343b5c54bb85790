# Starts one node. The image need only have a shell and rabbitmq-server on its path.
set -eu
umask 077
# Erlang takes a cookie only from a file that no group may read, which no mounted Secret is.
rm -f "$HOME/.erlang.cookie"
printf '%s' "$COOKIE" >"$HOME/.erlang.cookie"
# In a file of its own: the configuration itself is no secret.
{
  printf 'default_user = windlass\n'
  printf 'default_pass = %s\n' "$PASSWORD"
} >/run/rabbitmq/user.conf
cat /etc/windlass/rabbitmq.conf /run/rabbitmq/user.conf >/run/rabbitmq/rabbitmq.conf
unset COOKIE PASSWORD
exec rabbitmq-server
