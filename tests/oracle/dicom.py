"""DICOM files of every kind that is read, and the gray that pydicom gives for them.

    tests/oracle/setup
    target/oracle/bin/pip install --no-deps -r tests/oracle/dicom-requirements.txt
    target/oracle/bin/python tests/oracle/dicom.py [FOLDER]

Writes NAME.dcm and expected.json into FOLDER (tests/fixtures/dicom), which tests/dicom.rs reads. Pictures are 16 by 12 and
made of formulas; files hold no name of anybody. Expected is `apply_modality_lut` and `apply_voi_lut` of pydicom, between
what the elements allow (8 bits where a window or table says what is to be seen, or no more are stored; else 16), MONOCHROME1
inverted. Peers: pydicom; imagecodecs (libjpeg-turbo, OpenJPEG) as encoders; Pillow decodes lossy JPEG.

    target/oracle/bin/python tests/oracle/dicom.py compare FOLDER DUMP

compares a folder of any DICOM files with what the ignored test `films_are_dumped` of tests/dicom.rs wrote of them: for
every NAME that was read, DUMP/NAME.gray (width, height, bits as u32, then u8 or u16 values, little endian).
"""

import json
import pathlib
import sys

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian,
                         ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless,
                         JPEGLosslessSV1, JPEGLSLossless, RLELossless)

OUT = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "dicom"
ROWS, COLUMNS = 12, 16


def picture(bits, signed=False):
    y, x = np.mgrid[:ROWS, :COLUMNS]
    values = (x * 211 + y * 97 + x * y * 5) % (1 << bits)
    if signed:
        return (values - (1 << bits - 1)).astype(np.int8 if bits <= 8 else np.int16)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def smooth():
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return (x * 12 + y * 5).astype(np.uint8)


