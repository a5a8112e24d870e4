"""The oldest dependencies that settings.ini allows, as constraints for pip.

`python .ci/oldest.py > constraints.txt`, then `pip install -c constraints.txt -e ".[dev]"`.
"""

import sys
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def oldest(requirement: str) -> str:
    "The requirement at its lower bound: `torch>=2.4` gives `torch==2.4`."
    parsed = Requirement(requirement)
    bounds = [clause.version for clause in parsed.specifier if clause.operator == ">="]
    if len(bounds) != 1:
        sys.exit(f"settings.ini: {requirement} must have one lower bound, written >=")
    return f"{parsed.name}=={bounds[0]}"


def main() -> None:
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    for requirement in config["DEFAULT"]["requirements"].split():
        print(oldest(requirement))


if __name__ == "__main__":
    main()
