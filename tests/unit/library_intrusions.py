"""Finder of places where a module reaches into the private parts of a library, or changes a library.

It reads the syntax tree. What an object is, it knows from annotations, constructor calls and imports; a private name
on an object that it does not know is an intrusion too, a public one is not. Only the bases of classes are imported,
to see which private names a class would override.
"""

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

PROJECT: Final = frozenset(("schemas", "worker", "tests"))
DOCUMENTED: Final = frozenset(("os._exit", "pydantic.Secret._display"))
"""What its documentation offers, underscore or not (https://docs.pydantic.dev/latest/api/types/#pydantic.types.Secret)."""
OF_NAMED_TUPLES: Final = frozenset(("_replace", "_asdict", "_fields", "_field_defaults", "_make"))
"""https://docs.python.org/3/library/collections.html#collections.somenamedtuple._make"""
OWN, LIBRARY, STANDARD = "own", "library", "standard"


def is_private(name: str) -> bool:
    """Whether a name begins with an underscore; `__init__` belongs to the language, `_missing_` to enumerations."""
    return name.startswith("_") and not name.endswith("_")


@dataclass(frozen=True)
class Kind:
    """What a name or an object is: whose, and for an own class its name."""

    owner: str
    name: str = ""
    """Of a class of the module its name, else where it is imported from."""
    is_module: bool = False


@dataclass
class Scope:
    """Names of a function, or of the module, and what they are."""

    names: dict[str, Kind] = field(default_factory=dict)
    outer: "Scope | None" = None

    def get(self, name: str) -> Kind | None:
        """What `name` is, as far as it is known."""
        if name in self.names:
            return self.names[name]
        return self.outer.get(name) if self.outer else None


def _owner(module: str) -> str:
    first = module.partition(".")[0]
    if not first or first in PROJECT:
        return ""
    return STANDARD if first in sys.stdlib_module_names else LIBRARY


