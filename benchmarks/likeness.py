"""Likeness and predicted errors of right registrations, and the likeness of X-rays that a CT cannot
explain: the runs that choose `LEAST_LIKENESS` (in `diffpose.registration.doubt`) and `INDEPENDENT`
(in `diffpose.registration.uncertainty`).

    python benchmarks/likeness.py CT [CT ...] [--anatomies 4] [--cases 1] [--level 1]
        [--json FILE]

Patients are those of `anatomies.py`: each CT as it is, and others made from it. Each has X-rays
from the front, obliquely and from the side, fluoroscopy as in `registration.py`; every second
patient has harder ones: 200 photons a pixel, as much scatter as primary photons, a detector's
exponent of 0.6 or 1.6. They are registered from first poses that are off as in `registration.py`.

"right" is every X-ray of the patient itself. Each is registered as well with the CT of another
patient, and with its own in one of four changes, in turn: its negative, mirrored, turned by 180
degrees, and normal noise in the same field instead of it. Lost searches, beyond `LOST` mm, are
counted for themselves. Errors are over 50 random voxels of bone; NEES / 6 is one on average if
covariances are right.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from anatomies import Anatomy, Case, anatomies, cases, registration_drr
from machine import cpu_name
from registration import LEVELS, SUITE, error_twist, wrong_pose
from short_ct import bone_points
from torch import Tensor

from diffpose.drr import DRR
from diffpose.evaluation import Evaluator
from diffpose.pose import RigidTransform
from diffpose.registration import RegistrationResult, register
from diffpose.registration.doubt import LEAST_LIKENESS, level_sizes, likeness, likeness_size
from diffpose.registration.options import Options, as_measurements
from diffpose.registration.uncertainty import INDEPENDENT
from diffpose.xray import Fluoroscopy

RIGHT, LOST = 2.5, 25.0  # mm
HARDER = [
    Fluoroscopy(
        photons=200,
        scatter=1.0,
        blur=1.5,
        gamma=gamma,
        collimation="circle",
        collimation_size=1.0,
        wires=2,
    )
    for gamma in (0.6, 1.6)
]
OPTIONS = Options(
    similarity="gradient",
    structures=None,
    robust=4.0,
    n_starts=8,
    spread=(10.0, 30.0),
    geometry="known",
    intrinsics=None,
    levels=None,
    renderer="trilinear",
    n_iterations=30,
    tolerance=0.01,
    max_seconds=None,
    seed=0,
    progress=False,
    verbose=False,
    callback=None,
    skip_truncated=True,
)


def _noise(image: Tensor) -> Tensor:
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)


class Change(NamedTuple):
    "An X-ray that no pose of the CT explains."

    image: Callable[[Tensor], Tensor]
    flips: tuple[int, ...] = ()  # Of the mask


CHANGES = {
    "negative": Change(lambda image: -image),
    "mirrored": Change(lambda image: image.flip(-1), (-1,)),
    "turned": Change(lambda image: image.flip(-2, -1), (-2, -1)),
    "noise": Change(_noise),
}


class Trial(NamedTuple):
    "An X-ray, the CT that it is registered with, and the first pose."

    kind: str
    drr: DRR
    image: Tensor
    mask: Tensor
    start: RigidTransform


def judged(trial: Trial, result: RegistrationResult) -> float:
    "The likeness at the pose that was found."
    pose = result.pose
    (measurement,) = as_measurements(trial.drr, trial.image, pose, trial.mask)
    size = likeness_size(level_sizes(measurement, trial.start.matrix[0].double(), OPTIONS))
    return likeness(measurement, pose.matrix[0].double(), size, OPTIONS)


def run(trial: Trial, truth: RigidTransform | None, evaluator: Evaluator) -> dict[str, Any]:
    # a doubt is enough; a search for what would fit instead is another question
    fall_back = trial.kind == "right"
    result = register(trial.drr, trial.image, trial.start, mask=trial.mask, fall_back=fall_back)
    row: dict[str, Any] = dict(
        kind=trial.kind,
        likeness=judged(trial, result),
        similarity=result.similarity_after,
        left_out=result.left_out[0],
        converged=result.converged,
        stop=result.stop.name if result.stop else None,
        predicted=float(result.predicted_error(evaluator.fiducials).mean()),
    )
    if truth is not None:
        e = error_twist(result, truth)
        row["mTRE"] = float(evaluator(truth, result.pose).mTRE)
        row["nees"] = float(e @ torch.linalg.solve(result.covariance, e)) / 6
    return row


def trials(
    case: Case,
    k: int,
    drr: DRR,
    other: DRR,
    start: RigidTransform,
    name: str,  # Of the change
) -> Iterator[Trial]:
    "One X-ray as it is, with another patient's CT, and changed."
    image, mask = case.images[k : k + 1], case.masks[k]
    yield Trial("right", drr, image, mask, start)
    yield Trial("other patient", other, image, mask, start)
    change = CHANGES[name]
    field = mask.flip(change.flips) if change.flips else mask
    yield Trial(name, drr, change.image(image), field, start)


def of_patient(
    anatomy: Anatomy,
    other: Anatomy,
    n: int,
    number: int,  # Of the patient
    level: int,
) -> Iterator[dict[str, Any]]:
    "All trials of one patient."
    drr, other_drr = registration_drr(anatomy), registration_drr(other)
    evaluator = Evaluator(drr, bone_points(drr.subject))
    generator = torch.Generator().manual_seed(number)
    settings = SUITE if number % 2 == 0 else HARDER[number // 2 % len(HARDER)]
    names = cycle(CHANGES)
    for _ in range(3 * number % len(CHANGES)):
        next(names)
    for case in cases(anatomy, n, number, settings=settings):
        for k, name in zip(range(n), names):
            start = wrong_pose(drr, case.poses[k], level, generator)
            for trial in trials(case, k, drr, other_drr, start, name):
                truth = case.poses[k] if trial.kind == "right" else None
                row = run(trial, truth, evaluator)
                yield row | dict(patient=anatomy.name, view=case.view, case=k, level=level)


def quantiles(values: list[float], *fractions: float) -> list[float]:
    where = torch.tensor(fractions, dtype=torch.float64)
    return torch.tensor(values, dtype=torch.float64).quantile(where).tolist()


def tell(rows: list[dict[str, Any]]) -> None:
    "The distributions of likeness, and of errors over their predictions."
    right = [row for row in rows if row["kind"] == "right"]
    groups = {
        f"right, within {RIGHT:g} mm": [r for r in right if r["mTRE"] < RIGHT],
        f"right X-ray, {RIGHT:g} to {LOST:g} mm": [r for r in right if RIGHT <= r["mTRE"] < LOST],
        f"right X-ray, beyond {LOST:g} mm": [r for r in right if r["mTRE"] >= LOST],
    }
    for name in ("other patient", *CHANGES):
        groups[name] = [row for row in rows if row["kind"] == name]
    print(f"\nlikeness (floor {LEAST_LIKENESS:g})")
    print(
        f"{'':<32} {'n':>4} {'lowest':>8} {'5 %':>8} {'median':>8} {'95 %':>8} {'highest':>8}",
        end="",
    )
    print(f" {'converged':>10}")
    for name, group in groups.items():
        if group:
            values = quantiles([row["likeness"] for row in group], 0, 0.05, 0.5, 0.95, 1)
            converged = sum(row["converged"] for row in group)
            text = " ".join(f"{value:8.2f}" for value in values)
            print(f"{name:<32} {len(group):4d} {text} {converged:10d}")
    found = [row for row in right if row["mTRE"] < RIGHT and math.isfinite(row["nees"])]
    if found:
        tell_errors(found)


def tell_errors(found: list[dict[str, Any]]) -> None:
    ratios = quantiles([row["mTRE"] / row["predicted"] for row in found], 0.05, 0.5, 0.95)
    nees = [row["nees"] for row in found]
    rms = [math.sqrt(sum(r[key] ** 2 for r in found) / len(found)) for key in ("mTRE", "predicted")]
    print(f"\nerrors of {len(found)} within {RIGHT:g} mm ({INDEPENDENT} independent residuals)")
    print(f"  rms {rms[0]:.2f} mm, predicted {rms[1]:.2f} mm")
    print("  error / predicted: 5 % {:.2f}, median {:.2f}, 95 % {:.2f}".format(*ratios))
    median = quantiles(nees, 0.5)[0]
    print(f"  NEES / 6: mean {sum(nees) / len(nees):.2f}, median {median:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path, nargs="+")
    parser.add_argument("--anatomies", type=int, default=4, help="patients of each CT")
    parser.add_argument("--cases", type=int, default=1, help="of each of the three views")
    parser.add_argument("--level", type=int, default=1, choices=LEVELS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if len(args.ct) * args.anatomies < 2:
        parser.error("another patient is needed: give a second CT or more --anatomies")
    patients = anatomies(args.ct, args.anatomies, args.seed)
    others = patients[args.anatomies :] + patients[: args.anatomies]
    if len(args.ct) == 1:
        others = patients[1:] + patients[:1]
    rows: list[dict[str, Any]] = []
    for number, pair in enumerate(zip(patients, others)):
        rows += of_patient(*pair, args.cases, number, args.level)
        print(f"{pair[0].name}: {len(rows)} registrations so far", flush=True)
    tell(rows)
    if args.json:
        machine = f"{torch.get_num_threads()} threads of {cpu_name()}; torch {torch.__version__}"
        for row in rows:
            numbers = {k: float(f"{v:.4g}") for k, v in row.items() if isinstance(v, float)}
            row |= numbers
        args.json.write_text(json.dumps(dict(machine=machine, level=args.level, rows=rows)) + "\n")


if __name__ == "__main__":
    main()
