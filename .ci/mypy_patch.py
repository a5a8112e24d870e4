"""A plugin for mypy: methods that fastcore's `@patch` puts on a class.

mypy reads a class from its body alone. This plugin moves each function that is decorated with
`@patch`, and whose first parameter names the class, from the module into that body before mypy
analyses it; lines and columns of errors stay those of the source. Of patches that stand in other
modules the class gets the signature: those modules are read before mypy comes to them, and a type
that the module of the class does not import is `Any`. Not seen: patches of a `NamedTuple` and of a
`TypedDict`.
"""

import ast
import builtins
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from mypy.nodes import (
    ARG_NAMED,
    ARG_NAMED_OPT,
    ARG_OPT,
    ARG_POS,
    ARG_STAR,
    ARG_STAR2,
    ArgKind,
    Argument,
    CallExpr,
    Decorator,
    Expression,
    FuncDef,
    NameExpr,
    PassStmt,
    Var,
)
from mypy.plugin import (
    ClassDefContext,
    Plugin,
    ReportConfigContext,
    SemanticAnalyzerPluginInterface,
)
from mypy.plugins.common import add_attribute_to_class, add_method_to_class
from mypy.types import AnyType, CallableType, NoneType, Type, TypeOfAny, UnboundType, UnionType

PACKAGE = "diffpose"

# an argument of `patch`, and the decorator that says the same in the body of a class
DECORATORS = {"as_prop": "property", "cls_method": "classmethod", "static_method": "staticmethod"}


def is_patch(decorator: Expression) -> bool:
    "Is it `@patch` or `@patch(...)`?"
    if isinstance(decorator, CallExpr):
        decorator = decorator.callee
    return isinstance(decorator, NameExpr) and decorator.name == "patch"


def patched_class(node: Decorator) -> str | None:
    "Name of the class that the first parameter's annotation gives."
    signature = node.func.unanalyzed_type
    if not isinstance(signature, CallableType) or not signature.arg_types:
        return None
    first = signature.arg_types[0]
    return first.name if isinstance(first, UnboundType) else None


def body_decorators(patch: Expression) -> list[Expression]:
    "Decorators of a method in the body of its class that stand for its `@patch`."
    names = patch.arg_names if isinstance(patch, CallExpr) else []
    decorators: list[Expression] = [
        NameExpr(DECORATORS[name]) for name in names if name in DECORATORS
    ]
    for decorator in decorators:
        decorator.set_line(patch)
    return decorators


def seen_from_module(kind: Type, api: SemanticAnalyzerPluginInterface) -> Type:
    "An annotation whose `float` is the builtin, also in a class that has a method `float`."
    if isinstance(kind, UnionType):
        return UnionType([seen_from_module(item, api) for item in kind.items])
    if not isinstance(kind, UnboundType):
        return kind
    if not kind.args and isinstance(getattr(builtins, kind.name, None), type):
        return api.named_type(f"builtins.{kind.name}")
    kind.args = tuple(seen_from_module(argument, api) for argument in kind.args)
    return kind


def method(node: Decorator, api: SemanticAnalyzerPluginInterface) -> Decorator | FuncDef:
    "The function as it would stand in the body of its class."
    first_decorators = body_decorators(node.decorators[0])
    node.decorators = first_decorators + node.decorators[1:]
    node.original_decorators = node.decorators.copy()
    for signature in (node.func.unanalyzed_type, node.func.type):
        if isinstance(signature, CallableType):
            if any(isinstance(d, NameExpr) and d.name == "classmethod" for d in first_decorators):
                signature.arg_types[0] = UnboundType("type", [signature.arg_types[0]])
            signature.arg_types = [seen_from_module(kind, api) for kind in signature.arg_types]
            signature.ret_type = seen_from_module(signature.ret_type, api)
    if node.decorators:
        return node
    node.func.is_decorated = False
    return node.func


@cache
def patches_of_others() -> dict[str, list[ast.FunctionDef]]:
    "Patches by the full name of their class, where that class is imported from another module."
    trees = {path: ast.parse(path.read_text("utf-8")) for path in Path(PACKAGE).rglob("*.py")}
    origins: dict[str, str] = {}  # from the full name of what a module imports
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
                source = resolve_name(source, ".".join(path.parent.parts))
                for alias in node.names:
                    local = f"{module_name(path)}.{alias.asname or alias.name}"
                    origins[local] = f"{source}.{alias.name}"
    found: dict[str, list[ast.FunctionDef]] = {}
    for path in sorted(trees):
        for node in trees[path].body:
            if isinstance(node, ast.FunctionDef) and patch_arguments(node) is not None:
                name = local = f"{module_name(path)}.{first_annotation(node)}"
                while name in origins:
                    name = origins[name]
                if name != local:
                    found.setdefault(name, []).append(node)
    return found


