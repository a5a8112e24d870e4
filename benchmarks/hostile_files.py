"""Damaged CTs and X-rays, each with the verdict that a reader owes it.

`cts` and `xrays` write damaged variants of a small CT and of a small X-ray, in every format that is
read: flipped bits, early ends, edited headers, folders with something else in them. Each comes with
what must happen. Run as a script, it reads them in a child process with limits on time and memory:

    python benchmarks/hostile_files.py --n 20 --seed 0 --json hostile.json

`--n` is the number of random damages of each kind and format; structured damages come on top.
"""

import argparse
import bz2
import enum
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset


class Verdict(str, enum.Enum):
    "What must happen to an input."

    REFUSED = "refused"  # an error that names it
    RIGHT = "right"  # it is read, as if nothing were there
    EITHER = "either"  # one of these two
    WARNED = "warned"  # it is read as it is, with a warning that names it
    ANY = "any"  # nothing in the file betrays the damage: an error that names it, or any image


class Damaged(NamedTuple):
    "A file or folder, and what must happen to it."

    what: str  # Format and damage
    kind: str  # "ct", "xray" or "structures"
    path: Path
    verdict: Verdict
    truth: Path  # npz: voxels and affine of a CT, line integrals of an X-ray, names and labels


class Bytes(NamedTuple):
    "A whole file, and where its checksum begins to hold."

    name: str
    data: bytes
    checked: int | None  # From this byte on each bit counts; None if there is no checksum


# Damages of bytes


