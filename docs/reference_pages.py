"""The pages of the reference, from the modules' lists of public names and from the commands."""

import argparse
import functools
import importlib
import inspect
import re
from pathlib import Path

import xpnn
from xpnn._core.registry import Registry
from xpnn.cli import _parser

# for each page its title, and the modules whose public names it has. A name that `xpnn` has too is
# shown as users write it: xpnn.CrossEntropy. The first page has the names that no other one has.
PAGES = {
    "training": ("Training, predicting, saving", ["xpnn"]),
    "activations": ("Activations", ["xpnn.activations"]),
    "losses": ("Losses", ["xpnn.losses"]),
    "optimizers": ("Optimizers", ["xpnn.optimizers"]),
    "layers": ("Layers", ["xpnn.layers"]),
    "initializers": ("Initializers", ["xpnn.initializers"]),
    "schedules": ("Schedules", ["xpnn.schedules"]),
    "normalizers": ("Normalizers", ["xpnn.normalizers"]),
    "metrics": ("Metrics", ["xpnn.metrics"]),
    "callbacks": ("Callbacks", ["xpnn.callbacks", "xpnn.training.callback", "xpnn.training.run"]),
    "datasets": ("Data sets", ["xpnn.datasets"]),
    "plots": ("Pictures", ["xpnn.plots"]),
    "interop": ("PyTorch, scikit-learn, ONNX", ["xpnn.interop", "xpnn.export.onnx"]),
    "estimators": ("Estimators", ["xpnn.estimators"]),
    "reproducible": ("The reproducible namespace", ["xpnn.reproducible"]),
    "verification": ("Verification", ["xpnn.verification"]),
    "testing": ("Testing", ["xpnn.testing"]),
    "study": ("Studies", ["xpnn.study"]),
    "backends": ("Backends", ["xpnn.backends"]),
    "errors": ("Errors", ["xpnn.errors"]),
}


def public(module):
    """Return the public names of a module with their values, as they stand in its source."""
    own = importlib.import_module(module)
    if hasattr(own, "__all__"):
        found = {name: getattr(own, name) for name in own.__all__}
    else:
        every = {name: getattr(xpnn, name) for name in xpnn.__all__}
        found = {n: v for n, v in every.items() if getattr(v, "__module__", None) == module}
    return {name: found[name] for name in sorted(found, key=lambda name: _place(found[name]))}


def _place(value):
    """Return where a name comes on its page: parts that can be named, others, constants."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return (2, "", 0)
    module = importlib.import_module(value.__module__)
    try:
        line = inspect.getsourcelines(inspect.unwrap(value))[1]
    except (OSError, TypeError):
        line = 0
    parts = [
        list(v.values()) for n, v in vars(module).items() if n.isupper() and hasattr(v, "values")
    ]
    return (not any(value is part for own in parts for part in own), value.__module__, line)


@functools.cache
def names():
    """Return for each page the public names on it, as users write them, with their values."""
    found = {}
    for page, (_, modules) in PAGES.items():
        found[page] = {}
        for module in modules:
            for name, value in public(module).items():
                at_the_top = name in xpnn.__all__ and getattr(xpnn, name) is value
                found[page]["xpnn." + name if at_the_top else f"{module}.{name}"] = value
    elsewhere = {path for page in found if page != "training" for path in found[page]}
    found["training"] = {
        path: value
        for path, value in found["training"].items()
        if path not in elsewhere and not inspect.ismodule(value)
    }
    return found


def page(title, modules, values):
    """Return a page of the reference, in reStructuredText."""
    lines = [title, "=" * len(title), ""]
    if modules != ["xpnn"]:
        for module in modules:
            if hasattr(importlib.import_module(module), "__all__"):
                lines += [f".. automodule:: {module}", "   :no-members:", ""]
    # so that a summary may name what is in the page's own module
    lines += [".. py:currentmodule:: None", ""]
    described = [p for p, v in values.items() if inspect.isclass(v) or inspect.isroutine(v)]
    lines += [".. autosummary::", "   :nosignatures:", "", *(f"   ~{p}" for p in described), ""]
    for path, value in values.items():
        if inspect.isclass(value):
            lines += [f".. autoclass:: {path}", "   :members:"]
            # of scikit-learn, which makes them for its routing of metadata
            made = [name for name in vars(value) if name.endswith("_request")]
            lines += [f"   :exclude-members: {', '.join(made)}", ""] if made else [""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {path}", ""]
        else:
            lines += [f".. py:data:: {path}", "", f"   {_told(value)}", ""]
    return "\n".join(lines)


def _told(value):
    """Return a line on a constant, a registry or an alias of a type."""
    if hasattr(value, "values") and hasattr(value, "keys"):
        return "By name: " + ", ".join(f"``{key}``" for key in value) + "."
    text = re.sub(r"\b(typing|collections\.abc|numpy)\.", "", repr(value))
    return f"``{text}``"


def registering(register):
    """Return the docstring of a registry's `register`, which says it of its own kind of part."""
    registry, kind = register.__self__, register.__self__.kind
    text = inspect.getdoc(register).partition("\nExamples\n")[0]
    summary, _, rest = text.split("\n\n", 2)
    a_kind = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    own = registry._name(type("Own", (), {"name": "name"}))
    known = {"name": "its `name`", "own": "that of its class in lower case"}.get(own)
    known = known or ("that of its class" if registry._base else "that of the function")
    verb = "shows" if kind in GUIDED else "says what is needed of"
    section = "#" + a_kind.replace(" ", "-") if kind in GUIDED else ""
    return "\n\n".join([
        summary.replace("a part", a_kind),
        f"The name of {a_kind} is {known}.",
        rest.replace("another module's part", f"another module's {kind}")
        .replace("function or class", "class" if registry._base else "function")
        .rstrip(),
        "Notes\n-----\n"
        f"`Parts of your own <../../guide/own-parts.html{section}>`__ {verb} {a_kind}.",
    ])  # fmt: skip


