"""Event files held against metrics.jsonl and the gallery by TensorBoard's own reader, after a run, after one that was killed
and resumed, and after both were damaged, which has to be noticed.

    tests/oracle/tensorboard
"""

import io
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

ROOT = pathlib.Path(__file__).resolve().parents[2]
G2D = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "release" / "g2d"
TRAIN = ["pretrain", "--data", "shards", "--preset", "micro", "--batch", "4", "--set", "validate_every=4", "--set",
         "checkpoint_every=5", "--log-interference", "--out", "run"]


class Differs(Exception):
    """The event files are not what the run wrote down."""


def g2d(folder, *words):
    subprocess.run([G2D, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wanted(run):
    """Every number of metrics.jsonl by (tag, step)."""
    found = {}

    def add(tag, value, step):
        if isinstance(value, dict):
            for name, inner in value.items():
                add(f"{tag}/{name}", inner, step)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            tag = tag.removesuffix("/value").replace(".", "/")
            assert (tag, step) not in found, f"{tag} stands in metrics.jsonl twice at step {step}"
            found[tag, step] = np.float32(value)

    for line in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(line)
        step = line.pop("step")
        for name, value in line.items():
            add(name, value, step)
    return found


def read(run):
    """Scalars by (tag, step), and images."""
    files = list((run / "tensorboard").iterdir())
    if len(files) != 1:
        raise Differs(f"{len(files)} files")
    scalars, images, clock, events = {}, {}, 0.0, 0
    for event in LegacyEventFileLoader(str(files[0])).Load():
        events += 1
        if event.wall_time < clock:
            raise Differs(f"step {event.step} lies before the one before it")
        clock = event.wall_time
        for value in event.summary.value:
            into, what = (images, value.image) if value.HasField("image") else (scalars, np.float32(value.simple_value))
            if (value.tag, event.step) in into:
                raise Differs(f"{value.tag} twice at step {event.step}")
            into[value.tag, event.step] = what
    # The reader stops in silence at a record that is cut off or damaged.
    content, at, records = files[0].read_bytes(), 0, 0
    while at < len(content):
        at += struct.unpack_from("<Q", content, at)[0] + 16
        records += 1
    if (at, records) != (len(content), events):
        raise Differs(f"{events} of {records} records were read, {at} bytes for {len(content)}")
    return scalars, images


def check(run):
    """Compares a run's event files with what it wrote down; returns how many scalars and images there are."""
    scalars, images = read(run)
    expected = wanted(run)
    if scalars != expected:
        some = sorted(scalars.items() ^ expected.items())[:3]
        raise Differs(f"{len(scalars)} scalars for {len(expected)} numbers; {some}")
    films = len(json.loads((run / "gallery" / "films.json").read_text()))
    tags = [f"films/{at + 1}" for at in range(films)]
    pictures = sorted((run / "gallery").glob("step-*.png"))
    steps = [int(re.search(r"\d+", path.name)[0]) for path in pictures]
    validations = {step for tag, step in expected if tag == "validation/films"}
    shown = {step for _, step in images}
    # Where many are thinned out, the last validation's picture may not be among those that stay.
    needed = steps if len(validations) < 11 else steps[:-1]
    if set(images) != {(tag, step) for tag in tags for step in shown} or not set(needed) <= shown <= validations:
        raise Differs(f"images at {sorted(shown)}, pictures at {steps}, validations at {sorted(validations)}")
    width, height = Image.open(pictures[0]).size
    tile = height // films
    for (tag, step), image in images.items():
        size = Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB").size
        # The film itself stands before what is made of it.
        if not (size == (image.width, image.height) == (width + tile, tile) and image.colorspace == 3):
            raise Differs(f"{tag} at step {step}: {size}, said to be {image.width} x {image.height}, of tiles of {tile}")
    return len(scalars), len(images)


def must_differ(run, what, change):
    """A damaged copy of a run does not pass."""
    copy = run.with_name("damaged")
    shutil.copytree(run, copy)
    check(copy)  # the copy alone does
    change(copy, next((copy / "tensorboard").iterdir()))
    try:
        check(copy)
    except Exception as found:  # a reader may refuse in ways of its own
        print(f"{what}: noticed: {str(found)[:90]}")
    else:
        raise AssertionError(f"{what} was not noticed")
    shutil.rmtree(copy)


def flip(at):
    def change(_, events):
        content = bytearray(events.read_bytes())
        content[at(len(content))] ^= 1
        events.write_bytes(content)
    return change


def without_a_line(run, _):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3] + lines[4:]))


def another_number(run, _):
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(re.sub(r'"lr":[^,}]*', '"lr":0.125', text, count=1))


def main():
    folder = pathlib.Path(sys.argv[1])
    g2d(folder, "phantom", "--count", "60", "--seed", "3", "--out", "drawn")
    g2d(folder, "pack", "--pairs", "drawn/pairs.csv", "--boxes", "drawn/boxes.csv", "--size", "64", "--out", "shards")
    g2d(folder, *TRAIN, "--steps", "12")
    run = folder / "run"
    print("a run: %d scalars, %d images" % check(run))
    g2d(folder, "pretrain", "--resume", "--out", "run", "--steps", "14")
    print("resumed: %d scalars, %d images" % check(run))
    # Killed while it writes, wherever that is; then taken to its end.
    kills = 0
    for last in range(30, 200, 30):
        command = [G2D, "pretrain", "--resume", "--out", "run", "--steps", str(last)]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = (run / "metrics.jsonl").stat().st_size
        while process.poll() is None and (run / "metrics.jsonl").stat().st_size < begun + 1500:
            time.sleep(0.002)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills > 2, f"only {kills} processes were killed at work"
    g2d(folder, "pretrain", "--resume", "--out", "run", "--steps", "200")
    print(f"killed {kills} times: %d scalars, %d images" % check(run))
    g2d(folder, "report", "run")
    print("made anew: %d scalars, %d images" % check(run))
    must_differ(run, "one bit in the middle", flip(lambda length: length // 2))
    must_differ(run, "one bit of a checksum", flip(lambda length: length - 1))
    must_differ(run, "a file cut off", lambda _, events: events.write_bytes(events.read_bytes()[:-7]))
    must_differ(run, "no file", lambda _, events: events.unlink())
    must_differ(run, "a step more than was written down", without_a_line)
    must_differ(run, "another number", another_number)


main()
