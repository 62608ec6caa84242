"""A NumPy step recorded once and played back: the same operations, into buffers that are kept.

A small network spends much of its time between the operations: in Python, and in the allocator.
So a pure function of arrays is run once with arrays that note every operation (`Recorded`), and
what they noted becomes a `Program`: a straight list of calls, each writing into its own buffer.
Buffers are reused as soon as nothing reads them any more, so that they stay in the cache; what
depends on nothing that changes from step to step is computed once a run. The operations, their
order and their operands' layouts are the eager ones, hence so are the bits.

What can't be recorded (a branch on a value, a library beside NumPy) raises `RecordingError`, and
the step goes on eagerly. So does one that doesn't do twice the same, such as one that counts its
calls in Python: a program is played once a second step has given the same one. A truth that was
asked for (``if bool(xp.all(...))``) becomes a check: where it comes out otherwise, that one step
runs eagerly.
"""

from __future__ import annotations

from xpnn.recording.fold import MOST_PROGRAMS, PLAIN, Fold, Leaf
from xpnn.recording.nodes import RecordingError
from xpnn.recording.program import Operation, Program
from xpnn.recording.recorder import Namespace, Recorded, namespace

__all__ = [
    "MOST_PROGRAMS",
    "PLAIN",
    "Fold",
    "Leaf",
    "Namespace",
    "Operation",
    "Program",
    "Recorded",
    "RecordingError",
    "namespace",
]
