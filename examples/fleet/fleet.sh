#!/usr/bin/env bash
# The fleet of the example: a server of NATS, a loader, three services. `fleet.sh help` says more.
# Needs Linux, bash and cargo.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
run=$(realpath -m "${FLEET_DIR:-$root/target/fleet}")
services=(checkout search mail)
members=(nats loader "${services[@]}")
# What the server of this directory calls itself.
nats_name=fleet-$(cksum <<< "$run" | cut -d ' ' -f 1)

help() {
  cat << 'E'
fleet.sh COMMAND
  up                    starts what does not run: nats, loader, checkout, search, mail
  down                  stops all of it
  clean                 down, and removes all that was written
  restart [NAME]        stops and starts one of them, or all
  status                says who runs and what the services answer
  set NAME KEY VALUE    edits a service's file, as in: set checkout limit 50
  logs [NAME] [--once]  prints the logs, and follows them on a terminal unless --once
  help                  this

Variables:
  FLEET_DIR             where files, logs and data are; target/fleet by default
  FLEET_PORT            the port of nats, 14222 by default; the services have the next three, or
                        those in FLEET_CHECKOUT_PORT, FLEET_SEARCH_PORT and FLEET_MAIL_PORT
  FLEET_BIN             the built example; built by cargo if not set
  LIVEPROPS_SERVERS     where nats-server is, or is fetched to, if it is not in the PATH
E
}

fail() {
  printf 'fleet.sh: %s\n' "$*" >&2
  exit 1
}

is_one_of() {
  local wanted=$1 one
  shift
  for one in "$@"; do [ "$one" = "$wanted" ] && return 0; done
  return 1
}

# --- processes -------------------------------------------------------------------------------

# When a process was started, in ticks since the machine was; nothing if it does not run. With its
# number that names one process: numbers are used again.
started() {
  local stat fields
  { stat=$(< "/proc/$1/stat"); } 2> /dev/null || return 1
  read -r -a fields <<< "${stat##*) }"
  # One that has ended and was not waited for.
  [ "${fields[0]}" != Z ] || return 1
  printf '%s' "${fields[19]}"
}

# The number of a member's process; nothing if it does not run.
pid_of() {
  local pid ticks
  [ -f "$run/$1.pid" ] || return 1
  read -r pid ticks < "$run/$1.pid" || return 1
  [[ $pid =~ ^[0-9]+$ ]] && [ -n "$ticks" ] && [ "$(started "$pid")" = "$ticks" ] || return 1
  printf '%s' "$pid"
}

# Whether a fleet was made here: only then is something removed.
is_ours() { [ -e "$run/.fleet" ]; }

# Starts a program that goes on without this script: launch NAME PROGRAM...
launch() {
  local name=$1 pid
  shift
  setsid "$@" < /dev/null >> "$run/$name.log" 2>&1 9>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(started "$pid" || true)" > "$run/$name.pid"
}

# Waits for something: until_ok SECONDS COMMAND...
until_ok() {
  local tries=$(($1 * 20))
  shift
  for ((; tries > 0; tries--)); do
    "$@" && return 0
    sleep 0.05
  done
  return 1
}

is_gone() { ! started "$1" > /dev/null; }

stop() {
  local pid
  if pid=$(pid_of "$1"); then
    kill "$pid" 2> /dev/null || true
    if ! until_ok 5 is_gone "$pid"; then
      kill -9 "$pid" 2> /dev/null || true
      if ! until_ok 5 is_gone "$pid"; then
        echo "fleet.sh: $1 cannot be stopped, process $pid" >&2
        return 1
      fi
    fi
    echo "$1: stopped"
  fi
  rm -f "$run/$1.pid"
}

# --- the members -----------------------------------------------------------------------------

# Sets the ports: those that are in use, or those that are wanted.
ports() {
  if [ -f "$run/ports" ]; then
    read -r nats_port checkout_port search_port mail_port < "$run/ports"
  else
    nats_port=${FLEET_PORT:-14222}
    checkout_port=${FLEET_CHECKOUT_PORT:-$((nats_port + 1))}
    search_port=${FLEET_SEARCH_PORT:-$((nats_port + 2))}
    mail_port=${FLEET_MAIL_PORT:-$((nats_port + 3))}
  fi
}