def random_damages(
    whole: Bytes, n: int, rng: np.random.Generator
) -> Iterator[tuple[str, bytes, Verdict]]:
    "Flipped bits, early ends, and blocks that are lost, doubled, zeroed or strewn with noise."
    size = len(whole.data)

    def verdict(begin: int) -> Verdict:
        checked = whole.checked is not None and begin >= whole.checked
        return Verdict.EITHER if checked else Verdict.ANY

    for bit in rng.integers(0, 8 * size, n).tolist():
        data = bytearray(whole.data)
        data[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(data), verdict(bit // 8)
    for end in rng.integers(0, size - 2, n).tolist():
        yield f"ends after {end} of {size} bytes", whole.data[:end], Verdict.REFUSED
    for begin, length in zip(rng.integers(0, size, n).tolist(), rng.integers(1, 200, n).tolist()):
        block = whole.data[begin : begin + length]
        noise = rng.integers(0, 256, len(block), np.uint8).tobytes()
        kinds = {"lost": b"", "doubled": 2 * block, "zeroed": bytes(len(block)), "noise": noise}
        kind = list(kinds)[begin % 4]
        data = whole.data[:begin] + kinds[kind] + whole.data[begin + length :]
        yield f"{length} bytes from {begin} {kind}", data, verdict(begin)
    for length in rng.integers(1, 400, max(1, n // 5)).tolist():
        noise = rng.integers(1, 256, length, np.uint8).tobytes()
        yield f"{length} bytes of noise at the end", whole.data + noise, verdict(size)


def edits(data: bytes, changes: dict[bytes, tuple[bytes, ...]]) -> Iterator[tuple[str, bytes]]:
    "Copies of a file with a piece of its header replaced."
    for old, news in changes.items():
        assert data.count(old) == 1, (old, data.count(old))
        for new in news:
            yield f"{old!r} becomes {new[:40]!r}", data.replace(old, new)


# The CT


def small_ct(seed: int = 0) -> tuple[np.ndarray, tuple[float, ...], tuple[float, ...]]:
    "Hounsfield units [Z, Y, X] with noise, spacing and origin [mm, LPS]."
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[-1:1:12j, -1:1:20j, -1:1:24j]
    body = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
    bone = np.where((x - 0.2) ** 2 + y**2 + z**2 < 0.1, 900.0, 0.0)
    hu = body + bone + rng.normal(0, 15, body.shape)
    return hu.round().astype(np.int16), (0.75, 0.5, 2.0), (-9.0, 20.0, -300.0)


def ct_bytes(folder: Path) -> list[Bytes]:
    "The CT in every format of one file."
    import SimpleITK as sitk

    hu, spacing, origin = small_ct()
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    files = []
    for name, packed in (
        ("ct.nii", False),
        ("ct.nii.gz", True),
        ("ct.mha", False),
        ("packed.mha", True),
        ("ct.nrrd", False),
        ("packed.nrrd", True),
    ):
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
        data = (folder / name).read_bytes()
        checked = None
        if packed:
            checked = {"gz": 10}.get(name.split(".")[-1])
            if checked is None:  # where text ends
                checked = max(data.find(b"LOCAL\n") + 6, data.find(b"\n\n") + 2)
        files.append(Bytes(name, data, checked))
    return files


_NIFTI = {  # offset of a field, its bytes as they should be, and as they should not
    40: (b"\x03\x00\x18\x00\x14\x00\x0c\x00", b"\x63\x00", b"\xff\xff", b"\x00\x00", b"\x02\x00"),
    42: (b"\x18\x00\x14\x00", b"\x19\x00", b"\x17\x00", b"\xff\xff", b"\x00\x00", b"\xff\x7f"),
    70: (b"\x04\x00\x10\x00", b"\x08\x00", b"\x02\x00", b"\x80\x00", b"\x20\x00", b"\xff\xff"),
    108: (b"\x00\x00\xb0\x43", b"\x00\x00\xb1\x43", b"\x00\x00\x00\x00", b"\x00\x00\xc0\x7f"),
    344: (b"n+1\x00", b"ni1\x00", b"xxxx"),
}
_MHA = {
    b"NDims = 3": (b"NDims = 99", b"NDims = -1", b"NDims = 0", b"NDims = 2", b"NDims = 1e9"),
    b"DimSize = 24 20 12": (
        b"DimSize = 24 20 13",
        b"DimSize = 24 20 11",
        b"DimSize = 24 20",
        b"DimSize = 24 20 -12",
        b"DimSize = 24000 20000 12000",
        b"DimSize = 99999999999 1 1",
        b"DimSize = nan 20 12",
    ),
    b"ElementSpacing = 0.75 0.5 2": (
        b"ElementSpacing = 0 0.5 2",
        b"ElementSpacing = nan 0.5 2",
        b"ElementSpacing = -0.75 0.5 2",
        b"ElementSpacing = a b c",
        b"ElemenuSpacing = 0.75 0.5 2",
    ),
    b"MET_SHORT": (b"MET_SHOR", b"MET_DOUBLE", b"MET_UCHAR", b"MET_OTHER"),
    b"TransformMatrix = 1 0 0": (b"TransformMatrix = 0 0 0", b"TransformMatrix = inf 0 0"),
    b"ElementDataFile = LOCAL": (
        b"ElementDataFile = /dev/zero",
        b"ElementDataFile = nothing.raw",
        b"ElementDataFale = LOCAL",
        b"ElementDataFile = LIST",
    ),
}
_NRRD = {
    b"dimension: 3": (b"dimension: 99", b"dimension: -1", b"dimension: 16"),
    b"sizes: 24 20 12": (
        b"sizes: 24 20 13",
        b"sizes: 24 20 11",
        b"sizes: 24 20",
        b"sizes: 24 20 0",
        b"sizes: 24000 20000 12000",
    ),
    b"type: short": (b"type: shoot", b"type: double", b"type: block"),
    b"endian: little": (b"endian: litle", b"endiam: little"),
    b"space directions: (0.75,0,0)": (
        b"space directions: (0,0,0)",
        b"space directions: (nan,0,0)",
        b"space directions: none",
        b"space dimections: (0.75,0,0)",
    ),
    b"space: left-posterior-superior": (b"space: left", b"space: "),
    b"encoding": (b"encodimg",),
}


def _ct_structured(files: dict[str, Bytes]) -> Iterator[tuple[str, bytes, Verdict]]:
    "Names and contents of files with edited headers, of bombs and of files under other names."
    plain = files["ct.nii"].data
    for offset, (right, *wrongs) in _NIFTI.items():
        assert plain[offset : offset + len(right)] == right, offset
        for wrong in wrongs:
            data = plain[:offset] + wrong + plain[offset + len(wrong) :]
            yield f"header {offset} {wrong.hex()}.nii", data, Verdict.REFUSED
            yield f"header {offset} {wrong.hex()}.nii.gz", gzip.compress(data), Verdict.REFUSED
    for name, changes in (("ct.mha", _MHA), ("packed.mha", _MHA), ("ct.nrrd", _NRRD)):
        for what, data in edits(files[name].data, changes):
            yield f"{name[:-4]} {what}.{name.split('.')[-1]}", data, Verdict.REFUSED
    for what, slices in (("bomb", 600), ("larger bomb", 1100)):  # as long as its header says
        shape = b"".join(n.to_bytes(2, "little") for n in (1000, 1000, slices))
        members = gzip.compress(bytes(2_000_000)) * slices
        bomb = gzip.compress(plain[:42] + shape + plain[48:352]) + members
        yield f"{what}.nii.gz", bomb, Verdict.REFUSED
    honest = zlib.compress(bytes(2 * 10**6))
    text = files["packed.mha"].data.partition(b"LOCAL\n")[0] + b"LOCAL\n"
    text = text.replace(b"24 20 12", b"1000 1000 1000")
    yield "bomb.mha", text + honest, Verdict.REFUSED
    for name, file in files.items():
        suffix = name.partition(".")[2]
        yield f"SCAN.{suffix.upper()}", file.data, Verdict.RIGHT
        yield os.fsdecode(b"Sch\xe4del.") + suffix, file.data, Verdict.RIGHT
        half = file.data[: len(file.data) // 2]
        yield f"HALF.{suffix.upper()}", half, Verdict.REFUSED
        yield f"empty.{suffix}", b"", Verdict.REFUSED
        other = {"nii": "mha", "mha": "nrrd", "nrrd": "nii.gz"}.get(suffix, "mha")
        yield f"really {suffix}.{other}", file.data, Verdict.REFUSED
    yield "padded.nii.gz", files["ct.nii.gz"].data + bytes(2048), Verdict.RIGHT
    yield "bzip2.nrrd", _bzip2(files["ct.nrrd"].data), Verdict.RIGHT
    yield "half.bzip2.nrrd", _bzip2(files["ct.nrrd"].data)[:-300], Verdict.REFUSED


def _bzip2(data: bytes) -> bytes:
    head, _, voxels = data.partition(b"\n\n")
    return head.replace(b"encoding: raw", b"encoding: bzip2") + b"\n\n" + bz2.compress(voxels)


def cts(folder: Path, n: int, seed: int) -> Iterator[Damaged]:
    "Damaged CTs of one file and of a series."
    rng = np.random.default_rng(seed)
    whole = folder / "whole"
    whole.mkdir(parents=True)
    truth = ct_truth(folder)
    files = {file.name: file for file in ct_bytes(whole)}
    for name, file in files.items():
        for k, (what, data, verdict) in enumerate(random_damages(file, n, rng)):
            path = folder / f"{k}-{name}"
            path.write_bytes(data)
            yield Damaged(f"{name}: {what}", "ct", path, verdict, truth)
    for k, (what, data, verdict) in enumerate(_ct_structured(files)):
        path = folder / f"structured {k}"
        path.mkdir()
        name = what if what[:4] in ("SCAN", "HALF", "Sch\udce4") else f"ct.{_suffix(what)}"
        (path / name).write_bytes(data)
        yield Damaged(what.encode(errors="replace").decode(), "ct", path / name, verdict, truth)
    yield from series(folder / "series", n, rng, truth)


def _suffix(what: str) -> str:
    return "nii.gz" if what.lower().endswith(".nii.gz") else what.rpartition(".")[2]


def ct_truth(folder: Path) -> Path:
    hu, spacing, origin = small_ct()
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1])
    affine[:3, 3] = -origin[0], -origin[1], origin[2]
    np.savez(folder / "truth.npz", data=hu.transpose(), affine=affine)
    return folder / "truth.npz"


# The series


def write_series(folder: Path, hu: np.ndarray, first: int = 0, **tags: object) -> None:
    "Slices [Z, Y, X] as a scanner writes them; names run against positions."
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    _, spacing, origin = small_ct()
    folder.mkdir(parents=True, exist_ok=True)
    for k, pixels in enumerate(hu, first):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
        dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "CT"
        dataset.ImagePositionPatient = [*origin[:2], origin[2] + spacing[2] * k]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [spacing[1], spacing[0]]
        dataset.InstanceNumber = k + 1
        dataset.set_pixel_data((pixels + 1100).astype(np.uint16), "MONOCHROME2", 12)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1100
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"{500 - k:03d}.dcm", enforce_file_format=True)


_ONE_SLICE: tuple[dict[str, object], ...] = (
    dict(PixelSpacing=None),
    dict(PixelSpacing=[0.5]),
    dict(PixelSpacing=[0, 0]),
    dict(PixelSpacing=[-0.5, 0.75]),
    dict(PixelSpacing=[0.5, 0.76]),
    dict(Rows=19),
    dict(Rows=40, Columns=12),
    dict(Columns=65535),
    dict(ImagePositionPatient=None),
    dict(ImagePositionPatient=[-9, 20]),
    dict(ImagePositionPatient=[-9, 20, 1e9]),
    dict(ImagePositionPatient=[-9, 21, -288]),
    dict(ImageOrientationPatient=None),
    dict(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
    dict(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    dict(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]),
    dict(SeriesInstanceUID="1.2.4"),
    dict(SeriesInstanceUID=None),
    dict(SamplesPerPixel=3),
    dict(NumberOfFrames=3),
    dict(BitsAllocated=8),
    dict(BitsAllocated=32),
    dict(BitsStored=0),
    dict(RescaleSlope=0),
    dict(RescaleSlope=None),
    dict(PixelData=b""),
    dict(PixelData=bytes(900)),
    dict(PixelData=bytes(970)),
)
_RAW = {  # text of tags that pydicom would not write
    b"0.5\\0.75": (b"nan\\0.75", b"abc\\0.75", b"0.5\\inf ", b"0,5\\0,75", b"        "),
    b"-9.0\\20.0\\": (b"-nan\\20.0\\", b"-9.0\\zw.0\\", b"-inf\\20.0\\"),
}


def series(folder: Path, n: int, rng: np.random.Generator, truth: Path) -> Iterator[Damaged]:
    "Folders of slices with one of them damaged, with a wrong stack, or with something beside it."
    import pydicom

    hu = small_ct()[0]
    whole = folder / "whole"
    write_series(whole, hu)
    count = 0

    def copied(what: str, verdict: Verdict, change: Callable[[Path], None]) -> Damaged:
        nonlocal count
        count += 1
        path = folder / f"{count}"
        shutil.copytree(whole, path)
        change(path)
        return Damaged(f"series: {what}", "ct", path, verdict, truth)

    def tagged(k: int, tags: dict[str, object]) -> Callable[[Path], None]:
        def change(path: Path) -> None:
            dataset = pydicom.dcmread(path / f"{500 - k:03d}.dcm")
            for keyword, value in tags.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path / f"{500 - k:03d}.dcm")

        return change

    def replaced(k: int, data: bytes) -> Callable[[Path], None]:
        return lambda path: (path / f"{500 - k:03d}.dcm").write_bytes(data) and None

    for tags in _ONE_SLICE:
        for k in (0, int(rng.integers(1, len(hu) - 1)), len(hu) - 1):
            yield copied(f"{tags} of slice {k}"[:90], Verdict.REFUSED, tagged(k, tags))
    for k in (0, 5, len(hu) - 1):
        data = (whole / f"{500 - k:03d}.dcm").read_bytes()
        for what, edited in edits(data, _RAW):
            yield copied(f"slice {k}: {what}", Verdict.REFUSED, replaced(k, edited))
    for _ in range(3 * n):
        k = int(rng.integers(len(hu)))
        name = f"{500 - k:03d}.dcm"
        file = Bytes(name, (whole / name).read_bytes(), None)
        damages = list(random_damages(file, 1, rng))
        what, data, verdict = damages[int(rng.integers(len(damages)))]
        yield copied(f"slice {k}: {what}", verdict, replaced(k, data))
    yield from _packed_slices(folder, whole, n, rng, truth)
    yield from _stacks(copied, hu)


def _packed_slices(
    folder: Path, whole: Path, n: int, rng: np.random.Generator, truth: Path
) -> Iterator[Damaged]:
    "Slices in compressed transfer syntaxes, one of them damaged."
    import pydicom

    for compressor in ("JPEG", "JPEG2000"):
        packed = folder / compressor
        packed.mkdir()
        for path in sorted(whole.iterdir()):
            dataset = pydicom.dcmread(path)
            packed_by_gdcm(dataset, dataset.pixel_array, compressor, packed)
            dataset.save_as(packed / path.name)
        yield Damaged(f"series in {compressor}", "ct", packed, Verdict.RIGHT, truth)
        for k in range(n):
            name = f"{500 - int(rng.integers(12)):03d}.dcm"
            file = Bytes(name, (packed / name).read_bytes(), None)
            damages = list(random_damages(file, 1, rng))
            what, data, verdict = damages[int(rng.integers(len(damages)))]
            copy = folder / f"{compressor}-{k}"
            shutil.copytree(packed, copy)
            (copy / name).write_bytes(data)
            yield Damaged(f"series in {compressor}: {name}: {what}", "ct", copy, verdict, truth)


def _stacks(
    copied: Callable[[str, Verdict, Callable[[Path], None]], Damaged], hu: np.ndarray
) -> Iterator[Damaged]:
    "Wrong stacks, and right ones with something beside them."

    def emptied(path: Path, write: Callable[[Path], None]) -> None:
        shutil.rmtree(path)
        path.mkdir()
        write(path)

    def tilt(step: float, spacing: float) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            for k in range(40):
                position = [-9, round(20 + step * k, 3), round(-300 + spacing * k, 3)]
                write_series(path, hu[:1], k, ImagePositionPatient=position)

        return lambda path: emptied(path, write)

    refused, right = Verdict.REFUSED, Verdict.RIGHT
    for step, spacing in ((0.09, 0.6), (0.05, 1.0), (0.5, 2.0)):
        yield copied(f"tilted by {step} mm each {spacing} mm", refused, tilt(step, spacing))
    for k in (1, 5, 10):
        name = f"{500 - k:03d}.dcm"
        yield copied(f"slice {k} missing", refused, lambda path, name=name: (path / name).unlink())
        twice = lambda path, name=name: shutil.copy(path / name, path / "copy.dcm") and None  # noqa: E731
        yield copied(f"slice {k} twice", refused, twice)
    twin = dict(SeriesInstanceUID="1.2.5")
    yield copied("two series", refused, lambda path: write_series(path, hu[:4], 50, **twin))
    yield copied("no slice", refused, lambda path: emptied(path, lambda p: None))
    large = np.zeros((9, 64, 64), np.int16)
    captured = dict(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        SeriesInstanceUID="1.2.6",
        ImagePositionPatient=None,
    )
    scout = dict(SeriesInstanceUID="1.2.7", ImagePositionPatient=None)
    own = dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ImagePositionPatient=None)
    for what, tags in (("captures", captured), ("a scout", scout), ("own captures", own)):
        add = lambda path, tags=tags: write_series(path, large, 60, **tags)  # noqa: E731
        yield copied(f"beside {what}", right, add)
    yield copied("beside a folder", right, lambda path: (path / "more.dcm").mkdir())
    yield copied(
        "beside a text", right, lambda path: (path / "notes.txt").write_text("text") and None
    )
    if os.name == "posix":
        yield copied("beside a pipe", right, lambda path: os.mkfifo(path / "pipe.dcm"))
        yield copied(
            "beside a dangling link",
            Verdict.WARNED,
            lambda path: (path / "x.dcm").symlink_to("nowhere"),
        )


# X-rays


def small_xray(seed: int = 0) -> np.ndarray:
    "Counts of 16 bits [H, W]."
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:40j, -1:1:48j]
    counts = 50000 * np.exp(-3 * np.clip(1 - x**2 - y**2, 0, None))
    return (counts + rng.normal(0, 100, counts.shape)).clip(1, 65535).round().astype(np.uint16)


