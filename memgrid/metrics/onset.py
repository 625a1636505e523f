"""What is memorized when: numbers from what a model memorizes at some steps of its training. Pure functions.

Known is only what was run: between two steps a sequence may have been memorized and forgotten without a trace. So a step is always meant as
an interval: after the step that was run before it, and at it at the latest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

AWAY = -1  # the class of a sequence that is not memorized
SHARES = (0.25, 0.5, 0.9)  # of a class's sequences: by which step so many have their onset


@dataclass(frozen=True, eq=False)
class History:
    """The class of every sequence at every step that was run.

    Attributes:
        steps: of the training, increasing. names: what their checkpoints are called.
        classes: int8 (steps, sequences); a place in `titles` where the sequence is memorized, else `AWAY`.
        titles: of the classes of memorized sequences.
    """

    steps: tuple[int, ...]
    names: tuple[str, ...]
    classes: np.ndarray
    titles: tuple[str, ...]

    @property
    def memorized(self) -> np.ndarray:
        """Bool (steps, sequences)."""
        return self.classes != AWAY  # type: ignore[no-any-return]


def onsets(memorized: Bool[np.ndarray, "steps sequences"]) -> Int[np.ndarray, " sequences"]:
    """The place of the first step from which on a sequence is memorized at every later one; the number of steps where there is none.

    A sequence that is memorized, forgotten and memorized again has its onset after it was forgotten.
    """
    to_the_end = np.logical_and.accumulate(memorized[::-1], axis=0)
    return len(memorized) - to_the_end.sum(0)


def first_seen(memorized: Bool[np.ndarray, "steps sequences"]) -> Int[np.ndarray, " sequences"]:
    """The place of the first step at which a sequence is memorized; the number of steps where there is none."""
    return np.where(memorized.any(0), memorized.argmax(0), len(memorized))


def last_class(classes: Int[np.ndarray, "steps sequences"]) -> Int[np.ndarray, " sequences"]:
    """The class of a sequence at the last step at which it is memorized, or `AWAY`: its class in every count over all steps."""
    back = (classes != AWAY)[::-1]
    return np.where(back.any(0), classes[::-1][back.argmax(0), np.arange(classes.shape[1])], AWAY)


def flows(history: History) -> list[Int[np.ndarray, "classes classes"]]:
    """How many sequences are in each class at a step and in each at the next, a matrix per pair of steps.

    The last row and column are those that are not memorized there; sequences that are memorized at no step count nowhere.
    """
    many = len(history.titles) + 1
    present = history.classes[:, history.memorized.any(0)].astype(int)
    present = np.where(present == AWAY, many - 1, present)
    return [np.bincount(before * many + after, minlength=many * many).reshape(many, many) for before, after in itertools.pairwise(present)]


def quantile_step(places: Int[np.ndarray, " sequences"], share: float) -> int | None:
    """The first place by which at least so large a share of the sequences have theirs; None for no sequence."""
    return None if not len(places) else int(np.sort(places)[int(np.ceil(share * len(places))) - 1])


def interval_text(steps: tuple[int, ...], place: int | None) -> str:
    """When something came about that was first seen at a step: `by 1000` at the first, else such as `1000–2000`."""
    if place is None:
        return "–"
    return f"by {steps[place]:,}" if place == 0 else f"{steps[place - 1]:,}–{steps[place]:,}"


def step_rows(history: History) -> pl.DataFrame:
    """A row per step and class, and one for all classes (`all`).

    Columns: step, checkpoint, class, memorized, share (percent of all sequences), new (not memorized at the step before; null at the
    first), forgotten (memorized at the step before, in this class, and not any more), forgotten_share (percent of those), onset (sequences
    whose onset is this step) and held (percent of those memorized at the last step whose onset came by now).
    """
    classes, memorized = history.classes, history.memorized
    onset, final, last = onsets(memorized), last_class(classes), memorized[-1]
    records = []
    for at, (step, name) in enumerate(zip(history.steps, history.names, strict=True)):
        for index, title in enumerate(("all", *history.titles), -1):
            now = memorized[at] if index == AWAY else classes[at] == index
            was = None if at == 0 else memorized[at - 1] if index == AWAY else classes[at - 1] == index
            lost = None if was is None else int((was & ~memorized[at]).sum())
            own = last if index == AWAY else last & (final == index)
            records.append(
                {
                    **{"step": step, "checkpoint": name, "class": title, "memorized": int(now.sum())},
                    "share": 100 * float(now.mean()) if len(now) else 0.0,
                    "new": None if at == 0 else int((now & ~memorized[at - 1]).sum()),
                    "forgotten": lost,
                    "forgotten_share": None if lost is None or was is None or not was.any() else 100 * lost / int(was.sum()),
                    "onset": int((own & (onset == at)).sum()),
                    "held": 100 * float((onset[own] <= at).mean()) if own.any() else None,
                }
            )
    return pl.DataFrame(records, infer_schema_length=None)


def class_rows(history: History) -> pl.DataFrame:
    """A row per class, and one for all classes: when its sequences are memorized, and how many are forgotten again.

    Columns: class, ever (sequences that are memorized at some step; their class is the one at the last such), last (at the last step),
    forgotten and forgotten_share (of `ever`, not memorized at the last step; percent), interrupted and interrupted_share (of `last`,
    memorized before, forgotten, and memorized again), and for each of `SHARES` the interval by which so many of `last` had their onset.
    """
    memorized, final = history.memorized, last_class(history.classes)
    onset, first = onsets(memorized), first_seen(memorized)
    records = []
    for index, title in enumerate(("all", *history.titles), -1):
        ever = final != AWAY if index == AWAY else final == index
        last = ever & memorized[-1]
        back = last & (first < onset)
        numbers = {"ever": int(ever.sum()), "last": int(last.sum()), "forgotten": int((ever & ~memorized[-1]).sum())}
        shares = {
            "forgotten_share": 100 * numbers["forgotten"] / numbers["ever"] if numbers["ever"] else None,
            "interrupted": int(back.sum()),
            "interrupted_share": 100 * int(back.sum()) / numbers["last"] if numbers["last"] else None,
        }
        when = {f"onset_{share:.0%}": interval_text(history.steps, quantile_step(onset[last], share)) for share in SHARES}
        records.append({"class": title, **numbers, **shares, **when})
    return pl.DataFrame(records, infer_schema_length=None)
