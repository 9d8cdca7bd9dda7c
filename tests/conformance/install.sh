# shellcheck shell=bash
# Sourced by the scripts that test with the official clients: installs them, and exports PYTHON_V4
# and PYTHON_V5. Wants $root, $cache, $logs and the function die.

conformance=$root/tests/conformance
python=${PYTHON:-python3}

install_npm() {
  cmp -s "$conformance/package-lock.json" "$conformance/node_modules/.installed" && return
  echo "installing the JavaScript clients"
  (cd "$conformance" && npm ci --no-audit --no-fund --loglevel=error)
  cp "$conformance/package-lock.json" "$conformance/node_modules/.installed"
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

install_python() {
  local venv=$cache/venv-$1 requirements=$conformance/requirements-$1.txt
  cmp -s "$requirements" "$venv/.installed" && return
  echo "installing the Python clients ($1)"
  make_venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/.installed"
}

install_clients() {
  command -v node >/dev/null || die "node is needed, version 20.10 or newer"
  command -v npm >/dev/null || die "npm is needed"
  node -e 'const [a, b] = process.versions.node.split(".").map(Number);
    process.exit(a > 20 || (a === 20 && b >= 10) ? 0 : 1)' || die "node 20.10 or newer is needed"
  command -v "$python" >/dev/null || die "python3 is needed"
  install_npm
  install_python v4
  install_python v5
  export PYTHON_V4=$cache/venv-v4/bin/python PYTHON_V5=$cache/venv-v5/bin/python
}
