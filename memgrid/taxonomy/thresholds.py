"""Thresholds: δ, ρ and the scores that ρ is applied to, and everything that is written of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

# Which ROUGE scores ρ is applied to → the features, and what people read.
ROUGES = {"both": ("rouge_l", "rouge_3"), "l": ("rouge_l",), "3": ("rouge_3",)}
ROUGE_NAMES = {"both": "ROUGE-L or ROUGE-3", "l": "ROUGE-L", "3": "ROUGE-3"}


@dataclass(frozen=True)
class Thresholds:
    """δ: more duplicates than this are many. ρ: a ROUGE of at least this is high. `rouge`: both, l or 3.

    All that is written of thresholds is spelled here; None where a taxonomy does not depend on one, and then nothing is written of it.
    """

    delta: int | None
    rho: float | None
    rouge: str | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Thresholds:
        """Those of a run, from its settings as plain containers."""
        return cls(settings["delta"], settings["rho"], settings["rouge"])

    @property
    def high_rouge(self) -> pl.Expr:
        """Whether a score that ρ applies to reaches it."""
        return pl.any_horizontal(*(pl.col(name) >= self.rho for name in ROUGES[self.rouge or "both"]))

    def text(self) -> str:
        """As a run's title says them, such as `δ=50 ρ=0.5 (both)`."""
        parts = [] if self.delta is None else [f"δ={self.delta}"]
        parts += [] if self.rho is None else [f"ρ={self.rho:g} ({self.rouge})"]
        return " ".join(parts)

    def phrase(self) -> str:
        """As a sentence says them, such as `δ=50, ρ=0.5, ROUGE-L`; that ρ is applied to both scores goes without saying."""
        parts = [] if self.delta is None else [f"δ={self.delta}"]
        parts += [] if self.rho is None else [f"ρ={self.rho:g}"]
        parts += [] if self.rouge in (None, "both") else [ROUGE_NAMES[self.rouge]]
        return ", ".join(parts)

    def folder(self) -> str:
        """As the name of a folder says them, such as `delta50-rho0.5-both`."""
        parts = [] if self.delta is None else [f"delta{self.delta}"]
        parts += [] if self.rho is None else [f"rho{self.rho:g}-{self.rouge}"]
        return "-".join(parts)

    def bracket(self) -> str:
        """δ as the title of a class says it, such as `[5]` or `[1k]`."""
        if self.delta is None:
            return ""
        return f"[{self.delta // 1000}k]" if self.delta and self.delta % 1000 == 0 else f"[{self.delta}]"
