"""The executable specification of one G2D training step, in PyTorch.

It fixes what the engine must compute: parameter names, shapes, the order of operations, the losses,
the pseudo mask, which parameters learn, and AdamW. It is slow and plain on purpose. Where prose and
this file disagree, this file holds.

    python torch_g2d.py make --preset tiny --seed 1 --out case/
        writes config.json, weights.safetensors, batch-0.safetensors (batch-1, ... with --steps),
        expected.safetensors (computed in float64) and tolerance.json
    python torch_g2d.py compare case/ result.safetensors [--rtol 1e-5]
        exit 1 and the worst tensors, if any differ by more than rtol, or without --rtol by more than
        tolerance.json allows

expected.safetensors holds out.*, loss.* (0-d) and grad.* of the last step, and update.* (value after the
last step minus value before the first: parameters, running statistics, num_batches_tracked).

Tolerances. A network with ReLU, max pooling and a thresholded mask is not continuous: a rounding can flip a
gate. float64 against float64 must agree to 1e-5 everywhere. For float32 each tensor's own sensitivity is
measured: tolerance = max(2e-3, 3 x the worst change over 8 float64 runs whose weights were perturbed by two
parts in 10^7).

Worth knowing: with segmentation_weight 0 or during warmup_steps the decoder's gradients are zeros, present,
and AdamW counts the step; the word embedding has padding_idx 0, so its row 0 never gets a gradient, also where
padding reaches the loss (text_statistics "padded"); lm_model has no pooler here.

Needs torch, transformers, safetensors, scipy, numpy (CPU builds do; requirements.txt has the versions).

Parameter names are those of the published G2D checkpoints, so such a checkpoint loads as it is:
img_model.* as in segmentation_models.pytorch's Unet (encoder.* as in torchvision's ResNet),
attnpool.*, proj_v.*, proj_t.*, lm_model.* as in transformers' BertModel. Such a checkpoint also carries
pseudo_conv.* and lm_model.pooler.*, which nothing uses.
"""

import argparse
import copy
import dataclasses
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


@dataclasses.dataclass
class Config:
    """All that shapes the step. Sizes are in pixels, tokens or channels."""

    image_size: int = 256
    resnet_layers: tuple = (3, 4, 6, 3)
    resnet_width: int = 64
    decoder_channels: tuple = (256, 128, 64, 32, 16)
    projection_hidden: int = 128
    projection_dim: int = 128
    attention_heads: int = 4
    attention_head_dim: int = 0  # 0: projection_dim / attention_heads, rounded up
    vocab_size: int = 28996
    text_hidden: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_intermediate: int = 3072
    max_positions: int = 512
    frozen_text_layers: int = 9
    temperature: float = 0.07
    quantile: float = 0.85
    normalise: str = "unit"  # "unit": image as it is, in [0, 1]; "imagenet": minus mean, over std, per channel
    contrastive: str = "two-way-sum"  # or "two-way-mean", "image-to-text"
    segmentation: str = "dice+bce"  # or "raw-dice+0.2bce", the released code's: Dice on logits
    decoder_objective: str = "pseudo-segmentation"  # or "none": no decoder; "reconstruction"; "shuffled-masks": the next film's
    mask_aggregation: str = "mean"  # of the heads; or "max", "single": mask_head alone, "per-head": a mask for each
    mask_head: int = 0
    mask_threshold: str = "quantile"  # or "median", "mean" and "gmm": of the attention's cells, see mixture_threshold
    mask_upsample: str = "nearest"  # or "bilinear" (align_corners=False)
    mask_body: str = "threshold"  # or "none"
    body_threshold: float = 0.1  # of [0, 1]
    mask_compare: str = ">="  # or ">", the released code's
    mask_smooth: str = "bilateral"  # or "none"
    bilateral_diameter: int = 9  # pixels
    bilateral_sigma_space: float = 3.0  # pixels
    bilateral_sigma_value: float = 1.0  # mask values are 0 and 1
    # "real-tokens": proj_t's BatchNorm sees only tokens whose attention_mask is 1.
    # "padded": it sees every position, padding included, as the released code does.
    text_statistics: str = "real-tokens"
    segmentation_weight: float = 1.0
    warmup_steps: int = 0  # the segmentation loss counts from this step on
    learning_rate: float = 2e-5
    weight_decay: float = 1e-8
    adam_eps: float = 1e-8


