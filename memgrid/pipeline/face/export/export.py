"""`memgrid export`: finished runs as a data set, in a folder or on the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from memgrid.errors import UserError
from memgrid.pipeline.face.export.files import FORMATS, LIST, export_folder, write_export
from memgrid.pipeline.face.view import RunData

HUB = "hub:"  # before the name of a repository
LICENCE = "unknown"  # as the hub calls one that is not said


def export(
    runs: Sequence[RunData],
    root: Path,
    out: str | Path,
    format: str = FORMATS[0],
    text: bool = False,
    licence: str = LICENCE,
    public: bool = False,
) -> str:
    """Write an export, and say where it is: the folder, or its address on the hub.

    Args:
        out: a folder, or `hub:owner/name`. format: parquet or csv. text: with the tokens and the text of the samples.
        licence: of the data, as the hub calls it, such as cc-by-4.0. public: on the hub, for everybody to see.

    Raises:
        UserError: a value is of no use, a run lacks a file or has a damaged one, or the disk or the hub does not take it.
    """
    if format not in FORMATS:
        raise UserError(f"format={format} cannot be written: use {' or '.join(FORMATS)}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise UserError(f"license={licence} is no licence of the hub: write it as the hub does, such as license=cc-by-4.0 or license=mit")
    if not str(out).startswith(HUB):
        if public:
            raise UserError(f"public=true says who sees a data set on the hub, and out={out} is a folder: leave it out")
        export_folder(runs, root, Path(out), format, text, licence)
        return str(out)
    from memgrid.io.hub import push, refuse_push  # the hub's library, which a folder does without

    repository = str(out).removeprefix(HUB)
    refuse_push(f"out={out}", repository, public, LIST)
    with tempfile.TemporaryDirectory(prefix="memgrid-export-") as folder:
        write_export(runs, Path(folder), format, text, licence)
        return push(f"out={out}", repository, public, Path(folder))
