"""Parts by name, with parameters as a text: ``"nesterov:lr=0.1,mu=0.9"``."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, overload

from xpnn._core.files import as_path
from xpnn.errors import ArgumentError, initials, unknown

Part = TypeVar("Part", bound=Callable[..., object])
Own = TypeVar("Own", bound=Callable[..., object])

# what a value of each type is called in messages
WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Registry(Mapping[str, Part], Generic[Part]):
    """The parts of one kind by name; it checks parameters that are given by name or as a text.

    Parameters
    ----------
    kind
        The kind as in messages: ``"activation"``.
    base
        Returns the class that parts extend. Without it, parts are functions.
    name
        Returns the name of a part that is registered; by default, ``part.__name__``.
    """

    def __init__(
        self,
        kind: str,
        base: Callable[[], type] | None = None,
        name: Callable[[Any], object] | None = None,
    ) -> None:
        self.kind = kind
        self._base, self._name = base, name or (lambda part: part.__name__)
        self._parts: dict[str, Part] = {}
        # the parameters of those that were asked for: to inspect a class takes long
        self._known: dict[str, dict[str, inspect.Parameter]] = {}

    @property
    def plural(self) -> str:
        """The kind of several parts: "losses"."""
        return self.kind + ("es" if self.kind.endswith("s") else "s")

    @overload
    def register(self, part: Own, *, replace: bool = False) -> Own: ...
    @overload
    def register(self, *, replace: bool = False) -> Callable[[Own], Own]: ...
    def register(self, part: Any = None, *, replace: bool = False) -> Any:
        """Register a part under its name and return it: a decorator, with options or without.

        The name of a loss is its `name`; that of an optimizer, a schedule or a callback is the
        class's in lower case; that of any other part is the function's or class's.

        Parameters
        ----------
        part
            The function or class.
        replace
            Whether to replace another module's part of the same name.

        Raises
        ------
        ArgumentError
            If the part is of another kind, has no name, or has the name of another module's part.

        Examples
        --------
        >>> import xpnn
        >>> @xpnn.layers.register
        ... class Plain(xpnn.Layer):
        ...     pass
        """
        if part is None:
            return lambda part: self.register(part, replace=replace)
        if self._base is not None:
            base = self._base()
            if not (isinstance(part, type) and issubclass(part, base)):
                raise ArgumentError(
                    f"a registered {self.kind} must be a class that extends xpnn.{base.__name__}, "
                    f"got {part!r}"
                )
        try:
            name = self._name(part)
        except AttributeError:
            raise ArgumentError(
                f"a registered {self.kind} must have a name, got {part!r}"
            ) from None
        return self.add(name, part, replace=replace)  # type: ignore[arg-type]

    def add(self, name: str, part: Part, *, replace: bool = False) -> Part:
        """Register `part` under `name` and return it; see `register`."""
        if not (isinstance(name, str) and name.isidentifier()):
            raise ArgumentError(f"name of the {self.kind} must be an identifier, got {name!r}")
        owner = getattr(self._parts.get(name), "__module__", None)
        # a module may replace its parts, so that a notebook's cell can be run again
        if name in self._parts and not replace and owner != getattr(part, "__module__", None):
            raise ArgumentError(
                f"{self.kind} {name!r} is {owner}'s already; give yours another name, or register "
                "it with replace=True"
            )
        self._parts[name] = part
        self._known.pop(name, None)
        return part

    def __getitem__(self, name: str) -> Part:
        """Return the part called `name`, or raise an error with the nearest name."""
        return self._parts[self._full(name)]

    def _full(self, name: str) -> str:
        """Return the name of a part that is asked for by it, or by the initials of its words.

        Initials are those of three words or more: "mse" is "mean_squared_error".
        """
        if name in self._parts:
            return name
        short = isinstance(name, str) and len(name) > 2
        long = [full for full in self._parts if short and initials(full) == name]
        if len(long) != 1:
            raise unknown(self.kind, name, self._parts)
        return long[0]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def parameters(self, name: str) -> dict[str, object]:
        """Return the parameters of the part called `name` with their defaults.

        ``xp`` and arguments without a default, such as a function's arrays, aren't parameters.
        """
        return {key: parameter.default for key, parameter in self._parameters(name).items()}

    def _parameters(self, name: str) -> dict[str, inspect.Parameter]:
        name = self._full(name)
        if name not in self._known:
            self._known[name] = {
                key: parameter
                for key, parameter in inspect.signature(self[name]).parameters.items()
                if parameter.default is not parameter.empty and key != "xp"
            }
        return self._known[name]

    def check(self, name: str, given: Iterable[str]) -> None:
        """Raise unless each name in `given` is a parameter of the part called `name`."""
        allowed = self.parameters(name)
        for key in given:
            if not allowed:
                raise ArgumentError(f"{self.kind} {name!r} has no parameters, got {key!r}")
            if key not in allowed:
                raise unknown(f"parameter of {self.kind} {name!r}:", key, allowed)

    def parse(self, text: str) -> tuple[str, dict[str, object]]:
        """Split ``"name:key=value,key=value"`` into the name and the checked parameters.

        A value is read as the type in the parameter's annotation, or else that of its default: a
        whole number, a number, true or false, or text. If neither has one of these types, the value
        is read as the first of them that fits. Numbers without a name belong to the value before
        them, as in ``"quantile:levels=0.1,0.9"``.
        """
        name, _, rest = text.partition(":")
        name = self._full(name)
        given: dict[str, object] = {}
        items: list[str] = []
        for item in rest.split(",") if rest else []:
            if items and _is_number(item):
                items[-1] += f",{item}"
            else:
                items.append(item)
        for item in items:
            key, equals, value = item.partition("=")
            if not equals:
                raise ArgumentError(
                    f"{self.kind} {text!r}: {item!r} must have the form parameter=value"
                )
            self.check(name, [key])
            if key in given:
                raise ArgumentError(f"{self.kind} {text!r}: {key!r} is given twice")
            types = _types(self._parameters(name)[key])
            given[key] = _read(f"{key} of {self.kind} {name!r}", value, types)
        return name, given

    def make(self, text: str) -> Any:
        """Return the instance of a class that ``"name:key=value,key=value"`` describes."""
        name, given = self.parse(text)
        return self[name](**given)

    def split(self, text: str) -> list[str]:
        """Split ``"relu,elu:alpha=2,relu6"`` into the parts, each with its own parameters.

        ``"key=value"`` after a comma belongs to the part before it, since no name has a ``=``.
        """
        parts: list[str] = []
        for item in text.split(","):
            if parts and "=" in item and ":" not in item:
                parts[-1] += f",{item}"
            else:
                parts.append(item.strip())
        return parts


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(text)


# in the order in which they are tried where a value may be of several types
_READERS: dict[type, Callable[[str], object]] = {int: int, float: float, bool: _truth, str: str}


def _types(parameter: inspect.Parameter) -> list[type]:
    """Return the types that a parameter's value may have: all if it doesn't say."""
    annotation = parameter.annotation
    # not evaluated: it may have names that are imported only for a type checker
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    words = {word.strip() for word in text.split("|")}
    annotated = [kind for kind in _READERS if kind.__name__ in words]
    own = [kind for kind in _READERS if type(parameter.default) is kind]
    return annotated or own or [*_READERS]


def _read(name: str, text: str, types: Iterable[type]) -> object:
    """Return the value of a text, of the first of `types` that it can have."""
    for kind in types:
        with contextlib.suppress(ValueError):
            return _READERS[kind](text)
    wanted = " or ".join(WANTED[kind] for kind in types)
    raise ArgumentError(f"{name} must be {wanted}, got {text!r}")


def load_parts(path: str | os.PathLike[str]) -> ModuleType:
    """Run a Python file that registers parts, so that they are known by their names.

    Parameters
    ----------
    path
        The file. It may import files in its folder. It runs as if it were imported: load no file
        that you don't trust. A file that is loaded again replaces its parts.

    Returns
    -------
    module
        The file's module.

    Raises
    ------
    ArgumentError
        If there is no such file, or it raises an error or exits; the message names the line.
    """
    path = as_path("parts", path)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArgumentError(f"parts must be a Python file, got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    # dataclasses and pickle look for a class's module there
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        position = position_in(error, {str(spec.origin): repr(str(path))}) or repr(str(path))
        raise ArgumentError(f"can't load parts from {position}: {error_text(error)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _module_name(path: Path) -> str:
    """Return the name of a file's module: its present one, or one that no other module has."""
    name, number = f"parts_{path.stem}", 1
    while name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).resolve() == path.resolve():
            break
        number += 1
        name = f"parts_{path.stem}_{number}"
    return name


def position_in(error: BaseException, files: Mapping[str, str]) -> str | None:
    """Return the last line of `files` that an error came from, ``"own.py, line 3"``, or None.

    `files` has the ``__file__`` of modules, each with its name in messages.
    """
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    lines = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError):
        lines.append((str(error.filename), error.lineno))
    inside = [f"{files[name]}, line {line}" for name, line in lines if name in files and line]
    return inside[-1] if inside else None


def error_text(error: BaseException) -> str:
    """Return an error's class and message, as in the last line of a traceback."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
