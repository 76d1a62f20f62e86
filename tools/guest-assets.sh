#!/usr/bin/env bash
# Puts what every guest boots into build/guest: the kernel and its modules from Debian's package, unpacked and
# never installed on this host. Needs no root; does nothing when all is there. (The agent: agent/build.sh.)
#   usage: tools/guest-assets.sh
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
out=build/guest
pin=packages/seal/src/guest-kernel.json
mkdir -p "$out"

field() { sed -n "s/^ *\"$1\": *\"\([^\"]*\)\".*/\1/p" "$pin"; }
package=$(field package) version=$(field version) sha256=$(field sha256)

# One set-up at a time; the second finds everything done.
exec 9>"$out/.lock"
flock 9

# What an interrupted run left; the lock says nobody is using it.
rm -rf "$out"/.kernel.*

fetch_kernel() {
  local work deb have
  work=$(mktemp -d "$out/.kernel.XXXXXX")
  trap "rm -rf '$work'" EXIT
  # Package lists may be absent (a fresh container) or older than the archive.
  if ! (cd "$work" && apt-get download -q "$package=$version" >&2) &&
    { [ "$(id -u)" != 0 ] || ! apt-get update -q >&2 || ! (cd "$work" && apt-get download -q "$package=$version" >&2); }; then
    # A security update replaces the pinned version in the archive. The one that follows is as good, and apt
    # checks it against Debian's signature; it only is not the one whose measurements others may expect.
    if ! apt-cache show "$package" >/dev/null 2>&1; then
      package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: *\(linux-image-[0-9.]*-[0-9]*-cloud-amd64\).*/\1/p' | head -n 1)
    fi
    if [ -z "$package" ] || ! (cd "$work" && apt-get download -q "$package" >&2); then
      echo "cannot fetch the guest kernel $(field package): run apt-get update, or check the Debian mirror" >&2
      return 1
    fi
    echo "guest kernel: $(field package) $version is no longer offered, taking $package: measurements differ from the pinned ones" >&2
    sha256=''
  fi
  deb=$(find "$work" -name '*.deb' -print -quit)
  have=$(sha256sum "$deb" | cut -d' ' -f1)
  if [ -n "$sha256" ] && [ "$have" != "$sha256" ]; then
    echo "the guest kernel's package has sha256 $have, expected $sha256" >&2
    return 1
  fi
  dpkg-deb -x "$deb" "$work/unpacked"
  local release
  release=$(basename "$(find "$work/unpacked/lib/modules" -mindepth 1 -maxdepth 1 -type d -print -quit)")
  rm -rf "$out/kernel.json" "$out/modules" "$out/vmlinuz"
  mv "$work/unpacked/boot/vmlinuz-$release" "$out/vmlinuz"
  mv "$work/unpacked/lib/modules/$release" "$out/modules"
  # Written last: without it the rest does not count.
  printf '{ "package": "%s", "version": "%s", "sha256": "%s", "release": "%s", "pinned": "%s" }\n' \
    "$package" "$(dpkg-deb -f "$deb" Version)" "$have" "$release" "$(sha256sum "$pin" | cut -d' ' -f1)" >"$out/kernel.json"
}

if ! grep -q "\"pinned\": \"$(sha256sum "$pin" | cut -d' ' -f1)\"" "$out/kernel.json" 2>/dev/null ||
  [ ! -e "$out/vmlinuz" ] || [ ! -d "$out/modules" ]; then
  fetch_kernel
fi
