#!/usr/bin/env bash
# The balancer configurations of deploy/ with the real programs: Redis, three nodes in cluster mode,
# nginx and HAProxy, and official clients through each configuration.
#
#   tests/balancers/run.sh [SERVER]
#
# SERVER  the server binary; target/release/examples/contract unless given
#
# Needs nginx, haproxy, redis-server and prometheus; installs the clients as tests/conformance/run.sh does.
# Everything listens on free ports of 127.0.0.1. Logs and the configurations as they were run are in
# .cache/balancers/. The last line is `N passed, M failed`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache
logs=$cache/balancers
export CONTRACT=${1:-${CARGO_TARGET_DIR:-$root/target}/release/examples/contract}
# Debian keeps the balancers where only root looks.
PATH=$PATH:/usr/sbin:/sbin

die() {
  echo "balancers: $*" >&2
  exit 2
}

# The results must survive whatever happens: anything unexpected is one failure.
finish() {
  local status=$?
  [[ ${passed:-} && ${failed:-} ]] || passed=0 failed=1
  if [[ $failed -eq 0 && ( $status -ne 0 || $passed -eq 0 ) ]]; then failed=1; fi
  echo "$passed passed, $failed failed"
  [[ $failed -eq 0 ]] || exit 1
}
trap finish EXIT

[[ -x $CONTRACT ]] || die "no server at $CONTRACT (cargo build --release --examples)"
for program in nginx haproxy redis-server prometheus promtool; do
  command -v "$program" >/dev/null || die "$program is needed"
done
rm -rf "$logs"
mkdir -p "$logs"
source "$root/tests/conformance/install.sh"
install_clients
export BALANCER_LOGS=$logs
# Read by the shared client library; these tests name their servers themselves.
export CONFORMANCE_DEADLINE_MS=30000 CONTRACT_URL=- CONTRACT_HEARTBEAT_URL=- CONTRACT_TIGHT_URL=-

status=0
node --test --test-concurrency=1 \
  --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination="$logs/results.tap" \
  "$here/balancers.test.js" || status=$?

passed=$(sed -n 's/^# pass //p' "$logs/results.tap" | tail -n 1)
failed=$(awk '/^# (fail|cancelled|skipped|todo) / { n += $3 } END { print n + 0 }' "$logs/results.tap")
exit "$status"
