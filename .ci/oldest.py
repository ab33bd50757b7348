"""Print a list of constraints for pip: the oldest versions that pyproject.toml allows.

python .ci/oldest.py > oldest.txt && pip install -c oldest.txt ".[test]"
"""

import re
import tomllib
from pathlib import Path


def main() -> None:
    """Print `name==version` for each dependency of the package and of its tests that has a lower bound."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        if found := re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)(?:;.*)?", requirement):
            print(f"{found[1]}=={found[2]}")


if __name__ == "__main__":
    main()
