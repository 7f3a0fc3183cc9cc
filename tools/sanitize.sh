#!/usr/bin/env bash
# Unsafe code under watch: the tests of the library under AddressSanitizer (SIMD kernels, memory,
# files), and under Miri what Miri can run (no SIMD, no system calls of the driver).
# usage: tools/sanitize.sh [address|miri ..]   without parts: both
# Needs: nothing but the toolchain for `address`; a nightly toolchain with miri and rust-src for
# `miri` (rustup component add miri rust-src --toolchain nightly), else that part says so and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- address miri
target=$(rustc -vV | sed -n 's/^host: //p')
for part in "$@"; do
  case $part in
    address)
      # the flags of sanitizers are unstable; its run-time library comes with every toolchain.
      # --target keeps build scripts and macros out of it. Leaks are not looked for: thread pools
      # and static tables live as long as the program.
      for isa in portable avx2 avx512; do
        echo "address: instruction set $isa"
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=0 ULMFIT_ISA=$isa \
          cargo test --locked --target "$target" --target-dir target/address --lib -- device:: ops:: tensor:: text:: files::
      done ;;
    miri)
      if ! cargo +nightly miri --version > /dev/null 2>&1; then
        echo "miri: is not installed: rustup component add miri rust-src --toolchain nightly" >&2
        exit 1
      fi
      MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" ULMFIT_ISA=portable \
        cargo +nightly miri test --locked --target-dir target/miri --lib -- device::memory tensor:: ;;
    *) echo "unknown part '$part'" >&2; exit 2 ;;
  esac
done
