#!/usr/bin/env python3
"""Checks the house rules that ruff, mypy and import-linter cannot: .ci/house.py [ROOT]

Each rule is a function that yields its findings.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
PACKAGES = ("coordinator", "worker", "shared", "swarm")
# Files of projects: they run in sandboxes and are read by agents.
NOT_OURS = ("coordinator/autoresearch/swarm_harness/", "worker/authoring/template/")

MERGED_KINDS = {".py", ".md", ".html", ".css", ".js", ".toml", ".yaml"}
PRODUCT_LINES = 68_787
TOP_LEVEL_ENTRIES = {"coordinator": 27, "worker": 16}
# Sections of docs/architecture.md, and the number of modules that each may cross.
WALKS = {"## A claim, function by function": 7, "## A result, function by function": 12}
SMALLEST_MODULE_LINES = 25

# Modules that are exempt from a rule, each with its reason.
SMALL_MODULES = {
    "coordinator/accounts/security.py": "one dependency, which every feature uses",
    "coordinator/events/service.py": "one function, which every feature uses",
    "coordinator/selection/api.py": "one handler; it cannot stand in projects, which selection uses",
}
BROAD_EXCEPTS = {
    "coordinator/background.py": "outermost loop of each background task: logs the error and records it",
    "worker/agents/composite.py": "what a model's strange answer breaks costs no job: the substitute drafts it",
    "worker/loop/agent_thread.py": "outermost of what is asked of the agent: the future carries the error on",
    "worker/loop/loop.py": "outermost loop of the worker",
    "worker/loop/prefetch.py": "outermost loop of the thread that prepares jobs",
    "worker/start.py": "outermost: a line for people, a file for the rest",
}
ENVIRONMENT_READERS = {
    "coordinator/settings.py": "refuses unknown names",
    "coordinator/__main__.py": "sets a variable that numpy reads when it loads",
    "worker/settings.py": "the settings",
    "swarm/output.py": "the client's command line, which has no settings of its own",
    "swarm/demo.py": "passes its environment on to the processes that it starts",
}
SLEEPERS = {"tests/worker/loop/test_heartbeat.py": "shows that nothing more happens"}
PATIENCE_SECONDS = 30
"""Seconds that a busy machine may take for what a test waits for."""
WAITS = (".acquire", ".communicate", ".join", ".poll", ".result", ".settimeout", ".wait")


@cache
def list_modules(*packages: str) -> tuple[str, ...]:
    """Paths of the modules below these packages, relative to ROOT."""
    found = sorted(path.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.py"))
    return tuple(path for path in found if not path.startswith(NOT_OURS))


@cache
def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def parse(path: str) -> ast.Module:
    return ast.parse(read(path))


def list_documents() -> list[str]:
    """Paths of all Markdown pages outside seeds and tests."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in pages)


def product_lines() -> Iterator[str]:
    paths = [path for package in (*PACKAGES, "seed", ".ci") for path in (ROOT / package).rglob("*.py")]
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in paths)
    if lines > PRODUCT_LINES:
        yield f"{lines} lines of Python outside tests and migrations; {PRODUCT_LINES} are allowed"


def long_walks() -> Iterator[str]:
    sections = re.split(r"(?m)^(?=## )", read("docs/architecture.md"))
    for title, most in WALKS.items():
        section = next((section for section in sections if section.startswith(title)), "")
        modules = set(re.findall(r"\]\(\.\./(coordinator/[^)]+\.py)\)", section))
        if len(modules) > most:
            yield f"{title[3:]}: {len(modules)} modules, {most} are allowed: {', '.join(sorted(modules))}"


def small_modules() -> Iterator[str]:
    for path in list_modules("coordinator", "worker"):
        lines = read(path).count("\n")
        is_exempt = path.endswith(("__init__.py", "__main__.py")) or path in SMALL_MODULES
        if lines < SMALLEST_MODULE_LINES and not is_exempt:
            yield f"{path} has {lines} lines"


def top_level_entries() -> Iterator[str]:
    for package, most in TOP_LEVEL_ENTRIES.items():
        entries = sorted(path.name for path in (ROOT / package).glob("*") if path.name != "__pycache__")
        for name in entries[most:]:
            yield f"{package}/ has {len(entries)} entries; {most} are allowed ({name})"


