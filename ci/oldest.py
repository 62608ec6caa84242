"""Print the least versions that pyproject.toml allows of what users install, as constraints of pip.

The extras testing, test, docs and dev are for those who work on xpnn; PyTorch and CuPy have
versions of their own in ci/test.sh.
"""

import re
import tomllib
from pathlib import Path

OTHERS = ("testing", "test", "docs", "dev", "torch", "cuda12", "cuda13")


def constraints(project):
    """Return {name: version}, the largest of the least versions that are asked for."""
    extras = project["optional-dependencies"].items()
    needed = [
        *project["dependencies"],
        *(n for name, ns in extras if name not in OTHERS for n in ns),
    ]
    least = {}
    for requirement in needed:
        name, version = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups()
        numbers = [int(number) for number in version.split(".")]
        least[name] = max(least.get(name, []), numbers)
    return {name: ".".join(map(str, numbers)) for name, numbers in least.items()}


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name, version in constraints(tomllib.loads(text)["project"]).items():
        print(f"{name}=={version}")
