#!/usr/bin/env bash
# Verifies and times the CUDA kernels on the GPU of this machine; needs the release binary and this checkout, no compiler.
#   benches/gpu.sh [FOLDER]
# FOLDER/golden gets the golden vectors with the GPU's results: as tests/emulated/golden/CHIP they hold the emulated device
# to them from then on.
# Under ten minutes. Writes what each command printed into FOLDER (benches/results/gpu), with revision, chip, driver and
# command, and goes on where a command fails, for a session on a GPU is short. Exit code 1 if any failed.
# The binary is $G2D, or release/g2d in the cargo target folder; the device $G2D_DEVICE, or cuda.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:-benches/results/gpu}
g2d=${G2D:-${CARGO_TARGET_DIR:-target}/release/g2d}
device=${G2D_DEVICE:-cuda}
[[ -x $g2d ]] || { echo "$g2d is not there; cargo build --release makes it" >&2; exit 2; }
mkdir -p "$out"
failed=0

record() { # SECONDS FILE COMMAND...
    local seconds=$1 file=$out/$2 start=$SECONDS code
    shift 2
    echo "== $*"
    timeout "$seconds" "$@" >"$file" 2>"$file.err"
    code=$?
    [[ -s $file.err ]] || rm "$file.err"
    printf '%s\t%d s\texit %d\t%s\n' "$(basename "$file")" $((SECONDS - start)) "$code" "$*" >>"$out/commands.txt"
    if ((code)); then
        failed=1
        echo "exit $code; see $file.err" >&2
    fi
}

{
    echo "revision: $(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)"
    echo "date: $(date -u +%F)"
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader 2>/dev/null | sed 's/^/GPU: /'
} >"$out/machine.txt"
: >"$out/commands.txt"

record 20 doctor.txt "$g2d" doctor
record 30 golden.json "$g2d" verify --device "$device" --golden tests/emulated/golden --record "$out/golden" --json
record 150 verify.json "$g2d" verify --device "$device" --json
record 60 shadow-micro.json "$g2d" verify --device "$device" --shadow micro --json
record 60 shadow-tiny.json "$g2d" verify --device "$device" --shadow tiny --json
for case in tests/fixtures/*/; do
    name=$(basename "$case")
    record 30 "step-$name.txt" "$g2d" step --case "$case" --device "$device" --precision exact --out "$out/$name.safetensors"
    # What the specification says of it, where PyTorch is installed (tests/oracle/setup).
    python=${G2D_ORACLE_VENV:-target/oracle}/bin/python
    if [[ -x $python && -f $out/$name.safetensors ]]; then
        record 30 "compare-$name.txt" "$python" tests/oracle/torch_g2d.py compare "$case" "$out/$name.safetensors"
    fi
    rm -f "$out/$name.safetensors"
done
for precision in exact mixed; do
    record 60 "bench-small-$precision.json" \
        "$g2d" bench step --device "$device" --preset small --batch 32 --precision "$precision" --json
done
record 60 bench-full-mixed.json "$g2d" bench step --device "$device" --preset full --batch 16 --precision mixed --json

cat "$out/machine.txt" "$out/commands.txt"
exit "$failed"
