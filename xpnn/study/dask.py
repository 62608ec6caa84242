"""A Dask cluster as an executor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor

from xpnn.errors import ArgumentError

# how many workers may die during a job before it counts as failed
RETRIES = 3


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """Connect to a Dask cluster and yield its executor.

    Parameters
    ----------
    address
        The scheduler's address, such as "tcp://scheduler:8786".

    Raises
    ------
    ArgumentError
        If Dask isn't installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ArgumentError(
            "cluster needs Dask; install it with: pip install distributed"
        ) from None
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"cluster must be the address of a Dask scheduler, got {address!r}: {error}"
        ) from None
    with client:
        yield client.get_executor(retries=RETRIES)
