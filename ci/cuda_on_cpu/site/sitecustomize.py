"""Python runs this at its start where `python ci/cuda_on_cpu COMMAND` put this folder on its path.

What is asked for with the variable CUDA_ON_CPU is done when CuPy is first imported. Another
sitecustomize, further on the path, is run as well.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def _load(name, path):
    """Return a module of ours, which nobody else's of the same name can stand for."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _BeforeCuPy:
    """Sees imports before they happen; finds nothing itself."""

    busy = False

    def find_spec(self, name, path=None, target=None):
        if name == "cupy_backends" and not self.busy:
            self.busy = True
            try:
                patch = _load("_cuda_on_cpu", HERE.parent / "patch.py")
                _BeforeCuPy.kept = patch.install(Path(os.environ["CUDA_ON_CPU"]))
            finally:
                self.busy = False
            # not before: where that failed, no second import may find a real card
            sys.meta_path.remove(self)


if os.environ.get("CUDA_ON_CPU"):
    sys.meta_path.insert(0, _BeforeCuPy())
_others = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
_next = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _next is not None and _next.origin:
    _load("_next_sitecustomize", _next.origin)
