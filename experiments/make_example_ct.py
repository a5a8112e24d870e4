"""Make the example CT that ships in `diffpose/assets`: half the in-plane resolution of a chest CT
with labels.

    python experiments/make_example_ct.py FOLDER

FOLDER holds `ct.nii.gz`, `labels.nii.gz` (one grid, even numbers of rows and columns) and
`structures.csv`, as LIDC-IDRI-0001 with a TotalSegmentator-style label map does. Each output voxel
is the mean of 2 x 2 input voxels, cut at -1024 HU (values below lie outside the scanner's field of
view); its label is the most frequent one of the four, the smallest at a tie.
"""

import argparse
import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

ASSETS = Path(__file__).parents[1] / "diffpose" / "assets"


def blocks_of_four(volume):
    "The 2 x 2 in-plane neighbours of each output voxel, stacked in front."
    return np.stack([volume[i::2, j::2] for i in (0, 1) for j in (0, 1)])


def most_frequent(labels):
    "Mode along the first axis; the smallest label where two are as frequent."
    counts = (labels[:, None] == labels[None]).sum(1)
    candidates = np.where(counts == counts.max(0), labels, labels.max() + 1)
    return candidates.min(0)


def save(data, affine, path):
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as file:  # the same bytes at every run
        file.write(image.to_bytes())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    ct, labels = nib.load(folder / "ct.nii.gz"), nib.load(folder / "labels.nii.gz")
    if ct.shape != labels.shape or not np.allclose(ct.affine, labels.affine):
        raise SystemExit("ct.nii.gz and labels.nii.gz must share one grid")

    # the centre of a 2 x 2 block lies half a voxel beyond the centre of its first voxel
    halve = np.diag([2.0, 2.0, 1.0, 1.0])
    halve[:2, 3] = 0.5
    hu = np.clip(np.asarray(ct.dataobj, dtype=np.int32), -1024, None)
    mean = np.round(blocks_of_four(hu).mean(0)).astype(np.int16)
    mode = most_frequent(blocks_of_four(np.asarray(labels.dataobj).astype(np.int16))).astype(
        np.uint8
    )

    ASSETS.mkdir(exist_ok=True)
    save(mean, ct.affine @ halve, ASSETS / "ct.nii.gz")
    save(mode, ct.affine @ halve, ASSETS / "labels.nii.gz")
    shutil.copyfile(folder / "structures.csv", ASSETS / "structures.csv")
    for path in sorted(ASSETS.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
