"""Whole CTs and X-rays in odd dialects of their formats, and files that contradict themselves.

Nothing here is damaged at random: each file is one that a scanner, a converter or a careless hand
writes. It must be read right (`RIGHT`), refused (`REFUSED`), or read with a warning that names it
(`WARNED`).
"""

import bz2
import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_files
import numpy as np
from hostile_files import Damaged, Verdict

RIGHT, REFUSED, WARNED = Verdict.RIGHT, Verdict.REFUSED, Verdict.WARNED


class Cases:
    "Files that are written to a folder, with what must happen to each."

    def __init__(self, folder: Path, kind: str, truth: Path):
        self.folder, self.kind, self.truth = folder, kind, truth
        self.cases: list[Damaged] = []

    def add(self, name: str, verdict: Verdict, truth: Path | None = None) -> Path:
        "A file or folder of this name, which is written before or after."
        path = self.folder / name
        self.cases.append(Damaged(f"dialect {name}", self.kind, path, verdict, truth or self.truth))
        return path

    def write(self, name: str, data: bytes, verdict: Verdict, truth: Path | None = None) -> None:
        self.add(name, verdict, truth).write_bytes(data)

    def other(self, name: str, data: np.ndarray, **more: np.ndarray) -> Path:
        "Another truth."
        path = self.folder / f"{name}.npz"
        np.savez(path, data=data, **more)
        return path


# NIfTI


def _header(data: bytes, **fields: Any) -> bytes:
    "A NIfTI with fields of its header replaced."
    import nibabel

    content = bytearray(data)
    header = np.frombuffer(content, nibabel.Nifti1Header.template_dtype, 1)[0]
    for name, value in fields.items():
        header[name] = value
    return bytes(content)


def _nifti(cases: Cases) -> None:
    "NIfTI: versions, orders of bytes, dimensions, scaling, units and directions."
    import nibabel as nib

    known = np.load(cases.truth)
    voxels, affine = known["data"].astype(np.int16), known["affine"]

    def save(name: str, verdict: Verdict, **options: Any) -> Path:
        kind = options.get("kind", nib.Nifti1Image)
        header = kind.header_class(endianness=options.get("endian", "<"))
        values = options.get("voxels", voxels)
        header.set_data_dtype(values.dtype.newbyteorder(options.get("endian", "<")))
        image = kind(values, affine, header)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        path = cases.add(name, verdict)
        image.to_filename(path)
        return path

    plain = save("plain.nii", RIGHT).read_bytes()
    save("version2.nii", RIGHT, kind=nib.Nifti2Image)
    save("version2.nii.gz", RIGHT, kind=nib.Nifti2Image)
    save("big-endian.nii", RIGHT, endian=">")
    save("big-endian2.nii.gz", RIGHT, kind=nib.Nifti2Image, endian=">")
    save("pair.hdr", RIGHT, kind=nib.Nifti1Pair)
    cases.add("pair.img", RIGHT)
    save("four.nii", RIGHT, voxels=voxels[..., None])
    save("five.nii", RIGHT, voxels=voxels[..., None, None])
    save("two volumes.nii", REFUSED, voxels=np.stack([voxels] * 2, -1))
    save("vectors.nii", REFUSED, voxels=np.stack([voxels] * 3, -1)[:, :, :, None])
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        save(f"{np.dtype(dtype)}.nii", RIGHT, voxels=voxels.astype(dtype))
    for dtype in (np.complex64, np.complex128, [(c, np.uint8) for c in "RGB"]):
        save(f"{len(cases.cases)}.nii", REFUSED, voxels=np.zeros(voxels.shape, dtype))
    raised = cases.other("raised", voxels + 1100, affine=affine)
    cases.add("raised.nii", WARNED, raised)
    nib.save(
        nib.Nifti1Image((voxels + 1100).astype(np.uint16), affine), cases.folder / "raised.nii"
    )
    for intent in (0, 2, 1001, 1002, 1007, 2003, 2004):
        cases.write(f"intent{intent}.nii", _header(plain, intent_code=intent), RIGHT)
    nan, inf = np.nan, np.inf
    for slope, intercept, verdict in (
        (0, 0, RIGHT),
        (0, -1024, RIGHT),
        (nan, nan, RIGHT),
        (nan, 0, RIGHT),
        (inf, 0, REFUSED),
        (1, nan, REFUSED),
        (1, inf, REFUSED),
        (1e38, 1e38, REFUSED),
    ):
        scaled = _header(plain, scl_slope=slope, scl_inter=intercept)
        cases.write(f"slope {slope} {intercept}.nii", scaled, verdict)
    _nifti_places(cases, plain, voxels, affine)
    _nifti_bytes(cases, plain)