def module_name(path: Path) -> str:
    "Full name of the module or the package that a file holds."
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def first_annotation(node: ast.FunctionDef) -> str:
    "The annotation of a function's first parameter; empty if there is none."
    annotation = node.args.args[0].annotation if node.args.args else None
    return ast.unparse(annotation) if annotation else ""


def patch_arguments(node: ast.FunctionDef) -> set[str] | None:
    "Names of the arguments of a function's `@patch`; None if it has no such decorator."
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = call.func if call else decorator
        if isinstance(name, ast.Name) and name.id == "patch":
            return {str(keyword.arg) for keyword in call.keywords} if call else set()
    return None


def parameters(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ArgKind]]:
    "Parameters after the first, and how each is given."
    positional = arguments.posonlyargs + arguments.args
    n_needed = len(positional) - len(arguments.defaults)
    for index, parameter in enumerate(positional[1:], start=1):
        yield parameter, ARG_POS if index < n_needed else ARG_OPT
    if arguments.vararg:
        yield arguments.vararg, ARG_STAR
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        yield parameter, ARG_NAMED if default is None else ARG_NAMED_OPT
    if arguments.kwarg:
        yield arguments.kwarg, ARG_STAR2


def type_of(annotation: ast.expr | None, context: ClassDefContext) -> Type:
    "The type that an annotation of another module says, as the module of the class knows it."
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return NoneType()
    if isinstance(annotation, ast.BinOp):
        sides = (annotation.left, annotation.right)
        return UnionType.make_union([type_of(side, context) for side in sides])
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        of_jaxtyping = ast.unparse(annotation.value) in ("Float", "Int", "Bool", "Shaped")
        return type_of(annotation.slice.elts[0] if of_jaxtyping else None, context)
    if isinstance(annotation, ast.Name):
        if isinstance(getattr(builtins, annotation.id, None), type):
            return context.api.named_type(f"builtins.{annotation.id}")
        if context.api.lookup_qualified(annotation.id, context.cls, suppress_errors=True):
            known = context.api.anal_type(UnboundType(annotation.id))
            if known is not None:
                return known
    return AnyType(TypeOfAny.special_form)


def add_patch(node: ast.FunctionDef, context: ClassDefContext) -> None:
    "Give a class the signature of a patch of another module."
    returned = type_of(node.returns, context)
    how = patch_arguments(node) or set()
    if "as_prop" in how:
        add_attribute_to_class(context.api, context.cls, node.name, returned)
        return
    arguments = []
    for parameter, kind in parameters(node.args):
        type_ = type_of(parameter.annotation, context)
        arguments.append(Argument(Var(parameter.arg, type_), type_, None, kind))
    add_method_to_class(
        context.api,
        context.cls,
        node.name,
        arguments,
        returned,
        is_classmethod="cls_method" in how,
        is_staticmethod="static_method" in how,
    )


def move_patches(context: ClassDefContext) -> None:
    "Move the patches of a class from its module into its body."
    module = context.api.modules[context.cls.info.module_name]
    for index, node in enumerate(module.defs):
        if not isinstance(node, Decorator) or not is_patch(node.decorators[0]):
            continue
        if patched_class(node) == context.cls.name:
            context.cls.defs.body.append(method(node, context.api))
            module.defs[index] = PassStmt()
    for other in patches_of_others().get(context.cls.fullname, []):
        if other.name not in context.cls.info.names:
            add_patch(other, context)


class PatchPlugin(Plugin):
    def get_customize_class_mro_hook(
        self, fullname: str
    ) -> Callable[[ClassDefContext], None] | None:
        return move_patches if fullname.startswith(f"{PACKAGE}.") else None

    def report_config_data(self, ctx: ReportConfigContext) -> Any:
        "Patches by others of a module's classes: its cache is stale where they differ."
        return [
            [class_name, ast.unparse(node.args), ast.unparse(node.returns or node.args), node.name]
            for class_name, nodes in sorted(patches_of_others().items())
            if class_name.rpartition(".")[0] == ctx.id
            for node in nodes
        ]


def plugin(version: str) -> type[Plugin]:
    return PatchPlugin
