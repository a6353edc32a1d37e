"""Expressions that choose points of a grid, such as "lr <= 3e-5 and epochs in (1, 2)": read, never executed."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kdnb.errors import nearest

LONGEST = 500  # characters, so that nothing nests too deep to be read
NUMBER, TEXT, TRUTH = "a number", "a text", "true or false"
FIELDS = {
    "arm": TEXT, "method": TEXT, "student": TEXT, "teacher": TEXT, "task": TEXT, "lr": NUMBER, "epochs": NUMBER,
    "alpha": NUMBER, "tau": NUMBER, "tau2_scaling": TRUTH, "seed": NUMBER,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne), ast.In: ("in", lambda a, b: a in b),
    ast.NotIn: ("not in", lambda a, b: a not in b),
}  # fmt: skip
OPERATORS = [symbol for symbol, _ in COMPARISONS.values()] + ["and", "or", "not"]
MEANT = {"&": "and", "|": "or", "~": "not", "is": "==", "is not": "!=", "=": "==", ":=": "==", "!": "not"}
STRANGE = {
    ast.BitAnd: "&", ast.BitOr: "|", ast.Invert: "~", ast.Is: "is", ast.IsNot: "is not", ast.NamedExpr: ":=",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.Mod: "%", ast.FloorDiv: "//",
    ast.Call: "a call", ast.Attribute: "a dot", ast.Subscript: "[ ]", ast.IfExp: "if", ast.Lambda: "lambda",
}  # fmt: skip


@dataclass(frozen=True)
class Where:
    """A compiled expression. text: as written. names: the fields it reads."""

    text: str
    names: frozenset[str]
    test: Callable[[Mapping], bool | None]

    def __call__(self, values: Mapping) -> bool:
        """Whether a point may stay: False only where the expression is false, whatever the missing fields are.

        values: field -> value. A field that the point's method has no use for (alpha of ERM, tau of LS) is missing
        or None; a comparison with it is neither true nor false, so that it alone excludes nothing.
        """
        return self.test(values) is not False


def compile_where(text: str) -> Where:
    """An expression of comparisons of FIELDS with plain values, joined by and, or, not; "" lets everything pass.

    Raises:
        ValueError: a name, operator or value that has no place there, with the nearest known one.
    """
    if not text.strip():
        return Where("", frozenset(), lambda values: True)
    if len(text) > LONGEST:
        raise ValueError(f"where must be at most {LONGEST} characters, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        hint = "; did you mean '=='?" if "=" in text.replace("==", "").replace("<=", "").replace(">=", "") else ""
        raise ValueError(f"where {text!r} cannot be read{hint} (operators: {', '.join(OPERATORS)})") from None
    try:
        kind, test = _compiled(tree)
        if kind != TRUTH:
            raise ValueError(f"is {kind}, not a comparison")
    except ValueError as error:
        raise ValueError(f"where {text!r}: {error}") from None
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return Where(text.strip(), names, test)


def _compiled(node: ast.expr) -> tuple[str, Callable]:
    """(kind of its value, function of a point's fields) of one node; ValueError for what is not allowed."""
    if isinstance(node, ast.Name):
        if node.id not in FIELDS:
            raise ValueError(f"unknown name {node.id!r}{nearest(node.id, FIELDS)}")
        return FIELDS[node.id], lambda values, name=node.id: values.get(name)
    if isinstance(node, ast.BoolOp):
        every = isinstance(node.op, ast.And)
        return TRUTH, _joined([_truth(part) for part in node.values], every)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        test = _truth(node.operand)
        return TRUTH, lambda values: None if (found := test(values)) is None else not found
    if isinstance(node, ast.Compare):
        return TRUTH, _comparison(node)
    if isinstance(node, ast.Constant | ast.UnaryOp):
        kind, value = _constant(node)
        return kind, lambda values: value
    raise _strange(node)


def _truth(node: ast.expr) -> Callable:
    kind, test = _compiled(node)
    if kind != TRUTH:
        raise ValueError(f"{ast.unparse(node)} is {kind}, not a comparison")
    return test


def _joined(tests: list[Callable], every: bool) -> Callable:
    """Three-valued and (every) or or: decided as soon as one part decides it, unknown if the rest is."""

    def test(values):
        unknown = False
        for part in tests:
            found = part(values)
            if found is None:
                unknown = True
            elif found is not every:
                return found
        return None if unknown else every

    return test


def _comparison(node: ast.Compare) -> Callable:
    """A chain of comparisons, such as 1 < epochs <= 3, each of one kind on both sides."""
    tests, left = [], node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        if type(op) not in COMPARISONS:
            raise _strange(op)
        symbol, compare = COMPARISONS[type(op)]
        kind, first = _compiled(left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise ValueError(f"{symbol!r} needs values in brackets, such as (1, 2), got {ast.unparse(right)}")
            parts = [_constant(part) for part in right.elts]
            kinds, value = {kind for kind, _ in parts}, tuple(value for _, value in parts)
            second = lambda values, value=value: value  # noqa: E731
        else:
            other, second = _compiled(right)
            kinds = {other}
        if kinds != {kind}:
            raise ValueError(f"{ast.unparse(left)} is {kind}, cannot be compared with {ast.unparse(right)}")
        tests.append(_compared(first, compare, second))
        left = right
    return tests[0] if len(tests) == 1 else _joined(tests, True)


def _compared(first: Callable, compare: Callable, second: Callable) -> Callable:
    """A comparison that is unknown where one of its sides is."""

    def test(values):
        a, b = first(values), second(values)
        return None if a is None or b is None else compare(a, b)

    return test


def _constant(node: ast.expr) -> tuple[str, object]:
    """(kind, value) of a number, text or truth value as written."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        kind, value = _constant(node.operand)
        if kind == NUMBER:
            return kind, -value
    kinds = {bool: TRUTH, int: NUMBER, float: NUMBER, str: TEXT}
    if isinstance(node, ast.Constant) and type(node.value) in kinds:
        return kinds[type(node.value)], node.value
    raise _strange(node) if not isinstance(node, ast.Name) else ValueError(f"{node.id!r} is no plain value")


def _strange(node: ast.AST) -> ValueError:
    """The error for an operator or piece of syntax that is not allowed."""
    kinds = [type(node), type(getattr(node, "op", None))]
    symbol = next((STRANGE[kind] for kind in kinds if kind in STRANGE), type(node).__name__)
    hint = f"; did you mean {MEANT[symbol]!r}?" if symbol in MEANT else ""
    return ValueError(f"{symbol} is not allowed{hint} (operators: {', '.join(OPERATORS)})")
