"""Times training steps of the executable specification (tests/oracle/torch_g2d.py) in PyTorch: eager, fp32, CPU.

    torch_step.py --preset full --recipe official --batch 2 --text-len 256 --threads 2

The counterpart of `g2d bench step`: random films, random texts of the same lengths, fresh weights, and in every step
forward, pseudo mask, losses, backward and AdamW. Prints one line of JSON: seconds of a step (median, quartiles), of
its pseudo mask alone, the most memory the process has held.
"""

import argparse
import json
import pathlib
import resource
import statistics
import sys
import time

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "oracle"))
import torch_g2d


def spread(seconds):
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return {"median": median, "lower": lower, "upper": upper}


def batch_of(c, size, length):
    """Films of 256 random gray values; reports as `g2d bench step` has them: the first is the longest."""
    rng = np.random.default_rng(0)
    lengths = [length if at == 0 else min(3 + at * 97 % length, length) for at in range(size)]
    mask = np.arange(length) < np.array(lengths)[:, None]
    pixels = rng.integers(0, 256, (size, 1, c.image_size, c.image_size))
    return (
        torch.tensor(pixels / 255, dtype=torch.float32),
        torch.tensor(rng.integers(1, c.vocab_size, (size, length)) * mask),
        torch.tensor(mask.astype(np.int64)),
    )


def stepper(c, batch):
    """A function that takes one training step and returns its seconds and those of its pseudo mask."""
    torch.manual_seed(0)
    model = torch_g2d.G2D(c)
    model.train()
    learning = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(learning, lr=1e-5, weight_decay=c.weight_decay, eps=c.adam_eps)
    image, ids, mask = batch

    def step():
        start = time.perf_counter()
        adamw.zero_grad()
        out = model(image, ids, mask)
        before = time.perf_counter()
        target = torch_g2d.pseudo_mask(out["attention_map"], image, c)
        masked = time.perf_counter() - before
        loss = torch_g2d.contrastive_loss(out["image_embedding"], out["text_embedding"], c)
        loss = loss + c.segmentation_weight * torch_g2d.segmentation_loss(out["segmentation_logits"], target, c)
        loss.backward()
        adamw.step()
        if not loss.isfinite():
            sys.exit("the loss is not finite")
        return time.perf_counter() - start, masked

    return step


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--preset", choices=torch_g2d.PRESETS, default="small")
    p.add_argument("--recipe", choices=torch_g2d.RECIPES, default="default")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--text-len", type=int, default=64)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--steps", type=int, default=10)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    c = torch_g2d.Config(**(torch_g2d.PRESETS[args.preset] | torch_g2d.RECIPES[args.recipe]))
    step = stepper(c, batch_of(c, args.batch, args.text_len))
    for _ in range(args.warmup):
        step()
    steps, masks = zip(*(step() for _ in range(args.steps)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "samples_per_s": args.batch / statistics.median(steps), "step_s": spread(steps), "mask_s": spread(masks),
        "peak_memory": peak, "threads": torch.get_num_threads(), "batch": args.batch, "torch": torch.__version__,
    }))


if __name__ == "__main__":
    main()
