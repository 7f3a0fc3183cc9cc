#!/bin/sh
# Compiles every kernel of this folder to PTX with clang 16, which needs no NVIDIA package. The PTX
# is committed.
set -eu
cd "$(dirname "$0")"
for f in *.cu; do
  arch=sm_70 ptx=+ptx63
  case $f in bf16_mma.cu) arch=sm_80 ptx=+ptx70 ;; esac
  clang-16 -x cuda --cuda-device-only --cuda-gpu-arch=$arch -nocudainc -nocudalib -Xclang -target-feature -Xclang $ptx \
    -O3 -gline-tables-only -fdebug-compilation-dir=. -fdebug-prefix-map="$PWD"=. -S -ffp-contract=fast -std=c++17 "$f" -o "${f%.cu}.ptx"
done