def lut(first, entries, bits, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return pydicom.Sequence([item])


def dataset(array, bits, allocated=None, syntax=ExplicitVRLittleEndian, photometric="MONOCHROME2", **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.ImplementationClassUID = UID("1.2.3.4")
    found = Dataset()
    found.file_meta, found.preamble = meta, b"\0" * 128
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, UID("1.2.3")
    found.Modality = "DX"
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, photometric
    found.Rows, found.Columns = array.shape
    found.BitsAllocated = allocated or array.dtype.itemsize * 8
    found.BitsStored, found.HighBit = bits, bits - 1
    found.PixelRepresentation = int(array.dtype.kind == "i")
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def gray(found, array):
    """The gray of stored values, and its bits."""
    signed, bits = found.PixelRepresentation == 1, found.BitsStored
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    measured = apply_modality_lut(array, found)
    if "ModalityLUTSequence" in found:
        low, high = 0, (1 << found.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    elif found.get("RescaleSlope") is not None:
        ends = [end * float(found.RescaleSlope) + float(found.RescaleIntercept) for end in (low, high)]
        low, high = min(ends), max(ends)
    seen, narrow = measured.astype(np.float64), bits <= 8
    if "VOILUTSequence" in found:
        seen, narrow = apply_voi_lut(measured, found).astype(np.float64), True
        low, high = 0, (1 << found.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif found.get("WindowWidth") is not None:
        seen, narrow = apply_voi_lut(measured, found), True
    unit = (seen - low) / (high - low)
    if found.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    return 8 if narrow else 16, np.floor(unit * (255 if narrow else 65535) + 0.5).clip(0, 255 if narrow else 65535)


def cases():
    """Name, data set, its stored values, and how they are coded (a function of them, or None)."""
    twelve = picture(12)
    window = dict(WindowCenter="1500.5", WindowWidth="1200")
    for name, syntax in [("explicit", ExplicitVRLittleEndian), ("implicit", ImplicitVRLittleEndian),
                         ("big-endian", ExplicitVRBigEndian), ("deflated", DeflatedExplicitVRLittleEndian)]:
        yield name, dataset(twelve, 12, syntax=syntax), twelve, None
    yield "8-bits", dataset(picture(8), 8), picture(8), None
    yield "8-bits-big-endian", dataset(picture(8), 8, syntax=ExplicitVRBigEndian), picture(8), None
    yield "10-bits-inverted", dataset(picture(10), 10, photometric="MONOCHROME1"), picture(10), None
    yield "16-bits", dataset(picture(16), 16), picture(16), None
    yield "signed-16", dataset(picture(16, True), 16), picture(16, True), None
    yield "signed-12-window", dataset(picture(12, True), 12, WindowCenter="-100", WindowWidth="900"), picture(12, True), None
    yield "window", dataset(twelve, 12, **window), twelve, None
    yield "window-inverted", dataset(twelve, 12, photometric="MONOCHROME1", **window), twelve, None
    yield "window-exact", dataset(twelve, 12, VOILUTFunction="LINEAR_EXACT", **window), twelve, None
    yield "window-sigmoid", dataset(twelve, 12, VOILUTFunction="SIGMOID", **window), twelve, None
    yield "windows", dataset(twelve, 12, WindowCenter=["2000", "100"], WindowWidth=["4000", "10"]), twelve, None
    yield "window-of-one", dataset(twelve, 12, WindowCenter="2000", WindowWidth="1"), twelve, None
    yield "rescale", dataset(twelve, 12, RescaleSlope="0.25", RescaleIntercept="-1024"), twelve, None
    yield "rescale-window", dataset(twelve, 12, RescaleSlope="2.5", RescaleIntercept="-1000", WindowCenter="3000",
                                    WindowWidth="5000"), twelve, None
    falling = [65535 - at * 60 for at in range(1000)]
    yield "modality-table", dataset(twelve, 12, ModalityLUTSequence=lut(500, falling, 16)), twelve, None
    rising = [at * at // 40 for at in range(1600)]
    yield "voi-table", dataset(twelve, 12, VOILUTSequence=lut(1000, rising, 16), **window), twelve, None
    yield "voi-table-implicit", dataset(twelve, 12, syntax=ImplicitVRLittleEndian,
                                        VOILUTSequence=lut(1000, rising, 16)), twelve, None
    yield "voi-table-signed", dataset(picture(12, True), 12, VOILUTSequence=lut(-700, rising, 16, "SS")), picture(12, True), None
    yield "rle", dataset(twelve, 12, syntax=RLELossless), twelve, "rle"
    yield "rle-8", dataset(picture(8), 8, syntax=RLELossless), picture(8), "rle"
    lossless = lambda predictor, bits: lambda values: imagecodecs.jpeg_encode(
        values, lossless=True, predictor=predictor, bitspersample=bits)
    yield "jpeg-lossless-sv1", dataset(twelve, 12, syntax=JPEGLosslessSV1), twelve, lossless(1, 12)
    yield "jpeg-lossless-6", dataset(twelve, 12, syntax=JPEGLossless), twelve, lossless(6, 12)
    yield "jpeg-lossless-16", dataset(picture(16), 16, syntax=JPEGLosslessSV1), picture(16), lossless(1, 16)
    yield "jpeg-2000", dataset(twelve, 12, syntax=JPEG2000Lossless), twelve, lambda values: imagecodecs.jpeg2k_encode(
        values, codecformat="j2k", reversible=True, bitspersample=12, level=0)
    yield "jpeg-2000-signed", dataset(picture(12, True), 12, syntax=JPEG2000Lossless), picture(12, True), lambda values: (
        imagecodecs.jpeg2k_encode(values, codecformat="j2k", reversible=True, bitspersample=12, level=0))
    yield "jpeg-baseline", dataset(smooth(), 8, syntax=JPEGBaseline8Bit), smooth(), lambda values: (
        imagecodecs.jpeg_encode(values, level=95))
    # These two are refused.
    yield "refused-jpeg-12", dataset(twelve, 12, syntax=JPEGExtended12Bit), twelve, lambda values: (
        imagecodecs.jpeg_encode(values, level=90, bitspersample=12))
    yield "refused-jpeg-ls", dataset(twelve, 12, syntax=JPEGLSLossless), twelve, imagecodecs.jpegls_encode


def write(out):
    out.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, found, values, code in cases():
        syntax = found.file_meta.TransferSyntaxUID
        if code is None:
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            data = values.astype(values.dtype.newbyteorder(order)).tobytes()
            if syntax == ExplicitVRBigEndian and values.dtype.itemsize == 1:
                data = np.frombuffer(data, "<u2").astype(">u2").tobytes()  # words, as OW says
            found.PixelData = data
        else:
            coded = RLELosslessEncoder.encode(values, rows=ROWS, columns=COLUMNS, samples_per_pixel=1, number_of_frames=1,
                                              bits_allocated=found.BitsAllocated, bits_stored=found.BitsStored,
                                              pixel_representation=0, photometric_interpretation="MONOCHROME2"
                                              ) if code == "rle" else bytes(code(values))
            found.PixelData = encapsulate([coded])
        found["PixelData"].VR = "OB" if code else "OW"
        if code:
            found["PixelData"].is_undefined_length = True
        little = syntax != ExplicitVRBigEndian
        found.save_as(out / f"{name}.dcm", enforce_file_format=True, little_endian=little,
                      implicit_vr=syntax == ImplicitVRLittleEndian)
        if name.startswith("refused"):
            continue
        read = pydicom.dcmread(out / f"{name}.dcm")
        if name == "jpeg-baseline":
            values = read.pixel_array
        bits, levels = gray(read, values)
        expected[name] = {"bits": bits, "gray": levels.astype(int).ravel().tolist()}
    (out / "expected.json").write_text(json.dumps(expected, separators=(",", ":")).replace("},", "},\n") + "\n")
    print(f"{len(expected)} pictures, {sum(file.stat().st_size for file in out.iterdir())} bytes")


def compare(folder, dump):
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        ours = dump / f"{file.name}.gray"
        try:
            found = pydicom.dcmread(file)
            bits, theirs = gray(found, found.pixel_array)
        except Exception as error:  # whatever pydicom cannot read
            print(f"{file.name}: {'read' if ours.exists() else 'refused'} by us, by pydicom: {type(error).__name__}")
            continue
        syntax = found.file_meta.TransferSyntaxUID.name
        if not ours.exists():
            print(f"{file.name}: {syntax}: refused by us")
            continue
        data = ours.read_bytes()
        width, height, depth = np.frombuffer(data[:12], "<u4")
        mine = np.frombuffer(data[12:], "u1" if depth == 8 else "<u2").reshape(height, width).astype(np.int64)
        assert depth == bits and mine.shape == theirs.shape, (file.name, depth, bits, mine.shape, theirs.shape)
        off = np.abs(mine - theirs)
        print(f"{file.name}: {syntax}: {width} x {height}, {depth} bits, {(off > 0).mean():.3%} differ, by {int(off.max())} at most")


if __name__ == "__main__":
    if sys.argv[1:2] == ["compare"]:
        compare(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    else:
        write(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