def _nifti_places(cases: Cases, plain: bytes, voxels: np.ndarray, affine: np.ndarray) -> None:
    "Units, sform and qform."
    pixdim = np.array([1.0, 0.75, 0.5, 2, 0, 0, 0, 0])
    for unit, scale in ((0, 1.0), (1, 1e3), (2, 1.0), (3, 1e-3), (10, 1.0)):
        scaled = np.diag([scale] * 3 + [1.0]) @ affine
        truth = cases.other(f"unit{unit}", voxels, affine=scaled)
        cases.write(f"unit{unit}.nii", _header(plain, xyzt_units=unit), RIGHT, truth)
    cases.write("unit7.nii", _header(plain, xyzt_units=7), REFUSED)
    cases.write("sform.nii", _header(plain, qform_code=0), RIGHT)
    cases.write("qform.nii", _header(plain, sform_code=0), RIGHT)
    base = np.diag([-0.75, 0.5, 2.0, 1.0])  # as nibabel has it
    base[:3, 3] = -base[:3, :3] @ ((np.array(voxels.shape) - 1) / 2)
    truth = cases.other("neither", voxels, affine=base)
    cases.write("neither.nii", _header(plain, sform_code=0, qform_code=0), WARNED, truth)
    cases.write("sizes.nii", _header(plain, pixdim=2 * pixdim), WARNED)
    cases.write("mirrored.nii", _header(plain, pixdim=pixdim * [-1, *[1] * 7]), WARNED)
    for code in (-1, 6, 99):
        cases.write(f"sform_code {code}.nii", _header(plain, sform_code=code), REFUSED)
    for size in (0.0, -0.75, np.nan, np.inf):
        fields = dict(sform_code=0, pixdim=[1.0, size, *pixdim[2:]])
        cases.write(f"size {size}.nii", _header(plain, **fields), REFUSED)
    cases.write("zero.nii", _header(plain, srow_x=0, srow_y=0, srow_z=0), REFUSED)
    cases.write("nan.nii", _header(plain, srow_x=np.nan), REFUSED)
    cases.write("quaternion.nii", _header(plain, sform_code=0, quatern_b=2), REFUSED)


def _nifti_bytes(cases: Cases, plain: bytes) -> None:
    "Members of gzip, other compression, extensions, names."
    pack = gzip.compress
    cases.write("members.nii.gz", pack(plain[:1000]) + pack(plain[1000:]), RIGHT)
    few = b"".join(pack(plain[k : k + 1]) for k in range(400)) + pack(plain[400:])
    cases.write("small members.nii.gz", few, RIGHT)
    cases.write("empty members.nii.gz", pack(b"") + pack(plain) + pack(b""), RIGHT)
    named = pack(plain)[:3] + b"\x08" + pack(plain)[4:10] + b"name\0" + pack(plain)[10:]
    cases.write("named.nii.gz", named, RIGHT)
    cases.write("not packed.nii.gz", plain, RIGHT)
    cases.write("packed.nii", pack(plain), RIGHT)
    cases.write("packed twice.nii.gz", pack(pack(plain)), REFUSED)
    cases.write("two files.nii.gz", pack(plain) * 2, REFUSED)
    cases.write("bzip2.nii.gz", bz2.compress(plain), REFUSED)
    extension = (
        b"\1\0\0\0" + (16).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"hello\0\0\0"
    )
    cases.write("ext.nii", _header(plain[:348] + extension + plain[352:], vox_offset=368), RIGHT)
    cases.write("offset.nii", _header(plain, vox_offset=352.5), REFUSED)
    cases.write("lone.img", plain[352:], REFUSED)
    cases.write("constant.nii", plain[:352] + bytes(len(plain) - 352), WARNED, _zeros(cases))
    for name in ("a b.nii", "\u6f22\u5b57.nii", "new\nline.nii", "-x.nii", "%s.nii", "a.b.c.nii"):
        cases.write(name, plain, RIGHT)
    cases.write("x" * 200 + ".nii", plain, RIGHT)
    cases.write("no suffix", plain, REFUSED)
    (cases.add("folder.nii", REFUSED)).mkdir()
    (cases.add("loop.nii", REFUSED)).symlink_to("loop.nii")
    (cases.add("link.nii", RIGHT)).symlink_to("plain.nii")
    sparse = cases.add("sparse.nii", REFUSED)
    sparse.write_bytes(plain[:352])
    os.truncate(sparse, 10**11)


