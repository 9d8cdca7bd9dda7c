#!/usr/bin/env bash
# Official Socket.IO clients against the `contract` example.
#
#   tests/conformance/run.sh [SERVER [SUITE...]]
#
# SERVER  the server binary; target/release/examples/contract unless given
# SUITE   raw, clients, python-v4, python-v5, cross, cluster; all of them unless given. `cluster` is
#         clients, python-v5 and cross again, against three nodes on one Redis behind a balancer
#         that sends every request to the next node
#
# Installs what is missing (node_modules beside this file, virtual environments in .cache/ of the
# repository), starts servers on free ports, runs the suites, stops the servers. Full output is in
# .cache/conformance/. The last line is `N passed, M failed`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache
logs=$cache/conformance
server=${1:-$root/target/release/examples/contract}
[ $# -gt 0 ] && shift
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(raw clients python-v4 python-v5 cross cluster)

script=conformance
source "$here/servers.sh"

wanted() {
  local suite
  for suite in "${suites[@]}"; do [ "$suite" != "$1" ] || return 0; done
  return 1
}

for suite in "${suites[@]}"; do
  case $suite in
    raw | clients | python-v4 | python-v5 | cross | cluster) ;;
    *) die "there is no suite \"$suite\"" ;;
  esac
done

# --- what has to be there ------------------------------------------------------------------------