# Three recipes. "default" is ours: the paper's mask and loss with the released code's two-way contrast.
RECIPES = {
    "default": {},
    "paper": dict(contrastive="image-to-text", attention_heads=3),  # the paper also crops to 224
    "official": dict(
        normalise="imagenet", segmentation="raw-dice+0.2bce", mask_body="none", mask_compare=">", mask_smooth="none",
        text_statistics="padded",
    ),
}

PRESETS = {
    "micro": dict(  # small enough to commit as a fixture
        image_size=64, resnet_layers=(1, 1, 1, 1), resnet_width=4, decoder_channels=(16, 8, 8, 4, 4),
        projection_hidden=16, projection_dim=16, attention_heads=4, vocab_size=61, text_hidden=16,
        text_layers=2, text_heads=2, text_intermediate=32, max_positions=32, frozen_text_layers=1, adam_eps=1e-3,
    ),
    "tiny": dict(
        image_size=128, resnet_layers=(1, 1, 1, 1), resnet_width=8, decoder_channels=(32, 16, 16, 8, 8),
        projection_hidden=32, projection_dim=32, attention_heads=4, vocab_size=211, text_hidden=32,
        text_layers=3, text_heads=4, text_intermediate=64, max_positions=64, frozen_text_layers=1,
        adam_eps=1e-3,  # so that a gradient that is zero but for rounding moves its weight nowhere
    ),
    "small": dict(
        image_size=128, resnet_layers=(2, 2, 2, 2), resnet_width=32, decoder_channels=(128, 64, 32, 16, 16),
        projection_hidden=64, projection_dim=64, vocab_size=2048, text_hidden=128, text_layers=4, text_heads=4,
        text_intermediate=512, max_positions=128, frozen_text_layers=2, adam_eps=1e-3,
    ),
    "full": {},
}


class Bottleneck(nn.Module):
    """torchvision's ResNet v1.5 bottleneck: the stride sits on the 3x3 convolution."""

    def __init__(self, cin, width, stride):
        super().__init__()
        cout = width * 4
        self.conv1 = nn.Conv2d(cin, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + skip)