def _zeros(cases: Cases) -> Path:
    known = np.load(cases.truth)
    return cases.other("zeros", 0 * known["data"], affine=known["affine"])


# MetaImage and NRRD


def _metaimage(cases: Cases, whole: bytes) -> None:
    head, _, voxels = whole.partition(b"LOCAL\n")
    head += b"LOCAL\n"
    swapped = np.frombuffer(voxels, "<i2").astype(">i2").tobytes()
    order = b"BinaryDataByteOrderMSB = False"

    def edited(name: str, old: bytes, new: bytes, verdict: Verdict, data: bytes = voxels) -> None:
        assert old in head, old
        cases.write(f"{name}.mha", head.replace(old, new) + data, verdict)

    edited("big-endian", order, order.replace(b"False", b"True"), RIGHT, swapped)
    edited("ElementByteOrderMSB", order, b"ElementByteOrderMSB = True", RIGHT, swapped)
    edited("both orders", order, order + b"\nElementByteOrderMSB = True", REFUSED)
    edited("crlf", b"\n", b"\r\n", RIGHT)
    edited("cr", b"\n", b"\r", REFUSED)
    edited("no blanks", b" = ", b"=", RIGHT)
    edited("ascii", b"BinaryData = True", b"BinaryData = False", REFUSED)
    edited("channels", b"ElementType", b"ElementNumberOfChannels = 3\nElementType", REFUSED)
    edited("sheared", b"= 1 0 0 0 1 0 0 0 1", b"= 1 0 0 0.5 1 0 0 0 1", REFUSED)
    edited("mesh", b"ObjectType = Image", b"ObjectType = Mesh", REFUSED)
    for line, verdict in (
        (b"HeaderSize = -2", REFUSED),
        (b"HeaderSize = 0.5", REFUSED),
        (b"ElementSize = 1 1 1", RIGHT),
        (b"DistanceUnits = mm", RIGHT),
        (b"DistanceUnits = ell", REFUSED),
        (b"ElementToIntensityFunctionSlope = 1", RIGHT),
        (b"ElementToIntensityFunctionSlope = 2", REFUSED),
        (b"Comment = NDims = 4", RIGHT),
    ):
        edited(line.decode(), b"ElementDataFile", line + b"\nElementDataFile", verdict)
    for size in (b"7", b"-1"):
        line = b"HeaderSize = " + size + b"\nElementDataFile"
        edited(line[:14].decode(), b"ElementDataFile", line, RIGHT, b"1234567" + voxels)


