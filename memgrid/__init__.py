"""memgrid: does a language model guess the training text it reproduces, or does it recall it?

What a notebook needs: `memgrid.runs(root)` are all finished runs, `memgrid.open_run(folder)` is one. See docs/python-api.md.
"""

from __future__ import annotations

import sys as _sys
from importlib import import_module
from typing import TYPE_CHECKING

from memgrid.io import paths as _paths

__version__ = _paths.VERSION
__all__ = ["Drawing", "Run", "Runs", "Store", "Taxonomy", "Thresholds", "UserError", "open_run", "runs"]

if TYPE_CHECKING:
    from memgrid.errors import UserError
    from memgrid.pipeline.face.run import Run, open_run
    from memgrid.pipeline.face.runs import Runs, runs
    from memgrid.report.figures.drawing import Drawing
    from memgrid.store.store import Store
    from memgrid.taxonomy.taxonomy import Taxonomy
    from memgrid.taxonomy.thresholds import Thresholds
else:
    # Imported when first used: a command line that only refuses something must not wait for what a notebook needs.
    _MODULES = {
        **dict.fromkeys(("Run", "open_run"), "memgrid.pipeline.face.run"),
        **dict.fromkeys(("Runs", "runs"), "memgrid.pipeline.face.runs"),
        "Taxonomy": "memgrid.taxonomy.taxonomy",
        "Thresholds": "memgrid.taxonomy.thresholds",
        "Drawing": "memgrid.report.figures.drawing",
        "Store": "memgrid.store.store",
        "UserError": "memgrid.errors",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'memgrid' has no attribute {name!r}: use {', '.join(__all__)}")
        globals()[name] = value = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


if _sys.argv[:1] == ["-m"]:  # Python is looking for the module of `python -m`: one that is no command would end at once, with 0
    from memgrid.io.commands import refuse_other_modules

    refuse_other_modules(_sys.orig_argv[-len(_sys.argv)])