port_of() {
  case $1 in
    nats) echo "$nats_port" ;;
    checkout) echo "$checkout_port" ;;
    search) echo "$search_port" ;;
    mail) echo "$mail_port" ;;
  esac
}

# Where the program of the server is, after it was fetched if need be.
nats_server() {
  local tools=${LIVEPROPS_SERVERS:-$root/target/tmp/servers} found
  if command -v nats-server; then return 0; fi
  mkdir -p "$tools"
  flock "$tools/.lock" bash "$root/tests/kit/install.sh" "$tools" nats >&2 ||
    fail "nats-server is not in the PATH and cannot be fetched"
  found=$(find "$tools/nats" -type f -path '*bin/nats-server' -print -quit)
  [ -n "$found" ] || fail "nats-server is not below $tools/nats"
  echo "$found"
}

# Where the example is, after it was built if need be.
program() {
  if [ -n "${FLEET_BIN:-}" ]; then
    echo "$FLEET_BIN"
    return 0
  fi
  (cd "$root" && cargo build --quiet --example fleet --features nats) >&2
  local target=${CARGO_TARGET_DIR:-target}
  # A relative one is that of the directory that cargo was started in.
  case $target in /*) ;; *) target=$root/$target ;; esac
  echo "$target/debug/examples/fleet"
}

start() {
  local server
  pid_of "$1" > /dev/null && return 0
  server=nats://127.0.0.1:$nats_port
  case $1 in
    nats) launch nats "$nats_server" -n "$nats_name" -a 127.0.0.1 -p "$nats_port" -js -sd "$run/data" ;;
    loader) launch loader "$program" loader "$server" "$run/config" ;;
    *) launch "$1" "$program" service "$server" "$1" "$(port_of "$1")" "$run/state/$1" ;;
  esac
  echo "$1: started"
}

# Asks a service, and prints its answer without the head.
ask() {
  local answer
  answer=$({
    exec 3<> "/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET / HTTP/1.1\r\nHost: fleet\r\n\r\n' >&3
    timeout 5 cat <&3
  } 2> /dev/null) || return 1
  printf '%s\n' "${answer#*$'\r\n\r\n'}"
}

# Whether a member that has just been started does its work. Somebody else may have its port.
is_ready() {
  local line pid
  case $1 in
    nats)
      # It greets with what it can do.
      line=$({ exec 3<> "/dev/tcp/127.0.0.1/$nats_port" && read -r -t 2 line <&3 && echo "$line"; } 2> /dev/null) &&
        [[ $line == INFO*'"jetstream":true'* && $line == *"\"server_name\":\"$nats_name\""* ]]
      ;;
    loader) pid_of loader > /dev/null ;;
    *) pid=$(pid_of "$1") && grep -qx "pid = $pid" <<< "$(ask "$(port_of "$1")")" ;;
  esac
}

is_ready_or_dead() { ! pid_of "$1" > /dev/null || is_ready "$1"; }

await() {
  if ! until_ok 15 is_ready_or_dead "$1" || ! pid_of "$1" > /dev/null; then
    tail -n 5 "$run/$1.log" >&2
    fail "$1 is not ready; its log, of which the end is above: $run/$1.log"
  fi
}

# --- the commands ----------------------------------------------------------------------------

# What is started needs these; they take longest, so all that can fail in them comes first.
prepare() {
  local name
  nats_server=$(nats_server)
  program=$(program)
  if ! is_ours; then
    for name in data state; do
      [ ! -e "$run/$name" ] || fail "$run/$name is there and of no fleet: \`clean\` would remove it"
    done
    touch "$run/.fleet"
  fi
  mkdir -p "$run/config" "$run/state"
  for service in "${services[@]}"; do
    [ -e "$run/config/$service.toml" ] || cp "$here/config/$service.toml" "$run/config/"
  done
  ports
  echo "$nats_port $checkout_port $search_port $mail_port" > "$run/ports"
}

up() {
  local name
  prepare
  for name in "${members[@]}"; do
    start "$name"
    # The services wait for the loader themselves.
    [ "$name" != nats ] || await nats
  done
  for name in "${members[@]}"; do await "$name"; done
  echo
  for name in "${services[@]}"; do echo "$name: http://127.0.0.1:$(port_of "$name")/"; done
  cat << E

Try: curl http://127.0.0.1:$checkout_port/
     $0 set checkout greeting "Good evening"
     $0 set mail limit none
     $0 restart nats
     $0 logs
Or edit a file in $run/config.
E
}

down() {
  local at all=0
  # Those that depend on others first; one that does not stop keeps no other.
  for ((at = ${#members[@]} - 1; at >= 0; at--)); do stop "${members[at]}" || all=1; done
  [ $all = 0 ] || exit 1
  rm -f "$run/ports"
}

clean() {
  is_ours || fail "no fleet was started in $run: nothing is removed"
  down
  local name
  # What was made here, and nothing else.
  for name in "${members[@]}"; do rm -f "$run/$name.log" "$run/config/$name.toml"; done
  rm -rf "$run/data" "$run/state"
  rm -f "$run/.fleet" "$run/.lock"
  rmdir "$run/config" "$run" 2> /dev/null || echo "left in $run: $(ls -A "$run")"
}

restart() {
  local name=${1:-}
  if [ -z "$name" ]; then
    down
    up
    return 0
  fi
  is_one_of "$name" "${members[@]}" || fail "nobody is called $name: ${members[*]}"
  prepare
  stop "$name"
  start "$name"
  await "$name"
}

status() {
  local name pid
  ports
  for name in "${members[@]}"; do
    if pid=$(pid_of "$name"); then
      echo "$name: process $pid"
      if is_one_of "$name" "${services[@]}"; then
        { ask "$(port_of "$name")" || echo "does not answer"; } | sed 's/^/  /'
      fi
    else
      echo "$name: does not run"
    fi
  done
}

# Replaces one line of a service's file, and the file as a whole.
edit() {
  [ $# -eq 3 ] || fail "set NAME KEY VALUE"
  local name=$1 key=$2 value=$3 file=$run/config/$1.toml
  is_one_of "$name" "${services[@]}" || fail "no service is called $name: ${services[*]}"
  [[ $key =~ ^[A-Za-z0-9_-]+$ ]] || fail "\`$key\` is not a key"
  [ -f "$file" ] || fail "there is no $file yet: up"
  if ! [[ $value =~ ^(-?[0-9]+|true|false)$ ]]; then
    value=${value//\\/\\\\}
    value=\"${value//\"/\\\"}\"
  fi
  KEY=$key VALUE=$value awk '
    $1 == ENVIRON["KEY"] || index($0, ENVIRON["KEY"] "=") == 1 {
      if (!done++) print ENVIRON["KEY"] " = " ENVIRON["VALUE"]
      next
    }
    { print }
    END { if (!done) print ENVIRON["KEY"] " = " ENVIRON["VALUE"] }
  ' "$file" > "$run/config/.$name.new"
  mv "$run/config/.$name.new" "$file"
  echo "$file: $key = $value"
}

logs() {
  local names=() once=no word files=()
  for word in "$@"; do
    if [ "$word" = --once ]; then once=yes; else names+=("$word"); fi
  done
  [ ${#names[@]} -gt 0 ] || names=("${members[@]}")
  for word in "${names[@]}"; do
    is_one_of "$word" "${members[@]}" || fail "nobody is called $word: ${members[*]}"
    [ ! -f "$run/$word.log" ] || files+=("$run/$word.log")
  done
  [ ${#files[@]} -gt 0 ] || fail "there are no logs in $run"
  if [ $once = no ] && [ -t 1 ]; then
    exec tail -n 20 -F "${files[@]}"
  fi
  for word in "${files[@]}"; do
    [ ${#files[@]} -eq 1 ] || printf '==> %s <==\n' "$word"
    cat "$word"
  done
}

# One at a time changes who runs. What is started does not hold the lock: see `launch`.
locked() {
  # Another one's directory is left as it is, and none is made to be removed.
  if [ "$1" = clean ] && ! is_ours; then
    [ ! -e "$run" ] || clean
    return 0
  fi
  mkdir -p "$run"
  exec 9>> "$run/.lock"
  flock 9
  "$@"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
  up | down | clean | restart) locked "$command" "$@" ;;
  status | logs) "$command" "$@" ;;
  set) locked edit "$@" ;;
  help | -h | --help) help ;;
  *)
    help >&2
    exit 2
    ;;
esac