def _nrrd(cases: Cases, whole: bytes) -> None:
    head, _, voxels = whole.partition(b"\n\n")
    swapped = np.frombuffer(voxels, "<i2").astype(">i2").tobytes()
    known = np.load(cases.truth)

    def edited(
        name: str,
        old: bytes,
        new: bytes,
        verdict: Verdict,
        data: bytes = voxels,
        truth: Path | None = None,
    ) -> None:
        assert old in head, old
        cases.write(f"{name}.nrrd", head.replace(old, new) + b"\n\n" + data, verdict, truth)

    edited("big-endian", b"little", b"big", RIGHT, swapped)
    edited("LPS", b"left-posterior-superior", b"LPS", RIGHT)
    for space in (b"left-posterior-superior-time", b"3D-left-handed", b"nowhere"):
        edited(space.decode(), b"left-posterior-superior", space, REFUSED)
    edited("none", b"(0.75,0,0)", b"none", REFUSED)
    edited("four", b"dimension: 3", b"dimension: 4", REFUSED)
    for kind in (b"RGB-color", b"list", b"vector"):
        edited(kind.decode(), b"kinds: domain", b"kinds: " + kind, REFUSED)
    for unit, scale in (("mm", 1.0), ("m", 1e3), ("cm", 10.0), ("um", 1e-3), ("", 1.0)):
        scaled = np.diag([scale] * 3 + [1.0]) @ known["affine"]
        truth = cases.other(f"in {unit}", known["data"], affine=scaled)
        line = f'space units: "{unit}" "{unit}" "{unit}"\nencoding'.encode()
        edited(f"units {unit}", b"encoding", line, RIGHT, truth=truth)
    for line, verdict in (
        (b'space units: "mm" "mm" "cm"', REFUSED),
        (b'space units: "ell" "ell" "ell"', REFUSED),
        (b"spacings: 9 9 9", REFUSED),
        (b"byte skip: 0.5", REFUSED),
        (b"line skip: 1", REFUSED),
        (b"measurement frame: (1,0,0) (0,1,0) (0,0,1)", RIGHT),
        (b"# type: float\nkey:=type: float", RIGHT),
        (b"dimension: 4", REFUSED),
    ):
        edited(f"with {line[:18].decode()} {len(line)}", b"encoding", line + b"\nencoding", verdict)
    for encoding, data, verdict in (
        (b"gzip", gzip.compress(voxels[:500]) + gzip.compress(voxels[500:]), RIGHT),
        (b"gzip", gzip.compress(voxels) + bytes(100), RIGHT),
        (b"gzip", zlib.compress(voxels), RIGHT),
        (b"gzip", gzip.compress(voxels) + b"more", REFUSED),
        (b"bzip2", bz2.compress(voxels[:500]) + bz2.compress(voxels[500:]), RIGHT),
        (b"bzip2", bz2.compress(voxels)[:-9], REFUSED),
        (b"ascii", b"1 " * 5760, REFUSED),
        (b"hex", voxels.hex().encode(), REFUSED),
    ):
        name = f"{encoding.decode()} {len(cases.cases)}"
        edited(name, b"encoding: raw", b"encoding: " + encoding, verdict, data)
    bomb = head.replace(b"24 20 12", b"900 900 900").replace(b": raw", b": bzip2") + b"\n\n"
    cases.write("bomb.nrrd", bomb + bz2.compress(bytes(10**8)) * 15, REFUSED)


# Series


