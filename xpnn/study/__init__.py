"""Studies: grids of jobs, done in parallel or on a cluster, and a report of the results.

>>> import xpnn.study
>>> outcome = xpnn.study.run("article", out="runs", jobs=2)  # doctest: +SKIP
>>> xpnn.study.write_report("runs")  # doctest: +SKIP
"""

from xpnn.study.comparison import Comparison, compare
from xpnn.study.dask import cluster
from xpnn.study.grid import Experiment, Study, load_study
from xpnn.study.job import Job, execute
from xpnn.study.report import REPORT, write_report
from xpnn.study.results import Result, read_folder, read_result, read_study
from xpnn.study.runner import Failure, Outcome, run

__all__ = [
    "REPORT",
    "Comparison",
    "Experiment",
    "Failure",
    "Job",
    "Outcome",
    "Result",
    "Study",
    "cluster",
    "compare",
    "execute",
    "load_study",
    "read_folder",
    "read_result",
    "read_study",
    "run",
    "write_report",
]
