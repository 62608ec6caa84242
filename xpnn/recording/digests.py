"""What a recording does, as a digest that is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from xpnn.recording.nodes import Ref, told
from xpnn.recording.recorder import Recorded, Recording


def signature_of(recording: Recording, results: Sequence[Recorded]) -> bytes:
    """Return a digest of what a recording does, constants included, whatever it began with."""
    numbers: dict[int, int] = {}
    digest = hashlib.sha256()

    def note(value: Any) -> None:
        if isinstance(value, Ref):
            if value.key not in numbers and recording.sources[value.key] == "constant":
                array = recording.arrays[value.key]
                digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
            digest.update(str(numbers.setdefault(value.key, len(numbers))).encode())
        elif isinstance(value, dict):
            note(list(value.items()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                note(part)
        else:
            digest.update(repr(told(value)).encode())

    for node in recording.nodes:
        function = node.function
        if isinstance(function, partial):
            note(function.args[1:])  # a part's number
        note((node.kind, node.name, getattr(function, "__name__", ""), node.args, node.kwargs))
        note(Ref(node.out))
    for array in results:
        note(Ref(recording.key(array)))
    return digest.digest()
