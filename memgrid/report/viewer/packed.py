"""Numbers in few bytes, for looking: maps on a square-root scale of 256 steps, with the largest value of every map beside it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

STEPS, SIGNED_STEPS = 255, 127
ERROR, SIGNED_ERROR = 1 / 254, 1 / 126  # a value is off by this share of its map's largest, at most; small values by far less
PROBABILITY = 10_000  # steps of a probability


@dataclass(frozen=True, eq=False)
class Packed:
    """Maps, a byte a position.

    Attributes:
        codes: uint8 (..., positions). scales: float64 (...), the largest absolute value of each map. signed: whether 128 stands for 0.
    """

    codes: np.ndarray
    scales: np.ndarray
    signed: bool = False

    def values(self) -> np.ndarray:
        """The numbers again, float64 (..., positions), as the page reads them."""
        roots = (self.codes - 128.0) / SIGNED_STEPS if self.signed else self.codes / STEPS
        return self.scales[..., None] * roots * np.abs(roots)

    def plain(self) -> dict[str, Any]:
        """The same for the page: the codes base64, map after map, and a list of scales."""
        return {"codes": base64_of(self.codes), "scales": self.scales.reshape(-1).tolist()}


def pack(maps: np.ndarray, signed: bool = False) -> Packed:
    """Pack maps.

    A square root gives small values the finer steps: most attention is far below its largest value.

    Args:
        maps: float (..., positions), not negative unless `signed`.
    """
    values = maps.astype(np.float64)
    scales = np.vectorize(lambda value: float(f"{value:.5g}"))(np.abs(values).max(-1))
    shares = np.minimum(np.abs(values) / np.where(scales, scales, 1)[..., None], 1)
    roots = np.sign(values) * np.sqrt(shares)
    codes = np.rint(128 + SIGNED_STEPS * roots) if signed else np.rint(STEPS * roots)
    return Packed(codes.astype(np.uint8), scales, signed)


def packed_probabilities(probabilities: np.ndarray) -> str:
    """Probabilities of any shape in ten-thousandths, uint16 in little-endian order, base64."""
    return base64_of(np.rint(PROBABILITY * probabilities).astype("<u2"))


def base64_of(numbers: np.ndarray) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()


def base64_size(number: int) -> int:
    """How many characters so many bytes are."""
    return 4 * -(-number // 3)
