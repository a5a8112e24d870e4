"""The part of CHANGELOG.md on a version: notes of its release, `python .ci/changelog.py 0.1.0`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notes(version: str) -> str:
    "The section of a version, without its heading and without the links below the last one."
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## \[(.+?)\].*$", text, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True)).get(version)
    if found is None:
        sys.exit(f"CHANGELOG.md has no section ## [{version}]")
    return re.sub(r"^\[.+?\]: .*$", "", found, flags=re.MULTILINE).strip()


if __name__ == "__main__":
    print(notes(sys.argv[1]))
