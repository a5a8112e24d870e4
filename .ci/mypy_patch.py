"""A plugin for mypy: methods that fastcore's `@patch` puts on a class of the same module.

mypy reads a class from its body alone. This plugin moves each function that is decorated with
`@patch`, and whose first parameter names the class, from the module into that body before mypy
analyses it; lines and columns of errors stay those of the source. Not seen: patches of classes of
other modules, of a `NamedTuple` and of a `TypedDict`.
"""

import builtins
from collections.abc import Callable

from mypy.nodes import CallExpr, Decorator, Expression, FuncDef, NameExpr, PassStmt
from mypy.plugin import ClassDefContext, Plugin, SemanticAnalyzerPluginInterface
from mypy.types import CallableType, Type, UnboundType, UnionType

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


def move_patches(context: ClassDefContext) -> None:
    "Move the patches of a class from its module into its body."
    module = context.api.modules[context.cls.info.module_name]
    for index, node in enumerate(module.defs):
        if not isinstance(node, Decorator) or not is_patch(node.decorators[0]):
            continue
        if patched_class(node) == context.cls.name:
            context.cls.defs.body.append(method(node, context.api))
            module.defs[index] = PassStmt()


class PatchPlugin(Plugin):
    def get_customize_class_mro_hook(
        self, fullname: str
    ) -> Callable[[ClassDefContext], None] | None:
        return move_patches if fullname.startswith("diffpose.") else None


def plugin(version: str) -> type[Plugin]:
    return PatchPlugin