def _series(cases: Cases) -> None:
    import pydicom
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
    )

    hu = hostile_files.small_ct()[0]
    whole = cases.folder / "whole series"
    hostile_files.write_series(whole, hu)

    def changed(name: str, verdict: Verdict, change: Callable[[Any, int], Any], *only: int) -> None:
        "The series with a change of all slices, or of some."
        path = cases.add(f"series {name}", verdict)
        shutil.copytree(whole, path)
        for k, file in enumerate(sorted(path.iterdir(), reverse=True)):
            dataset = pydicom.dcmread(file)
            if not only or k in only:
                dataset = change(dataset, k) or dataset
            syntax = dataset.file_meta.TransferSyntaxUID
            dataset.save_as(
                file,
                implicit_vr=syntax.is_implicit_VR,
                little_endian=syntax.is_little_endian,
                enforce_file_format=True,
            )

    def tagged(name: str, verdict: Verdict, *only: int, **tags: object) -> None:
        changed(name, verdict, lambda dataset, k: dataset.update(tags), *only)

    def in_syntax(syntax: str) -> Callable[[Any, int], Any]:
        def change(dataset: Any, k: int) -> Any:
            pixels = dataset.pixel_array
            new = pydicom.Dataset()
            new.update(dataset)
            new.file_meta = dataset.file_meta
            new.file_meta.TransferSyntaxUID = syntax
            new.PixelData = pixels.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()
            return new

        return change

    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        changed(syntax.name, RIGHT, in_syntax(syntax))

    def moved(dataset: Any, k: int) -> None:
        dataset.RescaleIntercept = -1100 - k
        dataset.PixelData = (dataset.pixel_array + k).astype("<u2").tobytes()

    def halved(dataset: Any, k: int) -> None:
        if k % 2:
            dataset.RescaleSlope, dataset.BitsStored, dataset.HighBit = "0.5", 16, 15
            dataset.PixelData = (2 * dataset.pixel_array.astype("<u2")).tobytes()

    def overlaid(dataset: Any, k: int) -> None:
        dataset.PixelData = (dataset.pixel_array | 0x8000).astype("<u2").tobytes()

    changed("intercepts", RIGHT, moved)
    changed("slopes", RIGHT, halved)
    changed("overlays in high bits", RIGHT, overlaid)
    tagged("MONOCHROME1", RIGHT, PhotometricInterpretation="MONOCHROME1")
    tagged("PALETTE", REFUSED, PhotometricInterpretation="PALETTE COLOR")
    tagged("one without slope", REFUSED, 3, RescaleSlope=None, RescaleIntercept=None)
    tagged("HU", RIGHT, RescaleType="HU")
    tagged("ED", WARNED, RescaleType="ED")
    for modality in ("MR", "PT", "RTDOSE"):
        tagged(modality, WARNED, Modality=modality)
    tagged("frames of reference", WARNED, 3, FrameOfReferenceUID="1.2.3.9")
    tagged("feet first", RIGHT, PatientPosition="FFP")
    tagged("thickness", RIGHT, SliceThickness="99", SpacingBetweenSlices="-7", InstanceNumber=1)
    tagged("spacing swapped", REFUSED, 5, PixelSpacing=[0.75, 0.5])
    _lost_slices(cases, whole)


def _lost_slices(cases: Cases, whole: Path) -> None:
    "The first or the last slice no longer a DICOM file, names of many kinds, odd neighbours."

    def named(name: str, pattern: str, verdict: Verdict) -> Path:
        path = cases.add(f"names {name}", verdict)
        path.mkdir()
        for k, file in enumerate(sorted(whole.iterdir())):
            shutil.copy(file, path / pattern.format(k))
        return path

    for name, pattern in (("number", "{:d}"), ("IM", "IM{:04d}"), ("UID", "1.2.840.{:d}")):
        named(name, pattern, RIGHT)
        for k in (0, 11):
            for what, content in (("empty", b""), ("zeros", bytes(4000)), ("text", b"not found")):
                path = named(f"{name} {k} {what}", pattern, REFUSED)
                (path / pattern.format(k)).write_bytes(content)
            path = named(f"{name} {k} without preamble", pattern, REFUSED)
            file = path / pattern.format(k)
            file.write_bytes(file.read_bytes()[132:])
    for name, pattern in (("unicode", "Gr\u00f6\u00dfe{}.dcm"), ("newline", "a\n{}.dcm")):
        named(name, pattern, RIGHT)
    for beside in ("README", "Thumbs.db", ".DS_Store", "a.zip", "notes.txt"):
        (named(f"beside {beside}", "{}", RIGHT) / beside).write_bytes(b"x")
    twice = named("twice", "{}", REFUSED)
    for file in sorted(twice.iterdir()):
        shutil.copy(file, twice / f"again {file.name}")
    shutil.copy(whole / "500.dcm", cases.add("one slice.dcm", REFUSED))


# X-rays


