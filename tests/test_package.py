"""The package as a whole: what imports what, what is public, and what names the outside sees."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnn
from tests.helpers import ROOT, shipped
from xpnn import cli
from xpnn.activations import ACTIVATIONS
from xpnn.backends import BACKENDS, DTYPES
from xpnn.initializers import INITIALIZERS
from xpnn.layers import LAYERS
from xpnn.losses import LOSSES, Flooding
from xpnn.metrics import METRICS
from xpnn.normalizers import NORMALIZERS
from xpnn.optimizers import OPTIMIZERS
from xpnn.schedules import SCHEDULES

PACKAGE = Path(xpnn.__file__).parent

CREATION = {"arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"}
# calls that may leave out a device, and why
HOMELESS = {"xp.empty(0, dtype=dtype)": "reproducible.Namespace reads its dtype and drops it"}


FILES = sorted(PACKAGE.rglob("*.py"))

# modules that users import by name
PUBLIC = {
    "activations", "backends", "callbacks", "datasets", "errors", "estimators", "initializers",
    "layers", "losses", "metrics", "normalizers", "optimizers", "schedules", "study",
    "testing", "verification",
}  # fmt: skip


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def source(request):
    return request.param


def imported(text):
    """Yield the dotted name of everything that Python source imports, at any depth."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                origin = ".".join(filter(None, ["xpnn" if level else "", module]))
                yield from (f"{origin}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute(attr=called) | ast.Name(id=called),
                args=[ast.Constant(value=str(name)), *_],
            ) if called in ("import_module", "__import__"):
                yield name


def homeless_creations(text):
    """Yield each call of an array API creation function that leaves out device or dtype."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if name in CREATION:
                if ast.unparse(receiver).rpartition(".")[2] not in ("xp", "_xp"):
                    continue
                if ast.unparse(node) in HOMELESS:
                    continue
                if not {"device", "dtype"} <= {keyword.arg for keyword in node.keywords}:
                    yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import torch.nn", {"torch.nn"}),
        ("def f():\n    from jax import numpy", {"jax.numpy"}),
        ("importlib.import_module('cupy')", {"cupy"}),
        ("from . import model", {"xpnn.model"}),
        ("from .model import Sequential", {"xpnn.model.Sequential"}),
        ("x = 'torch'", set()),
    ],
)
def test_imports_are_seen(text, names):
    assert set(imported(text)) == names


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("xp.zeros(3, dtype=d, device=v)", 0),
        ("xp.zeros(3, dtype=d)", 1),
        ("self.xp.arange(n, device=v)", 1),
        ("np.zeros(3); xp.zeros_like(a)", 0),
    ],
)
def test_creation_calls_are_seen(text, count):
    assert len(list(homeless_creations(text))) == count


def test_reproducible_stands_on_numpy_and_array_api_compat_alone():
    # `public` opens a backend when a library is asked for by its name
    paths = set(PACKAGE.glob("reproducible/*.py")) - {PACKAGE / "reproducible" / "public.py"}
    texts = [path.read_text(encoding="utf-8") for path in paths]
    names = {name for text in texts for name in imported(text)}
    own = ("xpnn.reproducible", "xpnn.errors")  # the latter stands on NumPy
    outside = {name for name in names if not name.startswith(own)}
    assert {name.partition(".")[0] for name in outside} - sys.stdlib_module_names == {
        "array_api_compat",
        "numpy",
    }


def test_creation_calls_state_device_and_dtype(source):
    assert list(homeless_creations(source.read_text(encoding="utf-8"))) == []


def test_import_loads_numpy_and_array_api_compat_alone():
    code = """