def repeated_class_names() -> Iterator[str]:
    places = defaultdict(list)
    for path in list_modules(*PACKAGES):
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    for name, paths in sorted(places.items()):
        if len(paths) > 1:
            yield f"class {name} is defined in {', '.join(paths)}"


def find_lines(pattern: str, *packages: str) -> Iterator[tuple[str, str]]:
    """Place (`path:line`) and text of each line that matches."""
    for path in list_modules(*packages):
        for number, line in enumerate(read(path).splitlines(), 1):
            if re.search(pattern, line):
                yield f"{path}:{number}", line.strip()


def noun_less_docstrings() -> Iterator[str]:
    for place, line in find_lines(
        r'^\s*"""(So many|Who|What|Whom)\b|^So many\b', *PACKAGES, "migrations", "seed", "tests"
    ):
        yield f"{place} {line}"


def environment_reads() -> Iterator[str]:
    for place, _ in find_lines(r"\bos\.(environ|getenv)\b", *PACKAGES):
        path = place.partition(":")[0]
        if path not in ENVIRONMENT_READERS and not path.endswith("/cli.py"):
            yield f"{place} reads the environment"


def broad_excepts() -> Iterator[str]:
    for path in list_modules(*PACKAGES):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ExceptHandler) and path not in BROAD_EXCEPTS:
                caught = ast.walk(node.type) if node.type else [ast.Name("BaseException")]
                if {"Exception", "BaseException"} & {name.id for name in caught if isinstance(name, ast.Name)}:
                    yield f"{path}:{node.lineno} catches every exception"


def commits() -> Iterator[str]:
    for path in list_modules("coordinator"):
        for node in ast.walk(parse(path)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "commit" and not path.startswith("coordinator/db/"):
                yield f"{path}:{called.lineno} commits"


def strong_locks() -> Iterator[str]:
    """Who locks a row without key_share=True waits for those that refer to it, and they for him: that is said where a
    key of the row changes, by key_share=False."""
    for place, _ in find_lines(r"with_for_update(=True|\((?!.*key_share=))", "coordinator"):
        yield f"{place} locks a row against those that refer to it, who may wait for each other: say key_share=True"


def compared_by_identity() -> Iterator[str]:
    """What a table holds of an enum of texts is read as text: it is equal to the member, and never the same object."""
    modules = [(path, parse(path)) for path in list_modules("shared", "coordinator")]
    texts = {
        node.name
        for _, module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and "StrEnum" in map(ast.unparse, node.bases)
    }
    for path, module in modules:
        for node in ast.walk(module):
            is_identity = isinstance(node, ast.Compare) and any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
            if is_identity and path.startswith("coordinator/"):
                sides = {ast.unparse(side).rpartition(".")[0] for side in (node.left, *node.comparators)}
                yield from (f"{path}:{node.lineno} compares {name} by identity: use ==" for name in sides & texts)


def reexports() -> Iterator[str]:
    """`import X as X` offers a name that another module defines: whoever needs it imports it from there."""
    for place, line in find_lines(r"import (\w+) as \1$", *PACKAGES):
        if "/__init__.py:" not in place:
            yield f"{place} {line}"


def _defined_names(path: Path) -> set[str]:
    """Functions, classes, their methods as `Class.method`, and constants of a module."""
    names = set()
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, functions | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, functions)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def wrong_links() -> Iterator[str]:
    """A relative link leads to a file, and [`name`](module.py) to a module that defines the name."""
    for page in list_documents():
        for text, target in re.findall(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)\s#]+)[^)\s]*\)", read(page)):
            path = (ROOT / page).parent / target
            name = text.strip("`").removesuffix("()")
            is_name = text.startswith("`") and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", name) and not name.endswith(".py")
            if not path.exists():
                yield f"{page}: the link [{text}] leads to {path}, which does not exist"
            elif is_name and path.suffix == ".py" and name not in _defined_names(path):
                yield f"{page}: {path} does not define {name}"


def untested_claims() -> Iterator[str]:
    """Each line of a table of docs/security.md stands in it and names a test, whose existence `wrong_links` checks."""
    before = ""
    for number, line in enumerate(read("docs/security.md").splitlines(), 1):
        is_row = line.startswith("| ") and not line.endswith("shown by |")
        if is_row and not re.search(r"\[`[\w.]+`\]\(\.\./tests/[\w/]+\.py\)", line):
            yield f"docs/security.md:{number} names no test: {line[:80]}"
        if is_row and not before:
            yield f"docs/security.md:{number} stands apart from its table: {line[:80]}"
        before = line


