"""The finished runs below a root, and those that cannot be read, each with the reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from memgrid.errors import UserError
from memgrid.results.folder import run_folders
from memgrid.taxonomy import RULES

# What the report reads: a result without one of these was written by another version.
NEEDED = (
    *("classes", "confidence", "confusion", "control", "eval_loss", "members", "members_min_f1", "panel", "paper_protocol.confusion"),
    *("paper_protocol.mean_eval_loss", "partition", "same_as", "samples", "settings.compat", "settings.taxonomy.classes"),
)
WARNED = 5  # results left out that are named one by one


def read_runs(root: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All finished runs below a root, sorted by folder, and the folders of those that cannot be read, each with the reason."""
    found, left_out = [], {}
    for folder in run_folders(root):
        path = folder / "metrics.json"
        if not path.exists():
            continue
        try:
            result = json.loads(path.read_bytes())
        except (ValueError, OSError):
            result = None
        if reason := unreadable(result):
            left_out[str(folder)] = reason
        else:
            found.append({"folder": str(folder), **result})
    return found, left_out


def unreadable(result: Any) -> str | None:
    """Why the report cannot read a result: it was written by another version of memgrid."""
    if not isinstance(result, dict):
        return "its metrics.json is damaged"
    for path in NEEDED:
        found = result
        for key in path.split("."):
            if not isinstance(found, dict) or key not in found:
                return f"another version of memgrid wrote it (its metrics.json has no {path}): run it again with force=true"
            found = found[key]
    rules = [
        rule for given in result["settings"]["taxonomy"]["classes"].values() for rule in ([given] if isinstance(given, str) else given)
    ]
    unknown = [rule for rule in rules if rule not in RULES]
    return f"another version of memgrid wrote it (its taxonomy has the rule {unknown[0]})" if unknown else None


def finished_runs(root: Path) -> list[dict[str, Any]]:
    """The metrics of every finished run below `<root>/runs`, sorted by folder; a warning names those that cannot be read.

    Raises:
        UserError: there is none.
    """
    found, left_out = read_runs(root)
    warn_left_out(left_out)
    return some_runs(found, left_out, root)


def some_runs(found: list[dict[str, Any]], left_out: dict[str, str], root: Path) -> list[dict[str, Any]]:
    """What was found; UserError where that is nothing."""
    if not found:
        others = f" that this version can read ({len(left_out)} that it cannot)" if left_out else ""
        raise UserError(f"root={root} holds no finished run{others}: start one with `python -m memgrid.run root={root}`")
    return found


def warn_left_out(left_out: dict[str, str]) -> None:
    """A line on stderr for each of the first runs that were left out, and one for the rest."""
    for folder, reason in list(left_out.items())[:WARNED]:
        print(f"memgrid: {folder} is left out: {reason}", file=sys.stderr)
    if len(left_out) > WARNED:
        print(f"memgrid: {len(left_out) - WARNED} more are left out for such reasons", file=sys.stderr)
