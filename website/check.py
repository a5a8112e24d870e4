"""What can be said of the docs site before Quarto builds it: `nbdev_proc_nbs && python
website/check.py`. Lists what is wrong, and fails if anything is.

Every page has a title and a description, and is in the sidebar; every internal link and picture of
the processed pages resolves, anchors and links to files of the repository included; no link
stands in another; no cell prints a warning; every API page shows something and tests something.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import unquote, urldefrag

import yaml
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from nbdev.config import get_config
from nbformat import read

ROOT = Path(__file__).resolve().parents[1]
SOURCES, PAGES = ROOT / "notebooks", ROOT / "_proc"
TEST = re.compile(r"\b(assert|assert_close|test_\w+|raises|gradcheck)\b")
NESTED = re.compile(r"\[[^\[\]]*\[`[^\]]*\]\([^)]*\)[^\]]*\]\([^)]*\)")
SHOWN = ("image/", "text/html", "text/plain", "text/markdown")


class Page:
    "A processed notebook: its name on the site, its links, and what can be linked to."

    def __init__(self, path: Path) -> None:
        self.path = path.relative_to(PAGES)
        self.notebook = read(path, as_version=4)
        first = self.notebook.cells[0]
        self.front_matter = (
            yaml.safe_load(first.source.strip().strip("-")) if first.cell_type == "raw" else {}
        )
        self.url = str(
            PurePosixPath(
                self.path.parent, self.front_matter.get("output-file", f"{path.stem}.html")
            )
        )
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.anchors: set[str] = set()
        self.nested = [
            link
            for cell in self.notebook.cells
            if cell.cell_type == "markdown"
            for link in NESTED.findall(cell.source)
        ]
        for cell in self.notebook.cells:
            if cell.cell_type == "markdown":
                self._collect(markdown2html_mistune(cell.source))
            for output in cell.get("outputs", []):
                for kind, content in output.get("data", {}).items():
                    if kind == "text/markdown":
                        self._collect(markdown2html_mistune(content))
                    if kind == "text/html":
                        self._collect(content, anchors=False)

    def _collect(self, html: str, anchors: bool = True) -> None:
        soup = BeautifulSoup(html, "html.parser")
        self.links += [
            str(a["href"])
            for a in soup.find_all("a", href=True)
            if "anchor-link" not in a.get_attribute_list("class")
        ]
        self.pictures += [str(img["src"]) for img in soup.find_all("img", src=True)]
        self.anchors |= {str(tag["id"]) for tag in soup.find_all(id=True)}
        for heading in soup.find_all(re.compile("^h[1-6]$")) if anchors else []:
            for mark in heading.find_all("a", class_="anchor-link"):
                mark.decompose()
            name = _identifier(heading.get_text())
            n = sum(
                1 for a in self.anchors if a == name or re.fullmatch(re.escape(name) + r"-\d+", a)
            )
            self.anchors.add(f"{name}-{n}" if n else name)


def _identifier(text: str) -> str:
    "The anchor that Pandoc gives a heading (its manual, extension auto_identifiers)."
    text = re.sub(r"[^\w\s.-]", "", text.strip().lower())
    return re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", text)) or "section"


def _broken_link(link: str, page: Page, pages: list[Page]) -> str | None:
    "Why a link leads nowhere; None if it is fine, or leaves the project."
    config = get_config()
    site, files = (
        f"{config.doc_host}{config.doc_baseurl}",
        f"{config.git_url}/blob/{config.branch}/",
    )
    target, anchor = urldefrag(unquote(link))
    if target.startswith(files):
        return (
            None
            if (ROOT / target.removeprefix(files)).exists()
            else "no such file in the repository"
        )
    if target.startswith(site):
        target = target.removeprefix(site).lstrip("/") or "index.html"
    elif re.match(r"[a-z]+:", target):
        return None
    else:
        target = (
            str(PurePosixPath(_normal(page.path.parent / target))) if target else str(page.path)
        )
    found = next((p for p in pages if target in (p.url, str(p.path))), None)
    if found is None:
        return None if (PAGES / target).is_file() else "no such page"
    if anchor and anchor not in found.anchors:
        return f"no heading for #{anchor} in {found.path}"
    return None


def _normal(path: PurePath) -> PurePosixPath:
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return PurePosixPath(*parts)


def _output_faults(page: Page) -> Iterator[str]:
    for cell in page.notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"a cell ends in {output.output_type} or prints to stderr: {text[:200]!r}"
            elif re.search(r"\b\w*Warning\b:", text):
                yield f"a cell prints a warning: {text[:200]!r}"


def _page_faults(page: Page, pages: list[Page]) -> Iterator[str]:
    for key in ("title", "description"):
        if not page.front_matter.get(key):
            yield f"has no {key}"
    for link in page.links:
        if reason := _broken_link(link, page, pages):
            yield f"link {link}: {reason}"
    for link in page.nested:  # a linked name within a link, which is shown as raw Markdown
        yield f"{link} is a link in a link: take the backticks off its text"
    for picture in page.pictures:
        if (
            not picture.startswith("data:image/")
            and not (PAGES / _normal(page.path.parent / picture)).is_file()
        ):
            yield f"picture {picture[:80]}: no such file"
    yield from _output_faults(page)


def _api_faults(path: Path) -> Iterator[str]:
    notebook = read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    plain = [cell for cell in code if not re.match(r"#\|\s*(export|default_exp)", cell.source)]
    shown = [o for cell in plain if not cell.source.startswith("#| hide") for o in cell.outputs]
    if not any(
        "text" in o or any(kind.startswith(SHOWN) for kind in o.get("data", {})) for o in shown
    ):
        yield "shows no picture and no other output"
    if not any(TEST.search(cell.source) for cell in plain):
        yield "tests nothing"


def _in_sidebar(entries: list[str | dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            if "href" in entry:
                yield entry["href"]
            if str(entry.get("section", "")).endswith(".ipynb"):
                yield entry["section"]
            yield from _in_sidebar(entry.get("contents", []))


def _site_faults(sources: list[Path]) -> Iterator[str]:
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    website = config["website"]
    listed, there = (
        list(_in_sidebar(website["sidebar"]["contents"])),
        {str(s.relative_to(SOURCES)) for s in sources},
    )
    for name in sorted(set(listed) - there):
        yield f"_quarto.yml: the sidebar lists {name}, which is not there"
    for name in sorted(there - set(listed)):
        yield f"_quarto.yml: {name} is not in the sidebar"
    for name in sorted({n for n in listed if listed.count(n) > 1}):
        yield f"_quarto.yml: the sidebar lists {name} twice"
    for name in (
        website["favicon"],
        website["open-graph"]["image"],
        website["twitter-card"]["image"],
        config["format"]["html"]["css"],
    ):
        if not (PAGES / name.lstrip("/")).is_file():
            yield f"_quarto.yml: there is no {name}"


def main() -> None:
    sources = sorted(
        p
        for p in SOURCES.rglob("*.ipynb")
        if not any(part.startswith((".", "_")) for part in p.relative_to(SOURCES).parts)
    )
    missing = [
        str(s.relative_to(SOURCES))
        for s in sources
        if not (PAGES / s.relative_to(SOURCES)).is_file()
    ]
    pages = [
        Page(PAGES / s.relative_to(SOURCES))
        for s in sources
        if str(s.relative_to(SOURCES)) not in missing
    ]
    faults = [f"{name}: was not processed by nbdev_proc_nbs" for name in missing]
    faults += [f"{page.path}: {fault}" for page in pages for fault in _page_faults(page, pages)]
    faults += [
        f"{s.relative_to(SOURCES)}: {fault}"
        for s in sources
        if "api" in s.relative_to(SOURCES).parts[:1]
        for fault in _api_faults(s)
    ]
    faults += _site_faults(sources)
    print(*faults, sep="\n")
    n_links, n_pictures = sum(len(p.links) for p in pages), sum(len(p.pictures) for p in pages)
    print(
        f"{len(pages)} pages, {n_links} links, {n_pictures} linked pictures: {len(faults)} faults"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
