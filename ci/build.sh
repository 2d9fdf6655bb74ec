#!/usr/bin/env bash
# Builds pyalloc from this checkout. On Debian the compiler for the kernel side is a package, elsewhere it comes by rustup.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo xtask setup
cargo build --release --locked --package pyalloc
