"""How the API pages show a name: its call, what it does, and a table of its parameters. `renderer`
in settings.ini names the class below."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

from fastcore.docments import ShowDocRenderer, qual_name
from nbdev.doclinks import NbdevLookup


class _Parameter(NamedTuple):
    name: str
    kind: ast.expr | None
    default: ast.expr | None
    meaning: str | None


class _Returned(NamedTuple):
    kind: ast.expr
    meaning: str | None


class _Member(NamedTuple):
    name: str
    function: Callable[..., Any]
    is_property: bool


def _definition(symbol: Any) -> tuple[ast.stmt | None, dict[int, str]]:
    """Syntax tree of a function, of a class's `__init__`, or of a dataclass, and the comments in it
    by line."""
    if inspect.isclass(symbol) and not is_dataclass(symbol):
        symbol = symbol.__init__
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(symbol)))
    except (OSError, TypeError):
        return None, {}  # built in, or made by another library: nothing to read
    return ast.parse(source).body[0], _comments(source)


def _comments(source: str) -> dict[int, str]:
    "Comments by the line that they are about: the one they end, or the next line of code."
    comments: dict[int, str] = {}
    above: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if token.line.lstrip().startswith("#"):
                above.append(text)
            else:
                comments[token.start[0]] = text
        elif above and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            comments[token.start[0]] = " ".join(above)
            above = []
    return comments


def _parameters(symbol: Any) -> tuple[list[_Parameter], _Returned | None]:
    "All parameters but `self`, and what is returned; None is what is not there."
    tree, comments = _definition(symbol)
    if isinstance(tree, ast.ClassDef):
        fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        return [_field(f, comments) for f in fields], None
    if not isinstance(tree, ast.FunctionDef):
        return [], None
    a = tree.args
    positional = [*a.posonlyargs, *a.args]
    defaults = dict(
        zip([x.arg for x in positional[len(positional) - len(a.defaults) :]], a.defaults)
    ) | dict(zip([x.arg for x in a.kwonlyargs], a.kw_defaults))
    named = [
        *((x.arg, x) for x in positional),
        *([(f"*{a.vararg.arg}", a.vararg)] if a.vararg else []),
        *((x.arg, x) for x in a.kwonlyargs),
    ]
    named += [(f"**{a.kwarg.arg}", a.kwarg)] if a.kwarg else []
    rows = [
        _Parameter(name, x.annotation, defaults.get(x.arg), comments.get(x.lineno))
        for name, x in named
        if name not in ("self", "cls")
    ]
    if tree.returns is None:
        return rows, None
    own_line = tree.returns.lineno not in {x.lineno for _, x in named}
    return rows, _Returned(tree.returns, _comment(tree.returns, comments) if own_line else None)


def _comment(node: ast.expr | ast.stmt, comments: dict[int, str]) -> str | None:
    "The comment on the last line of a piece of code."
    return None if node.end_lineno is None else comments.get(node.end_lineno)


def _field(node: ast.AnnAssign, comments: dict[int, str]) -> _Parameter:
    "A field of a dataclass."
    default = _default_of_field(node.value)
    return _Parameter(ast.unparse(node.target), node.annotation, default, _comment(node, comments))


def _default_of_field(value: ast.expr | None) -> ast.expr | None:
    "The default of a dataclass's field, what a factory makes included."
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "field":
        return next(
            (
                ast.Call(k.value, [], []) if k.arg == "default_factory" else k.value
                for k in value.keywords
                if k.arg and k.arg.startswith("default")
            ),
            None,
        )
    return value


def _code(node: ast.expr | None) -> str:
    # Pandoc takes a bar within backticks as it is
    return "" if node is None else f"`{ast.unparse(node)}`"


def _cell(text: str | None) -> str:
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", text or "")


def _table(rows: list[_Parameter], returned: _Returned | None) -> str:
    "Markdown; a column that would be empty is left out."
    cells = [
        (
            f"<code>{name.replace('*', chr(92) + '*')}</code>",
            _code(kind),
            _code(default),
            _cell(meaning),
        )
        for name, kind, default, meaning in rows
    ]
    if returned and _code(returned.kind) != "`None`":
        cells.append(("**Returns**", _code(returned.kind), "", _cell(returned.meaning)))
    head = (
        ("Parameter", ":----"),
        ("Type", ":------"),
        ("Default", ":----"),
        ("Meaning", ":------------"),
    )  # dashes share out the width
    kept = [k for k in range(4) if any(line[k] for line in cells)]
    return (
        "\n".join(f"| {' | '.join(line[k] for k in kept)} |" for line in (*zip(*head), *cells))
        if cells
        else ""
    )


def _entry(symbol: Any, name: str, docs: str, level: int, is_property: bool) -> str:
    "Heading, call, docstring and parameters."
    rows, returned = _parameters(symbol)
    arguments = [
        argument if default is None else f"{argument}={ast.unparse(default)}"
        for argument, _, default, _ in rows
    ]
    call = name if is_property else f"{name}({', '.join(arguments)})"
    call = "\n".join(textwrap.wrap(call, 90, subsequent_indent="    ", break_long_words=False))
    return (
        f"{'#' * level} {name}\n\n```python\n{call}\n```\n\n{docs}\n\n{_table(rows, returned)}\n\n"
    )


def _members(symbol: type) -> Iterator[_Member]:
    """Public methods and properties in the body of a class; what is patched onto it later has a
    place of its own."""
    lines, first = inspect.getsourcelines(symbol)
    for name, member in vars(symbol).items():
        function = inspect.unwrap(
            getattr(member, "fget", None) or getattr(member, "__func__", member)
        )
        code = getattr(function, "__code__", None)
        if (
            code
            and not name.startswith("_")
            and code.co_filename == inspect.getsourcefile(symbol)
            and first <= code.co_firstlineno < first + len(lines)
        ):
            yield _Member(name, function, isinstance(member, property))


def _type(function: Callable[..., Any]) -> str:
    _, returned = _parameters(function)
    return f" ({_code(returned.kind)})" if returned else ""


def _exported(symbol: Any, name: str) -> tuple[Any, str | None]:
    """The same symbol in the package rather than in the page that is being made, and its URL; its
    source can be read there."""
    lookup = NbdevLookup()
    for module in [
        m
        for library in lookup.entries.values()
        for m, names in library["syms"].items()
        if f"{m}.{name}" in names
    ]:
        other = attrgetter(name)(import_module(module))
        if getattr(other, "__doc__", None) == getattr(symbol, "__doc__", None):
            line = inspect.getsourcelines(inspect.unwrap(getattr(other, "fget", other)))[1]
            return other, f"{lookup[f'{module}.{name}'][2]}#L{line}"
    return symbol, None


def _load_types(symbol: Any) -> None:
    "Import what the symbol's module imports for its annotations alone, under `TYPE_CHECKING`."
    module = inspect.getmodule(inspect.unwrap(symbol))
    if module is None or not getattr(module, "__name__", "").startswith("diffpose."):
        return
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            imports = ast.Module(node.body, type_ignores=[])
            exec(compile(imports, module.__name__, "exec"), vars(module))


class ParameterTable(ShowDocRenderer):
    "Heading, link to the source, call, docstring, parameters."

    def __init__(
        self, sym: Any, name: str | None = None, title_level: int = 3, maxline: int = 110
    ) -> None:
        # before decorators are taken off, which hide a patched method's class
        name = name or qual_name(getattr(sym, "fget", sym))
        self.is_property = isinstance(sym, property)
        sym, self.source = _exported(sym, name)
        _load_types(sym)
        super().__init__(sym, name=name, title_level=title_level, maxline=maxline)

    def _repr_markdown_(self) -> str:
        if self.nm.endswith("__repr__"):
            return ""
        link = (
            f'[source]({self.source}){{target="_blank" style="float:right; font-size:smaller"}}\n\n'
            if self.source
            else ""
        )
        entry = _entry(self.sym, self.nm, self.docs, self.title_level, self.is_property)
        text = f"---\n\n{link}{entry}"
        members = list(_members(self.sym)) if inspect.isclass(self.sym) else []
        text += "".join(
            _entry(
                m,
                f"{self.nm}.{name}",
                inspect.cleandoc(m.__doc__),
                self.title_level + 1,
                is_property,
            )
            for name, m, is_property in members
            if m.__doc__
        )
        plain = [
            f"`{name}`{_type(m)}"
            for name, m, is_property in members
            if is_property and not m.__doc__
        ]
        return text + (f"Properties: {', '.join(plain)}.\n" if plain else "")
