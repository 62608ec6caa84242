"""What is known of the elements of an array without looking at them."""

from __future__ import annotations

from typing import NamedTuple


class Pixels(NamedTuple):
    """What is known of the images of a data set, whose values are levels of 0 to 255."""

    most: int  # the largest sum of the levels of one image
    highest: int  # the highest level


class Facts(NamedTuple):
    """What is known of all elements of an array. An immutable value.

    Attributes
    ----------
    low
        Every finite element is a multiple of ``2**low``.
    high
        No absolute value is larger than ``2**high``; None if there is no known bound.
    pixels
        If the rows are images of a data set, what is known of these.
    """

    low: int
    high: int | None = None
    pixels: Pixels | None = None

    def bounds(self) -> Facts:
        """Return `low` and `high` only, which stay true if elements change their order or sign."""
        return Facts(self.low, self.high)


# what is known of integers and truth values
WHOLE = Facts(0)
