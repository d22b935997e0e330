#!/usr/bin/env bash
# Checks that the library builds with the Rust version that Cargo.toml states, each feature set alone.
#
#     tests/msrv.sh [FEATURES ...]     such as tests/msrv.sh "" "toml,watch" "http,consul"
#
# Takes the toolchain from rustup, if it is installed there. Otherwise, as root on a system with apt, it
# takes the Rust of Debian 13 and keeps it in MSRV_ROOT (default: a folder in the build directory).
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
[ $# -gt 0 ] || set -- "" "toml,watch" "toml,watch,json,yaml,properties,dotenv" "http,consul,etcd,nats,zookeeper"
target=${CARGO_TARGET_DIR:-target}/msrv

if command -v rustup >/dev/null && rustup run "$version" rustc --version 2>/dev/null; then
  check() {
    CARGO_TARGET_DIR=$target rustup run "$version" cargo check --locked --lib --no-default-features --features "$1"
  }
else
  mkdir -p "$target"
  root=${MSRV_ROOT:-$(cd "$target" && pwd)/root}
  if [ ! -x "$root/usr/bin/rustc" ]; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
      echo "skipped: neither Rust $version of rustup nor root on a system with apt" >&2
      exit 77
    }
    command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; } >/dev/null
    # The mirror of this system, where it is a Debian.
    mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' \
      /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
    debootstrap --variant=minbase --include=rustc,cargo,gcc,libc6-dev,ca-certificates \
      trixie "$root" ${mirror:+"$mirror"} >/dev/null
  fi
  chroot "$root" rustc --version | tee /dev/stderr | grep -q "^rustc $version\."
  # Sources and dependencies go along, because the root may have no access to a registry.
  rm -rf "$root/src"
  mkdir -p "$root/src/.cargo"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$root/src"
  (cd "$root/src" && cargo vendor --locked vendor >/dev/null 2>&1)
  printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n' \
    >"$root/src/.cargo/config.toml"
  check() {
    chroot "$root" sh -c 'cd /src && CARGO_HOME=/tmp/cargo-home cargo check --offline --lib --no-default-features --features "$0"' "$1"
  }
fi

for features in "$@"; do
  printf '== features: %s\n' "${features:-none}"
  check "$features"
done
