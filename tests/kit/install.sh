#!/usr/bin/env bash
# Fetches real key-value servers for the tests: into a directory, without touching a system service.
#   install.sh DIR NAME...     nats nats29 etcd etcd34 zk consul
# Needs Debian 12 or newer on any architecture, as any user. Existing programs stay unchanged.
#
# Each server comes from the release of Debian that has the version wanted, whatever the machine runs:
# the packages are unpacked, not installed.
set -euo pipefail
TOOLS=$1
shift
SOURCES=/etc/apt/sources.list
mkdir -p "$TOOLS"

# Sets APT to options that fetch from a release, by the machine's own mirror.
release() {
  local d=$TOOLS/.apt/$1
  APT=(-o APT::Sandbox::User=root -o "Dir::State::lists=$d/lists" -o "Dir::Cache=$d/cache"
    -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$d/src"
    # What lists an old release is signed no more.
    -o Acquire::Check-Valid-Until=false)
  [ ! -e "$d/.updated" ] || return 0
  rm -rf "$d/src"
  mkdir -p "$d/lists/partial" "$d/cache/archives/partial" "$d/src"
  # Only where Debian itself is: others are listed beside it.
  awk 'BEGIN { RS = "" } /(^|\n)URIs:[^\n]*\/debian\/?( |\n|$)/ && /\nComponents:[^\n]* main( |\n|$)/ { print; exit }' \
    "$SOURCES".d/*.sources 2> /dev/null | sed -E "s/^Suites:.*/Suites: $1/" > "$d/src/x.sources" || true
  if [ ! -s "$d/src/x.sources" ]; then
    rm "$d/src/x.sources"
    { cat "$SOURCES" "$SOURCES".d/*.list 2> /dev/null || true; } |
      sed -nE "s#^(deb( \[[^]]*\])? [^ ]+/debian/?) [^ ]+ (.* )?main( .*)?\$#\1 $1 main#p" |
      sed -n 1p > "$d/src/x.list"
    [ -s "$d/src/x.list" ] || echo "deb http://deb.debian.org/debian $1 main" > "$d/src/x.list"
  fi
  apt-get -qq "${APT[@]}" update >&2 || return 1
  touch "$d/.updated"
}

# Downloads packages of a release to a directory: download DIR RELEASE PACKAGE...
download() {
  local dir=$1 release=$2
  shift 2
  release "$release" || return 1
  (cd "$dir" && apt-get -qq "${APT[@]}" download "$@" > /dev/null)
}

# Unpacks packages: debs NAME RELEASE PACKAGE...
debs() {
  local dir=$TOOLS/$1 release=$2 package link target
  shift 2
  [ ! -e "$dir/.ok" ] || return 0
  rm -rf "$dir"
  mkdir -p "$dir/.deb"
  if ! download "$dir/.deb" "$release" "$@"; then
    # The lists may be old: what they name is gone from the mirror when there is a newer one.
    rm -rf "$TOOLS/.apt/$release"
    download "$dir/.deb" "$release" "$@"
  fi
  for package in "$dir"/.deb/*.deb; do dpkg -x "$package" "$dir"; done
  rm -rf "$dir/.deb"
  # What points into the system is here.
  find "$dir" -type l -lname '/*' | while read -r link; do
    target=$(readlink "$link")
    [ ! -e "$dir$target" ] || ln -sfn "$(realpath "$dir")$target" "$link"
  done
  touch "$dir/.ok"
}

for name in "$@"; do
  case $name in
    nats) debs nats forky nats-server ;;
    nats29) debs nats29 bookworm nats-server ;;
    etcd) debs etcd trixie etcd-server etcd-client ;;
    etcd34) debs etcd34 bookworm etcd-server etcd-client ;;
    zk)
      debs zk bookworm libzookeeper-java libnetty-java libslf4j-java libdropwizard-metrics-java \
        libsnappy-java libcommons-cli-java libcommons-io-java
      command -v java > /dev/null || debs java bookworm openjdk-17-jre-headless
      ;;
    consul) debs consul bullseye consul ;;
    *) echo "install.sh: no server is called $name" >&2; exit 2 ;;
  esac
done