# the kinds of parts that docs/guide/own-parts.md has a section for
GUIDED = {"loss", "layer", "optimizer", "schedule", "metric", "callback"}


def _docstring(app, what, name, obj, options, lines):
    if isinstance(getattr(obj, "__self__", None), Registry):
        lines[:] = registering(obj).split("\n")


def _source(app, module):
    """Give `register` the source of the method that it is."""
    if module != Registry.__module__:
        return None
    from sphinx.pycode import ModuleAnalyzer

    found = ModuleAnalyzer.for_module(module)
    found.analyze()
    return found.code, found.tags | {"register": found.tags["Registry.register"]}


def setup(app):
    """Connect what autodoc and viewcode don't see by themselves."""
    # before numpydoc, which has 500
    app.connect("autodoc-process-docstring", _docstring, priority=300)
    app.connect("viewcode-find-source", _source)


_NOT_SHOWN = (argparse._HelpAction, argparse._SubParsersAction)


def commands(parser=None):
    """Return the page of the commands, from what their ``--help`` is made of."""
    lines = ["The command", "===========", ""]
    lines += ["A mistake gives one line and exit status 2; Ctrl-C gives 130.", ""]
    for own in _all_parsers(_parser() if parser is None else parser):
        name = own.prog
        actions = [a for a in own._actions if not isinstance(a, _NOT_SHOWN)]
        if not actions:  # a command that has only commands
            continue
        lines += ["", name, "-" * len(name), "", f".. program:: {name}", ""]
        words = [_option(own, action) for action in actions if not action.option_strings]
        usage = " ".join([name, "[OPTIONS]", *words])
        lines += [".. code-block:: text", "", f"   {usage}", ""]
        lines += [_text(own.description or ""), ""]
        for action in actions:
            lines += [f".. option:: {_option(own, action)}", "", f"   {_help(own, action)}", ""]
        if own.epilog:
            lines += [_text(own.epilog), ""]
    return "\n".join(lines)


def _all_parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices.values():
                yield from _all_parsers(own)


def _option(parser, action):
    formatter = parser._get_formatter()
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    if not action.option_strings:
        return formatter._format_args(action, formatter._get_default_metavar_for_positional(action))
    return ", ".join(f"{name} {value}".strip() for name in action.option_strings)


def _help(parser, action):
    return _text(parser._get_formatter()._expand_help(action)) if action.help else ""


def _text(text):
    """Return plain text as reStructuredText: names of files and options as code."""
    text = re.sub(r"([\\*`|_])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"``\1``", text)


def write(folder):
    """Write all pages of the reference that are made from the code."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    texts = {name: page(*PAGES[name], values) for name, values in names().items()}
    texts["command"] = commands()
    for name, text in texts.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
