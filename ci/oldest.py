"""Print the least versions that pyproject.toml allows of what it names, as constraints of pip."""

import re
import tomllib
from itertools import chain
from pathlib import Path


def constraints(project):
    """Return {name: version}, the largest of the least versions that are asked for."""
    least = {}
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if requirement.startswith(f"{project['name']}["):
            continue  # one extra takes in another
        name, version = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups()
        numbers = [int(number) for number in version.split(".")]
        least[name] = max(least.get(name, []), numbers)
    return {name: ".".join(map(str, numbers)) for name, numbers in least.items()}


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name, version in constraints(tomllib.loads(text)["project"]).items():
        print(f"{name}=={version}")
