"""How a causal attention map is packed: its lower triangle, row by row. No torch here: the indices serve numpy and torch alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Shaped


@dataclass(frozen=True)
class Triangle:
    """The positions (query, key) with key <= query of a map of `length` tokens, in the order of `np.tril_indices`.

    The store promises this order: position (query, key) is number query * (query + 1) / 2 + key.
    """

    length: int

    def __len__(self) -> int:
        """How many positions there are: 2080 for 64 tokens."""
        return self.length * (self.length + 1) // 2

    @cached_property
    def queries(self) -> Int[np.ndarray, " positions"]:
        """The query of every position, int64."""
        return np.repeat(np.arange(self.length), np.arange(1, self.length + 1))

    @cached_property
    def keys(self) -> Int[np.ndarray, " positions"]:
        """The key of every position, int64."""
        return np.arange(len(self)) - self.number(self.queries, 0)

    @cached_property
    def flat(self) -> Int[np.ndarray, " positions"]:
        """Where every position lies in a flattened square, int64."""
        return self.queries * self.length + self.keys

    @cached_property
    def mask(self) -> Bool[np.ndarray, "length length"]:
        """Which places of the square are positions."""
        return np.tri(self.length, dtype=bool)

    @cached_property
    def source(self) -> Int[np.ndarray, " places"]:
        """For every place of a flattened square its position's number, and len(self) above the diagonal, int64 (length * length,)."""
        source = np.full(self.length**2, len(self))
        source[self.flat] = np.arange(len(self))
        return source

    def number(self, query: np.ndarray, key: np.ndarray | int) -> np.ndarray:
        """The numbers of positions, int64 of any shape, from their queries and keys."""
        return query * (query + 1) // 2 + key

    def pack(self, square: Shaped[np.ndarray, "... length length"]) -> Shaped[np.ndarray, "... positions"]:
        """The lower triangles of squares."""
        return square[..., self.queries, self.keys]

    def unpack(self, packed: Shaped[np.ndarray, "... positions"], above: float = 0) -> Shaped[np.ndarray, "... length length"]:
        """Squares of packed triangles, with `above` above the diagonal."""
        square = np.full((*packed.shape[:-1], self.length, self.length), above, packed.dtype)
        square[..., self.queries, self.keys] = packed
        return square


def without_first(maps: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Packed maps of `length` + 1 tokens without the first one's row and column."""
    query, key = np.tril_indices(length)
    kept = (query + 1) * (query + 2) // 2 + key + 1
    return {name: pool[:, kept] for name, pool in maps.items()}
