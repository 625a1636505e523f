"""What the page is given of each run whose sequences can be opened, within a budget of bytes, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from memgrid.config.names import called
from memgrid.errors import UserError
from memgrid.io.display import plural
from memgrid.lm.triangle import Triangle
from memgrid.report.facts import Report
from memgrid.report.read import tell_left_out
from memgrid.report.rows import NamedRun
from memgrid.report.viewer.chosen import Judged, chosen_runs
from memgrid.report.viewer.maps import class_differences, decision_maps, sequence_maps, store_of
from memgrid.report.viewer.packed import base64_of, base64_size, packed_probabilities
from memgrid.report.viewer.words import is_public, token_texts, tokenizer_of
from memgrid.store.shard import POOLS
from memgrid.store.store import Store

T = TypeVar("T")
MAPS, LISTS = 2_500_000, 600_000  # bytes of the page, for maps and for probabilities, of all runs together


@dataclass
class Opened:
    """A run of the page: its name, whether its text may be shown, what the script reads of it, and sentences on what is not there."""

    name: str
    with_text: bool
    data: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)

    def attempt(self, read: Callable[[], T]) -> T | None:
        """What is read, or None where it cannot be, which is said on the page and on stderr."""
        try:
            return read()
        except UserError as error:
            tell_left_out(error)
            self.text.append(f"{self.name}: {str(error).removesuffix('.')}.")
            return None


def opened_runs(report: Report) -> list[Opened]:
    """The chosen runs, each with an equal share of the budget."""
    chosen = chosen_runs(report)
    names = [f"{run.setting} · {called(run.settings['llm'])} · seed {run.settings['seed']}" for run, _ in chosen]
    names = [f"{name} · {run.variant}" if names.count(name) > 1 else name for name, (run, _) in zip(names, chosen, strict=True)]
    share = MAPS // max(len(chosen), 1), LISTS // max(len(chosen), 1)
    return [opened(name, run, said, report, *share) for name, (run, said) in zip(names, chosen, strict=True)]


def opened(name: str, run: NamedRun, said: Judged, report: Report, maps: int, lists: int) -> Opened:
    """One run.

    Args:
        maps, lists: how many bytes there are for maps and for probabilities.
    """
    found = Opened(name, report.text or is_public(run.settings))
    listed = said.rows(said.order()[: max(1, lists // base64_size(3 * said.probabilities[:, 0].size))])
    if len(listed.ids) < len(said.ids):
        found.text.append(f"{found.name}: of {plural(len(said.ids), 'eval sequence')} {len(listed.ids):,} are listed.")
    delta = found.attempt(partial(decision_maps, run))
    store = found.attempt(partial(store_of, run, report.root))
    difference = None if store is None else found.attempt(partial(class_differences, store, said, len(run.result.classes)))
    shapes = [(each.layers, each.length, each.k) for each in (difference, delta) if each is not None]
    found.data = {
        "name": found.name,
        "classes": run.result.classes,
        **dict(zip(("layers", "length", "k"), shapes[0] if shapes else (0, 0, 0), strict=True)),
        "delta": None if delta is None else delta.for_page,
        "difference": None if difference is None else difference.for_page,
        **answers(listed),
        "sequences": {},
    }
    if store is not None:
        room = maps - sum(len(each.plain["codes"]) for each in (delta, difference) if each is not None)
        found.data |= {"layers": store.identity.layers, "length": store.identity.length, "k": store.identity.k}
        found.data["sequences"] = found.attempt(partial(sequences, found, run, store, listed.ids, room)) or {}
    return found


def answers(said: Judged) -> dict[str, Any]:
    """What the page reads of predictions; `said` is the class that every source names, a byte each."""
    return {
        "ids": said.ids.tolist(),
        "labels": said.labels.tolist(),
        "sources": list(said.sources),
        "networks": said.networks,
        "probabilities": packed_probabilities(said.probabilities),
        "said": base64_of(said.said.astype(np.uint8)),
    }


def sequences(found: Opened, run: NamedRun, store: Store, ids: np.ndarray, room: int) -> dict[str, Any]:
    """The maps of the first sequences for which there is room, by id, and the text of their tokens where it may be shown."""
    identity = store.identity
    stored = ids[~np.isin(ids, store.missing(ids))]
    one = len(POOLS) * base64_size(identity.layers * len(Triangle(identity.length)))
    some = stored[: max(1, room // one)]
    if lost := len(ids) - len(stored):
        found.text.append(f"{found.name}: the store lacks the attention of {lost} of {plural(len(ids), 'listed sequence')}.")
    if len(some) < len(stored):
        found.text.append(f"{found.name}: the page has room for the attention of {len(some)} of {plural(len(stored), 'stored sequence')}.")
    tokenizer = found.attempt(partial(tokenizer_of, run.settings["llm"])) if found.with_text else None
    content = {}
    for sequence_id, maps in zip(some.tolist(), sequence_maps(store, some), strict=True):
        tokens = maps.pop("decoded")
        content[str(sequence_id)] = maps if tokenizer is None else {**maps, "tokens": token_texts(tokenizer, tokens)}
    return content
