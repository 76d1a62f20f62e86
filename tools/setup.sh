#!/usr/bin/env bash
# Installs what Shelter needs on Debian 12 and builds the guest agent. Safe to repeat; takes a second or two when
# nothing is left to do.   usage: tools/setup.sh [start|test|check|bench]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
mode=${1:-start}

bold='' dim='' red='' reset=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' reset=$'\e[0m'
fi
mkdir -p build
log=$PWD/build/setup.log
: >"$log"
begun=$SECONDS
step_number=0
step_name='' step_hint=''

step() { # NAME HINT: what begins, and what to do if it fails
  step_number=$((step_number + 1))
  step_name=$1 step_hint=$2
  printf '%s[%d/4]%s %s ' "$bold" "$step_number" "$reset" "$1" >&2
  step_begun=$SECONDS
}
done_with() { printf '%s%s (%ds)%s\n' "$dim" "$1" $((SECONDS - step_begun)) "$reset" >&2; }
failed() {
  printf '\n%ssetup failed at: %s%s\n' "$red" "$step_name" "$reset" >&2
  tail -n 15 "$log" | sed 's/^/    /' >&2
  printf 'what to do: %s\nthe whole log: %s\n' "$step_hint" "$log" >&2
  exit 1
}
trap failed ERR

# What build, run and serve use; then what only the tests use (oracles and images made from Debian's packages).
packages=(ca-certificates gcc libc6-dev qemu-system-x86 ovmf swtpm swtpm-tools gnutls-bin squashfs-tools-ng
  cryptsetup-bin xz-utils zstd util-linux mmdebstrap)
case $mode in
  test | bench)
    packages+=(squashfs-tools umoci skopeo cpio openssl tpm2-tools busybox-static redis-tools curl attr libcap2-bin
      libarchive-tools python3)
    ;;
  start | check) packages+=(busybox-static) ;;
  *)
    echo "usage: tools/setup.sh [start|test|check|bench]" >&2
    exit 2
    ;;
esac

step "Debian packages" "connect to a Debian mirror and run: apt-get install --no-install-recommends ${packages[*]}"
missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  root=()
  if [ "$(id -u)" != 0 ]; then
    root=(sudo -n)
    if ! sudo -n true 2>>"$log"; then
      echo "this step needs root and sudo asks for a password here" >>"$log"
      step_hint="run as root: apt-get install --no-install-recommends ${missing[*]}"
      failed
    fi
  fi
  export DEBIAN_FRONTEND=noninteractive
  printf '%sinstalling %d … %s' "$dim" "${#missing[@]}" "$reset" >&2
  # A package that brings a service must not start it: nothing of ours needs one running.
  "${root[@]}" apt-get update -q >>"$log" 2>&1
  "${root[@]}" env RUNLEVEL=1 apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1
  done_with "installed ${#missing[@]}"
else
  done_with "all there"
fi

step "Node 24 and libraries" "check that the npm registry is reachable and run: npm ci"
want=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat node_modules/.shelter-lock 2>/dev/null)" != "$want" ]; then
  npm ci --no-audit --no-fund >>"$log" 2>&1
  echo "$want" >node_modules/.shelter-lock
  done_with "installed"
else
  done_with "all there"
fi

step "guest kernel" "check that the Debian mirror is reachable and run: bash tools/guest-assets.sh"
bash tools/guest-assets.sh >>"$log" 2>&1
done_with "ready"
grep '^guest kernel:' "$log" >&2 || true

step "guest agent" "check that cargo works (rustup default stable) and run: bash agent/build.sh build/guest/agent"
command -v cargo >>"$log" 2>&1 || { echo "cargo is not installed" >>"$log"; step_hint="install Rust: https://rustup.rs"; failed; }
bash agent/build.sh "$PWD/build/guest/agent" >>"$log" 2>&1
done_with "built"
printf '%sset up in %ds%s\n' "$dim" $((SECONDS - begun)) "$reset" >&2
