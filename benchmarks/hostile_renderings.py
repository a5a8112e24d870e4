"""Random calls of `render`, each compared with the reference in float64.

A pixel is right if it differs from the reference by at most `TOLERANCE` times the largest density.
Rays that run in a face between voxels, or through a corner, have no single answer where the image
jumps: there, what lies within the answers for rays shifted by a few rounding errors is right as
well. Their derivatives, which jump at each corner, need only be finite.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Rounding errors of sums of float32 over some hundred segments, times the largest density
TOLERANCE = 4e-6
# Gradients are differences between neighbours, divided by a component of the ray
GRADIENT_TOLERANCE = 4e-5
N_SHIFTS = 32


class Judged(NamedTuple):
    "What became of an input: refused, right, wrong or crashed; and in what words."

    outcome: str
    words: str


def refused(error: Exception) -> Judged:
    "An error that tells what is wrong is clear; one without words is a crash."
    words = f"{type(error).__name__}: {error}"
    return Judged("refused" if str(error) else "crashed", words)


# Rays


def _anywhere(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = shape / 2 + (shape + 2) * rng.normal(size=(2, 3))
    return p, q


def _parallel(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = rng.integers(3)
    p = rng.uniform(-0.5, shape - 0.5)
    q = p.copy()
    p[axis], q[axis] = rng.permutation([-2.0, shape[axis] + 2.0])
    return p, q


def _in_a_face(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _parallel(rng, shape)
    still = p == q
    p[still] = q[still] = np.round(p[still]) + 0.5
    return p, q


def _on_the_grid(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = rng.integers(-4, 2 * shape + 4, (2, 3)) / 2
    return p, q


def _diagonal(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corner = rng.integers(0, shape) - 0.5
    direction = rng.choice([-1.0, 0.0, 1.0], 3) * (shape.max() + 2)
    return corner - direction, corner + direction


def _inside(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-0.5, shape - 0.5), _anywhere(rng, shape)[1]


def _on_a_face(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _inside(rng, shape)
    axis = rng.integers(3)
    p[axis] = rng.integers(0, shape[axis] + 1) - 0.5
    return p, q


def _nowhere(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, _ = _inside(rng, shape)
    return p, p.copy()


def _short(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, _ = _inside(rng, shape)
    return p, p + 1e-3 * rng.normal(size=3)


def _far(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle, direction = rng.uniform(-0.5, shape - 0.5), rng.normal(size=3)
    distance = 10 ** rng.uniform(2, 5, 2)
    return middle - distance[0] * direction, middle + distance[1] * direction


def _not_a_number(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _anywhere(rng, shape)
    (p if rng.random() < 0.5 else q)[rng.integers(3)] = math.nan
    return p, q


def _infinite(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _anywhere(rng, shape)
    q[rng.integers(3)] = rng.choice([math.inf, -math.inf])
    return p, q


RAYS = (
    _anywhere,
    _parallel,
    _in_a_face,
    _on_the_grid,
    _diagonal,
    _inside,
    _on_a_face,
    _nowhere,
    _short,
    _far,
    _not_a_number,
    _infinite,
)


# Renderings


class Rendering(NamedTuple):
    "Arguments of `render`."

    volume: Tensor
    source: Tensor
    target: Tensor
    labels: Tensor | None
    options: dict[str, Any]

    def __str__(self) -> str:
        v, s = self.volume, list(self.source.shape)
        labels = "" if self.labels is None else f", labels {self.labels.dtype}"
        rays = f"{list(self.target.shape)} {self.target.dtype}"
        return f"{v.dtype} {list(v.shape)}, source {s}, rays {rays}{labels}, {self.options}"


_DTYPES = (torch.float32,) * 4 + (
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int16,
    torch.uint8,
    torch.int64,
    torch.bool,
)


def _volume(rng: np.random.Generator, shape: list[int], dtype: torch.dtype) -> Tensor:
    v = rng.normal(size=shape)
    kind = rng.integers(8)
    if kind == 0:
        v = np.zeros(shape)
    elif kind == 1:  # air, and a few voxels
        v = v * (rng.random(shape) < 0.05)
    elif kind == 2:
        v = np.full(shape, 0.7)
    elif kind in (3, 4) and dtype in (torch.float32, torch.float64):
        v = v * 10.0 ** rng.choice([-30, -12, 12, 30])
    if not dtype.is_floating_point:
        v = 50 * np.abs(v)
    volume = torch.as_tensor(v).to(dtype)
    layout = rng.integers(4)
    if layout == 0:  # strides of Fortran
        volume = volume.mT.contiguous().mT
    elif layout == 1:  # a part of a larger one
        volume = torch.cat([volume, volume.flip(-1)], -1)[..., : volume.shape[-1]]
    return volume


def rendering(rng: np.random.Generator) -> Rendering:
    "A random call of `render`."
    shape = rng.choice([1, 2, 3, 5, 8, 13, 30], 3).tolist()
    B, N = int(rng.choice([1, 1, 2, 3])), int(rng.choice([1, 3, 17, 40]))
    dtype = _DTYPES[rng.integers(len(_DTYPES))]
    batch = [[], [], [1], [B]][rng.integers(4)]
    ends = [
        RAYS[rng.integers(len(RAYS) if rng.random() < 0.6 else 2)](rng, np.array(shape, float))
        for _ in range(B * N)
    ]
    wide = torch.float64 if rng.random() < 0.2 else torch.float32
    p, q = (torch.as_tensor(np.stack(x)).view(B, N, 3).to(wide) for x in zip(*ends))
    if rng.random() < 0.4:
        p = p[:, :1]
    options: dict[str, Any] = dict(
        method=str(rng.choice(["siddon", "trilinear"])),
        reduce=str(rng.choice(["sum", "sum", "max"])),
        skip_empty=bool(rng.random() < 0.5),
    )
    if options["method"] == "trilinear" and rng.random() < 0.4:
        options["n_points"] = int(rng.choice([2, 3, 17, 100]))
    labels = None
    if rng.random() < 0.4:
        options["n_channels"] = int(rng.choice([1, 2, 5, 130]))
        kind = (torch.int16, torch.int32, torch.int64, torch.uint8)[rng.integers(4)]
        drawn = rng.integers(0, options["n_channels"], shape)
        labels = torch.as_tensor(drawn).to(kind)
    return Rendering(_volume(rng, batch + shape, dtype), p, q, labels, options)


def _spoilt(rng: np.random.Generator, case: Rendering) -> Rendering:
    "A call that has to be refused."
    volume, source, target, labels, options = case
    X, Y, Z = volume.shape[-3:]
    below = torch.full((X, Y, Z), -1)
    spoils = (
        lambda: Rendering(volume[..., :0], source, target, None, {}),
        lambda: Rendering(volume[0], source, target, labels, options),
        lambda: Rendering(volume, source[..., :2], target, labels, options),
        lambda: Rendering(volume, source, target[..., 0], labels, options),
        lambda: Rendering(volume, source[:0], target, labels, options),
        lambda: Rendering(volume, source, target, below, options | dict(n_channels=3)),
        lambda: Rendering(volume, source, target, below + 4, options | dict(n_channels=3)),
        lambda: Rendering(volume, source, target, below[:, :, None], options),
        lambda: Rendering(volume, source, target, below.double() + 1, options),
        lambda: Rendering(volume, source, target, None, options | dict(n_channels=7)),
        lambda: Rendering(volume, source, target, None, dict(method="trilinear", n_points=1)),
        lambda: Rendering(volume, source, target, None, dict(method="siddon", n_points=9)),
        lambda: Rendering(volume, source, target, labels, options | dict(method="Siddon")),
        lambda: Rendering(volume, source, target, labels, options | dict(reduce="mean")),
        lambda: Rendering(volume, source, target, labels, options | dict(backend="cuda")),
        lambda: Rendering(volume, source, target, labels, options | dict(backend="tpu")),
    )
    k = int(rng.integers(len(spoils)))
    if k == 1 and volume.ndim == 4:  # without its batch it would be whole
        k = 0
    return spoils[k]()


def _reference(case: Rendering, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    "Image [B, C, N] in float64, and its sum's derivatives by both ends of each ray [B, N, 6]."
    from diffpose.raytrace import reference

    o = case.options
    samples = {"n_points": o.get("n_points")} if o["method"] == "trilinear" else {}
    labels = None if case.labels is None else case.labels.long()
    trace = getattr(reference, o["method"])
    ends = [x.double().expand_as(target).clone().requires_grad_() for x in (source, target)]
    image = trace(
        case.volume.double(), *ends, labels, o.get("n_channels", 1), o["reduce"], **samples
    )
    if not image.requires_grad:
        return image, image.new_zeros(*target.shape[:2], 6)
    gradients = torch.autograd.grad(image.sum(), ends, materialize_grads=True)
    return image.detach(), torch.cat(gradients, -1)


def _shifted(case: Rendering, rays: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    "Images and derivatives for the rays of a mask [B, N], shifted by a few rounding errors."
    generator = torch.Generator().manual_seed(seed)
    ends = torch.cat([case.source.expand_as(case.target), case.target], -1).double()
    eps = torch.finfo(case.target.dtype).eps
    size = (eps * ends.abs().amax(-1, True) * 8).clamp(min=eps**0.5 / 4)
    results = []
    for _ in range(N_SHIFTS):
        noise = 2 * torch.rand(ends.shape, generator=generator, dtype=torch.float64) - 1
        moved = ends + noise * size * rays[..., None]
        results.append(_reference(case, *moved.split(3, -1)))
    return results


def _far_off(now: Tensor, expected: Tensor, scale: Tensor | float) -> Tensor:
    "Which values differ by more than `scale`, or are NaN in one alone."
    same = (now == expected) | (now.isnan() & expected.isnan())
    return ~(same | ((now - expected).abs() <= scale))


def _outside(now: Tensor, several: list[Tensor], scale: Tensor | float) -> Tensor:
    "Which values lie beyond all of several answers."
    answers = torch.stack(several)
    low, high = answers.nan_to_num(math.inf).amin(0), answers.nan_to_num(-math.inf).amax(0)
    unclear = answers.isnan().any(0)
    return ~(((now >= low - scale) & (now <= high + scale)) | unclear)


def _is_flat(case: Rendering) -> bool:
    """Is the largest density everywhere in a cell, so that rounding says which point has it? Then
    any label on the way may get it."""
    o = case.options
    exact = o["method"] == "trilinear" and o["reduce"] == "max" and "n_points" not in o
    return exact and case.labels is not None and bool((case.volume == case.volume.max()).all())


def _gradient_scale(case: Rendering, ends: Tensor, density: float) -> Tensor:
    "Largest derivative that a ray may have, [B, N, 1]."
    d = (ends[..., 3:] - ends[..., :3]).abs()
    n = torch.tensor(case.volume.shape[-3:], dtype=d.dtype)
    terms = torch.where(d > 0, torch.minimum(n, d + 1) / d.clamp(min=1e-300), 0.0)
    return density * (1 + terms.sum(-1, True))


def _tied(ends: Tensor) -> Tensor:
    "Which rays [B, N, 6] may run along faces, or through corners."
    on_grid = (2 * ends == (2 * ends).round()).sum(-1) > 1  # one: only begins or ends in a face
    return on_grid | (ends[..., 3:] == ends[..., :3]).any(-1)


def compare(case: Rendering, seed: int) -> Judged:
    "Image, derivatives by the rays, and derivatives by the volume."
    from diffpose.renderers import render

    leaves = [x.clone().requires_grad_() for x in (case.source, case.target)]
    image = render(case.volume, *leaves, case.labels, **case.options)
    expected, gradient = _reference(case, case.source, case.target)
    if image.shape != expected.shape:
        return Judged("wrong", f"shape {list(image.shape)}, not {list(expected.shape)}: {case}")
    ends = torch.cat([case.source.expand_as(case.target), case.target], -1).double()
    known = ends.isfinite().all(-1)  # NaN rays give NaN; those to infinity anything
    density = float(case.volume.double().abs().max())
    scale = TOLERANCE * density
    got = image.detach().double()
    nan = ends.isnan().any(-1)
    if not got.isnan().any(1)[nan].all():
        return Judged("wrong", f"NaN rays do not give NaN pixels: {case}")
    off = _far_off(got, expected, scale) & known[:, None]
    if _is_flat(case):
        largest = expected.amax(1, keepdim=True).expand_as(expected)
        off &= _far_off(got, largest, scale) & _far_off(got, 0 * largest, scale)
    wide = torch.promote_types(image.dtype, torch.float32)
    weight = known[:, None].expand_as(image).to(wide)
    by_ends = torch.autograd.grad((image * weight).nan_to_num().sum(), leaves, allow_unused=True)
    parts = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, by_ends)]
    if case.source.shape[1] == 1:  # a sum over all rays, some of which have no single answer
        parts, gradient = parts[1:], gradient[..., 3:]
    by_rays = torch.cat(parts, -1).double()
    rounding = GRADIENT_TOLERANCE + 4 * torch.finfo(wide).eps * ends.abs().amax(-1, True)
    gscale = rounding * _gradient_scale(case, ends, density)
    # at a corner, and at one of many corners, the image has a slope in each direction
    goff = _far_off(by_rays, gradient, gscale).any(-1) & known & ~_tied(ends)
    goff |= ~by_rays.isfinite().all(-1) & known
    moved = (off.any(1) | goff) & known
    worst = ""
    if moved.any():
        others = _shifted(case, moved, seed)
        last = gradient.shape[-1]
        off = off & _outside(got, [expected, *(x for x, _ in others)], scale)
        slopes = [gradient, *(x[..., -last:] for _, x in others)]
        goff = goff & _outside(by_rays, slopes, gscale).any(-1)
    for name, bad in (("image", off.any(1)), ("derivative by the rays", goff)):
        if bad.any():
            b, k = bad.nonzero()[0].tolist()
            values = {
                "image": (got[b, :, k], expected[b, :, k]),
                "derivative by the rays": (by_rays[b, k], gradient[b, k]),
            }[name]
            there = f"{ends[b, k].tolist()}, got {values[0].tolist()}, not {values[1].tolist()}"
            worst = f"{name} of {int(bad.sum())} rays, such as {there[:400]}; {case}"
            return Judged("wrong", worst)
    return _compare_volume(case, known)


def _compare_volume(case: Rendering, known: Tensor) -> Judged:
    "Derivatives by the volume, of rays with a single answer."
    from diffpose.raytrace import reference
    from diffpose.renderers import render

    floating = case.volume.dtype in (torch.float32, torch.float64)
    ends = torch.cat([case.source.expand_as(case.target), case.target], -1).double()
    rays = known.all(0) & ~_tied(ends).any(0) & (ends.abs() < 1e3).all(-1).all(0)
    if not floating or case.options["reduce"] == "max" or not rays.any():
        return Judged("right", "")
    source = case.source if case.source.shape[1] == 1 else case.source[:, rays]
    target = case.target[:, rays]
    weight = torch.rand(target.shape[1], generator=torch.Generator().manual_seed(0)) - 0.5
    o = dict(case.options)
    volume = case.volume.clone().requires_grad_()
    image = render(volume, source, target, case.labels, **o)
    (got,) = torch.autograd.grad((image * weight).sum(), volume)
    exact = case.volume.double().requires_grad_()
    samples = {"n_points": o.get("n_points")} if o["method"] == "trilinear" else {}
    labels = None if case.labels is None else case.labels.long()
    trace = getattr(reference, o["method"])
    n_channels = o.get("n_channels", 1)
    image = trace(exact, source.double(), target.double(), labels, n_channels, "sum", **samples)
    (expected,) = torch.autograd.grad((image * weight).sum(), exact)
    off = (got.double() - expected).abs() > GRADIENT_TOLERANCE * max(1.0, len(weight) / 10)
    if got.shape != case.volume.shape or off.any():
        worst = float((got.double() - expected).abs().max())
        return Judged("wrong", f"derivative by the volume differs by {worst:.2g}: {case}")
    return Judged("right", "")


def judge_rendering(seed: int, k: int) -> Judged:
    "A random call of `render`, one in eight spoilt."
    rng = np.random.default_rng([seed, k, 1])
    case = rendering(rng)
    if k % 8 == 7:
        case = _spoilt(rng, case)
        from diffpose.renderers import render

        try:
            render(*case[:4], **case.options)
        except (ValueError, TypeError) as error:
            return refused(error)
        return Judged("wrong", f"accepted: {case}")
    try:
        return compare(case, k)
    except ValueError as error:
        return Judged("crashed", f"a whole call is refused: {error}: {case}")
