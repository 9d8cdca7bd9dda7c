#!/usr/bin/env bash
# docker-compose.yml for real: built, up, used by clients, put under load, scraped, restarted node by
# node, scaled, down. The last line is `N passed, M failed`.
#
#   deploy/test/compose.sh
#
# Needs docker, docker-compose, node, npm, and root where no Docker daemon runs: one is started then,
# and stopped at the end. Where no image registry answers, the images are stand-ins made from
# Debian's packages (images.sh), Grafana is left out, and its queries are put to Prometheus directly.
# The node is built with little optimisation (build.yml). Logs are in .cache/deploy/.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache
logs=$cache/deploy
mkdir -p "$logs/bin"
cd "$root"
PATH=$PATH:/usr/sbin:/sbin

die() {
  echo "compose: $*" >&2
  exit 2
}

started_daemon=""
finish() {
  local status=$?
  if [[ ${compose_used:-} ]]; then
    docker-compose logs --no-color >"$logs/containers.log" 2>&1 || true
    docker-compose down --volumes --timeout 5 >>"$logs/compose.log" 2>&1 || true
  fi
  if [[ $started_daemon ]]; then kill "$started_daemon"; wait "$started_daemon" 2>/dev/null || true; fi
  [[ ${passed:-} && ${failed:-} ]] || passed=0 failed=1
  if [[ $failed -eq 0 && ( $status -ne 0 || $passed -eq 0 ) ]]; then failed=1; fi
  echo "$passed passed, $failed failed"
  [[ $failed -eq 0 ]] || exit 1
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- Docker ---------------------------------------------------------------------------------

# The first client of the path that can build with BuildKit: newer ones need a plugin for it.
docker=""
for candidate in $(type -ap docker) /usr/bin/docker; do
  if [[ -x $candidate ]] && { "$candidate" buildx version || "$candidate" --version | grep -q 'version 20\.'; } \
    >/dev/null 2>&1; then
    docker=$candidate
    break
  fi
done
[[ $docker ]] || die "no docker client that can build"
ln -sf "$docker" "$logs/bin/docker"
rm -f "$logs/bin/docker-compose"
if ! command -v docker-compose >/dev/null; then
  "$docker" compose version >/dev/null 2>&1 || die "docker-compose is needed, or the compose plugin of docker"
  printf '#!/bin/sh\nexec docker compose "$@"\n' >"$logs/bin/docker-compose"
  chmod +x "$logs/bin/docker-compose"
fi
PATH=$logs/bin:$PATH

if ! docker info >/dev/null 2>&1; then
  [[ $(id -u) -eq 0 ]] || die "no Docker daemon runs, and only root can start one"
  dockerd >"$logs/dockerd.log" 2>&1 &
  started_daemon=$!
  for ((i = 0; i < 60; i++)); do docker info >/dev/null 2>&1 && break; sleep 1; done
  docker info >/dev/null 2>&1 || { tail -n 20 "$logs/dockerd.log"; die "the Docker daemon does not start"; }
fi

# ---- images ---------------------------------------------------------------------------------

files=docker-compose.yml:deploy/test/build.yml
grafana=$(sed -nE 's/^ +image: (grafana[^ ]+)$/\1/p' docker-compose.yml)
# No stand-in has Grafana's name: if the image can be had, a registry answers.
if docker image inspect "$grafana" >/dev/null 2>&1 || timeout 60 docker pull -q "$grafana" >/dev/null 2>&1; then
  export WITH_GRAFANA=yes
else
  echo "no image registry answers: stand-ins from Debian's packages, without Grafana"
  command -v debootstrap >/dev/null || die "debootstrap is needed"
  DOCKER=docker "$here/images.sh"
  files=$files:deploy/test/stand-ins.yml
fi

# ---- the test -------------------------------------------------------------------------------

source "$root/tests/conformance/install.sh"
install_clients

read -r chat prometheus graphs < <(node -e '
  // The usual ports where they are free, others where they are not.
  const { createServer } = require("net");
  const free = (port) => new Promise((done) => {
    const server = createServer().listen(port, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    }).on("error", () => done(free(0)));
  });
  Promise.all([8080, 9090, 3000].map(free)).then((ports) => console.log(ports.join(" ")));')
export SOCKHOP_PORT=$chat PROMETHEUS_PORT=$prometheus GRAFANA_PORT=$graphs
export COMPOSE_FILE=$files COMPOSE_PROJECT_NAME=sockhop-test DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
export COMPOSE_LOG=$logs/compose.log
# Read by the shared client library.
export CONFORMANCE_DEADLINE_MS=30000 CONTRACT_URL=- CONTRACT_HEARTBEAT_URL=- CONTRACT_TIGHT_URL=-
compose_used=yes
: >"$COMPOSE_LOG"

status=0
node --test --test-concurrency=1 \
  --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination="$logs/results.tap" \
  "$here/compose.test.js" || status=$?

passed=$(sed -n 's/^# pass //p' "$logs/results.tap" | tail -n 1)
failed=$(awk '/^# (fail|cancelled|skipped|todo) / { n += $3 } END { print n + 0 }' "$logs/results.tap")
exit "$status"