import sys, numpy.random, array_api_compat
old = set(sys.modules)
import xpnn
print(*set(sys.modules) - old)
"""
    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    roots = {name.partition(".")[0] for name in loaded}
    assert roots - sys.stdlib_module_names - {"numpy", "array_api_compat"} == {"xpnn"}


def test_the_command_sees_to_ctrl_c_before_it_imports_anything_large():
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import xpnn.__main__"
    code += "; print(*sys.modules)"
    # without site, which imports what other packages ask for
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"numpy", "typing", "inspect", "pathlib"} & set(loaded) == set()


def test_what_init_imports_late_is_what_type_checkers_see():
    pytest.importorskip("sklearn")
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    guarded, _ = (node for node in tree.body if isinstance(node, ast.If))
    lines = [line for line in guarded.body if line.module != "typing"]
    homes = {alias.name: line.module for line in lines for alias in line.names}
    modules = {name for name, home in homes.items() if home == "xpnn"}
    assert modules == PUBLIC
    # which needs scikit-learn, unlike `from xpnn import *`
    assert {*homes, "__version__"} - {"estimators"} == set(xpnn.__all__)
    assert {name: f"xpnn.{home}" for name, home in xpnn._HOMES.items()} == {
        name: home for name, home in homes.items() if home != "xpnn"
    }
    for name, home in homes.items():
        if name in modules:
            assert getattr(xpnn, name) is import_module(f"xpnn.{name}")
        else:
            assert getattr(xpnn, name) is getattr(import_module(home), name)
    assert set(xpnn.__all__) <= set(dir(xpnn))
    with pytest.raises(AttributeError, match="'xpnn' has no attribute 'nothing'"):
        xpnn.nothing  # noqa: B018


def test_type_checkers_see_a_name_that_is_not_there(tmp_path):
    mypy = pytest.importorskip("mypy.api")
    lines = ["import xpnn", "xpnn.fit", "xpnn.Dense", "xpnn.study", "xpnn.backends", "xpnn.fitt"]
    (tmp_path / "user.py").write_text("\n".join(lines))
    # all other modules are skipped: it takes two seconds instead of thirty
    files = [str(tmp_path / "user.py"), str(PACKAGE / "__init__.py")]
    options = ["--follow-imports=skip", "--ignore-missing-imports", "--no-incremental"]
    found, errors, _ = mypy.run([*files, *options, "--config-file="])
    assert errors == ""
    (line,) = [line for line in found.splitlines() if "error:" in line]
    assert re.search(r"user\.py:6: error: Module has no attribute \"fitt\"", line)


def test_import_alone_loads_nothing_heavy():
    code = "import sys, xpnn; print(*{n.partition('.')[0] for n in sys.modules}); xpnn.fit"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" not in loaded


def public_names(module):
    """The names that a module defines or a package shows of its own, and those of other rooms."""
    own, others = set(), set()
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
            case ast.Assign() | ast.AnnAssign():
                targets = getattr(node, "targets", None) or [node.target]
                nodes = [part for target in targets for part in ast.walk(target)]
                own |= {part.id for part in nodes if isinstance(part, ast.Name)}
            case ast.ImportFrom(module=str(origin), names=names) if hasattr(module, "__path__"):
                inside = f"{origin}.".startswith(f"{module.__name__}.")
                (own if inside else others).update(alias.name for alias in names)
    # `Array = Any` names nothing of ours
    return {name for name in own if name[0] != "_" and getattr(module, name) is not Any}, others


# and the faces of packages; the command is no library
MODULES = [f"xpnn.{name}" for name in sorted(PUBLIC)] + [
    info.name
    for info in pkgutil.walk_packages([str(PACKAGE)], "xpnn.")
    if info.ispkg and "._" not in info.name and info.name[5:] not in PUBLIC | {"cli"}
]


# what messages are made of: xpnn's own, beside the errors that users catch
NOT_FOR_USERS = {
    "xpnn.errors": {
        "Door", "check_plain", "counted", "entered", "initials", "nearest", "position", "unknown",
        "written",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_what_a_public_module_has(name):
    if name == "xpnn.estimators":
        pytest.importorskip("sklearn")
    module = import_module(name)
    own, others = public_names(module)
    listed = getattr(module, "__all__", [])
    assert len(listed) == len(set(listed))
    assert own - NOT_FOR_USERS.get(name, set()) <= set(listed) <= own | others


def documented():
    """Yield name and object for the package, its modules, and all that is public in them."""
    for info in pkgutil.walk_packages([str(PACKAGE)], "xpnn."):
        if info.name.endswith("__main__"):
            continue
        module = import_module(info.name)
        yield info.name, module
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == info.name
            if name.startswith("_") or not own or not (inspect.isroutine(value) or is_class(value)):
                continue
            yield f"{info.name}.{name}", value
            for member in vars(value) if is_class(value) else ():
                attribute = inspect.getattr_static(value, member)
                if not member.startswith("_") and is_documentable(attribute):
                    yield f"{info.name}.{name}.{member}", getattr(value, member)


def is_class(value):
    return inspect.isclass(value)


def is_documentable(attribute):
    return inspect.isfunction(attribute) or isinstance(
        attribute, property | classmethod | staticmethod
    )


def test_all_that_is_public_has_a_docstring():
    def silent(name, value):
        text = inspect.getdoc(value) or ""
        # dataclasses and named tuples write a signature for one that is missing
        return not text or text.startswith(name.rpartition(".")[2] + "(")

    objects = dict(documented())
    mute = {name for name, value in objects.items() if silent(name, value)}
    # what stands in for NumPy's own needs no second description
    standard = {*dir(np), *dir(np.ndarray), *dir(np.random), "to_device"}
    described = {
        name
        for name in mute
        if name.startswith("xpnn.reproducible.") and name.rpartition(".")[2] in standard
    }
    assert mute - described == set()
    assert "xpnn.losses.CrossEntropy.samples" in objects


PARTS = {
    "activations": (
        set(shipped(ACTIVATIONS)),
        "identity relu relu6 leaky_relu elu sigmoid tanh softplus gelu swish mish h_swish tanhexp",
    ),
    "losses": (
        set(shipped(LOSSES)),
        "cross_entropy mean_squared_error binary_cross_entropy mean_absolute_error huber poisson "
        "quantile focal binary_focal",
    ),
    "optimizers": (
        set(shipped(OPTIMIZERS)),
        "sgd momentum nesterov adagrad rmsprop adam adamw",
    ),
    "initializers": (
        set(shipped(INITIALIZERS)),
        "uniform he_normal he_uniform glorot_normal glorot_uniform zeros",
    ),
    "layers": (set(shipped(LAYERS)), "Dense Activation Dropout BatchNorm"),
    "schedules": (set(shipped(SCHEDULES)), "constant step exponential cosine plateau"),
    "backends": (set(BACKENDS), "numpy cupy torch jax strict"),
    "normalizers": (set(shipped(NORMALIZERS)), "standard minmax"),
    "metrics": (
        set(shipped(METRICS)),
        "precision recall f1 balanced_accuracy top_k mae rmse r2 roc_auc",
    ),
    "dtypes": (set(DTYPES), "float32 float64"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_registries_hold_what_was_promised(kind):
    names, promised = PARTS[kind]
    assert names == set(promised.split())


@pytest.mark.parametrize(
    ("registry", "module", "base"),
    [(LOSSES, xpnn.losses, xpnn.Loss), (OPTIMIZERS, xpnn.optimizers, xpnn.Optimizer)],
)
def test_registered_classes_are_all_that_a_module_has(registry, module, base):
    classes = {
        value
        for value in vars(module).values()
        if is_class(value) and issubclass(value, base) and value not in (base, Flooding)
    }
    assert classes == {registry[name] for name in shipped(registry)}
    assert {value.__name__ for value in classes} <= set(xpnn.__all__)


def usage(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("activation", "activations"),
        ("loss", "losses"),
        ("optimizer", "optimizers"),
        ("schedule", "schedules"),
        ("metrics", "metrics"),
        ("backend", "backends"),
        ("dtype", "dtypes"),
    ],
)
def test_help_names_every_part(option, kind, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    listed = usage(capsys).partition(f"\n  --{option} ")[2].partition("\n  -")[0]
    assert set(re.findall(r"\w+", listed)) >= PARTS[kind][0]


def readme_row(first):
    """The second cell of the README's table row that begins with `first`, as a set of words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {first} \|(.*)\|$", text, flags=re.MULTILINE)
    return set(re.findall(r"\w+", row))


