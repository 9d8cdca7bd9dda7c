# shellcheck shell=bash
# Sourced by the scripts that test with the official clients or servers: installs them. Exports
# PYTHON_V4 and PYTHON_V5 for clients. Wants $root, $cache, $logs and the function die.

conformance=$root/tests/conformance
python=${PYTHON:-python3}

# install_npm FOLDER WHAT: the packages of a lock file.
install_npm() {
  cmp -s "$1/package-lock.json" "$1/node_modules/.installed" && return
  echo "installing $2"
  (cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
  cp "$1/package-lock.json" "$1/node_modules/.installed"
}

# A virtual environment needs ensurepip, which Debian ships apart from python3.
make_venv() {
  rm -rf "$1"
  "$python" -m venv "$1" 2>"$logs/venv.log" && return
  rm -rf "$1"
  if command -v virtualenv >/dev/null && virtualenv -q -p "$python" "$1"; then return; fi
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "python3 -m venv does not work here: installing python3-venv"
    apt-get install -y -q python3-venv >>"$logs/venv.log" 2>&1 && "$python" -m venv "$1" && return
  fi
  cat "$logs/venv.log" >&2
  die "python3 -m venv does not work (on Debian it needs the package python3-venv)"
}

# install_python NAME REQUIREMENTS WHAT: a virtual environment of its own.
install_python() {
  local venv=$cache/venv-$1 requirements=$2
  cmp -s "$requirements" "$venv/.installed" && return
  echo "installing $3"
  make_venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/.installed"
}

need_runtimes() {
  command -v node >/dev/null || die "node is needed, version 20.10 or newer"
  command -v npm >/dev/null || die "npm is needed"
  node -e 'const [a, b] = process.versions.node.split(".").map(Number);
    process.exit(a > 20 || (a === 20 && b >= 10) ? 0 : 1)' || die "node 20.10 or newer is needed"
  command -v "$python" >/dev/null || die "python3 is needed"
}

install_clients() {
  need_runtimes
  install_npm "$conformance" "the JavaScript clients"
  local version
  for version in v4 v5; do
    install_python "$version" "$conformance/requirements-$version.txt" "the Python clients ($version)"
  done
  export PYTHON_V4=$cache/venv-v4/bin/python PYTHON_V5=$cache/venv-v5/bin/python
}

# Servers of other makes for one cluster with ours; exports CLUSTER_PYTHON_BIN.
install_members() {
  need_runtimes
  install_npm "$conformance/cluster" "the Node.js servers"
  install_python cluster "$conformance/cluster/requirements.txt" "the Python server"
  export CLUSTER_PYTHON_BIN=$cache/venv-cluster/bin/python
}