def packed_by_gdcm(dataset: "Dataset", pixels: np.ndarray, compressor: str, folder: Path) -> None:
    "Put pixels into a dataset in lossless JPEG or JPEG 2000, as GDCM packs them."
    import pydicom
    import SimpleITK as sitk

    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(folder / "packed"))
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(pixels[None].astype(np.uint16)))
    packed = pydicom.dcmread(folder / "packed")
    (folder / "packed").unlink()
    dataset.PixelData = packed.PixelData
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.BitsStored, dataset.HighBit = packed.BitsStored, packed.HighBit
    dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID


def write_xray_dicom(path: Path, counts: np.ndarray, compress: str = "") -> None:
    "A file as an angiography system writes it."
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, XRayAngiographicImageStorage

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.DistanceSourceToDetector = "1020"
    dataset.DistanceSourceToPatient = "750"
    dataset.ImagerPixelSpacing = ["1.25", "1.50"]
    dataset.PositionerPrimaryAngle = "20"
    dataset.PositionerSecondaryAngle = "10"
    dataset.PixelIntensityRelationship = "LIN"
    dataset.set_pixel_data(counts, "MONOCHROME2", 16, generate_instance_uid=False)
    if compress == "RLE":
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif compress:
        packed_by_gdcm(dataset, counts, compress, path.parent)
    dataset.save_as(path, enforce_file_format=True)


