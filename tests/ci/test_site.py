"""The site: its reference, its formulas, the check of its links, the command of its first page."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import runpy
import sys
import tomllib
import types

import pytest

import xpnn
from tests.helpers import ROOT
from xpnn import cli

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def docs():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield importlib.import_module


@pytest.fixture(scope="module")
def reference(docs):
    return docs("reference_pages")


@pytest.fixture(scope="module")
def formulas():
    return types.SimpleNamespace(**runpy.run_path(str(DOCS / "formulas.py")))


@pytest.fixture(scope="module")
def check_site():
    return types.SimpleNamespace(**runpy.run_path(str(ROOT / "ci" / "check_site.py")))


@pytest.fixture
def faults(check_site):
    return check_site.faults


def test_every_public_name_is_in_the_reference(reference, tmp_path):
    pytest.importorskip("matplotlib")
    reference.write(tmp_path)
    text = "\n".join(page.read_text("utf-8") for page in tmp_path.glob("*.rst"))
    shown = re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", text, flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    values = [(path.rpartition(".")[2], _value(path)) for path in shown]
    missing = []
    for module in ["xpnn", *(f"xpnn.{own}" for own in (*_modules(), "estimators", "reproducible"))]:
        own = importlib.import_module(module)
        for name in own.__all__:
            value = getattr(own, name)
            if not inspect.ismodule(value) and f"{module}.{name}" not in shown:
                missing += [name] * all(n != name or v is not value for n, v in values)
    assert missing == []


def _modules():
    return [name for name in xpnn.__all__ if inspect.ismodule(getattr(xpnn, name))]


def _value(path):
    if path in sys.modules or path == "xpnn":
        return sys.modules[path]
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_names_that_the_reference_does_not_have_are_not_promised(reference):
    shown = [value for values in reference.names().values() for value in values.values()]
    hidden = set()
    for info in pkgutil.walk_packages(xpnn.__path__, "xpnn."):
        if "._" in info.name or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        if any(
            all(value is not own for own in shown) and not inspect.ismodule(value)
            for name in getattr(module, "__all__", ())
            for value in [getattr(module, name)]
        ):
            hidden.add(info.name)
    text = (DOCS / "versions.md").read_text("utf-8")
    assert {name for name in hidden if f"`{name}`" not in text} == set()


def test_register_tells_of_its_own_kind(reference):
    of = {
        path: reference.registering(value)
        for values in reference.names().values()
        for path, value in values.items()
        if path.endswith(".register") and inspect.ismethod(value)
    }
    assert len(of) == 8
    guide = (DOCS / "guide" / "own-parts.md").read_text("utf-8")
    for path, text in of.items():
        assert path in guide
        assert not re.search(r"\bpart\b", text.replace("\npart\n", "").replace("the part is", ""))
    assert "The name of a loss is its `name`." in of["xpnn.losses.register"]
    assert "optimizer is that of its class in lower case." in of["xpnn.optimizers.register"]
    assert {kind for kind in reference.GUIDED if f"\n## A {kind}\n" not in guide} == {"optimizer"}
    assert "\n## An optimizer\n" in guide


def test_every_page_of_the_reference_is_in_its_table_of_contents(reference):
    listed = (DOCS / "reference" / "index.md").read_text("utf-8").splitlines()
    assert {f"api/{name}" for name in (*reference.PAGES, "command")} <= set(listed)


def test_every_option_is_in_the_reference(reference):
    text = reference.commands()
    for parser in reference._all_parsers(cli._parser()):
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or f" {option}" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u * tanh(exp(u))", r"u\,\tanh\left(e^{u}\right)"),
        ("w - lr g / (sqrt(s) + eps)", r"w - \dfrac{\text{lr}\,g}{\sqrt{s} + \varepsilon}"),
        ("|u| <= n/2", r"\left|u\right| \le  n / 2"),
        # a Greek letter is a factor, and not a function
        ("(1 - p)^gamma (p - t)", r"\left(1 - p\right)^{\gamma }\,\left(p - t\right)"),
        ("a / b / c", r"\dfrac{a}{b\,c}"),
        (
            "P(p > q) + P(p = q) / 2",
            r"P\left(p > q\right) + P\left(p = q\right) / 2",
        ),
        ("log(t!)", r"\log\left(t!\right)"),
        ("n = 6", "n = 6"),
        ("gamma ** floor(t)", r"\gamma ^{\operatorname{floor}\left(t\right)}"),
        # code stays code
        ("pullback(dz)", None),
        ("nesterov=True", None),
        ("n=6", None),
        ("predict(model, x).reshape(n, m)", None),
        ("(a + b", None),
        ("learning", None),
    ],
)
def test_formulas(formulas, text, expected):
    assert formulas.latex(text) == expected


# they return zeros, another part, or what they are given
WITHOUT_A_FORMULA = {"zeros", "Activation", "constant"}


def test_every_part_has_its_formula_typeset(formulas):
    registries = [
        xpnn.activations.ACTIVATIONS,
        xpnn.losses.LOSSES,
        xpnn.optimizers.OPTIMIZERS,
        xpnn.layers.LAYERS,
        xpnn.initializers.INITIALIZERS,
        xpnn.schedules.SCHEDULES,
        xpnn.normalizers.NORMALIZERS,
        xpnn.metrics.METRICS,
    ]
    own = [(n, part) for parts in registries for n, part in parts.items() if _is_ours(part)]
    plain = {
        name
        for name, part in own
        if not formulas.has_formulas(part) or ":math:" not in formulas.typeset(part.__doc__)
    }
    assert plain == WITHOUT_A_FORMULA


def _is_ours(part):
    return part.__module__.startswith("xpnn.")


# code with an operator in docstrings that hold formulas
CODE = {
    '"adam:lr=0.01"',
    '"cross_entropy:label_smoothing=0.1"',
    "a << b",
    "a >> b",
    "a // b",
    "a | b",
    'F1(average="weighted")',
    "f(u, *, xp, **parameters) -> (z, pullback)",
    "float32(x / 255)",
    "make_scorer(fbeta_score, beta=2.5)",
    "n=6",
    "nesterov=True",
    'numpy.load("x.npy", mmap_mode="r")',
    "pullback(dy, input_gradient=True)",
    "resume=",
    "rng.randn(*shape)",
    'threshold_mode="abs"',
    "x[key] = value",
}


def test_what_is_not_typeset_is_code(reference, formulas):
    pytest.importorskip("sklearn")
    found = set()
    for values in reference.names().values():
        for value in values.values():
            members = vars(value).items() if inspect.isclass(value) else ()
            for own in (value, *(own for name, own in members if name[0] != "_")):
                own = getattr(own, "__func__", own)  # of a class method or a static one
                if formulas.has_formulas(own) and isinstance(own.__doc__, str):
                    found |= set(re.findall("(?<!`)``([^`]+)``", formulas.typeset(own.__doc__)))
    assert {code for code in found if re.search(r"[-+*/^²³<>|=]", code)} == CODE


def test_links_of_the_repository_become_links_of_the_site(docs, tmp_path):
    (tmp_path / "docs" / "notes").mkdir(parents=True)
    (tmp_path / "READ.md").write_text(
        "one\n<!-- a -->\n[g](docs/guide.md#b) [c](CHANGELOG.md) [s](src/x.py) [d](docs)\n"
        "[w](https://example.org/o/r/blob/main/docs/guide.md)\n```\n[k](docs/k.md)\n```\n"
        "<!-- end -->\nthree\n",
        encoding="utf-8",
    )
    page = (
        "# P\n```{include} ../../READ.md\n"
        ":start-after: <!-- a -->\n:end-before: <!-- end -->\n```\n"
        "[own](own.md) [out](https://example.org) [up](#p) [c](../../CONTRIBUTING.md)\n"
    )
    included = docs("links").included
    assert included(page, "docs/notes", tmp_path, "https://example.org/o/r") == (
        "# P\n\n[g](../guide.md#b) [c](../changelog.md) [s](../../src/x.py) "
        "[d](https://example.org/o/r/tree/main/docs)\n"
        "[w](../guide.md)\n```\n[k](docs/k.md)\n```\n\n"
        "[own](own.md) [out](https://example.org) [up](#p) [c](../contributing.md)\n"
    )


def test_faults_of_a_site_are_found(faults, tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="b.html#there">b</a><a href="#here">up</a>'
        '<a href="https://example.org/">out</a><img src="picture.png">'
        '<link rel="canonical" href="https://example.org/a.html">',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="there"><a href="a.html">a</a>', encoding="utf-8")
    (tmp_path / "picture.png").touch()
    assert list(faults(tmp_path)) == []
    (tmp_path / "picture.png").unlink()
    (tmp_path / "b.html").write_text(
        '<script src="https://example.org/x.js"></script><a href="c.html">c</a>', encoding="utf-8"
    )
    (tmp_path / "style.css").write_text("p { background: url(//example.org/x.png) }", "utf-8")
    assert list(faults(tmp_path)) == [
        "a.html: no anchor for b.html#there",
        "a.html: no file for picture.png",
        "b.html: no file for c.html",
        "b.html: loads https://example.org/x.js",
        "style.css: loads //example.org/x.png",
    ]


@pytest.mark.parametrize(
    ("name", "text", "address"),
    [
        ("a.html", '<script>fetch("https://example.org/x")</script>', "https://example.org/x"),
        ("a.html", "<style>p { background: url('//e.org/x') }</style>", "//e.org/x"),
        ("a.html", '<p style="background: url(//e.org/x)">', "//e.org/x"),
        ("a.css", '@import "https://example.org/x.css";', "https://example.org/x.css"),
        ("a.css", "p { src: url( https://example.org/x ) }", "https://example.org/x"),
        ("a.js", "import {a} from 'https://example.org/x.js'", "https://example.org/x.js"),
        ("a.js", "await import(`//e.org/x.js`)", "//e.org/x.js"),
        ("a.js", 'image.src = "//e.org/x.png"', "//e.org/x.png"),
        ("a.js", r"b.innerHTML = '<img src=\"http://e.org/x.png\">'", "http://e.org/x.png"),
        ("a.js", 'request.open("GET", "http://e.org/x")', "http://e.org/x"),
        ("a.js", 'new WebSocket("wss://e.org/x")', "wss://e.org/x"),
        ("a.js", "link.href = 'https://e.org/x.css'", "https://e.org/x.css"),
        ("a.svg", '<svg><image xlink:href="https://e.org/x.png"/></svg>', "https://e.org/x.png"),
        ("a.svg", '<svg><use href="//e.org/x.svg#a"/></svg>', "//e.org/x.svg#a"),
        ("a.svg", "<svg><style>p { fill: url(//e.org/x) }</style></svg>", "//e.org/x"),
    ],
)
def test_what_is_loaded_from_another_host_is_found(name, text, address, faults, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(faults(tmp_path)) == [f"{name}: loads {address}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.html",
            "<script>/* https://example.org/x.js */ let a = 1 // src='http://e.org'\n</script>",
        ),
        ("a.html", "<code>url(https://example.org/x)</code>"),
        ("a.html", "<p>src='https://example.org/x'</p>"),
        (
            "a.css",
            "/* url(https://example.org/licence) */ p { mask: url(data:image/png;base64,A) }",
        ),
        ("a.js", "/*! from https://example.org, MIT */\na.href = 'https://example.org/page'"),
        ("a.js", "const NAMESPACE = 'http://www.w3.org/2000/svg'"),
        ("a.js", "fetch('here.json') // as https://example.org says"),
        (
            "a.svg",
            '<!DOCTYPE svg PUBLIC "a" "http://www.w3.org/b.dtd"><svg xmlns="http://www.w3.org/2000/svg">'
            '<metadata><a rdf:resource="http://purl.org/b"/></metadata><a href="https://e.org/">b</a>'
            '<path clip-path="url(#c)"/><use href="#d"/></svg>',
        ),
        ("searchindex.js", "from 'https://example.org/x.js'"),
    ],
)
def test_what_is_only_told_is_not_loaded(name, text, faults, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(faults(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<div class='table-wrapper docutils'><table></table></div><table></table>", ["<table>"]),
        ("<div class='highlight'><p>a<br>b<pre>c</pre></div><pre>d</pre>", ["<pre>"]),
        (
            "<p class='picture'><img style='width: 826px;'></p><img style='width: 826px;'>",
            ["<img>"],
        ),
        ("<img style='width: 400px;'><p style='max-width: 900px'>a</p>", []),
        ("<div style='min-width:52em; min-width:500px'>a</div>", ["<div>"]),
        ("<table class='indextable genindextable'></table>", []),
    ],
)
def test_what_may_be_wider_than_a_phone_is_in_a_box(text, found, faults, tmp_path):
    (tmp_path / "a.html").write_text(text, encoding="utf-8")
    assert list(faults(tmp_path)) == [f"a.html: no box that scrolls around {it}" for it in found]


def test_each_box_scrolls(check_site):
    css = (DOCS / "_static" / "site.css").read_text("utf-8")
    css += (ROOT / "xpnn" / "study" / "report.css").read_text("utf-8")
    for box in check_site.BOXES:
        assert re.search(rf"\.{box}\b[^{{}}]*{{[^}}]*overflow-x: ?auto", css), box


def test_a_japanese_page_says_so(docs):
    for name in ("japanese", "ja/01-first-network"):
        docs("languages").translate(None, name, "page.html", context := {"language": "en"}, None)
        assert context["language"] == "ja"
        assert context["_"]("Search") == "検索"
    docs("languages").translate(None, "index", "page.html", context := {"language": "en"}, None)
    assert context == {"language": "en"}


def test_thumbnails_of_the_gallery_have_a_dark_variant(docs):
    image = ".. image:: /auto_gallery/images/{}.svg\n    :alt:\n"
    text = docs("images").thumbnails("  " + image.format("thumb/sphx_glr_plot_1_thumb"))
    for theme, ending in (("light", ""), ("dark", "_dark")):
        line = f"/auto_gallery/images/sphx_glr_plot_1_001{ending}.svg\n     :alt:\n"
        assert f"{line}     :class: only-{theme}\n" in text


def test_a_picture_says_in_words_what_it_shows(docs):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    alternative = docs("gallery_pictures").alternative
    figure = Figure()
    panels = figure.subplots(1, 2)
    with pytest.raises(ValueError, match="a picture of the gallery needs a title or labels"):
        alternative(figure, "Runs\n====")
    panels[0].plot([1, 2], label="training")
    panels[0].plot([1], label="_best")
    panels[0].set(title="loss", xlabel="epoch")
    panels[1].set_title("images", loc="left")
    assert alternative(figure, "Runs\n====\n\nTwo.") == (
        "Runs: loss (x: epoch) of training; images"
    )
    with pytest.raises(ValueError, match="a picture of the gallery needs a title or labels"):
        alternative(figure, "")
    figure.suptitle("the two that\nare worst")
    assert alternative(figure, "Runs") == "Runs: the two that are worst"


@pytest.mark.parametrize(
    ("head", "pixels"),
    [
        ('<svg width="360pt" height="72pt" viewBox="0 0 360 72">', 480),
        ('<svg role="img" viewBox="0 0 619.2 367.2">', 826),
        ('<svg fill="none">', None),
    ],
)
def test_a_picture_is_as_wide_as_it_was_drawn(docs, head, pixels):
    assert docs("images").width(head) == pixels


def test_a_notebook_with_other_code_than_its_script_is_found(check_site, tmp_path):
    folder = tmp_path / "_downloads" / "a1"
    folder.mkdir(parents=True)
    (folder / "plot_1.py").write_text('"""A page."""\nx = 1  # one\n\n# %%\nprint(x)\n', "utf-8")
    assert list(check_site.notebooks(tmp_path)) == ["plot_1.py: no notebook with the same code"]
    for code, same in (("x = 1", True), ("x = 2", False)):
        cells = [("markdown", "A page."), ("code", code), ("code", "print(x)")]
        text = json.dumps({"cells": [{"cell_type": t, "source": [s]} for t, s in cells]})
        (folder / "plot_1.ipynb").write_text(text, "utf-8")
        assert (list(check_site.notebooks(tmp_path)) == []) == same


# what a script of the gallery needs, beside what it imports: the extra, by what it uses
USES = {
    "download": r"datasets\.mnist\(",
    "jax": r"\"jax\"",
    "onnx": r"export_onnx\(",
    "plot": r"xpnn\.plot",
    "sklearn": r"xpnn\.estimators",
    "table": r"from_table\(",
    "testing": r"\"strict\"",
    "torch": r"\"torch\"",
}
_NAME = re.compile(r"[\w-]+")


@pytest.mark.parametrize("path", sorted(DOCS.glob("gallery/*.py")), ids=lambda path: path.stem)
def test_a_script_of_the_gallery_says_what_it_needs(path):
    """Its first lines are a reader's only help: the build has everything installed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = re.search(r'It needs ``pip install "xpnn\[(.+)\]"(.*)``\.$', ast.get_docstring(tree))
    del tree.body[0]
    code = ast.unparse(tree).replace("'", '"')
    extras, others = told[1].split(","), told[2].split()
    assert extras == [extra for extra, use in USES.items() if re.search(use, code)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = [project["dependencies"], *(project["optional-dependencies"][name] for name in extras)]
    installed = {"xpnn", *others, *(_NAME.match(line)[0] for lines in every for line in lines)}
    modules = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    } - sys.stdlib_module_names
    assert {{"sklearn": "scikit-learn"}.get(name, name) for name in modules} <= installed


def test_the_command_of_the_first_page_runs(here):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_iris(return_X_y=True)
    rows = [",".join(map(str, [*row, f"kind{label}"])) for row, label in zip(x, y, strict=True)]
    (here / "iris.csv").write_text("\n".join(["a,b,c,d,kind", *rows]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts" / "checks")
        pages = importlib.import_module("pages")
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [kind for kind, _ in pages.blocks(text)] == ["sh"]
    list(pages.run_page(text))
    assert (here / "iris.safetensors").exists()
