#!/bin/sh
# Builds the agent: the same bytes on every machine and in every folder.
# usage: build.sh OUT [cargo options]
set -eu
out=$1
shift
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
target=x86_64-unknown-linux-gnu
# What differs from machine to machine is cut from the paths that panics and debug information carry.
RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,--build-id=none \
--remap-path-prefix=$here=/agent --remap-path-prefix=$cargo_home=/cargo \
--remap-path-prefix=$(rustc --print sysroot)=/rust"
export RUSTFLAGS CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0
cd "$here"
cargo build --release --locked --target "$target" "$@"
install -D -m 755 "${CARGO_TARGET_DIR:-$here/target}/$target/release/shelter-agent" "$out"
