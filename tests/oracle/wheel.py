"""The Python wheel as its users have it, against the command, and against the specification in PyTorch.

Run by tests/oracle/wheel: the module `g2d` is the installed one, $G2D_WHEEL_CASE the folder in which the wheel lies, and in which runs
are made. The binary is $G2D, or release/g2d in the cargo target folder.
"""

import ast
import concurrent.futures
import ctypes
import dataclasses
import inspect
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import unittest

import g2d
import numpy as np
import torch
import torch.nn.functional as F
import torch_g2d
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
G2D = os.environ.get("G2D", str(TARGET / "release" / "g2d"))
CASE = pathlib.Path(os.environ["G2D_WHEEL_CASE"])
RUN, SIDE, PHRASE = CASE / "run", 64, "pleural effusion"
TEXTS = ["The lungs are clear.", "Right pleural effusion.", "No finding."]
# What f32 and another order of sums may differ by, on numbers below 1. Measured: 1.8e-7.
CLOSE = 1e-5


def command(*words):
    return subprocess.run([G2D, *map(str, words)], check=True, capture_output=True, text=True, cwd=CASE).stdout


def setUpModule():
    command("phantom", "--count", 40, "--seed", 5, "--out", "drawn")
    command("pack", "--pairs", "drawn/pairs.csv", "--size", SIDE, "--out", "shards")
    command("pretrain", "--data", "shards", "--preset", "micro", "--steps", 2, "--batch", 4, "--device", "cpu", "--out", RUN)


def images():
    return sorted((CASE / "drawn" / "images").iterdir())


def films(session, count):
    return np.stack([session.read_film(path) for path in images()[:count]])


def specification():
    """The run's newest checkpoint in PyTorch."""
    config = json.loads((RUN / "config.json").read_text())["model"]
    known = {field.name for field in dataclasses.fields(torch_g2d.Config)}
    model = torch_g2d.G2D(torch_g2d.Config(**{name: value for name, value in config.items() if name in known}))
    weights = max((RUN / "checkpoints").iterdir()) / "weights.safetensors"
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in load_file(weights).items()}, strict=True)
    return model.eval()


