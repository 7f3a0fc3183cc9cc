#!/bin/sh
# Puts NVIDIA's assemblers and their disassembler, which only check, below target/ptxas. Without a
# network it says so, and the check is skipped.
set -eu
cd "$(dirname "$0")/../.."
# install FOLDER PROGRAM PACKAGE==VERSION
install() {
  [ -x "target/ptxas/$1/nvidia/$2" ] && return
  if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "target/ptxas/$1" "$3"; then
    echo "skipped: $3 could not be installed"
    rm -rf "target/ptxas/$1"
  fi
}
install 12.0.140 cuda_nvcc/bin/ptxas nvidia-cuda-nvcc-cu12==12.0.140
install 12.9.86 cuda_nvcc/bin/ptxas nvidia-cuda-nvcc-cu12==12.9.86
# of these two kernels/machine_code.txt is made
install 13.0.88 cu13/bin/ptxas nvidia-cuda-nvcc==13.0.88
install nvdisasm cu13/bin/nvdisasm nvidia-cuda-nvdisasm==13.2.86
