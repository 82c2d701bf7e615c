"""`make bench`: one JSON object per line. `make bench` measures all; `python -m tests.bench plane web` some."""

from __future__ import annotations

import importlib
import json
import sys

MODULES = ("plane", "booking", "web", "join")


def main(names: list[str]) -> None:
    for name in names or MODULES:
        for figure in importlib.import_module(f"tests.bench.bench_{name}").run():
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
