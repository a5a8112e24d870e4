"""Poses from nothing: success, error, time and confidence of `search` and `register`.

    python benchmarks/anypose.py CT [CT ...] [--anatomies 4] [--cases 2] [--ways ...]
        [--xrays usual|poor|plain] [--renderer rtk] [--model CKPT] [--json FILE]

Anatomies are made from each CT as in `anatomies.py`: the CT itself, and others that are mirrored,
stretched, bent and cut. X-rays are simulated fluoroscopy of all of the body as in
`registration.py`, from the front, obliquely and from the side; with `--xrays poor`
of 300 photons a pixel, four fifths of scattered light and two wires, with `--xrays plain` without
wire and collimator, which Adam's NCC cannot leave out; with `--renderer rtk` their line integrals
are RTK's (`pip install ".[peers]"`). Each is registered with the CT in several ways:

    default   `search` about a pose that is off by up to 45 degrees about each of the image's axes,
              100 mm in the image and 150 mm in depth
    any       `search` in the range "any", without a pose
    rough     `register` from that pose with its defaults, which falls back to a search
    alone     `register` from that pose, `fall_back=False`
    level1    `register` from up to 5 degrees and 15 mm (30 mm in depth), `fall_back=False`
    level2    the same from 10 degrees and 30 mm
    level3    the same from 20 degrees and 50 mm
    single    the same as level 3 with one start
    adam      Adam as in `registration.py` from eight starts of that range; the best NCC counts

with a network that was trained on the CT (`--model`), of the CT itself and not of the others:

    network   what the network says, and nothing else
    model     `register` with the network, and without a pose

and, as cases that have no right answer, with `search` about the pose:

    mirrored  the X-ray mirrored left to right
    other     the CT of the next anatomy
    noise     smooth noise of the X-ray's spectrum

mTRE is over 50 random voxels of bone (above 300 HU) of what the CT holds. A case without a right
answer is wrong at any pose. With each case stands how far off the first pose was: the angle between
both C-arms, and the distance at the CT's centre in the image and in depth. Seconds are split into
building the library, screening and solving. FILE keeps the rows that it holds of other runs.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from anatomies import anatomies, cases, registration_drr
from machine import cpu_name
from registration import PLAIN, SDD, SUITE, WIDTH, adam, wrong_pose
from short_ct import bone_points

from diffpose import se3
from diffpose.drr import DRR
from diffpose.evaluation import Evaluator
from diffpose.metrics import NormalizedCrossCorrelation2d
from diffpose.pose import RigidTransform
from diffpose.registration import Registration, build_library, register, search
from diffpose.registration.screening import find_candidates
from diffpose.regression import Checkpoint

RANGE = 45.0, 100.0, 150.0  # degrees, mm in the image, mm in depth
POOR = replace(SUITE, photons=300.0, scatter=0.8, blur=2.0, gamma=1.3, wires=2)
XRAYS = {"usual": SUITE, "poor": POOR, "plain": PLAIN}
LEVELS = {"level1": 1, "level2": 2, "level3": 3, "single": 3}
USUAL = "default", "any", "rough", "alone", "level3", "single"
LEARNT = "network", "model"
RIGHT = "default", "any", "rough", "alone", *LEVELS, "adam", *LEARNT
NONE = "mirrored", "other", "noise"
RUN = "ct", "seed", "renderer", "xrays"  # Rows of one run


def image_frame(drr, pose):
    "The image's axes at the CT's centre."
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = drr.camera(pose.double()).axes[0]
    frame[:3, 3] = drr.center.double()
    return frame


def far_pose(drr, pose, generator):
    "Off by the range, uniformly about and along each of the image's axes at the CT's centre."
    degrees, mm, depth = RANGE
    draw = 2 * torch.rand(1, 6, generator=generator, dtype=torch.float64) - 1
    turn = torch.cat([torch.zeros(1, 3).double(), draw[:, 3:] * math.radians(degrees)], dim=-1)
    motion = se3.exp(turn)
    motion[:, :3, 3] = draw[:, :3] * torch.tensor([mm, mm, depth])
    frame = image_frame(drr, pose)
    return RigidTransform((frame @ motion @ frame.inverse() @ pose.matrix.double()).float())


def smooth_noise(image, seed):
    "Noise with the amplitudes of an X-ray's Fourier transform, and phases by chance."
    generator = torch.Generator().manual_seed(seed)
    phases = torch.fft.rfft2(torch.randn(image.shape, generator=generator))
    spectrum = torch.fft.rfft2(image - image.mean()).abs()
    return torch.fft.irfft2(spectrum * phases / phases.abs(), s=image.shape[-2:])


class Found(NamedTuple):
    "What Adam or a network found."

    pose: RigidTransform
    seconds: float
    n_renders: int = 0


def adam_from_many(drr, image, far, generator, n=8):
    "Adam from n poses of the range."
    start, size = time.perf_counter(), (100, 100)
    small = DRR(drr.subject, SDD, size[0], WIDTH / size[0])
    options = dict(mode="bilinear", antialias=True, align_corners=False)
    target = torch.nn.functional.interpolate(image, size, **options)
    ncc = NormalizedCrossCorrelation2d()
    best, found, renders = -1.0, far, 0
    for k in range(n):
        first = far_pose(drr, far, generator) if k else far
        rotation, translation = first.convert("euler_angles", "ZXY")
        module = Registration(small, rotation.float(), translation.float(), "euler_angles", "ZXY")
        matrix, n_renders = adam(module, target, ncc)
        with torch.no_grad():
            alike = float(ncc(target, small(RigidTransform(matrix))))
        renders += n_renders
        if alike > best:
            best, found = alike, RigidTransform(matrix)
    return Found(found, time.perf_counter() - start, renders)


def said(predictor, drr, image):
    "By a network."
    start = time.perf_counter()
    pose = predictor(drr, image).pose
    return Found(pose, time.perf_counter() - start)


def run(way, drr, other, case, k, generator, predictor):
    "The result of one way, its parts of time, and the first pose."
    image, mask, pose = case.images[k : k + 1], case.masks[k], case.poses[k]
    far = far_pose(drr, pose, generator)
    near = wrong_pose(drr, pose, LEVELS.get(way, 3), generator)
    if way in ("default", "any"):
        at, where = (far, "default") if way == "default" else (None, "any")
        start = time.perf_counter()
        library = build_library(drr, at, where)
        built = time.perf_counter()
        camera = drr.camera(pose).to("cpu", torch.float64)
        find_candidates(library, camera, image, mask, 1)
        screened = time.perf_counter()
        result = search(drr, image, at, mask=mask, library=library)
        seconds = {"library": built - start, "screening": screened - built}
        return result, seconds | {"total": built - start + result.seconds}, far
    if way == "adam":
        result = adam_from_many(drr, image, far, generator)
    elif way == "network":
        result = said(predictor, drr, image)
    elif way == "model":
        result = register(drr, image, mask=mask, model=predictor)
    elif way == "rough":
        result = register(drr, image, far, mask=mask)
    elif way == "alone":
        result = register(drr, image, far, mask=mask, fall_back=False)
    elif way in LEVELS:
        n = 1 if way == "single" else 8
        result = register(drr, image, near, mask=mask, n_starts=n, fall_back=False)
    else:
        image = image.flip(-1) if way == "mirrored" else image
        image = smooth_noise(image, k) if way == "noise" else image
        mask = mask.flip(-1) if way == "mirrored" else mask
        drr = other if way == "other" else drr
        # a doubt is enough; what would fit instead is another question
        result = search(drr, image, far, mask=mask, fall_back=False)
    return result, {"total": result.seconds}, near if way in LEVELS else far


def first_error(drr, pose, first):
    "How far a first pose is off: angle [degrees], in the image and in depth [mm]."
    frame = image_frame(drr, pose)
    motion = frame.inverse() @ first.matrix.double() @ pose.matrix.double().inverse() @ frame
    angle = se3.log(motion)[0, 3:].norm()
    right, down, depth = motion[0, :3, 3].tolist()
    return dict(angle=math.degrees(angle), across=math.hypot(right, down), depth=abs(depth))


def facts_of(result):
    "Of a registration, as JSON writes it; Adam and networks say nothing of themselves."
    if isinstance(result, Found):
        return dict(n_renders=result.n_renders)
    facts = dict(evidence=result.evidence, converged=result.converged, stop=result.stop.name)
    return facts | dict(confidence=result.confidence, reason=result.reason)


def measure(ct, args):
    "All rows of one CT."
    patients = anatomies(ct, args.anatomies, seed=args.seed)
    drrs = [registration_drr(patient) for patient in patients]
    rows, settings = [], XRAYS[args.xrays]
    predictor = None
    if args.model:  # of the same CT in other voxels
        predictor = replace(Checkpoint.load(args.model).predictor(), ct=None)
    for n, (patient, drr) in enumerate(zip(patients, drrs)):
        evaluator = Evaluator(drr, bone_points(drr.subject))
        generator = torch.Generator().manual_seed(args.seed + n)
        kind = dict(ct=Path(ct).parent.name, anatomy=patient.name, **run_of(args))
        kind["kept"] = patient.kept[1] - patient.kept[0]
        seed = args.seed + 100 * n
        for case in cases(patient, args.cases, seed, settings=settings, renderer=args.renderer):
            for k in range(len(case.poses)):
                for way in args.ways:
                    if way in LEARNT and patient.seed is not None:
                        continue
                    inputs = way, drr, drrs[n - 1], case, k, generator, predictor
                    result, seconds, first = run(*inputs)
                    error = evaluator(case.poses[k], result.pose)
                    row = kind | dict(way=way, view=case.view, case=k, seconds=seconds)
                    if way not in LEARNT:
                        row["first"] = first_error(drr, case.poses[k], first)
                    row["mTRE"] = None if way in NONE else float(error.mTRE)
                    rows.append(rounded(row | facts_of(result)))
            print(patient.name, case.view, len(rows), flush=True)
            save(args, rows)
    return rows


def run_of(args):
    return dict(seed=args.seed, renderer=args.renderer, xrays=args.xrays)


def rounded(values):
    "Numbers of four digits; NaN is None."
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if hasattr(values, "_asdict"):
        return rounded(values._asdict())
    if isinstance(values, float):
        return float(f"{values:.4g}") if math.isfinite(values) else None
    return values


def save(args, rows):
    "In place of the rows of the same run, beside those of others."
    if args.json is None:
        return
    report = json.loads(args.json.read_text()) if args.json.exists() else {"rows": []}
    this = [rows[0][key] for key in RUN]
    kept = [row for row in report["rows"] if [row[key] for key in RUN] != this]
    report |= dict(machine=cpu_name(), threads=torch.get_num_threads(), rows=kept + rows)
    args.json.write_text(json.dumps(report) + "\n")


def print_table(rows):
    print(f"{'':<10} {'n':>4} {'<2 mm':>6} {'median':>7} {'converged':>9} {'seconds':>8}")
    for way in RIGHT + NONE:
        some = [r for r in rows if r["way"] == way]
        if not some:
            continue
        seconds = torch.tensor([r["seconds"]["total"] for r in some]).median()
        converged = 100 * sum(r.get("converged", False) for r in some) / len(some)
        text = f"{way:<10} {len(some):4d} "
        if way in RIGHT:
            error = torch.tensor([r["mTRE"] for r in some])
            text += f"{100 * float((error < 2).float().mean()):6.1f} {error.median():7.2f} "
        else:
            text += f"{'':>6} {'':>7} "
        print(f"{text}{converged:9.1f} {seconds:8.2f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path, nargs="+")
    parser.add_argument("--anatomies", type=int, default=4, help="of each CT")
    parser.add_argument("--cases", type=int, default=2, help="of each view of each anatomy")
    parser.add_argument("--ways", nargs="+", default=USUAL + NONE, choices=RIGHT + NONE)
    parser.add_argument("--xrays", default="usual", choices=XRAYS)
    parser.add_argument("--renderer", default="diffpose", choices=["diffpose", "rtk"])
    parser.add_argument("--model", type=Path, help="checkpoint, for the ways network and model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.model is None and set(args.ways) & set(LEARNT):
        parser.error("the ways network and model need --model")
    rows = [row for ct in args.ct for row in measure(ct, args)]
    print_table(rows)


if __name__ == "__main__":
    main()
