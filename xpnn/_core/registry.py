"""Names for parts: a part is asked for as ``"nesterov:lr=0.1,mu=0.9"`` or by name and keywords."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, overload

from xpnn.errors import ArgumentError, unknown

Part = TypeVar("Part", bound=Callable[..., object])
Own = TypeVar("Own", bound=Callable[..., object])


class Registry(Mapping[str, Part], Generic[Part]):
    """Parts of one kind by name, with a check of the parameters they are asked for with.

    Parameters
    ----------
    kind
        What the parts are, in words, for messages: ``"activation"``.
    base
        Returns the class that the parts extend; they are functions if None.
    name
        Returns the name of a part that `register` is given; ``part.__name__`` if None.
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
        """Register a part under its own name, and return it: a decorator, with options or not.

        A loss has its name in `name`; an optimizer's and a callback's is that of the class in small
        letters, any other part's is its own.

        Parameters
        ----------
        part
            The function or the class.
        replace
            Whether to take the place of a part of that name which another module has registered.

        Raises
        ------
        ArgumentError
            If the part is of another kind or has no such name, or the name is another module's.

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
        # a module may replace its own, so that a notebook's cell can run again
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

        ``xp`` and whatever has no default (the arrays a function works on) aren't parameters.
        """
        signature = inspect.signature(self[name])
        return {
            key: parameter.default
            for key, parameter in signature.parameters.items()
            if parameter.default is not parameter.empty and key != "xp"
        }

    def check(self, name: str, given: Mapping[str, object]) -> None:
        """Raise unless every key of `given` is a parameter of the part called `name`."""
        allowed = self.parameters(name)
        for key in given:
            if key not in allowed:
                if not allowed:
                    raise ArgumentError(f"{self.kind} {name!r} has no parameters, got {key!r}")
                raise unknown(f"parameter of {self.kind} {name!r}:", key, allowed)

    def parse(self, text: str) -> tuple[str, dict[str, object]]:
        """Split ``"name:key=value,key=value"`` into the name and its checked parameters.

        A value is read as a number where the default is one, else kept as text.
        """
        name, _, rest = text.partition(":")
        allowed = self.parameters(name)
        given: dict[str, object] = {}
        for item in rest.split(",") if rest else []:
            key, equals, value = item.partition("=")
            if not equals:
                raise ArgumentError(
                    f"{self.kind} {text!r}: {item!r} must have the form parameter=value"
                )
            self.check(name, {key: value})
            if key in given:
                raise ArgumentError(f"{self.kind} {text!r}: {key!r} is given twice")
            if isinstance(allowed[key], str):
                given[key] = value
                continue
            try:
                given[key] = float(value)
            except ValueError:
                raise ArgumentError(
                    f"{key} of {self.kind} {name!r} must be a number, got {value!r}"
                ) from None
        return name, given

    def split(self, text: str) -> list[str]:
        """Split ``"relu,elu:alpha=2,relu6"`` into the parts, each with its own parameters.

        ``"key=value"`` after a comma belongs to the part before, for it can be no name.
        """
        parts: list[str] = []
        for item in text.split(","):
            if parts and "=" in item and ":" not in item:
                parts[-1] += f",{item}"
            else:
                parts.append(item.strip())
        return parts


def load_parts(path: str | os.PathLike[str]) -> ModuleType:
    """Run a Python file, so that the parts which it registers are known by their names.

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
    path = Path(path)
    name = f"parts_{path.stem}"
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
        place = place_in(error, {str(spec.origin): repr(str(path))}) or repr(str(path))
        raise ArgumentError(f"can't load parts from {place}: {named(error)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def place_in(error: BaseException, files: Mapping[str, str]) -> str | None:
    """Return the last line in one of `files` that an error came through: ``"own.py, line 3"``.

    Parameters
    ----------
    error
        What was raised.
    files
        The ``__file__`` of modules, each with its name in messages.

    Returns
    -------
    place
        None where the error came through none of them.
    """
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError):
        places.append((str(error.filename), error.lineno))
    inside = [f"{files[name]}, line {line}" for name, line in places if name in files and line]
    return inside[-1] if inside else None


def named(error: BaseException) -> str:
    """Return an error with the name of its class, as the last line of a traceback has it."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
