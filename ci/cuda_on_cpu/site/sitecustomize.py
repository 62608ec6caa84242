"""Python runs this at its start where `python ci/cuda_on_cpu COMMAND` put this folder on its path.

What is asked for with the variable CUDA_ON_CPU is done when CuPy is first imported.
"""

import os
import sys
from pathlib import Path


class _BeforeCuPy:
    """Sees imports before they happen; finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        if name == "cupy_backends":
            sys.meta_path.remove(self)
            own = str(Path(__file__).resolve().parents[1])
            sys.path.insert(0, own)
            try:
                import patch

                _BeforeCuPy.kept = patch.install(Path(os.environ["CUDA_ON_CPU"]))
            finally:
                sys.path.remove(own)
                for module in ("build", "patch"):
                    sys.modules.pop(module, None)


if os.environ.get("CUDA_ON_CPU"):
    sys.meta_path.insert(0, _BeforeCuPy())