def _xray_arrays(cases: Cases, counts: np.ndarray) -> None:
    def save(name: str, values: np.ndarray, verdict: Verdict = RIGHT) -> None:
        np.save(cases.add(f"{name}.npy", verdict), values)

    save("fortran", np.asfortranarray(counts))
    save("one frame", counts[None, None])
    for dtype in (">u2", "<f8", "<i8", ">u8", ">f4"):
        save(dtype.strip("<>") + ("be" if ">" in dtype else ""), counts.astype(dtype))
    for name, values in (
        ("complex", counts.astype(complex)),
        ("bool", counts > 9000),
        ("text", np.array([["a", "b"]])),
        ("date", counts[:8, :8].astype("M8[s]")),
        ("record", np.zeros((4, 4), [("a", "f4")])),
        ("colours", np.stack([counts] * 3, -1)),
        ("frames", np.stack([counts] * 3)),
        ("none", np.zeros((0, 5))),
        ("number", np.array(3.0)),
        ("row", counts[0]),
        ("negative", counts.astype(int) - 40000),
        ("holes", np.where(counts > 50000, np.nan, counts.astype(float))),
        ("constant", np.ones((5, 5))),
    ):
        save(name, values, REFUSED)
    whole = (cases.folder / "fortran.npy").read_bytes()
    cases.write("twice.npy", whole * 2, REFUSED)
    cases.write("version.npy", whole[:6] + b"\x09\0" + whole[8:], REFUSED)
    cases.write("object.npy", whole.replace(b"'<u2'", b"'|O' "), REFUSED)
    np.savez(cases.folder / "archive.npz", counts)
    shutil.move(cases.folder / "archive.npz", cases.add("archive.npy", REFUSED))
    for name in ("sp ace.npy", "\u6f22.npy", "new\nline.npy", "%d.npy", "-x.npy"):
        cases.write(name, whole, RIGHT)


def _xray_pictures(cases: Cases, counts: np.ndarray) -> None:
    from PIL import Image

    grey = Image.fromarray(counts)
    small = (counts // 256).astype(np.uint8)
    np.save(cases.folder / "small.npy", small)
    of_small = cases.other("small", hostile_files.read_as_xray(cases.folder / "small.npy"))
    pale = Image.fromarray(small)

    def save(name: str, image: Any, verdict: Verdict, truth: Path | None = None, **o: Any) -> None:
        image.save(cases.add(name, verdict, truth), **o)

    for name, options in (
        ("big.tif", dict(big_tiff=True)),
        ("zip.tif", dict(compression="tiff_adobe_deflate")),
        ("packbits.tif", dict(compression="packbits")),
        ("a.png", {}),
    ):
        save(name, grey, RIGHT, **options)
    for name in ("a.tif", "small.png"):
        save(f"8 bits {name}", pale, RIGHT, of_small)
        save(f"colours {name}", Image.merge("RGB", [pale] * 3), RIGHT, of_small)
    for mode in ("RGBA", "CMYK", "LA", "LAB"):
        save(f"{mode}.tif", Image.merge(mode, [pale] * len(mode)), REFUSED)
    save("palette.png", pale.convert("P"), REFUSED)
    save("bits.tif", Image.fromarray(counts > 9000), REFUSED)
    save("pages.tif", grey, REFUSED, save_all=True, append_images=[grey])
    save("turned.tif", grey, REFUSED, tiffinfo={274: 6})
    for name, values, truth in (("16", 65535 - counts, None), ("8", 255 - small, of_small)):
        path = cases.add(f"white is zero {name}.tif", RIGHT, truth)
        Image.fromarray(values).save(path)
        content = bytearray(path.read_bytes())
        begin = int.from_bytes(content[4:8], "little") + 2
        n_entries = int.from_bytes(content[begin - 2 : begin], "little")
        for entry in range(begin, begin + 12 * n_entries, 12):
            if int.from_bytes(content[entry : entry + 2], "little") == 262:
                content[entry + 8 : entry + 10] = b"\0\0"
        path.write_bytes(content)
    for name in ("empty.png", "empty.tif", "empty.npy", "empty.dcm", "empty.jpg"):
        cases.write(name, b"", REFUSED)
    pale.save(cases.folder / "a.gif")
    shutil.move(cases.folder / "a.gif", cases.add("gif.png", REFUSED))
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2"), 3).tobytes() for row in counts)
    cases.write("colours of 16 bits.png", _png(2, rows, counts.shape), REFUSED)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in counts)
    cases.write("written by hand.png", _png(0, rows, counts.shape), RIGHT)
    cases.write("short.png", _png(0, rows[:2000], counts.shape), REFUSED)
    cases.write("bomb.png", _png(0, rows, (30000, 30000)), REFUSED)


