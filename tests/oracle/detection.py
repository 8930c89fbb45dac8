"""The loss of MGCA's YOLOv3 head for two films with a box each, in float64, as `src/downstream/yolo.rs` holds it.

    target/oracle/bin/python tests/oracle/detection.py

Each part is a mean by itself: place, size and objectness over all anchors, the class over anchors that have a box. Unlike
there, an anchor that has a box is not also told that there is none.
"""

import math

import torch
from torch.nn.functional import binary_cross_entropy as bce
from torch.nn.functional import mse_loss as mse

SIDE, BOXES = 64, [(0.31, 0.72, 0.15, 0.2), (0.8, 0.1, 0.3, 0.25)]
ANCHORS = [
    [(116, 90), (156, 198), (373, 326)],
    [(30, 61), (62, 45), (59, 119)],
    [(10, 13), (16, 30), (33, 23)],
]


def overlap(a, b):
    both = min(a[0], b[0]) * min(a[1], b[1])
    return both / (a[0] * a[1] + b[0] * b[1] - both)


def scale_loss(anchors, cells):
    shape = (len(BOXES), cells, cells, len(anchors))
    count = math.prod(shape) * 6
    x = (torch.arange(count) * 37 + 11).remainder(101).double().reshape(*shape, 6) / 25 - 2
    has, none, wanted = torch.zeros(shape).double(), torch.ones(shape).double(), torch.zeros_like(x)
    for film, (cx, cy, w, h) in enumerate(BOXES):
        column, row = int(cx * cells), int(cy * cells)
        fits = [overlap((w, h), (a / 416, b / 416)) for a, b in anchors]
        best = fits.index(max(fits))
        none[film, row, column, [at for at, fit in enumerate(fits) if fit > 0.5 or at == best]] = 0
        has[film, row, column, best] = 1
        a, b = anchors[best]
        wanted[film, row, column, best, :4] = torch.tensor(
            [cx * cells - column, cy * cells - row, math.log(w * 416 / a), math.log(h * 416 / b)],
            dtype=torch.float64,
        )
    sure = x.sigmoid()
    place = sum(bce(sure[..., at] * has, wanted[..., at]) for at in (0, 1))
    size = sum(mse(x[..., at] * has, wanted[..., at]) for at in (2, 3))
    there = bce(sure[..., 4] * has, has) + 0.5 * bce(sure[..., 4] * none, none * 0)
    own = sure[..., 5][has == 1]
    return 2.5 * (place + size) + there + bce(own, torch.ones_like(own))


for anchors, stride in zip(ANCHORS, (32, 16, 8)):
    print(f"{scale_loss(anchors, SIDE // stride).item():.12f}")
