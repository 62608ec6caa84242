"""Data sets: pairs of inputs and targets, and where they come from."""

from xpnn.datasets.dataset import Dataset, NamedDataset
from xpnn.datasets.loading import load, load_training
from xpnn.datasets.readers.idx import mnist, read_idx, read_idx_folder
from xpnn.datasets.splitting import held_out, split
from xpnn.datasets.table import from_table

__all__ = [
    "Dataset",
    "NamedDataset",
    "from_table",
    "held_out",
    "load",
    "load_training",
    "mnist",
    "read_idx",
    "read_idx_folder",
    "split",
]
