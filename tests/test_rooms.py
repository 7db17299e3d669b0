"""The table of rooms in CONTRIBUTING.md is how the code is: who imports whom."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = {"xrayedge": ROOT / "xrayedge", "xrayedge.converters": ROOT / "converters"}
LONGEST_FILE = 450  # lines, without a reason at its top
KERAS, TENSORFLOW = {"keras"}, {"tensorflow", "tf2onnx", "tensorflow_model_optimization"}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in CODE.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module: str, *, everywhere: bool) -> Iterator[str]:
    """What a module imports; without ``everywhere`` only what it is loaded with."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            stem = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{stem}.{alias.name}"
                yield name if name in MODULES else stem
        elif everywhere or not runs_later(node):
            nodes.extend(ast.iter_child_nodes(node))


def runs_later(node: ast.AST) -> bool:
    """Whether what is in the node does not run when its module is loaded."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def table() -> tuple[dict[str, int], dict[int, set[int]]]:
    """Row of each room, and the rows that each row may import."""
    rows, allowed = {}, {}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for number, names, may in re.findall(r"^\| (\d+) \| (.*?) \|.*\| ([\d, -]+) \|$", text, re.M):
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", names), int(number))
        ends = [part.split("-") for part in may.split(", ")]
        allowed[int(number)] = {n for one in ends for n in range(int(one[0]), int(one[-1]) + 1)}
    return rows, allowed


ROWS, ALLOWED = table()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_follow_the_table(module):
    if module == "xrayedge" or module.endswith("__main__"):
        return  # the public API, and entry points
    assert room(module) in ROWS, f"{room(module)} is missing in the table of CONTRIBUTING.md"
    for name in imports(module, everywhere=True):
        if name.startswith("xrayedge.") and room(name) != room(module):
            assert ROWS[room(name)] in ALLOWED[ROWS[room(module)]], f"{module} imports {name}"


def test_no_module_is_loaded_in_a_circle():
    loads = {
        module: {name for name in imports(module, everywhere=False) if name in MODULES}
        for module in MODULES
    }
    for module, names in loads.items():  # a package's own modules are loaded through it
        names -= {parent for parent in MODULES if module.startswith(f"{parent}.")}
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for name in loads[module]:
                visit(name, [*way, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_training_and_converters_know_keras(module):
    used = {name.split(".")[0] for name in imports(module, everywhere=True)}
    assert room(module) in {"training", "converters"} or not used & (KERAS | TENSORFLOW)
    assert room(module) == "converters" or not used & TENSORFLOW


@pytest.mark.parametrize("folder", ["xrayedge", "converters", "benchmarks", "examples", "tests"])
def test_a_long_file_gives_its_reason(folder):
    for path in (ROOT / folder).rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        told = any("A long file" in line for line in lines[:20])
        assert len(lines) <= LONGEST_FILE or told, f"{path.relative_to(ROOT)}: {len(lines)} lines"
