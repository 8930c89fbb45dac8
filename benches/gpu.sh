#!/usr/bin/env bash
# Verifies and times the CUDA kernels on the GPU of this machine; needs the release binary and this checkout, no compiler
# and no PyTorch.
#   benches/gpu.sh [--quick] [FOLDER]
# FOLDER/golden gets the golden vectors with the GPU's results: as tests/emulated/golden/CHIP they hold the emulated device
# to them from then on.
# Under ten minutes: what comes last gets what is left. Writes what each command printed into FOLDER (benches/results/gpu),
# with revision, chip, driver and command, and goes on where a command fails, for a session on a GPU is short. Exit code 1
# if any failed. --quick is the same with as little as possible of each, to try this script on any device (.ci/run).
# The binary is $G2D, or release/g2d in the cargo target folder; the device $G2D_DEVICE, or cuda.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=
[[ ${1:-} == --quick ]] && { quick=yes; shift; }
out=${1:-benches/results/gpu}
g2d=${G2D:-${CARGO_TARGET_DIR:-target}/release/g2d}
device=${G2D_DEVICE:-cuda}
[[ -x $g2d ]] || { echo "$g2d is not there; cargo build --release makes it" >&2; exit 2; }
mkdir -p "$out"
failed=0
deadline=570 # seconds after which nothing runs any more

record() { # SECONDS FILE COMMAND...: no longer than that, and not beyond the deadline
    local seconds=$1 file=$out/$2 start=$SECONDS left=$((deadline - SECONDS)) code
    shift 2
    ((left < seconds)) && seconds=$left
    echo "== $*"
    if ((seconds <= 0)); then
        printf '%s\tleft out: the time is used up\t%s\n' "$(basename "$file")" "$*" >>"$out/commands.txt"
        failed=1
        return
    fi
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

cases=(tests/fixtures/*/config.json) operations=() golden=tests/emulated/golden shadows=(micro tiny) timed=(small) few=()
cases=("${cases[@]%config.json}")
if [[ $quick ]]; then
    # One file of golden vectors, one op, one case of the specification, steps that are small.
    golden=$(mktemp -d)
    trap 'rm -rf "$golden"' EXIT
    files=(tests/emulated/golden/*.txt)
    cp "${files[0]}" "$golden"
    cases=(tests/fixtures/one-patch/) operations=(--op gelu --cases 1) shadows=() timed=(micro)
    few=(--warmup 1 --steps 1)
fi

record 20 doctor.txt "$g2d" doctor
record 30 golden.json "$g2d" verify --device "$device" --golden "$golden" --record "$out/golden" --json
record 150 verify.json "$g2d" verify --device "$device" "${operations[@]}" --json
for case in "${cases[@]}"; do
    name=$(basename "$case")
    for precision in exact mixed; do
        # Whole steps in mixed have no tolerance in the specification: that they end is all that is said of them here.
        # Their launches are held to it by `verify` and `--shadow`.
        compare=(--compare)
        [[ $precision == mixed ]] && compare=()
        record 30 "step-$name-$precision.txt" "$g2d" step --case "$case" --device "$device" --precision "$precision" \
            --out "$out/step.safetensors" "${compare[@]}"
        rm -f "$out/step.safetensors"
    done
done
for preset in "${shadows[@]}"; do
    record 60 "shadow-$preset.json" "$g2d" verify --device "$device" --shadow "$preset" --json
done
for preset in "${timed[@]}"; do
    batch=32
    [[ $quick ]] && batch=2
    for precision in exact mixed; do
        record 60 "bench-$preset-$precision.json" \
            "$g2d" bench step --device "$device" --preset "$preset" --batch "$batch" --precision "$precision" "${few[@]}" --json
    done
done
if [[ ! $quick ]]; then
    record 60 bench-full-mixed.json "$g2d" bench step --device "$device" --preset full --batch 16 --precision mixed --json
    # The references take most of it.
    record 150 shadow-small.json "$g2d" verify --device "$device" --shadow small --json
fi

cat "$out/machine.txt" "$out/commands.txt"
exit "$failed"
