"""Names for parts, so that a text can ask for one: ``"nesterov:lr=0.1,mu=0.9"``."""

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
from xpnn.errors import ArgumentError, unknown

Part = TypeVar("Part", bound=Callable[..., object])
Own = TypeVar("Own", bound=Callable[..., object])

# what a value of each type is called in messages
WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Registry(Mapping[str, Part], Generic[Part]):
    """The parts of one kind by name, and a check of the parameters that they are asked for with.

    Parameters
    ----------
    kind
        What a part is called in messages: ``"activation"``.
    base
        Returns the class that the parts extend; without it, parts are functions.
    name
        Returns the name under which `register` puts a part; without it, ``part.__name__``.
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

    @overload
    def register(self, part: Own, *, replace: bool = False) -> Own: ...
    @overload
    def register(self, *, replace: bool = False) -> Callable[[Own], Own]: ...
    def register(self, part: Any = None, *, replace: bool = False) -> Any:
        """Register a part under its own name and return it: a decorator, with options or without.

        A loss is known by its `name`; an optimizer, a schedule and a callback by the name of the
        class in lower case; any other part by the name of the function or class.

        Parameters
        ----------
        part
            The function or class.
        replace
            Whether to replace a part of the same name that another module has registered.

        Raises
        ------
        ArgumentError
            If the part is of another kind or has no name, or the name is another module's.

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
        # a module may replace its own parts, so that a notebook's cell can be run again
        if name in self._parts and not replace and owner != getattr(part, "__module__", None):
            raise ArgumentError(
                f"{self.kind} {name!r} is {owner}'s already; give yours another name, or register "
                "it with replace=True"
            )
        self._parts[name] = part
        return part

    def __getitem__(self, name: str) -> Part:
        """Return the part called `name`, or raise with the nearest name."""
        if name not in self._parts:
            raise unknown(self.kind, name, self._parts)
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def parameters(self, name: str) -> dict[str, object]:
        """Return the parameters of the part called `name` with their defaults.

        ``xp`` and whatever has no default (the arrays that a function works on) aren't parameters.
        """
        return {key: parameter.default for key, parameter in self._parameters(name).items()}

    def _parameters(self, name: str) -> dict[str, inspect.Parameter]:
        return {
            key: parameter
            for key, parameter in inspect.signature(self[name]).parameters.items()
            if parameter.default is not parameter.empty and key != "xp"
        }

    def check(self, name: str, given: Iterable[str]) -> None:
        """Raise unless each name in `given` is a parameter of the part called `name`."""
        allowed = self.parameters(name)
        for key in given:
            if key not in allowed:
                if not allowed:
                    raise ArgumentError(f"{self.kind} {name!r} has no parameters, got {key!r}")
                raise unknown(f"parameter of {self.kind} {name!r}:", key, allowed)

    def parse(self, text: str) -> tuple[str, dict[str, object]]:
        """Split ``"name:key=value,key=value"`` into the name and the checked parameters.

        A value is read as the parameter's type, by its annotation or else its default: a whole
        number, a number, true or false, or text. If neither says it, as with None, the value is
        what it looks like.
        """
        name, _, rest = text.partition(":")
        parameters = self._parameters(name)
        given: dict[str, object] = {}
        for item in rest.split(",") if rest else []:
            key, equals, value = item.partition("=")
            if not equals:
                raise ArgumentError(
                    f"{self.kind} {text!r}: {item!r} must have the form parameter=value"
                )
            self.check(name, [key])
            if key in given:
                raise ArgumentError(f"{self.kind} {text!r}: {key!r} is given twice")
            given[key] = _read(f"{key} of {self.kind} {name!r}", value, _types(parameters[key]))
        return name, given

    def make(self, text: str) -> Any:
        """Return an instance of the class that ``"name:key=value,key=value"`` asks for."""
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


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(text)


# in the order in which they are tried where a value may be of several types
_READERS: dict[type, Callable[[str], object]] = {int: int, float: float, bool: _truth, str: str}


def _types(parameter: inspect.Parameter) -> list[type]:
    """Return the types that a parameter's value may have: all of them where nothing tells."""
    annotation = parameter.annotation
    # not evaluated: it may name what is imported for a type checker only
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    words = {word.strip() for word in text.split("|")}
    annotated = [kind for kind in _READERS if kind.__name__ in words]
    return (
        annotated or [kind for kind in _READERS if kind is type(parameter.default)] or [*_READERS]
    )


def _read(name: str, text: str, types: Iterable[type]) -> object:
    """Return the value that a text stands for, of the first of `types` that it can be."""
    for kind in types:
        with contextlib.suppress(ValueError):
            return _READERS[kind](text)
    wanted = " or ".join(WANTED[kind] for kind in types)
    raise ArgumentError(f"{name} must be {wanted}, got {text!r}")


def load_parts(path: str | os.PathLike[str]) -> ModuleType:
    """Run a Python file, so that the parts which it registers are known by their names.

    Loading a file again replaces the parts that it registered before.

    Parameters
    ----------
    path
        The file. It may import what lies beside it. It runs as it does when Python imports it:
        load no file that you don't trust.

    Returns
    -------
    module
        What the file defines.

    Raises
    ------
    ArgumentError
        If there is no such file, or it raises or exits; the message has the line.
    """
    path = as_path("parts", path)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArgumentError(f"parts must be a Python file, got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    # dataclasses and pickle look there for a class's module
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
    """Return the name of a file's module: the one it has already, or one that no other has."""
    name, number = f"parts_{path.stem}", 1
    while name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).resolve() == path.resolve():
            break
        number += 1
        name = f"parts_{path.stem}_{number}"
    return name


def position_in(error: BaseException, files: Mapping[str, str]) -> str | None:
    """Return the last line in one of `files` that an error came through: ``"own.py, line 3"``.

    Parameters
    ----------
    error
        What was raised.
    files
        The ``__file__`` of modules, each with its name in messages.

    Returns
    -------
    position
        None if the error came through none of them.
    """
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    lines = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError):
        lines.append((str(error.filename), error.lineno))
    inside = [f"{files[name]}, line {line}" for name, line in lines if name in files and line]
    return inside[-1] if inside else None


def error_text(error: BaseException) -> str:
    """Return an error's class and message, as the last line of a traceback has them."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