class Wheel(unittest.TestCase):
    def close(self, found, wanted, bound=CLOSE):
        found, wanted = np.asarray(found), np.asarray(wanted)
        self.assertEqual(found.shape, wanted.shape)
        self.assertTrue((np.abs(found - wanted) <= bound).all(), np.abs(found - wanted).max())

    def refused(self, words, work, *arguments, **named):
        with self.assertRaises(g2d.Error) as caught:
            work(*arguments, **named)
        self.assertIsInstance(caught.exception, ValueError)
        self.assertIn(words, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_it_is_one_wheel_for_every_python_from_3_11_on(self):
        (wheel,) = CASE.glob("*.whl")
        self.assertTrue(wheel.name.startswith(f"g2d-{g2d.__version__}-cp311-abi3-"), wheel.name)
        self.assertEqual(command("--version").split()[-1], g2d.__version__)

    def test_the_stub_names_what_is_there_and_every_name_has_its_text(self):
        folder = pathlib.Path(g2d.__file__).parent
        self.assertTrue((folder / "py.typed").exists())
        stub = ast.parse((folder / "__init__.pyi").read_text()).body
        (listed,) = [ast.literal_eval(node.value) for node in stub if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
        self.assertEqual(listed, g2d.__all__)
        for node in stub:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            there = getattr(g2d, node.name)
            self.assertTrue(there.__doc__, node.name)
            if node.name not in ("Session", "Grounded"):
                continue
            named = {member.name for member in node.body if member.name != "__new__"}
            self.assertEqual(named, {name for name in vars(there) if not name.startswith("_")})
            for name in named:
                self.assertTrue(inspect.getdoc(getattr(there, name)), name)
        self.assertEqual(str(inspect.signature(g2d.Session)), "(weights, *, device='cpu', batch=1, threads=0)")

    def test_it_gives_what_the_specification_computes(self):
        model = specification()
        pool, c = model.attnpool, model.config
        for batch in (1, 4):
            session = g2d.Session(str(RUN), batch=batch)
            pixels = films(session, 3)
            with torch.inference_mode():
                image = torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1) / 255
                features = model.img_model.encoder(image)
                cells = model.proj_v(features[-1])
                embeddings = F.normalize(pool(cells)[0])
                masks = model.img_model.decoded(features)[:, 0].sigmoid()
                ids = [torch.tensor([session.encode(text)]) for text in (*TEXTS, PHRASE)]
                texts = F.normalize(torch.cat([model.text_embedding(row, torch.ones_like(row)) for row in ids]))
                # What the pool makes of each cell alone: its value, through both projections.
                tokens = cells[0].flatten(1).T + pool.positional_embedding[1:]
                value = [part.chunk(3)[2] for part in (pool.mhsa.in_proj_weight, pool.mhsa.in_proj_bias)]
                alone = F.normalize(pool.c_proj(pool.mhsa.out_proj(F.linear(tokens, *value))))
                warm = (alone @ texts[-1]).reshape(1, 1, SIDE // 32, SIDE // 32)
                heat = F.interpolate(warm, (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0]
            self.assertEqual((session.side, session.dim, session.batch, c.image_size), (SIDE, c.projection_dim, batch, SIDE))
            self.close(session.embed_images(pixels), embeddings)
            self.close(session.embed_texts(TEXTS), texts[:-1])
            self.close(session.embed_texts([row[0].tolist() for row in ids]), texts)
            self.close(session.segment(pixels), masks)
            found = session.ground(pixels[0], PHRASE)
            self.close(found.map, heat)
            self.close(found.similarity, embeddings[0] @ texts[-1])

    def test_it_gives_what_the_command_shows(self):
        session = g2d.Session(RUN)
        for path in images()[:3]:
            shown = json.loads(command("explain", "--weights", RUN, "--image", path, "--text", PHRASE, "--json", "--out", "strip.png"))
            self.close(session.ground(session.read_film(path), PHRASE).similarity, shown["similarity"], 1e-6)

    def test_a_film_is_read_by_its_path_and_its_bytes(self):
        session, path = g2d.Session(RUN), images()[0]
        film = session.read_film(path)
        self.assertEqual((film.shape, film.dtype), ((SIDE, SIDE), np.uint8))
        for source in (str(path), path.read_bytes(), bytearray(path.read_bytes())):
            self.assertTrue((session.read_film(source) == film).all())
            self.assertTrue((g2d.read_film(source, SIDE) == film).all())
        self.assertEqual(g2d.read_film(path).shape, (256, 256))

    def test_whatever_the_array_is_the_film_is_the_same(self):
        session = g2d.Session(RUN, batch=2)
        pixels = films(session, 4)
        wanted = session.embed_images(pixels)

        class Foreign:
            """An array of a library that only speaks DLPack."""

            def __dlpack__(self, **named):
                return torch.from_numpy(pixels).__dlpack__(**named)

            def __dlpack_device__(self):
                return torch.from_numpy(pixels).__dlpack_device__()

        turned = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 2, 1))).transpose(1, 2)
        self.assertFalse(turned.is_contiguous())
        sealed = pixels.copy()
        sealed.flags.writeable = False
        for given in (torch.from_numpy(pixels), turned, sealed, np.asfortranarray(pixels), np.repeat(pixels, 2, 0)[::2], list(pixels), Foreign()):
            self.assertTrue((session.embed_images(given) == wanted).all())
        self.assertTrue((session.embed_images([Foreign()])[0] == wanted).all())
        self.assertTrue((session.embed_images(pixels.reshape(2, 2, SIDE, SIDE)) == wanted.reshape(2, 2, -1)).all())
        self.assertEqual(session.embed_images(pixels[0]).shape, (session.dim,))
        self.assertEqual(session.embed_images(pixels[:0]).shape, (0, session.dim))
        self.assertEqual(session.embed_texts([]).shape, (0, session.dim))
        self.assertEqual(session.segment(pixels[:, None]).shape, (4, 1, SIDE, SIDE))

    def test_torch_takes_results_without_a_copy(self):
        session = g2d.Session(RUN)
        film = session.read_film(images()[0])
        found = session.ground(film, PHRASE)
        for array in (film, found.map, session.embed_images(film), session.segment(film), session.embed_texts(TEXTS)):
            tensor = torch.from_dlpack(array)
            self.assertEqual(tensor.data_ptr(), array.ctypes.data)
            tensor.zero_()
            self.assertFalse(array.any())
        self.assertIs(found.map, found.map)

    def test_what_is_no_film_is_refused(self):
        session = g2d.Session(RUN)
        film = session.read_film(images()[0])
        self.refused("uint8 [..., 64, 64]", session.embed_images, film / 255)
        self.refused("float32 [1, 64, 64]", session.segment, torch.zeros(1, SIDE, SIDE))
        self.refused("uint8 [64, 63]", session.embed_images, film[:, 1:])
        self.refused("uint8 [64]", session.ground, film[0], PHRASE)
        self.refused("no array", session.embed_images, [film, film[1:]])
        self.refused("this is str", session.embed_images, "film.png")
        self.refused("no array", session.embed_images, torch.zeros(SIDE, SIDE, dtype=torch.uint8, device="meta"))
        self.refused("one film", session.ground, np.stack([film, film]), PHRASE)
        self.refused("nowhere.png: the file is missing", session.read_film, "nowhere.png")
        self.refused("neither PNG", g2d.read_film, b"GIF89a, which is not read")
        for side in (0, 4097):
            self.refused("from 1 to 4096", g2d.read_film, images()[0], side)
        self.assertRaises(TypeError, session.read_film, 7)

    def test_what_is_no_text_is_refused(self):
        session = g2d.Session(RUN)
        film = session.read_film(images()[0])
        self.refused("a list of str", session.embed_texts, PHRASE)
        self.refused("a list of str", session.embed_texts, [PHRASE, 7])
        self.refused("a list of str", session.embed_texts, 7)
        self.refused("a text is bytes", session.embed_texts, [PHRASE.encode()])
        self.refused("no word", session.ground, film, " ")
        self.refused("vocab_size", session.embed_texts, [[2, 10_000_000, 3]])
        self.refused("0 tokens", session.embed_texts, [[]])

    def test_what_is_no_model_is_refused(self):
        self.refused("nowhere", g2d.Session, "nowhere")
        self.refused("`gpu`", g2d.Session, RUN, device="gpu")
        self.refused("batch", g2d.Session, RUN, batch=0)
        self.refused("batsh", g2d.Session.train, preset="micro", batsh=4)
        self.refused("huge", g2d.Session.train, preset="huge")
        self.refused("cannot be read", g2d.Session.train, preset=3)
        self.refused("nowhere", g2d.Session.train, weights=pathlib.Path("nowhere"))
        damaged = CASE / "damaged"
        shutil.copytree(RUN, damaged)
        weights = max((damaged / "checkpoints").iterdir()) / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        self.refused("digests differ", g2d.Session, damaged)

    def test_weights_that_are_not_finite_are_refused_or_their_numbers_are(self):
        session = g2d.Session(RUN)
        film = session.read_film(images()[0])
        before = session.embed_images(film)
        session.save(CASE / "plain")
        weights = load_file(CASE / "plain" / "weights.safetensors")
        for name, number, words in (("nan", np.nan, "not finite"), ("huge", 3e38, "")):
            save_file(weights | {"proj_v.3.weight": np.full_like(weights["proj_v.3.weight"], number)}, CASE / name)
            if words:
                self.refused(words, session.load, CASE / name)
                self.assertTrue((session.embed_images(film) == before).all())
            else:
                session.load(CASE / name)
                self.refused("these weights cannot be used", session.embed_images, film)
        session.load(CASE / "plain")
        self.assertTrue((session.embed_images(film) == before).all())

    def test_a_model_is_trained_saved_and_opened(self):
        settings = dict(preset="micro", tokenizer=RUN / "tokenizer.json", batch=np.int64(4), text_length=32, seed=1, augment="none")
        session = g2d.Session.train(**settings, threads=2)
        self.assertTrue(session.trains and session.segments and session.metrics is None)
        self.assertEqual((session.batch, session.text_length, session.config["image_size"]), (4, 32, SIDE))
        pixels, texts = films(session, 4), [*TEXTS, PHRASE]
        taken = [session.step(pixels, texts, 2e-3) for _ in range(4)]
        self.assertLess(taken[3]["total"], taken[0]["total"])
        self.assertEqual((session.steps, session.metrics), (4, taken[3]))
        self.refused("learning rate", session.step, pixels, texts, float("nan"))
        self.refused("4 films of 64 by 64", session.step, pixels[1:], texts, 2e-3)
        self.refused("3 texts", session.step, pixels, texts[1:], 2e-3)
        self.assertEqual(session.steps, 4)
        again = g2d.Session.train(**settings, threads=1)
        tokens = [again.encode(text) for text in texts]
        self.assertEqual([again.step(torch.from_numpy(pixels), tokens, 2e-3) for _ in range(4)], taken)
        session.save(CASE / "trained")
        self.refused("trained", session.save, CASE / "trained")
        opened = g2d.Session(CASE / "trained", batch=4)
        self.assertLess(opened.memory, session.memory)
        self.assertTrue((opened.embed_images(pixels) == session.embed_images(pixels)).all())
        self.assertTrue((opened.embed_texts(texts) == session.embed_texts(texts)).all())
        self.refused("to use its model", opened.step, pixels, texts, 2e-3)

    def test_threads_share_a_session(self):
        session = g2d.Session(RUN, batch=4)
        pixels = films(session, 40)
        wanted = session.embed_images(pixels)
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for found in threads.map(session.embed_images, [pixels] * 8):
                self.assertTrue((found == wanted).all())

    def test_other_threads_go_on_while_it_computes(self):
        def counted(work, *arguments):
            """How often another thread was there in the middle half of some work."""
            seen, done = [], threading.Event()

            def look():
                while not done.wait(1e-3):
                    seen.append(time.monotonic())

            thread = threading.Thread(target=look)
            thread.start()
            start = time.monotonic()
            work(*arguments)
            quarter = (time.monotonic() - start) / 4
            done.set()
            thread.join()
            return sum(start + quarter < at < start + 3 * quarter for at in seen)

        many = np.zeros((400, SIDE, SIDE), np.uint8)
        session = g2d.Session(RUN, batch=len(many))  # one piece, at whose end alone signals are heard
        self.assertGreater(counted(session.embed_images, many), 5)
        self.assertEqual(counted(ctypes.PyDLL(None).usleep, 300_000), 0, "a call that lets nobody on is noticed")

    def test_ctrl_c_ends_a_call_and_the_session_goes_on(self):
        session = g2d.Session(RUN, threads=1)
        film = session.read_film(images()[0])
        wanted = session.embed_images(film)
        many = np.broadcast_to(film, (1000, SIDE, SIDE))
        start = time.monotonic()
        session.embed_images(many)
        whole = time.monotonic() - start
        threading.Timer(whole / 4, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            session.embed_images(np.broadcast_to(film, (4000, SIDE, SIDE)))
        self.assertLess(time.monotonic() - start, 2 * whole)
        self.assertTrue((session.embed_images(film) == wanted).all())


if __name__ == "__main__":
    unittest.main()
