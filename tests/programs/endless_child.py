"""The child of a rank that shows its pid and its rank's in a folder, and then never comes to the end of a piece."""

import os
import threading
from pathlib import Path
from typing import Any

from workers.preparation import child


class Endless(child.Answers):
    def analyse(self, *_: Any, **__: Any) -> dict[str, Any]:
        (Path(os.environ["SHOWN_IN"]) / f"{os.getpid()}-{os.getppid()}").touch()
        threading.Event().wait()
        return {}


def main() -> None:
    child.main(Endless)
