"""The house's rules: reads the code of both packages and names each place that breaks one.

A place is `path`, `path:function`, `path:Class.method` or a class's name. house_exceptions.txt lists the places that
may stay; `python -m tests.unit.house` takes out those that break their rule no longer.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobs/ftm_jobs", "operator/ftm_operator")
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_CLASS = 150
MOST_MODULES_OF_A_FOLDER = 15
MOST_PARAMETERS = 6
NO_SUBJECT = {"What", "How", "Of", "Which", "Where", "Why", "Whether"}
"""Words that begin no docstring: a sentence after them has no subject and verb of its own."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


EXCEPTIONS = Path(__file__).with_name("house_exceptions.txt")
"""A line is `rule place`, with `# reason` if the place is meant to stay."""


@dataclass(frozen=True)
class Module:
    path: str
    """Relative to the repository."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def product() -> list[Module]:
    return [
        Module(str(path.relative_to(ROOT)), path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def long_files(modules: list[Module]) -> list[str]:
    return [module.path for module in modules if len(module.text.splitlines()) > MOST_LINES_OF_A_FILE]


def long_functions(modules: list[Module]) -> list[str]:
    return [place for place, node in _functions(modules) if _lines(node) > MOST_LINES_OF_A_FUNCTION]


def long_classes(modules: list[Module]) -> list[str]:
    return [place for place, node in _classes(modules) if _lines(node) > MOST_LINES_OF_A_CLASS]


def full_folders(modules: list[Module]) -> list[str]:
    sizes = Counter(str(Path(module.path).parent) for module in modules if not module.path.endswith("/__init__.py"))
    return sorted(folder for folder, size in sizes.items() if size > MOST_MODULES_OF_A_FOLDER)


def many_parameters(modules: list[Module]) -> list[str]:
    return [place for place, node in _functions(modules) if len(_parameters(node)) > MOST_PARAMETERS]


def shared_class_names(modules: list[Module]) -> list[str]:
    names = Counter(node.name for _, node in _classes(modules))
    return sorted(name for name, count in names.items() if count > 1)


def docstrings_without_a_subject(modules: list[Module]) -> list[str]:
    return [
        module.path
        for module in modules
        if any(text.split(maxsplit=1)[0] in NO_SUBJECT for text in _docstrings(module.tree))
    ]


def prints_in_jobs(modules: list[Module]) -> list[str]:
    return [
        module.path
        for module in modules
        if module.path.startswith("jobs/") and not module.path.endswith("/__main__.py") and _prints(module.tree)
    ]


RULES: dict[str, Callable[[list[Module]], list[str]]] = {
    rule.__name__: rule
    for rule in (
        long_files,
        long_functions,
        long_classes,
        full_folders,
        many_parameters,
        shared_class_names,
        docstrings_without_a_subject,
        prints_in_jobs,
    )
}


def _functions(modules: list[Module]) -> Iterator[tuple[str, Function]]:
    for module in modules:
        for name, node in _named(module.tree):
            if isinstance(node, Function):
                yield f"{module.path}:{name}", node


def _classes(modules: list[Module]) -> Iterator[tuple[str, ast.ClassDef]]:
    for module in modules:
        for name, node in _named(module.tree):
            if isinstance(node, ast.ClassDef):
                yield f"{module.path}:{name}", node


def _named(parent: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yields every function and class below a node, with its qualified name."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Function | ast.ClassDef):
            yield f"{prefix}{node.name}", node
            yield from _named(node, f"{prefix}{node.name}.")
        else:
            yield from _named(node, prefix)


def _lines(node: Function | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: Function) -> list[str]:
    declared = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [each.arg for each in declared if each.arg not in {"self", "cls"}]


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Yields the docstrings of modules, classes, functions and fields: every statement that is a string alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value.strip() or "-"


def _prints(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        for node in ast.walk(tree)
    )


def exceptions() -> set[tuple[str, str]]:
    lines = EXCEPTIONS.read_text().splitlines()
    return {_exception(line) for line in lines if line and not line.startswith("#")}


@cache
def offences() -> set[tuple[str, str]]:
    modules = product()
    return {(name, place) for name, rule in RULES.items() for place in rule(modules)}


def _exception(line: str) -> tuple[str, str]:
    rule, place = line.split("#")[0].split()
    return rule, place


def main() -> None:
    """Takes out exceptions that are no longer needed; it never adds one."""
    left = offences()
    lines = EXCEPTIONS.read_text().splitlines()
    kept = [line for line in lines if not line or line.startswith("#") or _exception(line) in left]
    EXCEPTIONS.write_text("".join(f"{line}\n" for line in kept))


if __name__ == "__main__":
    main()
