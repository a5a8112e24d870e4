"""Command lines with odd options and damaged files.

A command must end with exit code 0 and finite results, with 1 if a registration did not converge,
or with 2 and one line that says what is wrong.
"""

import json
import pickle
from pathlib import Path
from typing import NamedTuple

import hostile_files
import numpy as np
from hostile_renderings import Judged


class Inputs(NamedTuple):
    "Files that commands may be given."

    ct: Path
    cts: list[Path]  # Damaged, as all that follow
    xray: Path
    xrays: list[Path]
    structures: list[Path]
    poses: list[Path]


def prepare(folder: Path, seed: int) -> None:
    "Write files, damaged and whole, once for all child processes."
    import torch

    from diffpose.pose import RigidTransform

    rng = np.random.default_rng(seed)
    cts = [x.path for x in hostile_files.cts(folder / "cts", 2, seed)]
    xrays = [x.path for x in hostile_files.xrays(folder / "xrays", 2, seed)]
    structures = [x.path for x in hostile_files.structures(folder / "structures", 4, seed)]
    pose = RigidTransform.from_euler([3.0, 0.0, 0.0], [0.0, 850.0, 0.0], "ZXY")
    facts = dict(matrix=pose.matrix[0].tolist(), orientation="AP")
    texts = [json.dumps(facts).encode()]
    whole = hostile_files.Bytes("pose.json", texts[0], None)
    texts += [data for _, data, _ in hostile_files.random_damages(whole, 8, rng)]
    for matrix in (torch.zeros(4, 4), torch.full((4, 4), float("nan")), 2 * torch.eye(4), 7, "x"):
        value = matrix.tolist() if isinstance(matrix, torch.Tensor) else matrix
        texts.append(json.dumps(dict(matrix=value)).encode())
    texts += [b"", b"[]", b"null", b"[" * 10**5, json.dumps(facts).encode("utf-16")]
    poses = []
    for k, text in enumerate(texts):
        poses.append(folder / f"pose{k}.json")
        poses[-1].write_bytes(text)
    picture = folder / "whole.npy"
    np.save(picture, 1000 + 500 * rng.random((40, 40)).astype(np.float32))
    whole_ct = folder / "cts" / "whole" / "ct.nii.gz"
    inputs = Inputs(whole_ct, cts, picture, xrays, structures, poses)
    (folder / "inputs").write_bytes(pickle.dumps(inputs))


_NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e-30",
    "1e38",
    "1e400",
    "seven",
    "",
    "\u0661",
    "0x10",
)
_CASES = {
    "--sdd": ("1020", "300", *_NUMBERS),
    "--height": ("16", "40", "1", "0", "-3", "2.5", "nan", "99999999999", "1000000"),
    "--width": ("16", "1", "0", "-3", "nan", "1000000"),
    "--delx": ("4", "0.1", *_NUMBERS),
    "--dely": ("4", *_NUMBERS),
    "--x0": ("0", "50", *_NUMBERS),
    "--y0": ("0", "-50", *_NUMBERS),
    "--rotation": ("0 0 0", "90 5 5", "nan 0 0", "inf 0 0", "1e38 0 0", "1 2", "1e308 1e308 1"),
    "--translation": ("0 850 0", "0 0 0", "nan 0 0", "1e38 1e38 0", "0 1e20 0", "a b c"),
    "--convention": ("ZXY", "XYZ", "XXY", "zxy", "", "ABC", "ZXYZ"),
    "--orientation": ("AP", "pa", "none", "", "LAO"),
    "--density": ("normalized", "attenuation", "", "bright"),
    "--bone-attenuation-multiplier": ("1", "2.5", *_NUMBERS),
    "--device": ("cpu", "cuda", "tpu", "", "cuda:99", "meta"),
    "--only": ("1", "heart", "-1", "", "99999999999999999999", "²"),
    "--structures": ("nothing.csv", "/dev/null", "/dev/zero", "."),
    "--labelmap": ("nothing.nii", "/dev/null", "."),
}
_OF_RENDER = {
    "--method": ("siddon", "trilinear", "", "Joseph"),
    "--show": ("1", "heart", "", "-3"),
}
_OF_REGISTER = {
    "--intensity": ("raw", "log", "auto", ""),
    "--dense": ("dark", "bright", "grey"),
    "--i0": ("1500", *_NUMBERS),
    "--frame": ("0", "-1", "7", "2.5"),
    "--primary-angle": ("10", *_NUMBERS),
    "--secondary-angle": ("10", *_NUMBERS),
    "--source-to-patient": ("700", *_NUMBERS),
    "--similarity": ("gradient", "patch", "global", "", "ncc"),
    "--starts": ("1", "0", "-5", "nan"),
    "--spread": ("5 10", "0 0", "nan 1", "-1 3", "inf inf", "1"),
    "--unknown": ("sdd", "x0", "sdd=10", "sdd=nan", "sdd=-1", "height=3", "="),
    "--seed": ("0", "-1", "99999999999999999999", "x"),
}


