"""A recorded step in few launches on a CUDA card.

Modules, each of which imports only from those before it: `positions` (where an element lies),
`operations` (in CUDA C++), `values` (what a step computes), `launches` (which kernel computes
what), `source` (a kernel's text), `program`, `fold`.
"""

from __future__ import annotations

from xpnn.recording.card.fold import CardFold
from xpnn.recording.card.program import Card, CardProgram, Product

__all__ = ["Card", "CardFold", "CardProgram", "Product"]