class Finder(ast.NodeVisitor):
    """Walks one module; `found` is what it does that it should not."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: set[str] = set()
        self._classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self._functions = {
            node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        self._scope = Scope({name: Kind(OWN, name) for name in self._classes})
        for node in ast.walk(tree):
            self._import(node)
        self._class = ""
        self._attributes: dict[str, dict[str, Kind]] = {}
        for name, node in self._classes.items():
            self._class = name
            self._attributes[name] = self._attributes_of(node)
        self._class = ""
        self.visit(tree)

    # what things are

    def _import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._check_import(alias.name, _owner(alias.name))
                bound = alias.asname or alias.name.partition(".")[0]
                origin = alias.name if alias.asname else bound
                self._scope.names[bound] = Kind(_owner(alias.name), origin, is_module=True)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                self._check_import(f"{module}.{alias.name}", _owner(module))
                kind = Kind(_owner(module), f"{module}.{alias.name}", is_module=alias.name.islower())
                self._scope.names[alias.asname or alias.name] = kind

    def _check_import(self, name: str, owner: str) -> None:
        if owner and name not in DOCUMENTED and any(is_private(part) for part in name.split(".")):
            self.found.add(f"imports {name}")

    def _attributes_of(self, node: ast.ClassDef) -> dict[str, Kind]:
        """What the attributes of an own class are, by its annotations and by what its methods assign."""
        found: dict[str, Kind] = {}
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                self._learn(found, statement.target.id, self._annotated(statement.annotation))
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                scope = Scope(self._parameters(statement), self._scope)
                for target, value, annotation in _assignments(statement):
                    if isinstance(target, ast.Attribute) and _is_self(target.value):
                        kind = self._annotated(annotation) or self._kind(value, scope)
                        self._learn(found, target.attr, kind)
        return found

    @staticmethod
    def _learn(names: dict[str, Kind], name: str, kind: Kind | None) -> None:
        if kind is not None:
            names.setdefault(name, kind)

    def _parameters(self, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> dict[str, Kind]:
        names: dict[str, Kind] = {}
        arguments = function.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self._learn(names, argument.arg, self._annotated(argument.annotation))
        return names

    def _annotated(self, node: ast.expr | None) -> Kind | None:
        match node:
            case ast.Constant(value=str(text)):
                return self._annotated(ast.parse(text, mode="eval").body)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._annotated(left) or self._annotated(right)
            case ast.Name(id=name):
                return Kind(OWN, self._class) if name == "Self" else self._class_of(self._scope.get(name))
            case ast.Attribute() if (root := _root(node)) is not None:
                return self._class_of(self._scope.get(root))
            case _:
                return None

    @staticmethod
    def _class_of(kind: Kind | None) -> Kind | None:
        return Kind(kind.owner, kind.name) if kind is not None and kind.owner in (OWN, LIBRARY) else None

    def _kind(self, node: ast.expr | None, scope: Scope) -> Kind | None:
        """What an expression is."""
        match node:
            case ast.Name(id=name):
                return Kind(OWN, self._class) if name in ("self", "cls") else scope.get(name)
            case ast.Await(value=value):
                return self._kind(value, scope)
            case ast.Call(func=function):
                return self._called(function, scope)
            case ast.Attribute(value=value, attr=attribute):
                return self._member(self._kind(value, scope), attribute)
            case _:
                return None

    def _called(self, function: ast.expr, scope: Scope) -> Kind | None:
        """What a call returns."""
        match function:
            case ast.Name(id="super"):
                owner = next((kind.owner for kind in self._foreign_bases()), OWN)
                return Kind(owner, self._class)
            case ast.Name(id="type"):
                return Kind(OWN, self._class)
            case ast.Name(id=name) if name in self._functions:
                return self._annotated(self._functions[name].returns)
        called = self._kind(function, scope)
        return None if called is None or called.is_module else called

    def _member(self, holder: Kind | None, attribute: str) -> Kind | None:
        if holder is None:
            return None
        if holder.owner == OWN:
            return self._attributes.get(holder.name, {}).get(attribute)
        return holder if holder.is_module else None

    def _foreign_bases(self) -> Iterator[Kind]:
        """The bases of the class that is being read which are not the project's."""
        node = self._classes.get(self._class)
        for base in node.bases if node else ():
            named = base.value if isinstance(base, ast.Subscript) else base
            root = _root(named) or ""
            kind = self._scope.get(root)
            if kind is not None and kind.owner in (LIBRARY, STANDARD):
                yield Kind(kind.owner, kind.name + ast.unparse(named).removeprefix(root))

    # what is done to them

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Methods know the class as `self`. Private names that it never binds, or that a base has, are not its own."""
        outer, self._class = self._class, node.name
        bases, bound = [base.name for base in self._foreign_bases()], _bound(node)
        if bases:
            self.found |= {f"touches self.{name}" for name in _on_self(node) - bound}
        for base in bases:
            has = {name for name in bound if is_private(name) and hasattr(_loaded(base), name)}
            self.found |= {f"overrides {base}.{name}" for name in has if f"{base}.{name}" not in DOCUMENTED}
        self.generic_visit(node)
        self._class = outer

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope = Scope(self._parameters(node), self._scope)
        for target, value, annotation in _assignments(node):
            if isinstance(target, ast.Name):
                kind = self._annotated(annotation) or self._kind(value, self._scope)
                self._learn(self._scope.names, target.id, kind)
        self.generic_visit(node)
        assert self._scope.outer is not None
        self._scope = self._scope.outer

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function  # noqa: N815 - the names that ast calls

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A private name on what is not one's own; any assignment to what belongs to a library."""
        kind, text = self._kind(node.value, self._scope), ast.unparse(node)
        is_own = kind is not None and kind.owner == OWN
        if is_private(node.attr) and not is_own and text not in DOCUMENTED and node.attr not in OF_NAMED_TUPLES:
            self.found.add(f"touches {text}")
        elif isinstance(node.ctx, ast.Store | ast.Del) and kind is not None and kind.owner == LIBRARY:
            self.found.add(f"changes {text}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """`setattr` on what belongs to a library, and private names that stand in a text."""
        match node:
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "delattr" as function), args=[holder, name, *_]):
                kind = self._kind(holder, self._scope)
                has_sender_request_id = (
                    isinstance(name, ast.Constant) and isinstance(name.value, str) and is_private(name.value)
                )
                is_change = function != "getattr" and kind is not None and kind.owner == LIBRARY
                if is_change or (has_sender_request_id and (kind is None or kind.owner != OWN)):
                    self.found.add(f"touches {ast.unparse(node)}")
        self.generic_visit(node)


def _loaded(name: str) -> object:
    """The object of that dotted name."""
    module, _, rest = name.rpartition(".")
    if not module:
        return importlib.import_module(name)
    holder = _loaded(module)
    return getattr(holder, rest) if hasattr(holder, rest) else importlib.import_module(name)


def _on_self(node: ast.ClassDef) -> set[str]:
    """Every private attribute of `self` that the class reads or binds."""
    attributes = (inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute) and _is_self(inner.value))
    return {attribute.attr for attribute in attributes if is_private(attribute.attr)}


def _bound(node: ast.ClassDef) -> set[str]:
    """The names that the class itself gives to its objects."""
    names: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case (
                ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
                | ast.Name(id=name, ctx=ast.Store())
            ):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
    return names


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None, ast.expr | None]]:
    """Every target with its value and its annotation, in this function and those within."""
    for inner in ast.walk(node):
        match inner:
            case ast.Assign(targets=targets, value=value):
                yield from ((target, value, None) for target in targets)
            case ast.AnnAssign(target=target, value=value, annotation=annotation):
                yield target, value, annotation
            case ast.NamedExpr(target=target, value=value):
                yield target, value, None
            case ast.With(items=items) | ast.AsyncWith(items=items):
                yield from ((i.optional_vars, i.context_expr, None) for i in items if i.optional_vars is not None)


def intrusions(source: str) -> set[str]:
    """What the module does that it should not: imports, touches, changes."""
    return Finder(ast.parse(source)).found


def of_all(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The intrusions of the modules that have any."""
    found = {module: intrusions(source) for module, source in sources.items()}
    return {module: breaches for module, breaches in found.items() if breaches}
