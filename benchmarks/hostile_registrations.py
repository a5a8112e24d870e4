"""Registrations of X-rays that hold nothing, or not what they seem to hold.

A registration is wrong if it says that it converged, predicts an error below `SURE`, and is further
off than `WITHIN`. X-rays that hold all there is (scaled, shifted in intensity) must be found.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from hostile_renderings import Judged, refused
from torch import Tensor

SURE, WITHIN = 3.0, 5.0  # mm
SIZE = 64  # pixels

Change = Callable[[np.random.Generator, Tensor], Tensor]


class Nonsense(NamedTuple):
    "A change of an X-ray, and whether the pose must be found nevertheless."

    name: str
    change: Change
    must: bool = False


def _one_pixel(rng: np.random.Generator, x: Tensor) -> Tensor:
    image = torch.zeros_like(x)
    row, column = rng.integers(0, SIZE, 2)
    image[..., row, column] = 1.0
    return image


def _checkerboard(rng: np.random.Generator, x: Tensor) -> Tensor:
    size = int(rng.choice([1, 4, 8]))
    steps = torch.arange(SIZE) // size
    return ((steps[:, None] + steps) % 2).expand_as(x).to(x)


def _noise(rng: np.random.Generator, x: Tensor) -> Tensor:
    return torch.as_tensor(rng.normal(size=x.shape)).to(x)


def _noisy(rng: np.random.Generator, x: Tensor) -> Tensor:
    return x + x.std() * float(rng.choice([0.1, 1, 10])) * _noise(rng, x)


def _gradient(rng: np.random.Generator, x: Tensor) -> Tensor:
    angle = rng.uniform(0, 2 * math.pi)
    steps = torch.linspace(-1, 1, SIZE)
    return (math.cos(angle) * steps + math.sin(angle) * steps[:, None]).expand_as(x).to(x)


def _disc(rng: np.random.Generator, x: Tensor) -> Tensor:
    steps = torch.linspace(-1, 1, SIZE)
    radius = float(rng.uniform(0.2, 0.9))
    return (steps**2 + steps[:, None] ** 2 < radius**2).expand_as(x).to(x)


def _few_levels(rng: np.random.Generator, x: Tensor) -> Tensor:
    n = int(rng.choice([1, 2, 4]))
    return (x / x.max() * n).round() / n


def _strewn(rng: np.random.Generator, x: Tensor) -> Tensor:
    order = torch.as_tensor(rng.permutation(x.numel()))
    return x.flatten()[order].view_as(x)


def _with_a_nan(rng: np.random.Generator, x: Tensor) -> Tensor:
    image = x.clone()
    row, column = rng.integers(0, SIZE, 2)
    image[..., row, column] = float(rng.choice([math.nan, math.inf, -math.inf]))
    return image


NONSENSE = (
    Nonsense("as it is", lambda rng, x: x, True),
    Nonsense("scaled by 1e-12", lambda rng, x: 1e-12 * x, True),
    Nonsense("scaled by 1e19", lambda rng, x: 1e19 * x, True),
    Nonsense("shifted and scaled", lambda rng, x: 3 * x + 50, True),
    Nonsense("constant", lambda rng, x: torch.full_like(x, float(rng.choice([0, 1, 1e9, -3])))),
    Nonsense("nearly constant", lambda rng, x: 1 + 1e-7 * _noise(rng, x)),
    Nonsense("one bright pixel", _one_pixel),
    Nonsense("checkerboard", _checkerboard),
    Nonsense("noise", _noise),
    Nonsense("with noise", _noisy),
    Nonsense("gradient", _gradient),
    Nonsense("disc", _disc),
    Nonsense("few grey levels", _few_levels),
    Nonsense("pixels strewn", _strewn),
    Nonsense("negative", lambda rng, x: -x),
    Nonsense("mirrored", lambda rng, x: x.flip(-1)),
    Nonsense("upside down", lambda rng, x: x.flip(-2)),
    Nonsense("turned by 90 degrees", lambda rng, x: x.mT),
    Nonsense("a corner of it", lambda rng, x: x[..., : SIZE // 2, : SIZE // 2].repeat(1, 1, 2, 2)),
    Nonsense("with NaN or infinite", _with_a_nan),
)


@cache
def _example() -> tuple[Any, Any]:
    "The CT that ships with the package, and its C-arm."
    from diffpose.data import load_example_ct
    from diffpose.drr import DRR

    subject = load_example_ct()
    drr = DRR(subject, sdd=1020.0, height=SIZE, delx=400 / SIZE, renderer="trilinear")
    return subject, drr


def _poses(rng: np.random.Generator) -> tuple[Any, Any]:
    "A true pose, and a first guess."
    from diffpose.pose import RigidTransform

    angles, shift = rng.uniform(-10, 10, 3), rng.uniform(-20, 20, 3)
    true = RigidTransform.from_euler(angles.tolist(), [shift[0], 850 + shift[1], shift[2]], "ZXY")
    off, step = rng.uniform(-3, 3, 3), rng.uniform(-8, 8, 3)
    guess = RigidTransform.from_euler(
        (angles + off).tolist(), [shift[0] + step[0], 850 + shift[1], shift[2] + step[2]], "ZXY"
    )
    return true, guess


def _points(drr: Any) -> Tensor:
    "The corners of the inner half of the CT [mm]."
    signs = torch.cartesian_prod(*[torch.tensor([-0.25, 0.25])] * 3)
    corners = (signs + 0.5) * (torch.tensor(drr.density.shape[-3:]) - 1)
    return drr.affine(corners[None])[0]


def _seen(pose: Any, points: Tensor) -> Tensor:
    "Points in the frame of the C-arm [mm]."
    return pose.inverse()(points[None])[0]


def judge_registration(seed: int, k: int) -> Judged:
    "A registration of nonsense, of each kind in turn."
    from diffpose.registration import register

    rng = np.random.default_rng([seed, k, 3])
    name, change, must = NONSENSE[k % len(NONSENSE)]
    _, drr = _example()
    true, guess = _poses(rng)
    similarity = str(rng.choice(["gradient", "gradient", "patch", "global"]))
    with torch.no_grad():
        xray = change(rng, drr(true))
    shown = f"X-ray {name}, similarity {similarity}, seed {seed}, input {k}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = register(drr, xray, guess, similarity, n_starts=2, progress=False)
    except (ValueError, TypeError) as error:
        return Judged("wrong", f"{shown}: refused: {error}") if must else refused(error)
    points = _points(drr)
    off = float((_seen(result.pose, points) - _seen(true, points)).norm(dim=-1).mean())
    sure = float(result.predicted_error(points).mean())
    facts = f"{shown}: {off:.2f} mm off, predicted {sure:.2g} mm"
    facts += f", similarity {result.similarity_after:.3f}"
    if not result.pose.matrix.isfinite().all():
        return Judged("wrong", f"{facts}: the pose is not finite")
    if not result.converged:
        return Judged("wrong" if must else "refused", f"{facts}: {result.reason}")
    if off < WITHIN:
        return Judged("right", facts)
    return Judged("wrong" if must or sure < SURE else "refused", f"{facts}: converged")
