"""Tokens and money are exact: in the rooms that count them there is no float and no true division.

Seconds may be floats there, if their names say that they are seconds.
"""

import ast
from collections.abc import Iterator

EXACT_ROOMS = ("gateway/units.py", "gateway/prices/", "gateway/ledger/", "gateway/quota/", "billing/")


def inexact(tree: ast.AST) -> list[str]:
    """Name every float and every true division; ``path / "name"`` is no division."""
    found = []
    for node in walk_without_durations(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            found.append(f"line {node.lineno}: the literal {node.value!r}")
        elif isinstance(node, ast.Name) and node.id == "float":
            found.append(f"line {node.lineno}: float")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            divisor = node.right if isinstance(node, ast.BinOp) else node.value
            if not is_text(divisor):
                found.append(f"line {node.lineno}: true division")
    return found


def walk_without_durations(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but not into what is declared or passed under a name like ``timeout_s``."""
    if name_of(node).lower().endswith("_s"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_without_durations(child)


def name_of(node: ast.AST) -> str:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return name
    return ""


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_no_float_comes_near_tokens_or_money(product):
    exact = [source for source in product if source.path.startswith(EXACT_ROOMS)]
    assert exact
    assert [f"{source.path} {fault}" for source in exact for fault in inexact(source.tree)] == []


def test_the_check_sees_every_way_to_lose_a_digit():
    assert inexact(ast.parse("rate = 0.3")) == ["line 1: the literal 0.3"]
    assert inexact(ast.parse("def cost(rate: float): ...")) == ["line 1: float"]
    assert inexact(ast.parse("amount = float(text)")) == ["line 1: float"]
    assert inexact(ast.parse("share = total / 2")) == ["line 1: true division"]
    assert inexact(ast.parse("total /= parts")) == ["line 1: true division"]


def test_the_check_lets_seconds_be_fractions_and_nothing_else():
    assert inexact(ast.parse("PAUSE_S = 0.5\ndef wait(pause_s: float): sleep(timeout_s=1.5)")) == []
    assert inexact(ast.parse("class Fault:\n  pause_s: float = 0.0\n  share: float")) == ["line 3: float"]


def test_the_check_lets_exact_arithmetic_and_paths_pass():
    assert (
        inexact(ast.parse('seed = files("deploy") / "seed" / f"{name}.toml"\nshare = total // 2 * 3')) == []
    )
