# shellcheck shell=bash
# Sourced by the scripts beside it: installs the Debian packages whose commands are missing.

# need_commands COMMAND:PACKAGE[,PACKAGE...] ...
need_commands() {
  local pair command packages=()
  for pair in "$@"; do
    command=${pair%%:*}
    # Servers live where only root looks.
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || packages+=(${pair#*:})
  done
  install_packages "${packages[@]//,/ }"
}

# Python's venv is a package of its own, without a command to look for.
need_python_venv() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
}

install_packages() {
  local packages as_root=()
  read -ra packages <<<"$*"
  [[ ${#packages[@]} -gt 0 ]] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "missing, and there is no apt-get to install them with: ${packages[*]}"
    return 1
  fi
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  echo "installing: ${packages[*]}"
  "${as_root[@]}" apt-get -q update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q install -y --no-install-recommends "${packages[@]}"
}

need_compiler() {
  need_commands cc:gcc,libc6-dev make:make pkg-config:pkg-config
}

# Servers that tests start themselves, on ports of their own. The services of these names that
# Debian starts when it installs them are not used. The last three break the network and the clock of
# the fault harness, in namespaces of its own.
need_servers() {
  need_commands redis-server:redis-server nginx:nginx-light haproxy:haproxy \
    prometheus:prometheus ip:iproute2 iptables:iptables faketime:faketime
}

need_docker() {
  need_commands dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap
}

need_clients() {
  # Chromium draws no text without any font.
  need_commands node:nodejs,ca-certificates npm:npm python3:python3 chromium:chromium,fonts-liberation
  need_python_venv
}
