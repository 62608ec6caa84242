"""CuPy without a GPU: ``python ci/cuda_on_cpu [COMMAND …]``.

Builds the stand-ins for CUDA's libraries if need be, and runs the command with them; without a
command, says where they are.
"""

import os
import sys
from pathlib import Path

from build import Refused, build, environment


def main(command: list[str]) -> None:
    """Build, and become the command."""
    try:
        target = build()
        env = environment(target)
    except Refused as error:
        sys.exit(f"cuda-on-cpu: {error}")
    if not command:
        print(target)
        return
    # commands of this Python's environment first
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    try:
        os.execvpe(command[0], command, env)
    except OSError as error:
        sys.exit(f"cuda-on-cpu: {command[0]}: {error.strerror}")


main(sys.argv[1:])