class Encoder(nn.Module):
    """ResNet without its classifier. Returns the five feature maps at strides 2, 4, 8, 16, 32."""

    def __init__(self, c: Config):
        super().__init__()
        w = c.resnet_width
        self.conv1 = nn.Conv2d(3, w, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        cin, self.channels = w, [w]
        for stage, blocks in enumerate(c.resnet_layers):
            width, layer = w << stage, []
            for b in range(blocks):
                layer.append(Bottleneck(cin, width, 2 if b == 0 and stage > 0 else 1))
                cin = width * 4
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
            self.channels.append(cin)

    def forward(self, x):
        features = [F.relu(self.bn1(self.conv1(x)))]
        x = F.max_pool2d(features[0], 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            features.append(x)
        return features


def conv_bn_relu(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class DecoderBlock(nn.Module):
    """Nearest-neighbour x2, concatenate the skip behind it, two 3x3 conv-BN-ReLU."""

    def __init__(self, cin, cskip, cout):
        super().__init__()
        self.conv1 = conv_bn_relu(cin + cskip, cout)
        self.conv2 = conv_bn_relu(cout, cout)

    def forward(self, x, skip):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


class Decoder(nn.Module):
    def __init__(self, c: Config, encoder_channels):
        super().__init__()
        skips = list(reversed(encoder_channels[:-1])) + [0]
        cin = [encoder_channels[-1]] + list(c.decoder_channels[:-1])
        self.blocks = nn.ModuleList(DecoderBlock(i, s, o) for i, s, o in zip(cin, skips, c.decoder_channels))

    def forward(self, features):
        x, skips = features[-1], list(reversed(features[:-1])) + [None]
        for block, skip in zip(self.blocks, skips):
            x = block(x, skip)
        return x


class Unet(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.encoder = Encoder(c)
        if c.decoder_objective == "none":
            return
        self.decoder = Decoder(c, self.encoder.channels)
        per_head = c.mask_aggregation == "per-head" and c.decoder_objective != "reconstruction"
        maps = c.attention_heads if per_head else 1
        # As a Sequential of one convolution has it: segmentation_head.0.
        self.segmentation_head = nn.ModuleList(nn.Conv2d(c.decoder_channels[-1], 1, 3, 1, 1) for _ in range(maps))

    def decoded(self, features):
        """(B, maps, H, W)"""
        x = self.decoder(features)
        return torch.cat([head(x) for head in self.segmentation_head], 1)


class AttentionPool(nn.Module):
    """The mean token asks, all tokens answer. Returns the pooled vector (B, D) and each head's
    attention over the spatial tokens (B, heads, h, w); the mean token's own share is left out, and
    what is left is not normalised again."""

    def __init__(self, c: Config):
        super().__init__()
        self.side, self.heads, d = c.image_size // 32, c.attention_heads, c.projection_dim
        self.positional_embedding = nn.Parameter(torch.randn(self.side**2 + 1, d) / d**0.5)
        self.mhsa = Projections(d, self.heads * (c.attention_head_dim or -(-d // self.heads)))
        self.c_proj = nn.Linear(d, d)

    def forward(self, x):
        t = x.flatten(2).transpose(1, 2)  # (B, N, D)
        t = torch.cat([t.mean(1, keepdim=True), t], 1) + self.positional_embedding
        q, k, v = F.linear(t, self.mhsa.in_proj_weight, self.mhsa.in_proj_bias).chunk(3, -1)
        split = lambda u: u.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, head_dim)
        q, k, v = split(q[:, :1]), split(k), split(v)
        attention = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        pooled = self.c_proj(self.mhsa.out_proj((attention @ v).transpose(1, 2).flatten(2)))[:, 0]
        return pooled, attention[:, :, 0, 1:].unflatten(-1, (self.side, self.side))


class Projections(nn.Module):
    """The weights of an nn.MultiheadAttention, under its names, with an inner width of its own."""

    def __init__(self, d, inner):
        super().__init__()
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * inner, d)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * inner))
        self.out_proj = nn.Linear(inner, d)


class G2D(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.config = c
        self.img_model = Unet(c)
        cin = self.img_model.encoder.channels[-1]
        h, d = c.projection_hidden, c.projection_dim
        self.attnpool = AttentionPool(c)
        self.proj_v = nn.Sequential(
            nn.Conv2d(cin, h, 1, bias=False), nn.BatchNorm2d(h, affine=False), nn.ReLU(), nn.Conv2d(h, d, 1, bias=False)
        )
        self.proj_t = nn.Sequential(
            nn.Conv1d(c.text_hidden, h, 1, bias=False), nn.BatchNorm1d(h, affine=False), nn.ReLU(),
            nn.Conv1d(h, d, 1, bias=False),
        )
        self.lm_model = BertModel(
            BertConfig(
                vocab_size=c.vocab_size, hidden_size=c.text_hidden, num_hidden_layers=c.text_layers,
                num_attention_heads=c.text_heads, intermediate_size=c.text_intermediate,
                max_position_embeddings=c.max_positions, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        # Only whole encoder layers freeze; the embeddings keep learning, as in the released code.
        for layer in self.lm_model.encoder.layer[: c.frozen_text_layers]:
            layer.requires_grad_(False)

    def text_embedding(self, input_ids, attention_mask):
        """(B, L) ids and 0/1 mask -> (B, D), the projected [CLS] token, not normalised."""
        hidden = self.lm_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        conv1, norm, relu, conv2 = self.proj_t
        x = conv1(hidden.transpose(1, 2))  # (B, h, L)
        if self.config.text_statistics == "padded":
            x = norm(x)
        else:
            real = attention_mask.bool()
            flat = norm(x.transpose(1, 2)[real])  # (real tokens, h)
            x = torch.zeros_like(x.transpose(1, 2)).masked_scatter(real[..., None], flat).transpose(1, 2)
        return conv2(relu(x))[:, :, 0]

    def forward(self, image, input_ids, attention_mask):
        """image (B, 1, H, W) in [0, 1]; input_ids and attention_mask (B, L)."""
        image = image.expand(-1, 3, -1, -1)
        if self.config.normalise == "imagenet":
            mean, std = image.new_tensor([0.485, 0.456, 0.406]), image.new_tensor([0.229, 0.224, 0.225])
            image = (image - mean[:, None, None]) / std[:, None, None]
        features = self.img_model.encoder(image)
        pooled, attention = self.attnpool(self.proj_v(features[-1]))
        out = {
            "image_embedding": pooled,
            "text_embedding": self.text_embedding(input_ids, attention_mask),
            "attention_map": attention,
        }
        if self.config.decoder_objective != "none":
            film = self.config.decoder_objective == "reconstruction"
            out["reconstruction" if film else "segmentation_logits"] = self.img_model.decoded(features)
        return out


def body_mask(image, threshold):
    """(B, 1, H, W) in [0, 1] -> (B, H, W) bool. Per image: the pixels brighter than the threshold, the
    largest 4-connected component of those (the first in raster order wins a tie), its holes filled (a hole
    is background that is not 4-connected to the border). No bright pixel at all: the whole image. (A bright
    frame around the film makes all of it body; such frames are cropped when the data are packed.)"""
    from scipy import ndimage

    out = []
    for plane in image[:, 0].numpy() > threshold:
        labels, count = ndimage.label(plane)
        if count == 0:
            out.append(np.ones_like(plane))
            continue
        sizes = np.bincount(labels.ravel())[1:]
        out.append(ndimage.binary_fill_holes(labels == 1 + sizes.argmax()))
    return torch.from_numpy(np.stack(out))


def bilateral(mask, diameter, sigma_space, sigma_value):
    """(B, H, W) -> (B, H, W). The window is the disc of radius diameter // 2; pixels outside the image do
    not count."""
    r = diameter // 2
    padded = F.pad(mask, (r, r, r, r), value=float("nan"))
    top = torch.zeros_like(mask)
    weight = torch.zeros_like(mask)
    h, w = mask.shape[1:]
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            d2 = dx * dx + dy * dy
            if d2 > r * r:
                continue
            v = padded[:, r + dy : r + dy + h, r + dx : r + dx + w]
            k = torch.exp(-d2 / (2 * sigma_space**2) - (v - mask) ** 2 / (2 * sigma_value**2))
            k = torch.where(v.isnan(), torch.zeros_like(k), k)
            top += k * torch.nan_to_num(v)
            weight += k
    return top / weight


def mixture_threshold(cells):
    """(B, n) -> (B,): where, of two Gaussians fitted to an image's cells, the one of the larger mean becomes the more
    likely. 50 steps of expectation and maximisation on standardised cells, from means -1 and 1, variances 1 and
    weights 1/2; 1e-3 is added to each variance, 1e-12 to each sum of responsibilities."""
    mean, deviation = cells.mean(1, keepdim=True), cells.std(1, correction=0, keepdim=True)
    z = ((cells - mean) / deviation)[..., None]
    m, v = torch.tensor([[[-1.0, 1.0]]], dtype=z.dtype).expand(len(z), 1, 2), torch.ones(len(z), 1, 2, dtype=z.dtype)
    w = v / 2
    density = lambda z: w.log() - v.log() / 2 - (z - m) ** 2 / (2 * v)  # its logarithm, less a constant
    for _ in range(50):
        r = density(z).softmax(2)
        n = r.sum(1, keepdim=True) + 1e-12
        m = (r * z).sum(1, keepdim=True) / n
        v = (r * (z - m) ** 2).sum(1, keepdim=True) / n + 1e-3
        w = n / z.shape[1]
    low, high = m.amin(2, keepdim=True), m.amax(2, keepdim=True)
    upper = m.argmax(2, keepdim=True)
    likely = lambda z: density(z).gather(2, upper) > density(z).gather(2, 1 - upper)
    high = torch.where(likely(low), low, high)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = torch.where(likely(middle), low, middle), torch.where(likely(middle), middle, high)
    return (high[:, 0] * deviation + mean)[:, 0]


def aggregated(attention, c: Config):
    """(B, heads, h, w) -> (B, masks, h, w)"""
    return {
        "mean": lambda: attention.mean(1, keepdim=True),
        "max": lambda: attention.amax(1, keepdim=True),
        "single": lambda: attention[:, c.mask_head : c.mask_head + 1],
        "per-head": lambda: attention,
    }[c.mask_aggregation]()


@torch.no_grad()
def pseudo_mask(attention, image, c: Config):
    """attention (B, heads, h, w), image (B, 1, H, W) -> (B, masks, H, W) in [0, 1]; no gradient flows."""
    body = body_mask(image, c.body_threshold) if c.mask_body == "threshold" else torch.ones_like(image[:, 0], dtype=bool)
    masks = []
    for cells in aggregated(attention, c).split(1, 1):
        if c.mask_upsample == "nearest":
            scores = F.interpolate(cells, size=image.shape[2:], mode="nearest")
        else:
            scores = F.interpolate(cells, size=image.shape[2:], mode="bilinear", align_corners=False)
        scores, cells = scores[:, 0] * body, cells.flatten(1)
        if c.mask_threshold in ("quantile", "median"):
            # "linear" quantile: it interpolates between the two order statistics beside (n - 1) * quantile
            cut = torch.quantile(scores.flatten(1), 0.5 if c.mask_threshold == "median" else c.quantile, dim=1)
        else:
            cut = cells.mean(1) if c.mask_threshold == "mean" else mixture_threshold(cells)
            cut = torch.where((cells == cells[:, :1]).all(1), cells[:, 0], cut)
        cut = cut[:, None, None]
        mask = ((scores >= cut if c.mask_compare == ">=" else scores > cut) & body).to(scores.dtype)
        if c.mask_smooth == "bilateral":
            mask = bilateral(mask, c.bilateral_diameter, c.bilateral_sigma_space, c.bilateral_sigma_value)
        masks.append(mask)
    return torch.stack(masks, 1)


def contrastive_loss(image, text, c: Config):
    similarity = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T / c.temperature
    target = torch.arange(len(similarity))
    i2t, t2i = F.cross_entropy(similarity, target), F.cross_entropy(similarity.T, target)
    return {"two-way-sum": i2t + t2i, "two-way-mean": (i2t + t2i) / 2, "image-to-text": i2t}[c.contrastive]


def segmentation_loss(logits, mask, c: Config):
    bce = F.binary_cross_entropy_with_logits(logits, mask)
    p = logits if c.segmentation == "raw-dice+0.2bce" else logits.sigmoid()
    p, t = p.flatten(1), mask.flatten(1)
    dice = (1 - (2 * (p * t).sum(1) + 1e-5) / (p.sum(1) + t.sum(1) + 1e-5)).mean()
    return dice + 0.2 * bce if c.segmentation == "raw-dice+0.2bce" else (dice + bce) / 2


def decoder_loss(out, image, mask, c: Config):
    """Of the pseudo masks (B, masks, H, W) and what the decoder gives; None without a decoder."""
    if c.decoder_objective == "none":
        return None
    if c.decoder_objective == "reconstruction":
        return F.mse_loss(out["reconstruction"], image)
    target = mask.roll(-1, 0) if c.decoder_objective == "shuffled-masks" else mask
    pairs = zip(out["segmentation_logits"].split(1, 1), target.split(1, 1))
    return torch.stack([segmentation_loss(logits, mask, c) for logits, mask in pairs]).mean()


def run(model, batches):
    """Training steps, one a batch. Returns outputs, losses and gradients of the last, and all updates, by name."""
    c = model.config
    before = {n: t.detach().clone() for n, t in model.state_dict().items()}
    learning = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(learning, lr=c.learning_rate, weight_decay=c.weight_decay, eps=c.adam_eps)
    model.train()
    for step, batch in enumerate(batches):
        adamw.zero_grad()
        out = model(batch["image"], batch["input_ids"].long(), batch["attention_mask"].long())
        mask = pseudo_mask(out["attention_map"], batch["image"], c)
        contrastive = contrastive_loss(out["image_embedding"], out["text_embedding"], c)
        segmentation = decoder_loss(out, batch["image"], mask, c)
        loss = contrastive
        if segmentation is not None:
            loss = loss + (c.segmentation_weight if step >= c.warmup_steps else 0.0) * segmentation
        loss.backward()
        adamw.step()
    # Of several maps and masks of a film the mean is kept.
    mean = {k: v.mean(1, keepdim=True) for k, v in out.items() if k in ("segmentation_logits", "reconstruction")}
    result = {f"out.{k}": v.detach() for k, v in (out | mean).items()} | {"out.pseudo_mask": mask.mean(1, keepdim=True)}
    losses = {"contrastive": contrastive, "segmentation": segmentation, "total": loss}
    result |= {f"loss.{k}": v.detach() for k, v in losses.items() if v is not None}
    result |= {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return result | {f"update.{n}": t.detach() - before[n] for n, t in model.state_dict().items()}


def random_batch(c: Config, size, length, rng):
    """Images with a dark border (so that a body mask means something) and texts of different lengths."""
    s = c.image_size
    y, x = np.mgrid[0:s, 0:s] / s - 0.5
    images = []
    for _ in range(size):
        body = (x / rng.uniform(0.35, 0.5)) ** 2 + (y / rng.uniform(0.4, 0.55)) ** 2 < 1
        lungs = ((np.abs(x) - 0.17) / 0.1) ** 2 + (y / 0.25) ** 2 < 1
        images.append(np.clip(body * (0.7 - 0.65 * lungs) + 0.05 * rng.random((s, s)), 0, 1))
    lengths = rng.integers(3, length + 1, size)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {
        "image": torch.tensor(np.stack(images), dtype=torch.float32)[:, None],
        "input_ids": torch.tensor(rng.integers(1, c.vocab_size, (size, length)) * mask),
        "attention_mask": torch.tensor(mask),
    }


FLOAT32_FLOOR = 1e-4  # a gradient that is zero in real arithmetic is this much noise in float32, at most


def perturbed(model, part):
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for p in copied.parameters():
            p *= 1 + part * torch.randn_like(p)
    return copied


def make(args):
    c = Config(**(PRESETS[args.preset] | RECIPES[args.recipe] | json.loads(args.override)))
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    model = G2D(c)
    with torch.no_grad():  # BatchNorm at its initial values hides errors
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d) and m.affine:
                m.weight.uniform_(0.5, 1.5), m.bias.uniform_(-0.2, 0.2)
    rng = np.random.default_rng(args.seed)
    batches = [random_batch(c, args.batch, args.length, rng) for _ in range(args.steps)]
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(dataclasses.asdict(c), indent=1) + "\n")
    save_file({n: t.clone() for n, t in model.state_dict().items()}, out / "weights.safetensors")
    for i, batch in enumerate(batches):
        save_file(batch, out / f"batch-{i}.safetensors")
    exact = model.double()
    batches = [b | {"image": b["image"].double()} for b in batches]
    want = run(copy.deepcopy(exact), batches)
    if not all(t.isfinite().all() for t in want.values()):
        sys.exit("not finite: choose other values")
    save_file({n: (t.float() if t.is_floating_point() else t).contiguous() for n, t in want.items()},
              out / "expected.safetensors")
    tolerance = dict.fromkeys(want, 2e-3)
    for _ in range(8):
        for error, name in errors(want, run(perturbed(exact, 2e-7), batches), FLOAT32_FLOOR):
            tolerance[name] = max(tolerance[name], 3 * error)
    (out / "tolerance.json").write_text(json.dumps({n: float(f"{t:.2e}") for n, t in tolerance.items()}, indent=0) + "\n")
    print({k: round(v.item(), 6) for k, v in want.items() if k.startswith("loss.")}, len(want), "tensors;",
          sum(t > 2e-3 for t in tolerance.values()), "with a tolerance over 2e-3, the widest",
          f"{max(tolerance.values()):.1e}")


def errors(want, got, part):
    """Worst first: (rms(got - want) / (rms(want) + floor), name). The floor, that part of the largest rms among
    tensors of the same kind (out, grad, ...), lets what is zero but for rounding pass."""
    rms = lambda t: t.double().square().mean().sqrt().item()
    floor = {}
    for name, w in want.items():
        kind = name.split(".")[0]
        floor[kind] = max(floor.get(kind, 0.0), part * rms(w))
    found = []
    for name in sorted(set(want) & set(got)):
        w, g = want[name].double(), got[name].double()
        error = rms(g - w) / (rms(w) + floor[name.split(".")[0]] + 1e-12) if w.shape == g.shape else float("inf")
        found.append((error if error == error else float("inf"), name))
    return sorted(found, reverse=True)


def judge(case, result, rtol=None):
    """Worst first: (error over what is allowed, error, name), and the names that are missing."""
    want, got = load_file(case / "expected.safetensors"), load_file(result)
    allowed = json.loads((case / "tolerance.json").read_text())
    worst, missing = errors(want, got, 1e-6 if rtol else FLOAT32_FLOOR), sorted(set(want) - set(got))
    return sorted(((e / (rtol or allowed[n]), e, n) for e, n in worst), reverse=True), missing


def compare(args):
    worst, missing = judge(pathlib.Path(args.case), args.result, args.rtol)
    for ratio, error, name in worst[:10]:
        print(f"{error:.2e} ({ratio:.2f} of what is allowed)  {name}")
    for name in missing[:10]:
        print("missing   ", name)
    bad = sum(not ratio <= 1 for ratio, _, _ in worst)
    print(f"{len(worst)} tensors, {bad} beyond what is allowed, {len(missing)} missing")
    return bool(bad or missing)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    m = sub.add_parser("make")
    m.add_argument("--preset", choices=PRESETS, default="tiny")
    m.add_argument("--recipe", choices=RECIPES, default="default")
    m.add_argument("--override", default="{}", help="a JSON object of Config fields")
    m.add_argument("--batch", type=int, default=6)
    m.add_argument("--length", type=int, default=24)
    m.add_argument("--seed", type=int, default=0)
    m.add_argument("--steps", type=int, default=1)
    m.add_argument("--out", required=True)
    m.set_defaults(run=make)
    q = sub.add_parser("compare")
    q.add_argument("case")
    q.add_argument("result")
    q.add_argument("--rtol", type=float)
    q.set_defaults(run=compare)
    args = p.parse_args()
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
