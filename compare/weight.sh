#!/usr/bin/env bash
# What the crate and each of its features weigh: crates in the tree and CPU seconds of a clean build,
# beside config-rs with TOML alone. Prints a Markdown table. Needs the registry; takes some minutes.
set -euo pipefail
# A shared target directory would leave nothing to build, and a wrapper might answer from a cache.
unset CARGO_BUILD_TARGET_DIR CARGO_BUILD_BUILD_DIR
# Empty, not unset: so they also win over what a Cargo configuration says.
export RUSTC_WRAPPER='' RUSTC_WORKSPACE_WRAPPER=''
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR="$work/target"
cd "$work"

# package NAME DEPENDENCY: an empty program that depends on one crate.
package() {
  mkdir -p "$1/src"
  echo 'fn main() {}' > "$1/src/main.rs"
  printf '[package]\nname = "weigh-%s"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n%s\n' \
    "$1" "$2" > "$1/Cargo.toml"
  # The versions that the benches compare; Cargo drops what is not needed and adds what is missing.
  cp "$root/compare/Cargo.lock" "$1/Cargo.lock"
  cargo fetch --manifest-path "$1/Cargo.toml" --quiet
}

# weigh NAME: counts the crates and builds them from nothing, the middle of three; says both in
# `crates` and `seconds`.
weigh() {
  crates=$(cargo tree --manifest-path "$1/Cargo.toml" -e normal --prefix none --quiet \
    | sed 's/ (.*//' | sort -u | grep -vc "^weigh-")
  seconds=$(for _ in 1 2 3; do
    rm -rf "$CARGO_TARGET_DIR"
    TIMEFORMAT='%U %S'
    { time cargo build --manifest-path "$1/Cargo.toml" --quiet; } 2>&1 | awk '{ print $1 + $2 }'
  done | sort -n | sed -n 2p)
}

ours() {
  package "$1" "liveprops = { path = \"$root\", default-features = false, features = [$2] }"
  weigh "$1"
}

# minus A B: A - B. over A B: A / B.
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", a - b }'; }
over() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# row TITLE: what was weighed last, what it adds over no features, and how that stands to twice
# config-rs.
row() {
  printf '| %s | %d | %.1f | %+d | %+.1f | %s |\n' "$1" "$crates" "$seconds" \
    $((crates - none_crates)) "$(minus "$seconds" "$none_seconds")" "$(over "$seconds" "$twice")"
}

# First, because every row is held against it.
package config 'config = { version = "0.15", default-features = false, features = ["toml"] }'
weigh config
config_crates=$crates config_seconds=$seconds
twice=$(awk -v s="$config_seconds" 'BEGIN { print 2 * s }')
ours none ''
none_crates=$crates none_seconds=$seconds

echo '| what | crates | CPU seconds | crates added | CPU seconds added | CPU seconds / 2 × `config` |'
echo '|---|--:|--:|--:|--:|--:|'
row 'no features'
for feature in toml watch json yaml properties dotenv; do
  ours "$feature" "\"$feature\""
  row "\`$feature\` alone"
done
ours default '"default"'
row 'default: `toml` and `watch`'
printf '| `config` 0.15 with TOML alone | %d | %.1f | | | %s |\n' \
  "$config_crates" "$config_seconds" "$(over "$config_seconds" "$twice")"