def _pick(rng: np.random.Generator, among: tuple[str, ...] | list[Path]) -> str:
    return str(among[int(rng.integers(len(among)))])


def _options(rng: np.random.Generator, of_command: dict[str, tuple[str, ...]]) -> list[str]:
    arguments: list[str] = []
    known = _CASES | of_command
    for name in rng.permutation(list(known))[: int(rng.integers(0, 4))].tolist():
        value = _pick(rng, known[name][:2] if rng.random() < 0.5 else known[name])
        triple = name in ("--rotation", "--translation", "--spread")
        arguments += [name, *(value.split() if triple else [value])]
    return arguments


def _sometimes(rng: np.random.Generator, whole: Path, damaged: list[Path], chance: float) -> str:
    return _pick(rng, damaged) if rng.random() < chance else str(whole)


def command_line(rng: np.random.Generator, inputs: Inputs, out: Path) -> list[str]:
    "A command with a few odd options, or a damaged file."
    ct = _sometimes(rng, inputs.ct, inputs.cts, 0.2)
    if rng.random() < 0.6:
        names = ("a.npy", "a.png", "a.tiff", "a.npy", "a.npy", "a.png", "a.jpg", "none/a.png")
        arguments = ["render", ct, "--out", f"{out}/{_pick(rng, names)}"]
        return [*arguments, "--height", "16", "--delx", "8", *_options(rng, _OF_RENDER)]
    xray = _sometimes(rng, inputs.xray, inputs.xrays, 0.2)
    arguments = ["register", ct, xray, "--out", f"{out}/found", "--no-animation"]
    arguments += ["--starts", "1", "--max-seconds", "2"]
    if not xray.endswith(".dcm") or rng.random() < 0.3:
        arguments += ["--sdd", "1020", "--delx", "1.5", "--intensity", "raw"]
    if rng.random() < 0.3:
        arguments += ["--pose", _pick(rng, inputs.poses)]
    else:
        arguments += ["--rotation", "0", "0", "0"]
    if rng.random() < 0.2:
        arguments += ["--structures", _pick(rng, inputs.structures)]
    return [*arguments, *_options(rng, _OF_REGISTER)]


def _written(out: Path) -> str:
    "Fault of the results in a folder, if there is one."
    from PIL import Image

    files = [path for path in out.rglob("*") if path.is_file()]
    if not files:
        return "nothing is written"
    for path in files:
        if path.suffix == ".npy" and not np.isfinite(np.load(path)).all():
            return f"{path.name} is not finite"
        if path.suffix == ".tiff" and not np.isfinite(np.asarray(Image.open(path))).all():
            return f"{path.name} is not finite"
        if path.suffix == ".png":
            Image.open(path).load()
        if path.name == "pose.json":
            matrix = np.array(json.loads(path.read_text())["matrix"], float)
            if not np.isfinite(matrix).all():
                return "the pose is not finite"
        if path.name.startswith("tmp"):
            return f"{path.name} is left over"
    return ""


def judge_command(folder: Path, seed: int, k: int) -> Judged:
    "A random command line, in this process."
    from typer.testing import CliRunner

    from diffpose.cli import app

    rng = np.random.default_rng([seed, k, 4])
    inputs = pickle.loads((folder / "inputs").read_bytes())
    out = folder / f"out{k}"
    out.mkdir(exist_ok=True)
    arguments = command_line(rng, inputs, out)
    shown = " ".join(arguments).encode(errors="backslashreplace").decode()
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        error = result.exception
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = ""
        if where is not None:
            place = f" ({Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno})"
        return Judged("crashed", f"{type(error).__name__}: {error}{place}; {shown}")
    if result.exit_code in (0, 1):
        fault = _written(out)
        return Judged("wrong" if fault else "right", f"{fault}; {shown}")
    said = result.stderr.strip()
    lines = [line for line in said.splitlines() if "Warning" not in line]
    if len(lines) == 1 and lines[0].startswith("Error: "):
        return Judged("refused", lines[-1])
    return Judged("wrong", f"exit {result.exit_code} without one line of error: {said}; {shown}")
