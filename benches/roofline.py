#!/usr/bin/env python3
"""The training step part by part: floors of the plan and of the design, what was counted, what is predicted.

    g2d bench counters --json > counts.json && benches/roofline.py counts.json
    benches/roofline.py                     of what is committed, benches/results/counters-full.json

Stands on the counts alone (standard library only; nothing is timed). For each part of the model, a pair of film and
report:

  GFLOP     of the ops' definitions, by the plan; beside it those of the design, counted independently
  floor MB  every input of every launch read once, every output written once: the floor of the plan as it is cut into
            launches; beside it the design's floors for kernels that are not fused, and fused
  device    MB that cross the bus of device memory by the model of L2 (src/bench/counters/mod.rs)
  ms        of a step: the plan's launches at the ceilings, the design's fused floor (with exact algebra), predicted

The design's figures are those of one H200 with 790 TFLOP/s of bf16 and 4.3 TB/s of copying, 256 pairs, text padded to
256 tokens, embeddings trained. They are printed where the counts are of that work.
"""

import collections
import json
import pathlib
import re
import sys

COMMITTED = pathlib.Path(__file__).resolve().parent / "results" / "counters-full.json"
# What a scope of the plan belongs to; the first that matches.
PARTS = [
    ("stem + pool", r"ingest|bound|img_model\.encoder\.(conv1|bn1|maxpool)"),
    ("layer1", r"img_model\.encoder\.layer1"),
    ("layer2", r"img_model\.encoder\.layer2"),
    ("layer3", r"img_model\.encoder\.layer3"),
    ("layer4", r"img_model\.encoder\.layer4"),
    ("projection, attention pool", r"proj_v|attnpool"),
    ("decoder 1", r"img_model\.decoder\.blocks\.0"),
    ("decoder 2", r"img_model\.decoder\.blocks\.1"),
    ("decoder 3", r"img_model\.decoder\.blocks\.2"),
    ("decoder 4", r"img_model\.decoder\.blocks\.3"),
    ("decoder 5", r"img_model\.decoder\.blocks\.4"),
    ("mask head + losses", r"img_model\.segmentation_head|loss|mask|proj_t"),
    ("BERT embeddings", r"lm_model\.embeddings"),
    ("BERT layers 0..8", r"lm_model\.encoder\.layer\.[0-8]\."),
    ("BERT layers 9..11", r"lm_model\.encoder\.layer\.(9|10|11)\."),
    ("optimizer", r"optimizer"),
]
# The design's: GFLOP, MB not fused (eager, channels last), MB fused, floor in ms fused.
DESIGN = {
    "stem + pool": (0.62, 41.7, 16.0, 0.95), "layer1": (5.23, 237, 104, 6.3), "layer2": (8.05, 178, 91, 5.9),
    "layer3": (11.5, 125, 63, 5.1), "layer4": (6.34, 36, 19, 2.3), "projection, attention pool": (0.30, 11, 3.8, 0.2),
    "decoder 1": (11.8, 19, 5.3, 2.5), "decoder 2": (6.34, 23, 8.4, 1.8), "decoder 3": (6.34, 45, 17, 1.9),
    "decoder 4": (4.53, 73, 25, 1.6), "decoder 5": (2.72, 105, 34, 2.0), "mask head + losses": (0.06, 18, 8.9, 0.5),
    "BERT embeddings": (0, 21, 3.9, 0.2), "BERT layers 0..8": (71.6, 525, 235, 25.8),
    "BERT layers 9..11": (34.7, 205, 98, 12.1), "optimizer": (0, 27, 8.1, 0.5),
}
DESIGN_RATES = {"not fused": 2134, "fused, exact algebra": 3676, "ideal": 3911}
# bf16 products and copying, FLOP/s and bytes/s, as in src/bench/counters/roofline.rs.
CHIPS = {"a100": (265e12, 1.70e12), "h100": (790e12, 3.02e12), "h200": (790e12, 4.3e12)}


def part_of(scope, op):
    scope = scope.rstrip("'")
    return next((name for name, pattern in PARTS if re.match(pattern, scope)), f"other: {op}")


def sums(lines, batch, chip):
    """Of each part: GFLOP, floor MB and device MB of a pair; ms of a step at the floor and predicted; launches."""
    parts = collections.defaultdict(lambda: [0.0] * 6)
    products, bus = CHIPS[chip]
    for line in lines:
        floor = max(line["floor_flops"] / products, line["floor_bytes"] / bus)
        device = sum(call["device_bytes"] for call in line["calls"])
        predicted = sum(call["predicted_us"] for call in line["calls"])
        of_launch = (line["floor_flops"] / batch / 1e9, line["floor_bytes"] / batch / 1e6, device / batch / 1e6,
                     floor * 1e3, predicted / 1e3, 1)
        for scope in line["scopes"]:
            part = parts[part_of(scope, line["op"])]
            part[:] = [before + more for before, more in zip(part, of_launch)]
    return parts


def table(parts, designed):
    names = [name for name, _ in PARTS if name in parts] + sorted(name for name in parts if name.startswith("other"))
    print(f"{'':28}{'GFLOP':>8}{'design':>8} |{'floor MB':>9}{'not fused':>10}{'fused':>7}{'device':>9} |"
          f"{'floor ms':>9}{'design':>8}{'predicted':>10}{'launches':>9}")
    total, of_design = [0.0] * 6, [0.0] * 4
    for name in names:
        design = DESIGN.get(name, (0,) * 4) if designed else None
        row(name, parts[name], design)
        total = [before + more for before, more in zip(total, parts[name])]
        of_design = [before + more for before, more in zip(of_design, design or of_design)]
    row("all", total, of_design if designed else None)
    return total


def row(name, of, design):
    gflop, floor, device, floor_ms, predicted_ms, launches = of
    show = (lambda number, digits: f"{number:.{digits}f}") if design else (lambda *_: "-")
    d = design or (0,) * 4
    print(f"{name:28}{gflop:8.2f}{show(d[0], 2):>8} |{floor:9.1f}{show(d[1], 1):>10}{show(d[2], 1):>7}{device:9.1f} |"
          f"{floor_ms:9.2f}{show(d[3], 2):>8}{predicted_ms:10.2f}{int(launches):9}")


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else COMMITTED
    if len(sys.argv) > 2 or path.name in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
        batch, chip = head["batch"], head["chip"]
        parts = sums(lines, batch, chip)
    except (OSError, ValueError, KeyError) as error:
        print(f"{path} is no file of counts ({error}); `g2d bench counters --json` writes one", file=sys.stderr)
        return 2
    designed = (head["preset"], head["recipe"], batch, head["text_len"], chip) == ("full", "official", 256, 256, "h200")
    print(f"{head['preset']}, recipe {head['recipe']}, {batch} pairs of {head['text_len']} tokens, {head['precision']}, "
          f"{chip}; counted at {head['revision']}, not measured\n")
    total = table(parts, designed)
    told = next(step["floor_seconds"] for step in head["totals"]["predicted"] if step["chip"] == chip)
    assert abs(total[3] / 1e3 / told - 1) < 1e-6, f"CHIPS are not those of src/bench/counters/roofline.rs: {total[3]} ms, {told} s"
    print(f"\nsamples/s: predicted {1e3 * batch / total[4]:.0f}; floor of the plan {1e3 * batch / total[3]:.0f}"
          + "".join(f"; design, {name} {rate}" for name, rate in DESIGN_RATES.items() if designed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
