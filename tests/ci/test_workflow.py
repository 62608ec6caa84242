"""What runs on public hosting and before each commit is what ci/test.sh runs."""

import ast
import re
import runpy
import tomllib

from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
SCRIPT = (ROOT / "ci" / "test.sh").read_text(encoding="utf-8")


def test_the_oldest_python_is_tested():
    versions = re.findall(r'python: "(\d+)\.(\d+)"', WORKFLOW)
    oldest = ".".join(min(versions, key=lambda version: tuple(map(int, version))))
    assert PROJECT["requires-python"] == f">={oldest}"
    assert len(set(versions)) == 2


def test_the_workflow_asks_for_what_the_script_knows():
    words = {word for row in re.findall(r"with: ([\w ]+)}", WORKFLOW) for word in row.split()}
    assert words >= {"torch", "cupy", "cupy13", "oldest"}
    assert all(re.search(rf"^ +{word}\) ", SCRIPT, flags=re.MULTILINE) for word in words)
    assert "run: sh ci/test.sh ${{ matrix.with }}" in WORKFLOW


# what Windows hasn't
POSIX_ONLY = {"mkfifo", "symlink_to", "umask", "geteuid", "getuid", "fork", "kill", "S_IMODE"}


def test_what_runs_on_windows_says_what_needs_posix():
    (job,) = re.findall(r"pytest --xp numpy,strict (.*?)\n\n", WORKFLOW, flags=re.DOTALL)
    for path in (ROOT / name for name in job.split()):
        assert path.exists()
        for file in path.rglob("test_*.py") if path.is_dir() else [path]:
            for own in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(own, ast.FunctionDef):
                    used = {node.attr for node in ast.walk(own) if isinstance(node, ast.Attribute)}
                    marks = "".join(map(ast.unparse, own.decorator_list))
                    assert not used & POSIX_ONLY or "posix" in marks.lower(), (file, own.name)


def test_hooks_are_the_checks_of_the_script():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    found = set(re.findall(r"^ +entry: ([\w -]+)$", hooks, flags=re.MULTILINE))
    assert found == {
        "ruff check --force-exclude",
        "ruff format --force-exclude",
        "mypy",
        "lint-imports",
    }
    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert re.search(rf"^(\[.*\] \|\| )?{command}( \.)?$", SCRIPT, flags=re.MULTILINE), command


def test_oldest_versions_are_those_of_the_project():
    constraints = runpy.run_path(str(ROOT / "ci" / "oldest.py"))["constraints"](PROJECT)
    numpy, *_ = PROJECT["dependencies"]
    assert f"numpy>={constraints['numpy']}" == numpy
    extras = PROJECT["optional-dependencies"].values()
    named = [*PROJECT["dependencies"], *(own for extra in extras for own in extra)]
    own = [name for name in named if not name.startswith("xpnn[")]
    assert {f"{name}>={version}" for name, version in constraints.items()} == set(own)


def test_of_two_least_versions_the_larger_one_is_taken():
    extras = {"b": ["x>=1.9"], "c": ["x>=1.10", "own[b]"], "d": ["x>=1.2"]}
    project = {"name": "own", "dependencies": ["y>=2"], "optional-dependencies": extras}
    constraints = runpy.run_path(str(ROOT / "ci" / "oldest.py"))["constraints"]
    assert constraints(project) == {"y": "2", "x": "1.10"}
