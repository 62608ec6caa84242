"""Compare what users may name with the list in tests/public_names.txt, or add what that lacks.

    python scripts/checks/public_names.py            # what is gone, and what the list lacks
    python scripts/checks/public_names.py --write    # adds what it lacks

A line is a public name of the reference with its parameters, or a command with its arguments and
options; those after * can only be given by name. What is gone breaks programs of users, so it is
never taken off the list here: whoever may remove it (docs/versions.md) deletes it there.
"""

import argparse
import inspect
import runpy
import sys
from pathlib import Path

from xpnn._core import deprecation
from xpnn.cli import _parser

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "public_names.txt"


def current():
    """Return the lines of what there is."""
    reference = runpy.run_path(str(ROOT / "docs" / "reference_pages.py"))
    public = {path: own for values in reference["names"]().values() for path, own in values.items()}
    classes = [own for own in public.values() if inspect.isclass(own)]
    lines = set()
    for path, value in public.items():
        lines.add(_line(path, value))
        if inspect.isclass(value):
            lines.update(_line(f"{path}.{name}", own) for name, own in _members(value, classes))
    for parser in reference["_all_parsers"](_parser()):
        places = [action.dest for action in parser._get_positional_actions()]
        options = [name for own in parser._actions for name in own.option_strings if name != "-h"]
        lines.add(_joined(parser.prog, places, options))
    return sorted(lines)


def _members(own, classes):
    """Yield name and value of what a class has of ours, and no base among `classes` has."""
    bases = [base for base in own.__mro__[1:] if base in classes]
    ours = [base for base in own.__mro__ if base.__module__.startswith("xpnn.")]
    for name in {name for base in ours for name in vars(base)}:
        # scikit-learn makes methods for its routing of metadata
        made = name.startswith("_") or name.endswith("_request")
        if not made and not any(hasattr(base, name) for base in bases):
            yield name, inspect.getattr_static(own, name)


def _line(path, value):
    """Return a name, with its parameters if they are ours."""
    function = getattr(value, "__func__", value)  # of a class method or a static one
    if inspect.isclass(value):
        function = vars(value).get("__new__", value.__init__)
    if not inspect.isfunction(function) or not function.__module__.startswith("xpnn."):
        return path
    places, names = [], []
    for name, own in inspect.signature(function).parameters.items():
        if own.kind is own.VAR_POSITIONAL:
            places.append(f"*{name}")
        elif own.kind is own.KEYWORD_ONLY:
            names.append(name)
        elif own.kind is not own.VAR_KEYWORD and name not in ("self", "cls", "_cls"):
            places.append(name)
    home = f"{function.__module__}.{function.__qualname__}"
    names += [old for where, old, _ in deprecation.DEPRECATED if old and where == home]
    return _joined(path, places, names)


def _joined(path, places, names):
    return f"{path}({', '.join([*places, *(['*', *names] if names else [])])})"


def promised(lines):
    """Return all that a user may rely on, each in some words."""
    found = set()
    for line in lines:
        path, _, rest = line.removesuffix(")").partition("(")
        found.add(path)
        words = rest.split(", ") if rest else []
        places = words[: words.index("*")] if "*" in words else words
        found |= {f"{name} as argument {n} of {path}" for n, name in enumerate(places, 1)}
        found |= {f"{name} of {path}" for name in words if name != "*"}
    return found


def compare(listed, lines):
    """Return what is gone of the list, and what the list lacks."""
    old, new = promised(listed), promised(lines)
    return sorted(old - new), sorted(new - old)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="add what the list lacks")
    args = parser.parse_args()
    lines = current()
    gone, lacks = compare(LIST.read_text(encoding="utf-8").splitlines(), lines)
    if args.write and not gone:
        LIST.write_text("\n".join(lines) + "\n", encoding="utf-8")
        lacks = []
    for what in gone:
        print(f"gone: {what}; docs/versions.md says what comes before")
    for what in lacks:
        print(f"not listed: {what}; --write lists it, unless something is gone")
    return bool(gone or lacks)


if __name__ == "__main__":
    sys.exit(main())
