#!/usr/bin/env bash
# Fetches the compiler of kernels/: nvcc, cicc and ptxas 13.0 from NVIDIA's Python wheels, about 101 MB, 265 MB unpacked.
#   kernels/toolchain.sh [FOLDER]     FOLDER: default target/toolchain, which git ignores
# Needs Python 3.9 or later with venv, and a network; no GPU, no driver, no CUDA. The wheels are NVIDIA's and are
# installed for development only: what is committed is the PTX made from our own sources. A build finds it in the
# default folder; for another, and for `g2d kernels`, export the two variables that this prints. nvcc also wants gcc or clang, for the host's preprocessor.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# All four are pinned: left to itself pip pairs nvcc 13.0 with parts of a newer line, whose PTX 13.0's ptxas refuses.
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96)
folder=${1:-target/toolchain}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

find_cuda() { # the folder that holds bin/nvcc
    local found=("$folder"/lib/python3*/site-packages/nvidia/cu13)
    echo "${found[0]}"
}

if [[ ! -e "$folder/complete" || $(<"$folder/complete") != "${wheels[*]}" ]]; then
    python3 -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps "${wheels[@]}"
    [[ $("$(find_cuda)/bin/nvcc" --version) == *'release 13.0, V13.0.88'* ]] || {
        echo "nvcc 13.0.88 was installed in $folder and does not run" >&2
        exit 1
    }
    [[ $("$(find_cuda)/bin/ptxas" --version) == *'release 13.0, V13.0.88'* ]] || {
        echo "ptxas 13.0.88 was installed in $folder and does not run" >&2
        exit 1
    }
    echo "${wheels[*]}" >"$folder/complete"
fi
echo "export G2D_NVCC='$(find_cuda)/bin/nvcc'"
echo "export G2D_PTXAS='$(find_cuda)/bin/ptxas'"
