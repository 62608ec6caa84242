"""Data sets in chunks: a single one on the device, or many that are read from a file in turn."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from xpnn._core.mapped import BLOCK_BYTES, Source, is_mapped
from xpnn.backends import Backend
from xpnn.datasets.dataset import Dataset, located
from xpnn.normalizers import Normalizer
from xpnn.task import Task

Array = Any

# memory of a chunk; two are held at a time, one in use and one being read
CHUNK_BYTES = 1 << 26


class Chunk(NamedTuple):
    """A part of a data set on the device.

    Attributes
    ----------
    x, y
        Arrays whose shape is the same in all chunks; rows that aren't in `order` are unused.
    order
        The indices of the rows of x and y to go through, in order; on the host.
    weights
        The weights of the samples, if they have any.
    """

    x: Array
    y: Array
    order: np.ndarray
    weights: Array | None = None


class Whole:
    """A data set held on the device: inputs, targets and the samples' weights, if any.

    With `count`, that is the number of its samples, which count alike; rows beyond them were added
    up to a size and have no weight.
    """

    def __init__(
        self, x: Array, y: Array, weights: Array | None = None, *, count: int | None = None
    ) -> None:
        self.x, self.y, self.weights = x, y, weights
        self.capacity = int(x.shape[0])
        self.padded = count is not None
        self._count = self.capacity if count is None else count

    def __len__(self) -> int:
        return self._count

    def chunks(self, multiple: int, rng: np.random.RandomState | None = None) -> Generator[Chunk]:
        """Yield all rows once, as one chunk, in order or shuffled by `rng`."""
        yield Chunk(self.x, self.y, _order(self.capacity, rng), self.weights)


def fits(*sources: Source) -> bool:
    """Return whether a data set fits in one chunk."""
    return sum(len(source) * source.row_bytes for source in sources) <= CHUNK_BYTES


class Stream:
    """A data set read in chunks, with inputs or targets mapped from a file.

    Parameters
    ----------
    x, y
        The arrays whose rows are read.
    backend
        The backend that the rows are moved to.
    batch_size
        A chunk holds at least this many rows, however much memory they take.
    weights
        The weights of the samples, if any.
    data
        The data set that the arrays belong to, so that an error can name the file and line.
    """

    padded = False

    def __init__(
        self,
        x: Source,
        y: Source,
        backend: Backend,
        batch_size: int,
        weights: Source | None = None,
        *,
        data: Dataset | None = None,
    ) -> None:
        self.sources = (x, y) if weights is None else (x, y, weights)
        self.backend, self.data = backend, data
        row_bytes = sum(source.row_bytes for source in self.sources)
        self.row_bytes = max(1, row_bytes + np.dtype(np.int64).itemsize)
        self.capacity = min(len(x), max(CHUNK_BYTES // self.row_bytes, batch_size))
        self._moves = [backend.dataset(source.values) for source in self.sources]
        # kept for all epochs, because NumPy's recorded steps know arrays by identity
        self._buffers = [[source.buffer(self.capacity) for source in self.sources]]

    def __len__(self) -> int:
        return len(self.sources[0])

    def chunks(self, multiple: int, rng: np.random.RandomState | None = None) -> Generator[Chunk]:
        """Yield all rows once, in order, or in a random one.

        While the device works on a chunk, a thread reads the next one. A random order shuffles
        first the blocks of rows, of which a chunk holds many, and then the rows of each chunk: so
        the disk reads long stretches, and a mini-batch mixes rows from all over the file.

        Parameters
        ----------
        multiple
            The number of rows of each chunk but the last is a multiple of this.
        rng
            The stream that the order is drawn from; None keeps the order of the file.
        """
        from concurrent.futures import ThreadPoolExecutor

        size = max(self.capacity // multiple, 1) * multiple
        plan = self._plan(size, rng)
        if len(self) > size and len(self._buffers) == 1:
            self._buffers.append([source.buffer(self.capacity) for source in self.sources])
        with ThreadPoolExecutor(1, thread_name_prefix="xpnn-read") as reader:
            ahead = None
            for i, (ranges, order) in enumerate(plan):
                buffers = self._buffers[i % 2]
                reading = reader.submit(self._read, ranges, buffers)
                if ahead is not None:
                    yield self._moved(*ahead)
                ahead = (reading, buffers, order)
            if ahead is not None:
                yield self._moved(*ahead)

    def _moved(self, reading: Any, buffers: list[np.ndarray], order: np.ndarray) -> Chunk:
        with located(self.data):
            reading.result()
        x, y, *weights = (move(part) for move, part in zip(self._moves, buffers, strict=True))
        return Chunk(x, y, order, *weights)

    def _read(self, ranges: list[tuple[int, int]], buffers: list[np.ndarray]) -> None:
        with np.errstate(over="ignore"):
            for source, buffer in zip(self.sources, buffers, strict=True):
                at = 0
                for start, stop in ranges:
                    source.read(start, stop, buffer[at : at + stop - start])
                    at += stop - start

    def _plan(
        self, size: int, rng: np.random.RandomState | None
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        """Yield for each chunk the ranges of rows to read, and the order of its rows."""
        block = size if rng is None else max(1, BLOCK_BYTES // self.row_bytes)
        starts = np.arange(0, len(self), block)
        if rng is not None:
            rng.shuffle(starts)
        ranges: list[tuple[int, int]] = []
        room = size
        for start in map(int, starts):
            stop = min(start + block, len(self))
            while start < stop:
                end = min(stop, start + room)
                ranges.append((start, end))
                room -= end - start
                start = end
                if not room:
                    yield sorted(ranges), _order(size, rng)
                    ranges, room = [], size
        if ranges:
            yield sorted(ranges), _order(size - room, rng)


def _order(count: int, rng: np.random.RandomState | None) -> np.ndarray:
    order = np.arange(count)
    if rng is not None:
        rng.shuffle(order)
    return order


def moved(
    data: Dataset,
    backend: Backend,
    task: Task,
    *,
    weights: np.ndarray | None = None,
    batch_size: int = 1,
    kept: list[np.ndarray] | None = None,
    rows: int = 0,
) -> Whole | Stream:
    """Return data on the device, or a `Stream` if they are mapped from a file and too large.

    What was moved before with the same list `kept`, data of the same shapes and dtypes, is
    overwritten: NumPy's recorded steps know arrays by identity. With `rows`, samples that have no
    weights get some, and others without a weight are added up to that number.
    """
    name = backend.dtype_name
    x = features(data.x, name, task.normalizer)
    y = Source(data.y, name, transform=_transform(task.target_normalizer), part="y")
    own = None if weights is None else Source(weights, name, part="weights")
    sources = (x, y) if own is None else (x, y, own)
    with located(data):
        if (is_mapped(data.x) or is_mapped(data.y)) and not fits(*sources):
            return Stream(x, y, backend, batch_size, own, data=data)
        move = backend.dataset()
        parts, count = [source.rows(0, len(source)) for source in sources], len(data.x)
        if rows:
            shares = np.arange(rows) < count
            parts = [*(with_rows(part, rows) for part in parts), shares.astype(name)]
        if kept is not None:
            kept += [] if kept else map(np.empty_like, parts)
            for buffer, part in zip(kept, parts, strict=True):
                buffer[...] = part
        return Whole(*map(move, kept or parts), count=count if rows else None)


def with_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Return rows with copies of the first one after them, so that there are `count` or more."""
    if not 0 < len(rows) < count:
        return rows
    return np.concatenate([rows, np.broadcast_to(rows[:1], (count - len(rows), *rows.shape[1:]))])


def features(x: np.ndarray, dtype: str, normalizer: Normalizer | None) -> Source:
    """Return features as the device will hold them; unsigned bytes are pixels."""
    return Source(x, dtype, pixels=True, transform=_transform(normalizer))


def _transform(normalizer: Normalizer | None) -> Callable[[np.ndarray], np.ndarray] | None:
    return None if normalizer is None else normalizer.apply
