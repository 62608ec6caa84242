"""Digests of what recordings do, by which two recordings are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from xpnn.recording.nodes import Ref, exact
from xpnn.recording.recorder import Recorded, Recording


def digests_of(recording: Recording, results: Sequence[Recorded]) -> list[bytes]:
    """Return a digest for each operation, of all operations up to it; the last has the results too.

    Digests cover what is done, constants included, but not the values that a step begins with: two
    recordings have equal digests up to the first operation in which they differ. Arrays are
    numbered in the order in which they appear, because their numbers in the recording depend on
    what else was recorded.
    """
    numbers: dict[int, int] = {}
    digest, digests = hashlib.sha256(), []

    def add(value: Any) -> None:
        if isinstance(value, Ref):
            if value.key not in numbers and recording.sources[value.key] == "constant":
                array = recording.arrays[value.key]
                digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
            digest.update(str(numbers.setdefault(value.key, len(numbers))).encode())
        elif isinstance(value, dict):
            add(list(value.items()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                add(part)
        else:
            digest.update(repr(exact(value)).encode())

    for node in recording.nodes:
        function = node.function
        if isinstance(function, partial):
            add(function.args[1:])  # which of several results it stands for
        add((node.kind, node.name, getattr(function, "__name__", ""), node.args, node.kwargs))
        add(Ref(node.out))
        digests.append(digest.digest())
    for array in results:
        add(Ref(recording.key(array)))
    return [*digests, digest.digest()]


def first_difference(one: Sequence[bytes], other: Sequence[bytes]) -> int | None:
    """Return the number of the first operation in which two recordings differ, None if in none.

    The number of operations stands for the results, and for operations that one has and the other
    hasn't.
    """
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), None)
