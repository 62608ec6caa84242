"""Data sets: pairs of inputs and targets, and where they come from."""

from xpnn.datasets.checks import as_dataset, as_inputs
from xpnn.datasets.dataset import Dataset, NamedDataset, Where
from xpnn.datasets.labels import as_labels, check_labels, distinct, encode
from xpnn.datasets.loading import load, load_training
from xpnn.datasets.readers.idx import PARTS, is_idx_folder, mnist, read_idx, read_idx_folder
from xpnn.datasets.splitting import split

__all__ = [
    "PARTS",
    "Dataset",
    "NamedDataset",
    "Where",
    "as_dataset",
    "as_inputs",
    "as_labels",
    "check_labels",
    "distinct",
    "encode",
    "is_idx_folder",
    "load",
    "load_training",
    "mnist",
    "read_idx",
    "read_idx_folder",
    "split",
]
