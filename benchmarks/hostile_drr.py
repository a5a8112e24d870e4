"""`DRR` and `Detector` with odd arguments: an error that tells what is wrong, or the right image.

Images are compared with the reference in float64, along the rays that the `DRR` itself makes.
"""

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
from hostile_renderings import TOLERANCE, Judged, refused

_ODD: tuple[Any, ...] = (
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    0.0,
    -0.0,
    1e-30,
    1e30,
    1e38,
    2.5,
    7,
    True,
    None,
    "seven",
    "",
    (),
    [3, 4],
    1j,
    2**63,
    np.float32(3),
    np.int8(5),
    np.array([2.0, 3.0]),
    torch.tensor(4.0),
    torch.tensor([1.0, 2.0]),
    object(),
)
_USUAL: dict[str, tuple[Any, ...]] = dict(
    sdd=(1020.0, 300, 1e4),
    height=(8, 1, 13),
    delx=(4.0, 0.1, 30),
    width=(None, 9, 1),
    dely=(None, 3.0),
    x0=(0.0, -30.0, 500.0),
    y0=(0.0, 12.0),
    p_subsample=(None, 0.5, 1.0, 1e-9),
    reshape=(True, False),
    reverse_x_axis=(True, False),
    patch_size=(None, 2, 100),
    renderer=("siddon", "trilinear"),
    voxel_shift=(0.5, 0),
    persistent=(True, False),
    checkpoint_gradients=(True, False),
    principal_point=(None, None, None, (3.0, 4.0)),
    reducefn=("sum", "max"),
)
_POSES: dict[str, tuple[Any, ...]] = dict(
    rotation=([0.0, 0.0, 0.0], [90.0, 0.0, 0.0], [0.0, 90.0, 0.0], [1e6, -1e6, 720.0]),
    translation=([0.0, 850.0, 0.0], [0.0, 0.0, 0.0], [3.0, 1e4, -5.0], [1e6, 1e6, 1e6]),
)
_ODD_POSES: tuple[Any, ...] = (
    [math.nan, 0.0, 0.0],
    [0.0, math.inf, 0.0],
    [1e30, 0.0, 0.0],
    [1e38, 1e38, 1e38],
    [1.0, 2.0],
    [],
    [[0.0, 0.0, 0.0]] * 3,
    "south",
    None,
)
_WAYS = (
    dict(parameterization="euler_angles", convention="ZXY", degrees=True),
    dict(parameterization="axis_angle"),
    dict(parameterization="se3_log_map"),
    dict(parameterization="euler_angles"),
    dict(parameterization="euler_angles", convention="XXX"),
    dict(parameterization="quaternion"),
    dict(parameterization="nothing"),
)


@cache
def small_subject() -> Any:
    "A subject with labels, small enough to be rendered thousands of times."
    from torchio import LabelMap, ScalarImage

    from diffpose.data import read

    generator = torch.Generator().manual_seed(0)
    hu = 1500 * torch.rand(1, 12, 9, 7, generator=generator) - 700
    affine = np.diag([20.0, 25.0, 30.0, 1.0])
    labels = (hu > 100).short() + (hu > 500).short()
    ct, mask = ScalarImage(tensor=hu, affine=affine), LabelMap(tensor=labels, affine=affine)
    return read(ct, mask)


def _pick(
    rng: np.random.Generator, usual: tuple[Any, ...], odd: tuple[Any, ...], chance: float
) -> Any:
    among = odd if rng.random() < chance else usual
    return among[int(rng.integers(len(among)))]


def _arguments(rng: np.random.Generator) -> dict[str, Any]:
    "Arguments of a `DRR`, some of them odd."
    chance = float(rng.choice([0.0, 0.03, 0.2]))
    named = ["sdd", "height", "delx"]
    named += [name for name in _USUAL if name not in named and rng.random() < 0.4]
    if "renderer" in named and rng.random() < 0.3:
        named.append("eps")
    return {name: _pick(rng, _USUAL.get(name, (1e-8,)), _ODD, chance) for name in named}


