"""`python -m tests.assets [FOLDER]`: prepare the assets, link them into FOLDER, print where they are as JSON."""

import json
import sys
from pathlib import Path

from tests.assets import prepare


def main(arguments: list[str]) -> None:
    assets = prepare()
    for folder in arguments:
        assets.link(Path(folder))
    print(json.dumps({"base": str(assets.base), "adapter": str(assets.adapter)}))


if __name__ == "__main__":
    main(sys.argv[1:])
