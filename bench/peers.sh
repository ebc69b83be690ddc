#!/bin/sh
# Installs the local peers that are measured beside us, each in a folder of its own below bench/peers.
# They are other people's programs: nothing of them is kept in this project.
set -eu
cd "$(dirname "$0")"
mkdir -p peers && cd peers
if [ ! -x gcil/bin/gcil ]; then
  echo '· installing gcil (gitlabci-local) 13.2.0 …' >&2
  python3 -m venv gcil && gcil/bin/pip install -q gitlabci-local==13.2.0
fi
if command -v npm >/dev/null && [ ! -d npm/node_modules/gitlab-ci-local ]; then
  echo '· installing gitlab-ci-local 4.75.1 with node 22 …' >&2
  npm install --silent --no-audit --no-fund --prefix npm node@22 gitlab-ci-local@4.75.1
fi
if ! command -v rsync >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -q -y install rsync >/dev/null
  else
    echo '  gitlab-ci-local needs rsync; without it that row is left out' >&2
  fi
fi