def unknown_paths() -> Iterator[str]:
    """A path of this repository that a page or a docstring names must exist."""
    folders = "|".join((*PACKAGES, "migrations", "seed", "tests", "docs", "docker"))
    for path in (*list_documents(), *list_modules(*PACKAGES, "seed", "tests")):
        text = read(path)
        if path.endswith(".py"):
            documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            nodes = (node for node in ast.walk(parse(path)) if isinstance(node, documented))
            text = "\n".join(ast.get_docstring(node) or "" for node in nodes)
        for name in sorted(set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", text))):
            if not (ROOT / name).exists() and not any(ROOT.glob(f"{name}[.-]*")):
                yield f"{path} names {name}, which does not exist"
        if "ARCHITECTURE" in text:
            yield f"{path} cites ARCHITECTURE: name docs/architecture.md or docs/glossary.md"


def _hasty(call: ast.Call) -> str:
    """Why a call of a test may fail where the machine is slow; an empty text if it will not."""
    name, given = ast.unparse(call.func), {keyword.arg: keyword.value for keyword in call.keywords}
    if re.fullmatch(r"httpx\.(Client|get|head|post|put|patch|delete|request|stream)", name) and "timeout" not in given:
        return "waits 5 s for an answer: give a `timeout`"
    waits = [given.get("timeout"), *(call.args[-1:] if name.endswith(WAITS) else ())]
    short = [one.value for one in waits if isinstance(one, ast.Constant) and isinstance(one.value, int | float)]
    if any(1 < seconds < PATIENCE_SECONDS for seconds in short):
        return f"waits less than {PATIENCE_SECONDS} s"
    return ""


def tests_of_speed() -> Iterator[str]:
    """Tests that fail by chance on a slow machine, or where another program takes a port that was free before."""
    for path in list_modules("tests"):
        loops = {
            id(inner)
            for node in ast.walk(parse(path))
            if isinstance(node, ast.While | ast.For)
            for inner in ast.walk(node)
        }
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and (why := _hasty(node)):
                yield f"{path}:{node.lineno} {why}"
            is_sleep = isinstance(node, ast.Expr) and re.match(r"time\.sleep\([0-9.]+\)", ast.unparse(node.value))
            if is_sleep and id(node) not in loops and path not in SLEEPERS:
                yield f"{path}:{node.lineno} sleeps: wait for a condition"
            gives_up = isinstance(node, ast.With) and "create_server" in ast.unparse(node.items[0].context_expr)
            reads_port = re.compile(r"(return )?\S*( = )?\S*getsockname\S*")
            if gives_up and all(reads_port.fullmatch(ast.unparse(one)) for one in node.body):
                yield f"{path}:{node.lineno} gives up its port before it is used: take that of `choose_port`"


def forked_migrations() -> Iterator[str]:
    """Each migration follows the one numbered before it: two with one number, made side by side, stop a coordinator."""
    numbers = [path.name[:4] for path in sorted((ROOT / "migrations/versions").glob("[0-9]*.py"))]
    for at, number in enumerate(numbers, start=1):
        if int(number) != at:
            yield f"migrations/versions: a migration is numbered {number}, where {at:04} is due"


def merge_marks() -> Iterator[str]:
    """Lines that a merge left behind."""
    for folder in (*PACKAGES, "seed", "migrations", "tests", "docs", "docker"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in MERGED_KINDS and re.search(r"(?m)^(<<<<<<<|>>>>>>>) ", path.read_text(encoding="utf-8")):
                yield str(path.relative_to(ROOT))


RULES = (
    small_modules, top_level_entries, repeated_class_names, noun_less_docstrings, environment_reads, broad_excepts,
    commits, strong_locks, compared_by_identity, reexports, wrong_links, untested_claims, unknown_paths, product_lines,
    long_walks, forked_migrations, merge_marks, tests_of_speed,
)  # fmt: skip


def main() -> int:
    failed = False
    for rule in RULES:
        if findings := list(rule()):
            failed = True
            print(f"{rule.__name__}: {len(findings)} findings", *findings, sep="\n  ", file=sys.stderr)
    return int(failed)


sys.exit(main())
