"""What every audited network is: a body, whose answers predictors and the defence look at, and a head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Module):
    """A body that gives the last hidden layer h, float (batch, width), and a head that makes logits of it."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.body(images))  # type: ignore[no-any-return]
