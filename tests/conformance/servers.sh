# shellcheck shell=bash
# Sourced by the scripts that test with the official clients or servers: ends with a word of what is
# wrong, and stops the servers that a script started, however it ends. Wants $script, its own name.

die() {
  echo "$script: $*" >&2
  exit 2
}

# Whoever starts a server enters it here.
declare -A pid_of
stop_servers() {
  local name
  for name in "${!pid_of[@]}"; do kill "${pid_of[$name]}" 2>/dev/null || true; done
  for name in "${!pid_of[@]}"; do wait "${pid_of[$name]}" 2>/dev/null || true; done
  pid_of=()
}
trap stop_servers EXIT
trap 'exit 130' INT TERM

# count PATTERN LOG: the number in the last match in a log, 0 when there is none.
count() {
  local number
  number=$(grep -aoE "$1" "$2" | tail -n 1 | grep -oE '[0-9]+' || true)
  echo "${number:-0}"
}

# count_dead LOGS: sets $dead to how many servers have died, and shows the ends of their logs, which
# are LOGS followed by the server's name. Such a server is a failure whatever the tests say.
count_dead() {
  local name
  dead=0
  for name in "${!pid_of[@]}"; do
    if ! kill -0 "${pid_of[$name]}" 2>/dev/null; then
      echo "the server \"$name\" has died; the end of its log:"
      tail -n 20 "$1$name.log"
      dead=$((dead + 1))
    fi
  done
}
