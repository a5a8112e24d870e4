"""README.md from notebooks/index.ipynb, without Quarto.

`python .ci/readme.py` writes it, `--check` compares and writes nothing.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbconvert.exporters import MarkdownExporter
from nbformat import NotebookNode, read
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parents[1]
ALT_TEXT = re.compile(r'#\| fig-alt: "(.*)"\n')


def _shown(cell: NotebookNode) -> NotebookNode:
    "A cell that hides its code, as the Markdown that it gives."
    if not cell.source.startswith("#| echo: false"):
        return cell
    return new_markdown_cell(
        "\n\n".join("".join(output["data"]["text/markdown"]) for output in cell.outputs)
    )


def _take_alt_texts(cells: list[NotebookNode]) -> Iterator[str]:
    "Take the alternative texts of pictures out of the code of their cells."
    texts = []
    for cell in cells:
        if found := ALT_TEXT.match(cell.source):
            texts.append(found[1])
            cell.source = cell.source.removeprefix(found[0])
    return iter(texts)


def readme() -> tuple[str, dict[str, bytes]]:
    "Text of the README, and the pictures that it shows by their path from the root."
    notebook = read(ROOT / "notebooks" / "index.ipynb", as_version=4)
    notebook.cells = [
        _shown(cell) for cell in notebook.cells if not cell.source.startswith("#| hide")
    ]
    alt_texts = _take_alt_texts(notebook.cells)
    notebook.metadata["language_info"] = {"name": "python"}
    exporter = MarkdownExporter()
    resources: dict[str, Any] = {"output_files_dir": "index_files", "unique_key": "index"}
    text, resources = exporter.from_notebook_node(notebook, resources=resources)
    text = (
        re.sub(r"!\[(png|jpeg)\]", lambda _: f"![{next(alt_texts)}]", text)
        .replace("](api/", "](notebooks/api/")
        .replace("](tutorials/", "](notebooks/tutorials/")
        .replace("](images/", "](notebooks/images/")
    )
    for name in ("how_it_works", "benchmarks", "coming_from_diffdrr"):
        text = text.replace(f"]({name}.ipynb", f"](notebooks/{name}.ipynb")
    lines = [line.rstrip() for line in text.strip().splitlines()]
    tidy = [line for line, before in zip(lines, ["", *lines]) if line or before]
    return "\n".join(tidy) + "\n", resources["outputs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text, pictures = readme()
    files = {"README.md": text.encode(), **pictures}
    differing = [
        name
        for name, content in files.items()
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != content
    ]
    if check and differing:
        sys.exit(
            f"{', '.join(differing)} differ from notebooks/index.ipynb: run `python .ci/readme.py`"
        )
    for name in [] if check else differing:
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_bytes(files[name])
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
