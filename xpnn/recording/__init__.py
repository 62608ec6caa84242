"""A NumPy step recorded once and played back: the same operations, into buffers that are kept.

A small network spends much of its time between the operations: in Python, and in the allocator.
So a pure function of arrays is run once with arrays that note every operation (`Recorded`), and
what they noted becomes a `Program`: a list of calls without branches, each of which writes into a
buffer that is kept. A buffer is used again as soon as nothing reads its contents any more, so that
it stays in the cache. What is the same in all steps is computed once, before them. The operations,
their order and the layouts of their operands are those of an eager step, hence so are the bits.

A program is played only after a second recording did the same: a step may count its calls in
Python, or draw random numbers. What can't be recorded, such as a call of a library other than
NumPy, raises `RecordingError` within the step; the step runs eagerly then, and `Fold.reason` and
the log say why. The truth of an array (``if bool(xp.all(...))``) becomes a check: a step in which
it differs from the recorded one runs eagerly.

Modules, each of which imports only from those before it: `layout` and `origin` (memory, and lines
of code), `nodes` (an operation as a value), `recorder` (arrays that record), `digests` (what two
recordings are compared by), `calls` (an operation as a call), `joining` (optimizers' operations on
all parameters at once), `program`, `fold` (which recordings there are, and when one is played).
`xpnn.recording.card` plays recordings on a CUDA card.
"""

from __future__ import annotations

from xpnn.recording.fold import MOST_PROGRAMS, PLAIN, Fold, Leaf
from xpnn.recording.nodes import RecordingError
from xpnn.recording.program import Operation, Program
from xpnn.recording.recorder import Recorded, RecordingNamespace, recording_namespace

__all__ = [
    "MOST_PROGRAMS",
    "PLAIN",
    "Fold",
    "Leaf",
    "Operation",
    "Program",
    "Recorded",
    "RecordingError",
    "RecordingNamespace",
    "recording_namespace",
]
