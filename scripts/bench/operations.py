"""Where xpnn's training step on NumPy goes: every array operation of its program, timed."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict

from contenders import RATE, SEED, model_of

import xpnn
from xpnn.backends import NumpyBackend
from xpnn.recording import fold

ROUNDS = 200


class _Backend(NumpyBackend):
    """NumPy, its programs kept."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        self.folds = []

    def fold(self, step):
        self.folds.append(super().fold(step))
        return self.folds[-1]


def profile(case):
    """Return a Markdown table of the operations of a step, the slowest first."""
    backend = _Backend(case.dtype)
    fold.EAGER_STEPS = 0  # the first steps are timed too
    history = xpnn.fit(
        model_of(case),
        case.arrays,
        optimizer=xpnn.SGD(lr=RATE),
        epochs=3,
        batch_size=case.batch,
        seed=SEED,
        backend=backend,
        verbose=False,
    )
    step = min(history.column("seconds")[1:]) / (case.samples // case.batch)
    training, _ = backend.folds
    (program,) = training.programs
    times = [[] for _ in program.operations]
    with backend.scope():
        for _ in range(ROUNDS):
            for operation, seconds in zip(program.operations, times, strict=True):
                begun = time.perf_counter()
                operation.function(*operation.args)
                seconds.append(time.perf_counter() - begun)
    rows = defaultdict(lambda: [0, 0.0])
    for operation, seconds in zip(program.operations, times, strict=True):
        result = operation.result
        shape = "x".join(map(str, result.shape)) or "scalar"
        row = rows[operation.name, f"{result.dtype} {shape}"]
        row[0] += 1
        row[1] += statistics.median(seconds)
    total = sum(seconds for _, seconds in rows.values())
    lines = [
        f"{case}: {step * 1e6:.0f} us a step in the fastest epoch. Each operation alone:",
        "",
        "| operation | result | per step | us |",
        "|---|---|---:|---:|",
        *(
            f"| {name} | {result} | {count} | {seconds * 1e6:.1f} |"
            for (name, result), (count, seconds) in sorted(rows.items(), key=lambda r: -r[1][1])
        ),
        f"| all | | {len(program.operations)} | {total * 1e6:.1f} |",
        "",
    ]
    return "\n".join(lines)
