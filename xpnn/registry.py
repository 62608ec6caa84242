"""Names for parts: a part is asked for as ``"nesterov:lr=0.1,mu=0.9"`` or by name and keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from xpnn.errors import ArgumentError, unknown

Part = TypeVar("Part", bound=Callable[..., object])


class Registry(Mapping[str, Part], Generic[Part]):
    """Parts of one kind by name, with a check of the parameters they are asked for with.

    Parameters
    ----------
    kind
        What the parts are, in words, for messages: ``"activation"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Part] = {}

    def add(self, name: str, part: Part) -> Part:
        """Register `part` under `name` and return it."""
        if not name.isidentifier():
            raise ArgumentError(f"name of the {self.kind} must be an identifier, got {name!r}")
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
