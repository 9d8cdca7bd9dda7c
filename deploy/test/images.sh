#!/usr/bin/env bash
# Builds stand-ins for the images that Dockerfile and docker-compose.yml name, for machines that
# reach a Debian mirror but no image registry.
#
#   deploy/test/images.sh [IMAGE...]    all of them unless given
#
# A stand-in has the name, the programs and the user of the real image, but comes from Debian's
# packages and this machine's Rust toolchain; it carries this machine's certificates, and the label
# `sockhop.stand-in`. An image that is there already is kept. Grafana is not in Debian: for it
# nothing is made. Needs root for debootstrap.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/.cache/deploy
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
docker=${DOCKER:-docker}
label="sockhop.stand-in=yes"
mkdir -p "$work"

wanted=("$@")
if [[ ${#wanted[@]} -eq 0 ]]; then
  mapfile -t wanted < <(
    sed -nE 's/^FROM ([^ ]+:[^ ]+).*/\1/p' "$root/Dockerfile"
    sed -nE 's/^ +image: ([^ $]+:[^ $]+)$/\1/p' "$root/docker-compose.yml"
  )
fi

exists() {
  "$docker" image inspect "$1" >/dev/null 2>&1
}

# A Debian without anything else. Every other stand-in is built on it.
base_name=$(sed -nE 's/^FROM (debian:[^ ]+).*/\1/p' "$root/Dockerfile" | head -n 1)
build_base() {
  local release=${base_name#debian:} tree=$work/base
  release=${release%-slim}
  rm -rf "$tree"
  debootstrap --variant=minbase --include=ca-certificates "$release" "$tree" "$mirror" \
    >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; return 1; }
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* \
    "$tree"/usr/share/{doc,man,locale}/*
  # The way out of this machine may have an authority of its own.
  cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
  tar -C "$tree" -c . | "$docker" import --change "LABEL $label" --change 'CMD ["bash"]' \
    - "$base_name" >/dev/null
  rm -rf "$tree"
}

# build NAME CONTEXT: the instructions come from standard input, after FROM and LABEL.
build() {
  { printf 'FROM %s\nLABEL %s\n' "$base_name" "$label"; cat; } |
    DOCKER_BUILDKIT=1 "$docker" build --quiet --network host --tag "$1" --file - "$2" >/dev/null
}

# packages PACKAGE...: the instruction that installs them.
packages() {
  echo "RUN apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y" \
    "--no-install-recommends $* && rm -rf /var/lib/apt/lists/*"
}

stand_in() {
  local name=$1 empty=$work/empty
  mkdir -p "$empty"
  case $name in
    debian:*) ;;
    rust:*)
      { packages gcc libc6-dev; printf 'COPY bin /usr/local/bin\nCOPY lib /usr/local/lib\n'; } |
        build "$name" "$(rustc --print sysroot)"
      ;;
    redis:*)
      { packages redis-server; printf 'USER redis\nWORKDIR /data\nCMD ["redis-server"]\n'; } |
        build "$name" "$empty"
      ;;
    haproxy:*)
      { packages haproxy; printf 'USER haproxy\nSTOPSIGNAL SIGUSR1\n'; } | build "$name" "$empty"
      ;;
    prom/prometheus:*)
      {
        packages prometheus
        printf 'RUN mkdir -p /prometheus && chown nobody /prometheus\nUSER nobody\n'
        printf 'WORKDIR /prometheus\nENTRYPOINT ["prometheus"]\n'
      } | build "$name" "$empty"
      ;;
    *) echo "no stand-in for $name"; return 0 ;;
  esac
  if exists "$name"; then echo "built $name"; else return 1; fi
}

if ! exists "$base_name"; then
  build_base
  echo "built $base_name"
fi
for name in "${wanted[@]}"; do
  if exists "$name"; then echo "there is $name"; else stand_in "$name"; fi
done