def _png(colour: int, rows: bytes, shape: tuple[int, ...]) -> bytes:
    "A PNG of 16 bits."

    def part(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    size = shape[1].to_bytes(4, "big") + shape[0].to_bytes(4, "big")
    header = part(b"IHDR", size + bytes([16, colour, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def _xray_dicoms(cases: Cases, counts: np.ndarray) -> None:
    import pydicom

    whole = cases.folder / "whole.dcm"
    hostile_files.write_xray_dicom(whole, counts)
    truth = cases.other("dicom", hostile_files.read_as_xray(whole))

    def tagged(name: str, verdict: Verdict, **tags: object) -> None:
        dataset = pydicom.dcmread(whole)
        dataset.update(tags)
        dataset.save_as(cases.add(f"{name}.dcm", verdict, truth))

    tagged("as it is", RIGHT)
    tagged("MONOCHROME1", REFUSED, PhotometricInterpretation="MONOCHROME1")
    sign = dict(PixelIntensityRelationshipSign=1)
    tagged("MONOCHROME1 with a sign", RIGHT, PhotometricInterpretation="MONOCHROME1", **sign)
    for value in (0, 7):
        tagged(f"sign {value}", REFUSED, PixelIntensityRelationshipSign=value)
    tagged("slope", RIGHT, RescaleSlope=2, RescaleIntercept=0)
    tagged("no slope", REFUSED, RescaleSlope=0, RescaleIntercept=0)
    for n_frames in (0, -1, 2):
        tagged(f"{n_frames} frames", REFUSED, NumberOfFrames=n_frames)
    tagged("three spacings", REFUSED, ImagerPixelSpacing=["1", "1", "1"])
    tagged("no spacing", REFUSED, ImagerPixelSpacing=None)
    tagged("patient behind", REFUSED, DistanceSourceToPatient="2000")
    tagged("no angle", REFUSED, PositionerPrimaryAngle=None)
    tagged("in the patient", RIGHT, PixelSpacing=[9, 9])
    tagged("unknown shutter", WARNED, ShutterShape="BITMAP")
    tagged("shutter of nothing", REFUSED, ShutterShape="RECTANGULAR")
    tagged("rows", REFUSED, Rows=48, Columns=48)
    data = whole.read_bytes()
    cases.write("without preamble.dcm", data[132:], REFUSED, truth)
    cases.write("no suffix", data, RIGHT, truth)
    cases.write("picture.dcm", (cases.folder / "a.png").read_bytes(), REFUSED, truth)


# All of them


def cts(folder: Path) -> Iterator[Damaged]:
    "CTs of one file and of a series."
    folder.mkdir(parents=True)
    whole = folder / "formats"
    whole.mkdir()
    files = {file.name: file.data for file in hostile_files.ct_bytes(whole)}
    cases = Cases(folder, "ct", hostile_files.ct_truth(folder))
    _nifti(cases)
    _metaimage(cases, files["ct.mha"])
    _nrrd(cases, files["ct.nrrd"])
    _series(cases)
    yield from cases.cases


def xrays(folder: Path) -> Iterator[Damaged]:
    "X-rays."
    folder.mkdir(parents=True)
    counts = hostile_files.small_xray()
    np.save(folder / "counts.npy", counts)
    truth = folder / "truth.npz"
    np.savez(truth, data=hostile_files.read_as_xray(folder / "counts.npy"))
    cases = Cases(folder, "xray", truth)
    _xray_arrays(cases, counts)
    _xray_pictures(cases, counts)
    _xray_dicoms(cases, counts)
    yield from cases.cases