def _call(rng: np.random.Generator) -> tuple[list[Any], dict[str, Any]]:
    "Arguments of a call of it."
    chance = float(rng.choice([0.0, 0.1]))
    ends = [_pick(rng, _POSES[name], _ODD_POSES, chance) for name in _POSES]
    way = dict(_WAYS[min(int(rng.integers(12)), len(_WAYS) - 1) if rng.random() < 0.5 else 0])
    if rng.random() < 0.2:
        way["mask_to_channels"] = _pick(rng, (True, False), _ODD, chance)
    if rng.random() < 0.15:
        way["n_points"] = _pick(rng, (50, 2, None), _ODD, chance)
    return [_as_batch(x) for x in ends], way


def _as_batch(x: Any) -> Any:
    if not isinstance(x, list):
        return x
    return torch.tensor(x if x and isinstance(x[0], list) else [x])


_CHANGES: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("set_intrinsics_", "sdd", (500.0,)),
    ("set_intrinsics_", "height", (5,)),
    ("set_intrinsics_", "width", (3,)),
    ("set_intrinsics_", "delx", (2.0,)),
    ("set_intrinsics_", "x0", (7.0,)),
    ("set_intrinsics_", "n_subsample", (3,)),
    ("rescale_detector_", "scale", (0.5, 2.0, 0.01)),
)


def _right(drr: Any, image: torch.Tensor, call: tuple[list[Any], dict[str, Any]]) -> str:
    "Fault of an image, if it has one."
    from diffpose.pose import RigidTransform, convert
    from diffpose.raytrace import reference

    ends, way = call
    if not image.isfinite().all():
        return "not finite"
    if drr.detector.n_subsample is not None or image.numel() > 5000:
        return ""  # other pixels at each call, or too many for the reference
    known = ("parameterization", "convention", "degrees")
    pose = convert(*ends, **{name: way[name] for name in known if name in way})
    assert isinstance(pose, RigidTransform)
    source, target, length = (x.double() for x in drr.voxel_rays(pose))
    labels, n_channels = None, 1
    if way.get("mask_to_channels"):
        labels, n_channels = drr.mask.long(), drr.n_channels
    samples = {"n_points": way.get("n_points")} if drr.renderer.method == "trilinear" else {}
    trace = getattr(reference, drr.renderer.method)
    volume = drr.density.double()
    expected = trace(volume, source, target, labels, n_channels, drr.reduce, **samples)
    if drr.reduce == "sum":
        expected = expected * length[:, None]
    shape = (*expected.shape[:2], drr.detector.height, drr.detector.width)
    if tuple(image.shape) != (shape if drr.reshape else tuple(expected.shape)):
        return f"shape {list(image.shape)}"
    scale = float(volume.max()) * (float(length.max()) if drr.reduce == "sum" else 1)
    off = (image.double().reshape(expected.shape) - expected).abs().max()
    if off > 10 * TOLERANCE * scale and drr.reduce == "sum":
        return f"differs by {float(off / scale):.2g} of what a ray may have"
    return ""


def judge_drr(seed: int, k: int) -> Judged:
    "A `DRR`, perhaps changed, and an image of it."
    from diffpose.drr import DRR

    rng = np.random.default_rng([seed, k, 2])
    arguments, call = _arguments(rng), _call(rng)
    method, name, values = _CHANGES[int(rng.integers(len(_CHANGES)))]
    change = {name: _pick(rng, values, _ODD, 0.3)} if rng.random() < 0.3 else None
    shown = f"DRR({arguments}); {method if change else ''} {change}; {call}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            drr = DRR(small_subject(), **arguments)
            if change is not None:
                getattr(drr, method)(**change)
            image = drr(*call[0], **call[1])
            fault = _right(drr, image.detach(), call)
    except (ValueError, TypeError) as error:
        return refused(error)
    except (MemoryError, RuntimeError) as error:  # sizes that another machine may have
        if "allocate memory" in str(error):
            return Judged("refused", str(error)[:200])
        return Judged("crashed", f"{type(error).__name__}: {error}; {shown}")
    except Exception as error:
        return Judged("crashed", f"{type(error).__name__}: {error}; {shown}")
    return Judged("wrong", f"{fault}: {shown}") if fault else Judged("right", "")
