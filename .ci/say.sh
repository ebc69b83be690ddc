# shellcheck shell=bash
# What the scripts of this directory have in common: how they speak, and how they ask for Debian packages.
# Sourced, never run. It knows nothing of Docker, images or Python, but that the scripts use pipe's own engine.

[ -z "${PIPE_ENGINE:-}" ] || export DOCKER_HOST=$PIPE_ENGINE

say() { printf '\033[2m·\033[0m %s\n' "$*" >&2; }

# stop WHAT [HINT...]: say what can not be done, then what to do about it, one line each.
stop() {
  printf '\033[31m✗\033[0m %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 3
}

if [ -n "${NO_COLOR:-}" ] || ! [ -t 2 ]; then
  say() { printf '· %s\n' "$*" >&2; }
  stop() {
    printf '✗ %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 3
  }
fi

# slowly WORDS COMMAND...: say what takes a while, keep its output back, show it only when it fails.
slowly() {
  local words=$1 log began=$SECONDS
  shift
  log=$(mktemp)
  say "$words …"
  if "$@" </dev/null >"$log" 2>&1; then
    [ $((SECONDS - began)) -lt 5 ] || say "$words: done in $((SECONDS - began)) s"
    rm -f "$log"
  else
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
  fi
}

am_root() { [ "$(id -u)" -eq 0 ]; }

# The codename when this is Debian 12 or 13, else nothing. What is derived from Debian carries other packages.
debian() { (. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] && case ${VERSION_CODENAME:-} in bookworm | trixie) echo "$VERSION_CODENAME" ;; esac) || true; }

can_install() { am_root && [ -n "$(debian)" ]; }

# Whatever other sources this machine has may be out of reach; what matters is found out at installation.
refresh_packages() { apt-get -q update || true; }

# Installs without questions, without recommended extras, and without starting any service.
install_packages() {
  local policy=/usr/sbin/policy-rc.d mine='' status=0
  if ! [ -d /run/systemd/system ] && ! [ -e "$policy" ]; then
    mine=1
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" || status=$?
  [ -z "$mine" ] || rm -f "$policy"
  return $status
}

# Lines "URI SUITE COMPONENT" of the Debian archives that this machine already uses for one codename:
# a mirror that works here, so that no host name needs to be written down anywhere.
debian_sources() { # CODENAME
  apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v c="$1" '$1 == "Debian" && $5 == "main" && ($4 == c || $4 == c "-updates" || $4 == c "-security") {print $3, $4, $5}' | sort -u
}
