"""How the API pages show a name: its call, what it does, and a table of its parameters. `renderer`
in settings.ini names the class below."""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from dataclasses import is_dataclass
from importlib import import_module
from operator import attrgetter

from fastcore.docments import ShowDocRenderer, qual_name
from nbdev.doclinks import NbdevLookup


def _definition(symbol):
    """Syntax tree of a function, of a class's `__init__`, or of a dataclass, and the comments in it
    by line."""
    if inspect.isclass(symbol) and not is_dataclass(symbol):
        symbol = symbol.__init__
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(symbol)))
    except (OSError, TypeError):
        return None, {}  # built in, or made by another library: nothing to read
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return ast.parse(source).body[0], {
        t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT
    }


def _parameters(symbol):
    """Rows (name, type, default, meaning) of all parameters but `self`; of what is returned, the
    last row; None is what is not there."""
    tree, comments = _definition(symbol)
    if isinstance(tree, ast.ClassDef):
        fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        return [
            (f.target.id, f.annotation, _default_of_field(f.value), comments.get(f.end_lineno))
            for f in fields
        ], None
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
        (name, x.annotation, defaults.get(x.arg), comments.get(x.lineno))
        for name, x in named
        if name not in ("self", "cls")
    ]
    own_line = tree.returns is not None and tree.returns.lineno not in {x.lineno for _, x in named}
    return rows, (
        tree.returns,
        comments.get(tree.returns.end_lineno) if own_line else None,
    ) if tree.returns is not None else None


def _default_of_field(value):
    "The default of a dataclass's field, what a factory makes included."
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "field":
        return next(
            (
                ast.Call(k.value, [], []) if k.arg == "default_factory" else k.value
                for k in value.keywords
                if k.arg.startswith("default")
            ),
            None,
        )
    return value


def _code(node):
    return (
        f"`{ast.unparse(node)}`" if node is not None else ""
    )  # Pandoc takes a bar within backticks as it is


def _cell(text):
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", text or "")


def _table(rows, returned):
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
    if returned and _code(returned[0]) != "`None`":
        cells.append(("**Returns**", _code(returned[0]), "", _cell(returned[1])))
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


def _entry(symbol, name, docs, level, is_property):
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


def _members(symbol):
    """Public methods and properties in the body of a class; what is patched onto it later has a
    place of its own. (name, function, is it a property?)"""
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
            yield name, function, isinstance(member, property)


def _type(function):
    _, returned = _parameters(function)
    return f" ({_code(returned[0])})" if returned else ""


def _exported(symbol, name):
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


class ParameterTable(ShowDocRenderer):
    "Heading, link to the source, call, docstring, parameters."

    def __init__(self, sym, name=None, title_level=3, maxline=110):
        name = name or qual_name(
            getattr(sym, "fget", sym)
        )  # before decorators are taken off, which hide a patched method's class
        self.is_property = isinstance(sym, property)
        sym, self.source = _exported(sym, name)
        super().__init__(sym, name=name, title_level=title_level, maxline=maxline)

    def _repr_markdown_(self):
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
