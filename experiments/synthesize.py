"""Files in the schemas of DeepFluoro and Ljubljana, made of a CT.

    python experiments/synthesize.py deepfluoro OUT.h5 --subjects 3 --views 4 --height 192
    python experiments/synthesize.py deepfluoro OUT.h5 --ct pelvis.nii.gz \\
        --annotations experiments/pelvis_ts.json --subjects 6
    python experiments/synthesize.py ljubljana OUT.h5 --subjects 3 --height 192

Without `--views` and `--height` the files have the size of the real ones: as many views, of
1536 x 1536 or 1920 x 1920 pixels. The CT is the package's unless one is given, with a label map and
the names of its structures, or with landmarks and seeds that were placed by hand.
"""

import argparse
from pathlib import Path

from diffpose.datasets.schemas import FULL_SIZE, write_deepfluoro, write_ljubljana
from diffpose.datasets.synthesize import (
    Anatomy,
    anatomy_from_annotations,
    anatomy_from_labels,
    example_anatomy,
)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("schema", choices=("deepfluoro", "ljubljana"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--ct", type=Path, help="the package's chest CT if it is not given")
    parser.add_argument("--annotations", type=Path, help="landmarks and seeds placed by hand")
    parser.add_argument("--labelmap", type=Path)
    parser.add_argument("--structures", type=Path, help="CSV with names of the labels")
    parser.add_argument("--landmarks", default="", help="structures with this in their name")
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--views", type=int, help="of each subject, for deepfluoro")
    parser.add_argument("--height", type=int, help="rows and columns of the X-rays")
    parser.add_argument("--voxels", type=int, default=256, help="along each axis, for ljubljana")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def anatomy(o: argparse.Namespace) -> Anatomy:
    if o.ct is None:
        return example_anatomy(stride=(2, 2, 1))
    if o.annotations is not None:
        return anatomy_from_annotations(o.ct, o.annotations)
    if o.labelmap is None or o.structures is None:
        raise SystemExit("--ct needs --annotations, or --labelmap and --structures")
    return anatomy_from_labels(o.ct, o.labelmap, o.structures, o.landmarks)


def main() -> None:
    o = parsed()
    options = {"n_subjects": o.subjects, "seed": o.seed, "say": print}
    if o.schema == "deepfluoro":
        height = o.height or FULL_SIZE
        write_deepfluoro(o.out, anatomy(o), n_views=o.views, height=height, **options)
    else:
        height = o.height or 1920
        write_ljubljana(o.out, anatomy(o), height=height, n_voxels=o.voxels, **options)


if __name__ == "__main__":
    main()
