"""The small changes that are tried on a module: each is a mutant, which some test has to notice.

Left alone is what defines nothing: annotations, docstrings, the words of errors, and the bodies of classes outside their methods.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {
    **{"min": "max", "minimum": "maximum", "amin": "amax", "argmin": "argmax", "any": "all", "any_horizontal": "all_horizontal"},
    **{"ones": "zeros", "ones_like": "zeros_like", "clamp_min": "clamp_max", "tril": "triu", "mean": "sum", "floor": "ceil"},
}
OTHERS = NAMES | {other: name for name, other in NAMES.items()}
WORDS = {"left": "right", "right": "left"}  # sides of a search
LEFT_ALONE = {"annotation", "returns", "decorator_list", "msg", "exc"}
CHECKS = {"strict", "order", "orient", "description"}  # arguments that change no result


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        module: such as `memgrid.label.rouge`. function: such as `Labels.path`, or the name that a line outside of functions binds.
        change: the code before and after.
        tree, part: the whole module and what changes of it, as they are until the next mutant is asked for.
        digest: equal as long as the function and the change are.
    """

    module: str
    function: str
    change: str
    tree: ast.Module
    part: ast.stmt
    digest: str

    @property
    def name(self) -> str:
        """Unique, and without a line number, so that it stays what it is when other functions change."""
        return f"{self.module.removeprefix('memgrid.')}.{self.function}: {self.change}"


def mutants(module: str, path: Path) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its lines."""
    whole = ast.parse(path.read_text())
    seen: Counter[tuple[str, str]] = Counter()
    for function, node in parts(whole):
        before = ast.unparse(node)
        for change in changed(node):
            seen[function, change] += 1
            number = f" ({seen[function, change]})" if seen[function, change] > 1 else ""
            digest = hashlib.sha256("\n".join((module, function, before, change + number)).encode()).hexdigest()[:16]
            yield Mutant(module, function, change + number, whole, node, digest)


def parts(whole: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Functions, methods, and lines that bind a name, and what they are called."""
    for node in whole.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{each.name}", each) for each in node.body if isinstance(each, ast.FunctionDef))
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield ast.unparse(target), node


def changed(part: ast.stmt) -> Iterator[str]:
    """Change one place after the other and put it back; what it was and is."""
    for parent, field, index in list(places(part)):
        values = getattr(parent, field)
        old = values if index is None else values[index]
        shown = (
            old
            if isinstance(old, ast.stmt)
            or (isinstance(parent, ast.stmt) and not isinstance(old, ast.operator))
            or isinstance(parent, ast.comprehension | ast.arguments)
            else parent
        )
        before = line(shown)
        for new in instead(old, parent, field):
            after = [*values[:index], *new, *values[index + 1 :]] if index is not None else new[0]
            setattr(parent, field, after)
            yield f"{before} → {line(new[0] if shown is old else parent)}"
            setattr(parent, field, values)


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every node below one: where it hangs."""
    for field, value in ast.iter_fields(node):
        if field in LEFT_ALONE or isinstance(node, ast.JoinedStr | ast.Assert) or (isinstance(node, ast.keyword) and node.arg in CHECKS):
            continue
        if field == "func" and is_empty(node):
            continue
        for index, each in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(each, ast.AST):
                yield node, field, index
                yield from places(each)


def is_empty(node: ast.AST) -> bool:
    """Whether an array without entries is made, of which it does not matter what they are."""
    return isinstance(node, ast.Call) and bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0


def line(node: ast.AST) -> str:
    """Code on one line, short enough to be read."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:60] + " … " + text[-35:]


def instead(node: ast.AST, parent: ast.AST, field: str) -> Iterator[list[ast.AST]]:
    """What may stand in the place of a node: one other, or nothing."""
    swap = SWAPS.get(type(node))
    if swap is not None:
        yield [swap()]
    elif isinstance(node, ast.Constant):
        yield from ([copy.copy(node)] for node in other_constants(node))
    elif isinstance(node, ast.Name) and node.id in OTHERS:
        yield [ast.Name(OTHERS[node.id], node.ctx)]
    elif isinstance(node, ast.Attribute) and node.attr in OTHERS:
        yield [ast.Attribute(node.value, OTHERS[node.attr], node.ctx)]
    elif isinstance(node, ast.UnaryOp):
        yield [node.operand]
    elif isinstance(node, ast.keyword) and node.arg not in {None, *CHECKS}:
        yield []
    elif isinstance(node, ast.Continue):
        yield [ast.Break()]
    elif is_left_out(node):
        yield [ast.copy_location(ast.Pass(), node)]
    if field in ("test", "ifs") and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield [ast.UnaryOp(ast.Not(), node)]


def other_constants(node: ast.Constant) -> Iterator[ast.Constant]:
    """Another truth, the next number, the other side."""
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node.value, str) and node.value in WORDS:
        yield ast.Constant(WORDS[node.value])


def is_left_out(node: ast.AST) -> bool:
    """Statements that do something to what is there: without them the code goes on."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Subscript | ast.Attribute)
    return isinstance(node, ast.AugAssign | ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
