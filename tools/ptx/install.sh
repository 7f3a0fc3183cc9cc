#!/bin/sh
# Puts NVIDIA's assemblers, which only check, below target/ptxas. Without a network it says so, and the check is skipped.
set -eu
cd "$(dirname "$0")/../.."
for version in 12.0.140 12.9.86; do
  [ -x "target/ptxas/$version/nvidia/cuda_nvcc/bin/ptxas" ] && continue
  if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
      --target "target/ptxas/$version" "nvidia-cuda-nvcc-cu12==$version"; then
    echo "skipped: ptxas $version could not be installed"
    rm -rf "target/ptxas/$version"
  fi
done