case $server in */*) ;; *) server=./$server ;; esac
[ -x "$server" ] || die "no server at $server (cargo build --release --examples)"
mkdir -p "$logs"

source "$here/install.sh"
install_clients

# --- servers -------------------------------------------------------------------------------------

# Ports that were free a moment ago, all different.
mapfile -t ports < <(node -e '
  const servers = Array.from({ length: 12 }, () => require("net").createServer());
  Promise.all(servers.map((s) => new Promise((done) => s.listen(0, "127.0.0.1", done)))).then(() =>
    servers.forEach((s) => { console.log(s.address().port); s.close(); }));')

start_server() { # name port VARIABLE=value...
  local name=$1 port=$2
  shift 2
  env -u REDIS_URL HOST=127.0.0.1 PORT="$port" NODE_ID=n1 ALLOW_ORIGIN=http://app.example \
    PING_INTERVAL=1000 PING_TIMEOUT=3000 EIO_PING_INTERVAL=300 EIO_PING_TIMEOUT=200 \
    MAX_PAYLOAD=1000000 CONNECT_TIMEOUT=2000 UPGRADE_TIMEOUT=2000 HEADER_TIMEOUT=5000 \
    "$@" "$server" >"$logs/server-$name.log" 2>&1 &
  pid_of[$name]=$!
}

await_server() { # name port [page]
  node -e '
    const [url, pid] = process.argv.slice(1);
    const deadline = Date.now() + 15000;
    const attempt = () => fetch(url).then((r) => r.status === 200, () => false).then((ready) => {
      if (ready) process.exit(0);
      try { process.kill(Number(pid), 0); } catch { process.exit(1); }
      if (Date.now() > deadline) process.exit(1);
      setTimeout(attempt, 50);
    });
    attempt();' "http://127.0.0.1:$2/${3:-healthz}" "${pid_of[$1]}" && return
  tail -n 20 "$logs/server-$1.log" >&2
  die "the server \"$1\" does not answer on /${3:-healthz}"
}

export ALLOW_ORIGIN=http://app.example
export TIGHT_PING_INTERVAL=300 TIGHT_PING_TIMEOUT=200 TIGHT_CONNECT_TIMEOUT=350 \
  TIGHT_UPGRADE_TIMEOUT=300 TIGHT_HEADER_TIMEOUT=500 TIGHT_MAX_PAYLOAD=20000
export CONTRACT_URL=http://127.0.0.1:${ports[0]}
export CONTRACT_HEARTBEAT_URL=http://127.0.0.1:${ports[1]}
export CONTRACT_TIGHT_URL=http://127.0.0.1:${ports[2]}

start_server main "${ports[0]}"
start_server heartbeat "${ports[1]}" PING_INTERVAL=300 PING_TIMEOUT=1000
start_server tight "${ports[2]}" PING_INTERVAL=$TIGHT_PING_INTERVAL \
  PING_TIMEOUT=$TIGHT_PING_TIMEOUT CONNECT_TIMEOUT=$TIGHT_CONNECT_TIMEOUT \
  UPGRADE_TIMEOUT=$TIGHT_UPGRADE_TIMEOUT HEADER_TIMEOUT=$TIGHT_HEADER_TIMEOUT \
  MAX_PAYLOAD=$TIGHT_MAX_PAYLOAD
await_server main "${ports[0]}"
await_server heartbeat "${ports[1]}"
await_server tight "${ports[2]}"

# Three nodes on one Redis behind a balancer at the port of `name`, with further variables.
start_cluster() { # name port port-of-node-1 port-of-node-2 port-of-node-3 VARIABLE=value...
  local name=$1 port=$2 nodes=("${@:3:3}") i
  for i in 0 1 2; do
    start_server "$name-$((i + 1))" "${nodes[i]}" "REDIS_URL=redis://127.0.0.1:${ports[3]}" \
      "NODE_ID=n$((i + 1))" "${@:6}"
  done
  for i in 0 1 2; do await_server "$name-$((i + 1))" "${nodes[i]}" readyz; done
  node "$here/round-robin.mjs" "$port" "${nodes[@]}" >"$logs/server-$name.log" 2>&1 &
  pid_of[$name]=$!
  await_server "$name" "$port"
}

start_clusters() {
  command -v redis-server >/dev/null || die "redis-server is needed for the suite \"cluster\""
  redis-server --port "${ports[3]}" --bind 127.0.0.1 --save '' --appendonly no \
    >"$logs/server-redis.log" 2>&1 &
  pid_of[redis]=$!
  start_cluster cluster "${ports[@]:4:4}"
  start_cluster cluster-heartbeat "${ports[@]:8:4}" PING_INTERVAL=300 PING_TIMEOUT=1000
  export CONTRACT_URL=http://127.0.0.1:${ports[4]}
  export CONTRACT_HEARTBEAT_URL=http://127.0.0.1:${ports[8]}
}

# --- suites --------------------------------------------------------------------------------------

total_passed=0
total_failed=0

# Adds one suite to the sums: name, passed, failed, seconds, log.
report() {
  printf '%-17s %5d tests, %5d passed, %3d failed (%d s)\n' "$1" $(($2 + $3)) "$2" "$3" "$4"
  total_passed=$((total_passed + $2))
  total_failed=$((total_failed + $3))
}

run_node() { # name concurrency file...
  local name=$1 concurrency=$2 log=$logs/$1.log begun=$SECONDS status=0 tests passed
  shift 2
  node --test --test-concurrency="$concurrency" --test-reporter=spec "$@" >"$log" 2>&1 || status=$?
  tests=$(count '^ℹ tests [0-9]+' "$log")
  passed=$(count '^ℹ pass [0-9]+' "$log")
  # Everything that did not pass has failed; a runner that fell over is a failure too.
  local failed=$((tests - passed))
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  if [ "$tests" = 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  [ "$failed" = 0 ] || sed -n '/failing tests:/,$p' "$log"
  report "$name" "$passed" "$failed" $((SECONDS - begun))
}

# pytest in the background; `finish_python` waits for it and reports.
declare -A python_pid python_begun
start_python() { # v4 or v5, and what the name begins with
  local name=${2:-}python-$1
  python_begun[$name]=$SECONDS
  "$cache/venv-$1/bin/python" -B -m pytest -p no:cacheprovider -q -ra --rootdir "$here/python" \
    "$here/python" >"$logs/$name.log" 2>&1 &
  python_pid[$name]=$!
}
finish_python() {
  local name=${2:-}python-$1 log=$logs/${2:-}python-$1.log status=0 passed failed
  wait "${python_pid[$name]}" || status=$?
  passed=$(count '[0-9]+ passed' "$log")
  failed=$(($(count '[0-9]+ failed' "$log") + $(count '[0-9]+ errors?' "$log")))
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  [ "$failed" = 0 ] || sed -n '/= FAILURES =\|= ERRORS =/,$p' "$log"
  report "$name" "$passed" "$failed" $((SECONDS - ${python_begun[$name]}))
}

if wanted raw; then
  run_node raw 2 "$here"/js/{http,engineio,eio3,protocol}.test.js
fi
if wanted clients; then
  run_node clients 3 "$here"/js/client-*.test.js
fi
for version in v4 v5; do if wanted "python-$version"; then start_python "$version"; fi; done
for version in v4 v5; do if wanted "python-$version"; then finish_python "$version"; fi; done
if wanted cross; then
  run_node cross 1 "$here/js/cross.test.js"
fi

if wanted cluster; then
  start_clusters
  run_node cluster-clients 3 "$here"/js/client-*.test.js
  start_python v5 cluster-
  finish_python v5 cluster-
  run_node cluster-cross 1 "$here/js/cross.test.js"
fi

count_dead "$logs/server-"
total_failed=$((total_failed + dead))

echo "$total_passed passed, $total_failed failed"
[ "$total_failed" = 0 ]
