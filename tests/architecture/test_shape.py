"""Code stays small enough to read: caps on functions, files and arguments, a docstring on every module, no junk drawers."""

import ast
from collections.abc import Iterator
from pathlib import Path

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
POSITIONAL_MAX = 6
JUNK_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "core", "lib", "misc"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def long_functions(tree: ast.AST) -> list[str]:
    lengths = {function: (function.end_lineno or 0) - function.lineno + 1 for function in functions(tree)}
    return [
        f"{node.name} has {length} lines" for node, length in lengths.items() if length > FUNCTION_LINES_MAX
    ]


def crowded_functions(tree: ast.AST) -> list[str]:
    found = []
    for function in functions(tree):
        names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        if names[:1] in (["self"], ["cls"]):
            del names[0]
        if len(names) > POSITIONAL_MAX:
            found.append(f"{function.name} takes {len(names)} positional arguments")
    return found


def undocumented(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods of a module that do not say what they are for."""
    members = list(tree.body)
    members += [member for node in tree.body if isinstance(node, ast.ClassDef) for member in node.body]
    return [
        f"{node.name} says nothing"
        for node in members
        if isinstance(node, Function | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not any("overload" in ast.dump(decorator) for decorator in node.decorator_list)
    ]


def is_junk_drawer(path: str) -> bool:
    parts = Path(path).with_suffix("").parts
    return any(part.strip("_").removeprefix("test_") in JUNK_NAMES for part in parts)


def test_no_function_is_longer_than_seventy_lines(everything):
    assert [f"{source.path}: {fault}" for source in everything for fault in long_functions(source.tree)] == []


def test_no_function_takes_more_than_six_positional_arguments(everything):
    assert [
        f"{source.path}: {fault}" for source in everything for fault in crowded_functions(source.tree)
    ] == []


def test_no_file_is_longer_than_five_hundred_lines(everything):
    assert [source.path for source in everything if source.text.count("\n") > FILE_LINES_MAX] == []


def test_every_module_says_why_it_exists(product):
    assert [source.path for source in product if not ast.get_docstring(source.tree)] == []


def test_everything_public_says_what_it_is_for(product):
    public = [(source, fault) for source in product for fault in undocumented(source.tree)]
    assert [f"{source.path}: {fault}" for source, fault in public] == []


def test_the_docstring_check_sees_functions_classes_and_methods():
    silent = "class Public:\n    def method(self): ...\n    def _hidden(self): ...\ndef function(): ...\n"
    assert undocumented(ast.parse(silent)) == [
        "Public says nothing",
        "function says nothing",
        "method says nothing",
    ]


def test_no_file_or_folder_is_a_junk_drawer(everything):
    assert [source.path for source in everything if is_junk_drawer(source.path)] == []


def test_the_length_check_counts_the_last_line_too():
    body = "    pass\n"
    fits = "def fits():\n" + body * (FUNCTION_LINES_MAX - 1)
    long = "class Room:\n  async def long(self):\n" + body * FUNCTION_LINES_MAX
    assert long_functions(ast.parse(fits)) == []
    assert long_functions(ast.parse(long)) == [f"long has {FUNCTION_LINES_MAX + 1} lines"]


def test_the_argument_check_leaves_out_self_and_keywords():
    assert crowded_functions(ast.parse("def fits(self, a, b, c, d, e, f, *, g, h): ...")) == []
    assert crowded_functions(ast.parse("def crowded(a, b, c, /, d, e, f, g): ...")) == [
        "crowded takes 7 positional arguments"
    ]


def test_the_junk_check_sees_folders_files_and_tests():
    assert is_junk_drawer("gateway/common/money.py")
    assert is_junk_drawer("gateway/keys/_helpers.py")
    assert is_junk_drawer("tests/unit/test_utils.py")
    assert not is_junk_drawer("gateway/accounts/library.py")
