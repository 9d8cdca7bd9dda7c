#!/usr/bin/env bash
# sockhop nodes, Node.js servers and a Python server as members of one cluster over a real Redis.
#
#   tests/conformance/cluster/run.sh [FOLDER [TEST...]]
#
# FOLDER  where the examples `member` and `contract` are; target/release/examples unless given
# TEST    files of js/; all of them unless given
#
# Installs what is missing (node_modules beside this file, a virtual environment in .cache/ of the
# repository), starts Redis and the servers on free ports, runs the tests, stops everything. Full
# output is in .cache/cluster/. The last line is `N passed, M failed`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=$root/.cache
logs=$cache/cluster
examples=$(realpath "${1:-$root/target/release/examples}")
member=$examples/member
export CLUSTER_CONTRACT=$examples/contract
[ $# -gt 0 ] && shift
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=("$here"/js/*.test.js)

script=cluster
source "$here/../servers.sh"

for example in "$member" "$CLUSTER_CONTRACT"; do
  [ -x "$example" ] || die "there is no $example (cargo build --release --examples)"
done
command -v redis-server >/dev/null || die "redis-server is needed"
mkdir -p "$logs"

source "$here/../install.sh"
install_members

# --- servers -------------------------------------------------------------------------------------

# Runs a command until the first line of its output that begins with a word, which is printed
# without that word.
start() { # NAME WORD COMMAND...
  local name=$1 word=$2 log=$logs/$1.log deadline=$((SECONDS + 60)) line
  shift 2
  # Here and not by the command: the log of an earlier run says the word, too.
  : >"$log"
  "$@" >>"$log" 2>&1 &
  pid_of[$name]=$!
  while ! line=$(grep -am 1 -- "$word" "$log"); do
    if ! kill -0 "${pid_of[$name]}" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      tail -n 20 "$log" >&2
      die "$name does not start"
    fi
    read -rt 0.05 <> <(:) || true
  done
  told=${line#*"$word"}
}

free_port() {
  node -e 'const s = require("net").createServer();
    s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); });'
}

redis_port=$(free_port)
start redis "Ready to accept connections" redis-server --port "$redis_port" --bind 127.0.0.1 \
  --save "" --appendonly no --daemonize no --dir "$logs"
export CLUSTER_REDIS_URL=redis://127.0.0.1:$redis_port

start_member() { # NAME VARIABLE OPTION COMMAND...
  local name=$1 variable=$2 option=$3
  shift 3
  start "$name" "listening " "$@" "$name" "$CLUSTER_REDIS_URL" $option
  export "$variable=http://127.0.0.1:$told"
}

start_member sockhopA CLUSTER_SOCKHOP_A "" "$member"
start_member sockhopB CLUSTER_SOCKHOP_B specific "$member"
start_member nodeA CLUSTER_NODE_A "" node "$here/servers/node.js"
start_member nodeB CLUSTER_NODE_B specific node "$here/servers/node.js"
start_member python CLUSTER_PYTHON "" "$CLUSTER_PYTHON_BIN" -B "$here/servers/python.py"

export CLUSTER_NODE_B_PID=${pid_of[nodeB]}

# --- tests ---------------------------------------------------------------------------------------

status=0
node --test --test-concurrency=1 --test-timeout=120000 --test-reporter=spec "${tests[@]}" >"$logs/tests.log" 2>&1 || status=$?

passed=$(count '^ℹ pass [0-9]+' "$logs/tests.log")
failed=$(($(count '^ℹ tests [0-9]+' "$logs/tests.log") - passed))
if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
if [ "$passed" = 0 ] && [ "$failed" = 0 ]; then failed=1; fi
[ "$failed" = 0 ] || sed -n '/failing tests:/,$p' "$logs/tests.log"

count_dead "$logs/"
failed=$((failed + dead))

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