_XRAY_DICOM = {
    b"1.25\\1.50": (b"nan\\1.50 ", b"abc\\1.50", b"0.00\\0.00", b"-1.2\\1.50", b"1.250000 "),
    b"1020": (b"nan ", b"-102", b"0000", b"text", b"    "),
    b"750 ": (b"nan ", b"9999", b"-75 ", b"text"),
    b"LIN ": (b"DISP", b"    ", b"LIM "),
}


def xrays(folder: Path, n: int, seed: int) -> Iterator[Damaged]:
    "Damaged X-rays in every format."
    from PIL import Image

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    counts = small_xray()
    grey = Image.fromarray((counts // 256).astype(np.uint8))
    Image.fromarray(counts).save(folder / "a.png")
    Image.fromarray(counts).save(folder / "raw.tif")
    Image.fromarray(counts).save(folder / "lzw.tif", compression="tiff_lzw")
    Image.fromarray(counts).save(folder / "deflate.tiff", compression="tiff_deflate")
    grey.save(folder / "a.jpg", quality=95)
    np.save(folder / "a.npy", counts)
    write_xray_dicom(folder / "a.dcm", counts)
    for name, compressor in (("rle", "RLE"), ("jpeg", "JPEG"), ("j2k", "JPEG2000")):
        write_xray_dicom(folder / f"{name}.dcm", counts, compressor)
    for whole in sorted(path for path in folder.iterdir() if path.is_file()):
        truth = _xray_truth(whole)
        data = whole.read_bytes()
        file = Bytes(whole.name, data, 0 if whole.suffix == ".png" else None)
        for k, (what, damaged, verdict) in enumerate(random_damages(file, n, rng)):
            path = folder / f"{k}-{whole.name}"
            if whole.suffix == ".png" and "at the end" in what:
                verdict = Verdict.EITHER  # after the part that ends a PNG nothing counts
            if whole.suffix in (".tif", ".tiff", ".jpg") and verdict == Verdict.REFUSED:
                verdict = Verdict.EITHER  # what ends a TIFF or a JPEG may be unused
            path.write_bytes(damaged)
            yield Damaged(f"{whole.name}: {what}", "xray", path, verdict, truth)
    truth = _xray_truth(folder / "a.dcm")
    for k, (what, damaged) in enumerate(edits((folder / "a.dcm").read_bytes(), _XRAY_DICOM)):
        path = folder / f"edited-{k}.dcm"
        path.write_bytes(damaged)
        yield Damaged(f"a.dcm: {what}", "xray", path, Verdict.REFUSED, truth)


def _xray_truth(path: Path) -> Path:
    "Line integrals of a whole file."
    truth = path.with_name(f"{path.name}.npz")
    if not truth.exists():
        np.savez(truth, data=read_as_xray(path))
    return truth


# Names of structures

_CSV = "structure,id,group\nleft femur,1,legs\nright femur,2,legs\nheart,7,\n"


def structures(folder: Path, n: int, seed: int) -> Iterator[Damaged]:
    "Damaged tables of names and labels."
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    truth = folder / "truth.npz"
    names = {"legs": [1, 2], "left femur": [1], "right femur": [2], "heart": [7]}
    np.savez(truth, data=np.array(json.dumps(names)))
    wholes: list[tuple[str, bytes, Verdict]] = [
        ("as it is", _CSV.encode(), Verdict.RIGHT),
        ("with a mark", _CSV.encode("utf-8-sig"), Verdict.RIGHT),
        ("with ends of DOS", _CSV.replace("\n", "\r\n").encode(), Verdict.RIGHT),
        ("in UTF-16", _CSV.encode("utf-16"), Verdict.REFUSED),
        ("in semicolons", _CSV.replace(",", ";").encode(), Verdict.REFUSED),
        ("without a head", _CSV.encode().partition(b"\n")[2], Verdict.REFUSED),
        ("empty", b"", Verdict.REFUSED),
        ("with a text", _CSV.replace("7", "seven").encode(), Verdict.REFUSED),
        ("with a fraction", _CSV.replace("7", "7.5").encode(), Verdict.REFUSED),
        ("with a negative label", _CSV.replace("7", "-7").encode(), Verdict.REFUSED),
        ("of a long line", _CSV.encode() + b"x" * 10**6, Verdict.REFUSED),
    ]
    file = Bytes("names.csv", _CSV.encode(), None)
    for what, data, verdict in random_damages(file, n, rng):
        wholes.append((what, data, Verdict.ANY if verdict != Verdict.RIGHT else verdict))
    for k, (what, data, verdict) in enumerate(wholes):
        path = folder / f"{k}-names.csv"
        path.write_bytes(data)
        yield Damaged(f"structures {what}", "structures", path, verdict, truth)


def dialects(folder: Path) -> list[Damaged]:
    "Whole files in odd dialects, see `hostile_dialects.py`."
    import hostile_dialects

    cts = hostile_dialects.cts(folder / "cts")
    return [*cts, *hostile_dialects.xrays(folder / "xrays")]


# Reading and judging


def read_as_xray(path: Path) -> np.ndarray:
    "Line integrals, with the geometry that pictures lack."
    from diffpose.xray import read_xray

    known = {} if path.suffix == ".dcm" else dict(sdd=1020.0, delx=1.5, intensity="raw")
    return read_xray(path, **known).image.numpy()


def judged(kind: str, path: Path, truth: Path) -> tuple[str, str]:
    "What a reader does with an input: refused, right, wrong or crashed; and its words."
    from diffpose.data import read, read_structures

    expected = np.load(truth)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if kind == "structures":
                data, same = np.array(json.dumps(read_structures(path))), True
            elif kind == "ct":
                subject = read(path, center_volume=False)
                data = subject.volume.data[0].numpy()
                same = np.allclose(subject.volume.affine, expected["affine"], atol=1e-3)
            else:
                data, same = read_as_xray(path), True
    except (ValueError, OSError) as error:
        named = path.name in str(error) or str(path) in str(error)
        return ("refused" if named else "crashed"), f"{type(error).__name__}: {error}"
    except Exception as error:  # what no reader should raise
        return "crashed", f"{type(error).__name__}: {error}"
    same = same and data.shape == expected["data"].shape
    words = "; ".join(str(warning.message) for warning in said if _is_ours(warning))
    if not (same and np.array_equal(data, expected["data"])):
        return "wrong", words
    return ("warned" if words else "right"), words


def _is_ours(warning: warnings.WarningMessage) -> bool:
    "Is this a warning of this package, and not of one that it calls?"
    return "diffpose" in Path(warning.filename).parts


def limit_memory(memory: int) -> None:
    "Let this process take so many bytes beyond what it has now."
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _child(manifest: Path, begin: int, memory: int) -> None:
    "Read inputs one by one, and say what became of each."
    import torch  # noqa: F401  # before memory is counted

    from diffpose import data, xray  # noqa: F401

    limit_memory(memory)
    for k, (kind, path, truth) in enumerate(json.loads(manifest.read_text())[begin:], begin):
        print(json.dumps(["begin", k]), flush=True)
        since = time.monotonic()
        outcome, words = judged(kind, Path(os.fsdecode(bytes.fromhex(path))), Path(truth))
        words = words.encode(errors="replace").decode()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps([outcome, k, words, time.monotonic() - since, peak]), flush=True)


class Outcome(NamedTuple):
    "What became of an input."

    outcome: str
    words: str = ""
    seconds: float = 0.0
    peak: int = 0  # Of the process so far [MB]


def run(inputs: list[Damaged], seconds: float, memory: int, folder: Path) -> list[Outcome]:
    "What became of each input, from child processes with limits."
    manifest = folder / "manifest.json"
    items = [[x.kind, os.fsencode(x.path).hex(), str(x.truth)] for x in inputs]
    manifest.write_text(json.dumps(items))

    def command(begin: int) -> list[str]:
        return [sys.executable, __file__, "--child", str(manifest), str(begin), str(memory)]

    return in_children(command, len(inputs), seconds, folder)


def in_children(
    command: Callable[[int], list[str]], n: int, seconds: float, folder: Path
) -> list[Outcome]:
    "What became of n inputs, from commands that begin at one of them, each with a time limit."
    log = folder / "outcomes"
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < n:
        with log.open("w") as out, (folder / "stderr").open("w") as err:
            process = subprocess.Popen(command(len(outcomes)), stdout=out, stderr=err)
            fate = _watch(process, log, seconds)
        for line in log.read_text().splitlines():
            outcome, k, *facts = json.loads(line)
            if outcome != "begin":
                outcomes[k] = Outcome(outcome, *facts)
        if len(outcomes) < n:
            words = (folder / "stderr").read_text(errors="replace")[-300:]
            outcomes[len(outcomes)] = Outcome(fate, f"exit {process.returncode}: {words}")
    return [outcomes[k] for k in range(n)]


def _watch(process: subprocess.Popen, log: Path, seconds: float) -> str:
    "Wait for a child, or end it if it says nothing for too long."
    said, since = 0, time.monotonic() + 60  # to import
    while process.poll() is None:
        time.sleep(0.1)
        size = log.stat().st_size
        if size != said:
            said, since = size, time.monotonic()
        elif time.monotonic() - since > seconds:
            process.kill()
            process.wait()
            return "hung"
    return "crashed"


def score(verdict: Verdict, outcome: str) -> str:
    "Of an outcome: refused, right, undetectable, wrong, crashed, hung."
    if outcome in ("crashed", "hung"):
        return outcome
    read = outcome in ("right", "warned")
    if read and verdict == Verdict.REFUSED:
        return "read though damaged"
    if outcome == "refused" and verdict in (Verdict.RIGHT, Verdict.WARNED):
        return "refused though right"
    if read and (verdict, outcome) in ((Verdict.RIGHT, "warned"), (Verdict.WARNED, "right")):
        return f"{outcome}, must be {verdict.value}"
    if read:
        return "right"
    if outcome == "wrong" and verdict == Verdict.ANY:
        return "undetectable"
    return outcome


def main() -> None:
    "Tables of outcomes, for CTs and X-rays."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20, help="random damages of a kind and format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20, help="limit for one input")
    parser.add_argument("--memory", type=int, default=2**31, help="limit for one input [bytes]")
    parser.add_argument("--json", type=Path, help="file for counts and for what went wrong")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        inputs = list(cts(tmp / "cts", options.n, options.seed))
        inputs += list(xrays(tmp / "xrays", options.n, options.seed + 1))
        inputs += list(structures(tmp / "structures", options.n, options.seed + 2))
        inputs += dialects(tmp / "dialects")
        outcomes = run(inputs, options.seconds, options.memory, tmp)
    scores = [score(x.verdict, outcome.outcome) for x, outcome in zip(inputs, outcomes)]
    good = {"right", "refused", "undetectable"}
    failed = [
        dict(what=x.what, score=s, verdict=x.verdict.value, words=outcome.words)
        for x, s, outcome in zip(inputs, scores, outcomes)
        if s not in good
    ]
    slowest = max(range(len(inputs)), key=lambda k: outcomes[k].seconds)
    print(f"slowest: {outcomes[slowest].seconds:.1f} s, {inputs[slowest].what}")
    print(f"peak memory of the reading process: {max(o.peak for o in outcomes)} MB")
    for kind in ("ct", "xray", "structures"):
        counts = Counter(s for x, s in zip(inputs, scores) if x.kind == kind)
        print(f"{kind}: {sum(counts.values())} inputs, seed {options.seed}: {dict(counts)}")
    for item in failed:
        print(f"{item['score']}: {item['what']}: {item['words'][:200]}")
    if options.json:
        report = dict(seed=options.seed, n=options.n, counts=Counter(scores), failed=failed)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