def test_readme_lists_every_part():
    assert readme_row("activations") == PARTS["activations"][0]
    assert readme_row("optimizers") == {OPTIMIZERS[name].__name__ for name in shipped(OPTIMIZERS)}
    assert readme_row("losses") >= {LOSSES[name].__name__ for name in shipped(LOSSES)}
    assert readme_row("metrics") >= PARTS["metrics"][0]
    assert readme_row("layers") == PARTS["layers"][0]
    assert readme_row("schedules") >= {SCHEDULES[name].__name__ for name in shipped(SCHEDULES)} | {
        "Warmup"
    }
    callbacks = {
        name
        for name, value in vars(xpnn.callbacks).items()
        if is_class(value) and issubclass(value, xpnn.Callback)
    }
    assert readme_row("callbacks") == callbacks <= set(xpnn.__all__)
    for name in BACKENDS:
        assert readme_row(f"`{name}`")


def test_readme_names_nothing_that_is_not_there(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z-]+\b", usage(capsys)))
    named = re.findall(r"xpnn train (?:.*\\\n)*.*", text)
    assert {option for line in named for option in re.findall(r" (--[a-z-]+)", line)} <= options
    assert set(re.findall(r"\bxpnn\.([A-Za-z]\w*)", text)) <= set(xpnn.__all__)
    for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        ast.parse(example)


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("[RC]*.md")), *sorted(ROOT.glob("docs/*/*.md")), *ROOT.glob("ci/*/*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_of_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    paths = [target.partition("#")[0] for target in targets if ":" not in target]
    assert [path for path in paths if not (page.parent / path).exists()] == []
    assert not [part for part in paths if Path(part).is_absolute()]


def test_commands_of_pages_name_scripts_that_are_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*/*.md")]
    pages += ROOT.glob("ci/*.sh")
    pages += ROOT.glob("scripts/*/*.py")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"\bscripts/[\w/]+\.(?:py|sh)\b", text))
    assert len(named) >= 10
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_no_test_module_imports_another():
    """What several share is in helpers.py; fixtures are in conftest.py."""
    paths = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("scripts/**/*.py")]
    named = {name for path in paths for name in imported(path.read_text(encoding="utf-8"))}
    ours = {name for name in named if name.partition(".")[0] == "tests"}
    assert "tests.helpers.ROOT" in ours
    assert {name for name in ours if not name.startswith("tests.helpers.")} == set()
