"""memgrid: does a language model guess the training text it reproduces, or does it recall it?"""

import sys as _sys

__version__ = "0.1.0"

if _sys.argv[:1] == ["-m"]:  # Python is looking for the module of `python -m`: one that is no command would end at once, with 0
    from memgrid.config.commands import refuse_other_modules

    refuse_other_modules(_sys.orig_argv[-len(_sys.argv)])
