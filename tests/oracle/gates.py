"""Whether float32 can flip a gate of a case, and what that would change.

    python gates.py CASE ...        a line for each; exit 1 if a flip leaves a tolerance

A ReLU passes a number or not, a max pool takes one of nine, a score is above the cut or not. What decides is a margin: the
number, how far the largest of a window exceeds the next, the score less the cut. Float32's reach is the largest change of
that margin over PyTorch's own float32 step and 8 float64 runs whose weights were perturbed by two parts in 10^7. Every ReLU
and max pool whose margin is within four times its reach is flipped, by itself, in the float64 run, and what changes is held
to tolerance.json; no score may be as near. A margin of exactly zero (padding, pixels of one cell) is so in every precision.
"""

import copy
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
import torch_g2d
from safetensors.torch import load_file

REACH = 4
MOST = 60  # a case with more gates within reach is none
quantile = torch.quantile


class Gates:
    """Stands in for what has gates: keeps their margins, and flips one: (tensor, place)."""

    def __init__(self, flip):
        self.flip, self.margins, self.scores = flip, [], []

    def passes(self, margins, at_zero):
        passing = margins >= 0 if at_zero else margins > 0
        if self.flip and self.flip[0] == len(self.margins):
            passing.view(-1)[self.flip[1]] ^= True
        self.margins.append(margins.detach().double().flatten())
        return passing

    def relu(self, x, inplace=False):
        return x * self.passes(x, False)

    def max_pool2d(self, x, size, stride, padding):
        windows = F.unfold(F.pad(x, (padding,) * 4, value=-1.0).flatten(0, 1)[:, None], size, stride=stride)
        (first, second), places = (part.unbind(1) for part in windows.topk(2, 1))
        place = torch.where(self.passes(first - second, True), *places)
        return windows.gather(1, place[:, None]).view(*x.shape[:2], *(extent // stride for extent in x.shape[2:]))

    def quantile(self, scores, *rest, **named):
        cut = quantile(scores, *rest, **named)
        self.scores.append((scores - cut[:, None]).double().flatten())
        return cut


def run(model, batches, flip=None):
    gates = Gates(flip)
    F.relu, F.max_pool2d, torch.quantile = gates.relu, gates.max_pool2d, gates.quantile
    torch.nn.ReLU.forward = lambda _, x: gates.relu(x)
    return torch_g2d.run(copy.deepcopy(model), batches), gates


def judge(folder):
    """Gates within reach, the largest part of what is allowed that one's flip takes up, the nearest score in reaches."""
    config = torch_g2d.Config(**json.loads((folder / "config.json").read_text()))
    model = torch_g2d.G2D(config)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    batches = [load_file(path) for path in sorted(folder.glob("batch-*.safetensors"))]
    allowed = json.loads((folder / "tolerance.json").read_text())
    exact, wide = copy.deepcopy(model).double(), [b | {"image": b["image"].double()} for b in batches]
    want, gates = run(exact, wide)
    others = [run(model, batches)[1]] + [run(torch_g2d.perturbed(exact, 2e-7), wide)[1] for _ in range(8)]
    reach = lambda kept, at: torch.stack([(getattr(o, kept)[at] - getattr(gates, kept)[at]).abs() for o in others]).amax(0)
    near, flipped = [], 0.0
    for at, margins in enumerate(gates.margins):
        within = (margins != 0) & (margins.abs() < REACH * reach("margins", at))
        near += [(at, place) for place in within.nonzero().flatten().tolist()]
    for flip in near[: MOST + 1]:
        errors = torch_g2d.errors(want, run(exact, wide, flip)[0], torch_g2d.FLOAT32_FLOOR)
        flipped = max(flipped, max(error / allowed[name] for error, name in errors))
    nearest = lambda margins, reach: (margins.abs() / reach)[margins != 0].min()
    score = min((nearest(margins, reach("scores", at)) for at, margins in enumerate(gates.scores)), default=float("inf"))
    return len(near), flipped, float(score)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    good = True
    for folder in map(pathlib.Path, sys.argv[1:]):
        near, flipped, score = judge(folder)
        print(f"{folder.name}: {near} gates within reach; a flip takes up {flipped:.2f} of what is allowed, at worst; "
              f"the nearest score is {score:.0f} reaches off", flush=True)
        good &= near <= MOST and flipped <= 1 and score > REACH
    sys.exit(not good)


if __name__ == "__main__":
    main()
