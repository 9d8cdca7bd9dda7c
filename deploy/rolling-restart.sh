#!/usr/bin/env bash
# Replaces the nodes of docker-compose.yml one by one, with the image that is there now.
#
#   docker-compose build && deploy/rolling-restart.sh
#
# For each node: one more is started, and when it is ready, the old one is told to stop. It drains
# (SOCKHOP__DRAIN__…), and its clients reconnect to the others. There are never fewer ready nodes
# than before. Takes the variables of docker-compose, such as COMPOSE_PROJECT_NAME and COMPOSE_FILE.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if command -v docker-compose >/dev/null; then compose=(docker-compose); else compose=(docker compose); fi
service=${1:-sockhop}

mapfile -t old < <("${compose[@]}" ps -q "$service")
count=${#old[@]}
[[ $count -gt 0 ]] || { echo "there is no $service" >&2; exit 1; }

await_ready() {
  local deadline=$((SECONDS + 90)) id states
  while ((SECONDS < deadline)); do
    states=$("${compose[@]}" ps -q "$service" | while read -r id; do
      docker inspect --format '{{.State.Health.Status}}' "$id"
    done)
    [[ $(grep -c '^healthy$' <<<"$states") -gt $count ]] && return
    sleep 1
  done
  echo "the new node does not become ready" >&2
  return 1
}

for ((i = 0; i < count; i++)); do
  "${compose[@]}" up -d --no-deps --no-build --no-recreate --scale "$service=$((count + 1))" "$service" \
    >/dev/null 2>&1
  await_ready
  docker stop --time 60 "${old[i]}" >/dev/null
  docker rm "${old[i]}" >/dev/null
  echo "$((i + 1)) of $count replaced"
done
