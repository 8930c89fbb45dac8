"""From a hospital's tree to PyTorch: what `g2d` packs, trains on and exports is what PyTorch's libraries compute with.

    chain.py FOLDER

FOLDER holds a made-up MIMIC-CXR-JPG of 1,000 studies (the test `mimic::the_tree_of_the_chain_is_written` of tests/layouts makes
it). It is packed, and the funnel compared with counts made here from its tables; pre-trained for a few steps; exported in all four
formats. Films and tokens are read here from the shards, by docs/shards.md. What the libraries compute of these goes to FOLDER,
where the test `a_run_on_a_published_layout_computes_the_same_elsewhere` of tests/weights.rs holds the run's checkpoint to it.
"""

import csv
import gzip
import json
import pathlib
import struct
import sys

import numpy as np
import onnxruntime
import segmentation_models_pytorch as smp
import torch
import torchvision
from safetensors.torch import load_file, save_file
from transformers import BertModel, BertTokenizer

from weights import close, g2d

SIDE, FILMS, POSITIONS = 64, 8, 32
# The smallest preset, with the encoder and decoder that the libraries have.
MODEL = [word for pair in ["resnet_layers=3,4,6,3", "resnet_width=64", "decoder_channels=256,128,64,32,16"] for word in ("--set", pair)]


def table(folder, name):
    with gzip.open(folder / "jpg" / f"mimic-cxr-2.0.0-{name}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def counted(folder):
    """Films listed, in the split with the same ids, frontal, with a report: as `g2d pack mimic` should have them."""
    ids = ["dicom_id", "subject_id", "study_id"]
    listed = table(folder, "metadata")
    split = {tuple(row[key] for key in ids) for row in table(folder, "split")}
    joined = [row for row in listed if tuple(row[key] for key in ids) in split]
    frontal = [row for row in joined if row["ViewPosition"] in ("PA", "AP")]
    report = "cxr/files/p{0:.2}/p{0}/s{1}.txt"
    reported = [row for row in frontal if (folder / report.format(row["subject_id"], row["study_id"])).is_file()]
    return {"films in": len(listed), "same patient": len(joined), "of view": len(frontal), "with a report": len(reported)}


def pack(folder):
    funnel = json.loads(g2d("pack", "mimic", "--images", folder / "jpg", "--reports", folder / "cxr", "--size", SIDE,
                            "--out", folder / "shards", "--json"))
    kept = {one["name"]: one["kept"] for one in funnel["filters"]}
    for words, count in counted(folder).items():
        found = [kept[name] for name in kept if words in name]
        assert found == [count], (words, count, kept)
    # The counts of what was made, which also know of reports without text and of damaged films.
    made = json.loads((folder / "funnel.json").read_text())
    assert [*kept.values(), funnel["kept"]] == made, (kept, made)
    print(f"funnel: {made}", flush=True)


def shard(path):
    """Films [records, side, side], tokens and descriptions of a shard."""
    data = path.read_bytes()
    magic, version, side, planes, entry, records, tokens, about = struct.unpack_from("<8s4I3Q", data)
    assert (magic, version, planes, entry) == (b"G2DSHARD", 1, 1, 32)
    aligned = lambda at: -(-at // 64) * 64
    films = np.frombuffer(data, np.uint8, records * side * side, 64).reshape(records, side, side)
    at = aligned(64 + films.size)
    ids = np.frombuffer(data, "<u4", tokens, at)
    index = aligned(at + 4 * tokens)
    texts = aligned(index + 32 * records)
    assert texts + about == len(data)
    rows, told = [], []
    for record in range(records):
        token, byte, count, length = struct.unpack_from("<2Q2I", data, index + 32 * record)
        rows.append(ids[token:token + count].tolist())
        told.append(json.loads(data[texts + byte:texts + byte + length]))
    return films, rows, told


def main():
    folder = pathlib.Path(sys.argv[1])
    pack(folder)
    run = folder / "run"
    g2d("pretrain", "--data", folder / "shards", "--preset", "micro", *MODEL, "--batch", 8, "--steps", 3, "--device", "cpu", "--out", run)
    for name, form in {"unet.safetensors": "smp", "resnet.safetensors": "torchvision", "bert": "hf", "g2d.onnx": "onnx"}.items():
        g2d("export", run, "--format", form, "--out", folder / name)

    films, tokens, told = shard(folder / "shards" / "shard-00000.g2d")
    chosen = [at for at in range(len(films)) if tokens[at]][:FILMS]
    (folder / "films.json").write_text(json.dumps(chosen))
    image = torch.from_numpy(films[chosen].astype(np.float32) / np.float32(255)).unsqueeze(1)
    expected = {"image": image[:, 0].contiguous()}
    with torch.inference_mode():
        colours = image.expand(-1, 3, -1, -1)
        unet = smp.Unet("resnet50", encoder_weights=None, classes=1).eval()
        unet.load_state_dict(load_file(folder / "unet.safetensors"), strict=True)
        expected["logits"] = unet(colours)[:, 0].contiguous()
        resnet = torchvision.models.resnet50(weights=None).eval()
        resnet.fc = torch.nn.Identity()
        resnet.load_state_dict(load_file(folder / "resnet.safetensors"), strict=True)
        expected["features"] = resnet(colours)
        session = onnxruntime.InferenceSession(str(folder / "g2d.onnx"), providers=["CPUExecutionProvider"])
        made = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"image": image.numpy()})))
        close("chain: onnxruntime, logits", made["segmentation_logits"][:, 0], expected["logits"])
        close("chain: onnxruntime, features", made["features"], expected["features"])
        expected["image_embedding"] = torch.from_numpy(made["image_embedding"])

        tokenizer = BertTokenizer.from_pretrained(folder / "bert")
        bert = BertModel.from_pretrained(folder / "bert", add_pooling_layer=False).eval()
        for text, row in zip([one["text"] for one in told], tokens):
            wanted = tokenizer(text, truncation=True, max_length=512)["input_ids"] if text else []
            assert row == wanted, (text, row, wanted)
        rows = [tokens[at][:POSITIONS] for at in chosen]
        expected["hidden"] = torch.cat([bert(torch.tensor([row])).last_hidden_state[0] for row in rows])
    (folder / "sentences.json").write_text(json.dumps([[told[at]["text"], row] for at, row in zip(chosen, rows)]))
    save_file(expected, folder / "expected.safetensors")
    print(f"{len(films)} films of the shards: the tokens are transformers'; features of {len(chosen)} lie in {folder}", flush=True)


if __name__ == "__main__":
    main()
