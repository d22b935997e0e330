#!/usr/bin/env bash
# What the crate and each of its features weigh: crates in the tree and CPU seconds of a clean build,
# beside config-rs with TOML alone. Prints a Markdown table. Needs the registry; takes some minutes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# package NAME DEPENDENCY: an empty program that depends on one crate.
package() {
  mkdir -p "$1/src"
  echo 'fn main() {}' > "$1/src/main.rs"
  printf '[package]\nname = "weigh-%s"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n%s\n' \
    "$1" "$2" > "$1/Cargo.toml"
  # The versions that are measured elsewhere.
  cargo fetch --manifest-path "$1/Cargo.toml" --quiet
}

# weigh TITLE NAME: counts the crates and builds them from nothing; the middle of three.
weigh() {
  local crates seconds
  crates=$(cargo tree --manifest-path "$2/Cargo.toml" -e normal --prefix none --quiet \
    | sed 's/ (.*//' | sort -u | grep -vc "^weigh-")
  seconds=$(for _ in 1 2 3; do
    rm -rf "$2/target"
    TIMEFORMAT='%U %S'
    { time cargo build --manifest-path "$2/Cargo.toml" --quiet; } 2>&1 | awk '{ print $1 + $2 }'
  done | sort -n | sed -n 2p)
  echo "| $1 | $crates | $seconds |"
}

ours() {
  package "$1" "liveprops = { path = \"$root\", default-features = false, features = [$2] }"
}

echo '| what | crates | CPU seconds |'
echo '|---|--:|--:|'
ours none ''
weigh 'no features' none
for feature in toml watch json yaml properties dotenv; do
  ours "$feature" "\"$feature\""
  weigh "\`$feature\` alone" "$feature"
done
ours default '"default"'
weigh 'default: `toml` and `watch`' default
package config 'config = { version = "0.15", default-features = false, features = ["toml"] }'
weigh '`config` 0.15 with TOML alone' config
