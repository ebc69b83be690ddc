#!/usr/bin/env bash
# Proves the README's first commands on a bare machine: a Debian 12 root with git, make and python3 and nothing
# else, in namespaces of its own (mounts, processes, network, cgroups), where a fresh clone of this repository's
# HEAD runs `make demo`, `make demo` again and `make test`. It is no container of an engine: Docker Engine is
# among the things that the clone has to bring.
#
#   tests/bare_machine.sh                  all steps
#   tests/bare_machine.sh 'make setup'     only these commands, one argument each
#   KEEP=1 tests/bare_machine.sh ...       leave the root behind, and say where it is
#
# Needs root on Debian 12 or 13 with a network, about 4 GB under TMPDIR (default /var/tmp; not an overlay), and
# 20 minutes. The host's network, firewall, cgroups and Docker Engine are left as they were: the way out is a
# user-mode network, and everything ends with the one process that holds the namespaces.
set -euo pipefail

# Inside: the bare machine's first process, at first still with the host's root in sight.

mount_machine() { # ROOT
  mount --make-rprivate /
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  mount -t sysfs sysfs "$1/sys"
  mount -t tmpfs -o mode=755 tmpfs "$1/run"
  mount -t tmpfs -o mode=755 tmpfs "$1/dev"
  local device
  for device in null zero full random urandom tty; do
    : >"$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
  done
  mkdir "$1/dev/pts" "$1/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
  ln -s pts/ptmx "$1/dev/ptmx"
  ln -s /proc/self/fd "$1/dev/fd"
}

# The same hierarchies as the host's; in this cgroup namespace each begins at the machine's own cgroup.
mount_cgroups() { # ROOT
  local into=$1/sys/fs/cgroup at type options
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$into"
    # Who hands controllers on to children may hold no process itself.
    mkdir "$into/init"
    echo $$ >"$into/init/cgroup.procs"
    sed 's/ / +/g; s/^/+/' "$into/cgroup.controllers" >"$into/cgroup.subtree_control"
    return
  fi
  awk '$5 ~ "^/sys/fs/cgroup/" && / - cgroup2? / {split($0, half, " - "); split(half[2], f, " "); print $5, f[1], f[3]}' \
    /proc/self/mountinfo >"$1/run/hierarchies"
  mount -t tmpfs -o mode=755 tmpfs "$into"
  while read -r at type options; do
    mkdir "$1$at"
    mount -t "$type" -o "${options#rw,}" cgroup "$1$at"
  done <"$1/run/hierarchies"
}

if [ "${1:-}" = --inside ]; then
  root=$2
  shift 2
  mount_machine "$root"
  mount_cgroups "$root"
  hostname bare
  for _ in $(seq 100); do
    grep -q 00000000 "$root/proc/net/route" && break
    sleep 0.1
  done
  mkdir "$root/run/host"
  cd "$root"
  pivot_root . run/host
  umount -l /run/host
  proxies=()
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || proxies+=("$name=${!name}")
  done
  exec env -i "${proxies[@]}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    bash /srv/steps "$@" </dev/null
fi

# Outside.

cd "$(dirname "$0")/.."
. .ci/say.sh

# At the end, however it comes: the namespaces' one process, the way out, the cgroups, the files.
clear_away() {
  trap '' INT TERM
  [ -z "${machine:-}" ] || { kill -KILL "$machine" && wait "$machine"; } 2>/dev/null || true
  [ -z "${network:-}" ] || { kill "$network" && wait "$network"; } 2>/dev/null || true
  local own
  for own in "${cgroups[@]}"; do
    for _ in $(seq 100); do
      find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$own" ] || break
      sleep 0.1
    done
  done
  if [ -n "${KEEP:-}" ]; then say "the root stays at $work/root"; else rm -rf --one-file-system "$work"; fi
}

make_root() {
  local line sources=()
  while read -r line; do sources+=("deb $line"); done < <(debian_sources bookworm)
  mmdebstrap --quiet --mode=root --variant=minbase --include=git,make,python3 --dpkgopt=force-unsafe-io \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$work/root" "${sources[@]}"
  rm -f "$work/root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$work/root/etc/apt/apt.conf.d/99mmdebstrap"
  # What an administrator would have put there in the place where this runs: name service, and a proxy's own authority.
  echo 'nameserver 10.0.2.3' >"$work/root/etc/resolv.conf"
  echo '127.0.0.1 localhost bare' >"$work/root/etc/hosts"
  mkdir -p "$work/root/usr/local/share/ca-certificates"
  cp /usr/local/share/ca-certificates/*.crt "$work/root/usr/local/share/ca-certificates/" 2>/dev/null || true
  git clone --quiet --bare . "$work/root/srv/pipewright.git"
  cp tests/bare_machine_steps.sh "$work/root/srv/steps"
}

# A cgroup of its own in every hierarchy, so that nothing of the machine's engine lands among the host's.
make_cgroups() {
  local at own
  for at in $(awk '/ - cgroup2? / {print $5}' /proc/self/mountinfo); do
    own=$at/$(basename "$work")
    mkdir "$own"
    cgroups+=("$own")
    # A cpuset may hold nobody before it was told which processors and memory it has.
    if [ -e "$own/cpuset.mems" ] && [ -e "$own/cgroup.clone_children" ]; then
      cat "$at/cpuset.cpus" >"$own/cpuset.cpus"
      cat "$at/cpuset.mems" >"$own/cpuset.mems"
    fi
  done
}

start_machine() { # STEP...
  (
    for own in "${cgroups[@]}"; do echo "$BASHPID" >"$own/cgroup.procs"; done
    exec setpriv --pdeathsig KILL unshare --cgroup --mount --net --pid --uts --ipc --fork --kill-child=KILL \
      "$PWD/tests/bare_machine.sh" --inside "$work/root" "$@"
  ) &
  machine=$!
  while [ "$(readlink /proc/$machine/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
  setpriv --pdeathsig KILL slirp4netns --configure --mtu=1500 --disable-host-loopback "$machine" tap0 >"$work/network.log" 2>&1 &
  network=$!
}

[ $# -gt 0 ] || set -- 'make demo' 'make demo' 'make test'
can_install || stop "a bare machine is made as root on Debian 12 or 13 only"
[ -n "$(debian_sources "$(debian)")" ] || slowly "reading Debian's package lists" refresh_packages
for program in mmdebstrap slirp4netns; do
  command -v $program >/dev/null || slowly "installing $program" install_packages $program
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/pipewright-bare.XXXXXX")
chmod 755 "$work"
cgroups=()
trap clear_away EXIT
trap 'exit 130' INT TERM
slowly "making the bare machine" make_root
make_cgroups
start_machine "$@"
status=0
wait "$machine" || status=$?
machine=
exit "$status"
