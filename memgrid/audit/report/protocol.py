"""By which protocol an audit was made: the published one, or where it differs.

The published run is that of Dentan et al. on CIFAR-10, which stands on the code of Aerni, Zhang and Tramèr (CCS 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memgrid.config.overrides import flat

NAME = "cifar10_paper"  # of the experiment
# The published values of all settings that decide a result; the canaries are either of two kinds.
PUBLISHED: dict[str, Any] = {
    **{"dataset.kind": "cifar10", "dataset.samples": None, "dataset.augment": "none", "dataset.views": "flip_shift"},
    **{"dataset.mean": [0.4914, 0.4822, 0.4465], "dataset.deviation": [0.2023, 0.1994, 0.2010], "dataset.fill": "black"},
    **{"canary.name": ("clean", "ood"), "canary.count": 500, "canary.copies": 1, "membership.name": "canaries", "shadows": 64},
    **{"model.kind": "wrn16_4_paper", "model.width": 4, "model.epochs": 300, "model.batch_size": 64, "model.optimizer": "sgd"},
    **{"model.learning_rate": 0.1, "model.momentum": 0.9, "model.weight_decay": 1e-4, "model.drops": [150, 225]},
    **{"trainer.precision": "32-true", "predictors.window": 500, "predictors.share": 0.05, "predictors.directions": "auto"},
    **{"predictors.floor": 0.0, "attack.name": "hinge", "attack.views": 18, "attack.density": "normal", "attack.variance": "own"},
    **{"attack.ddof": 1, "attack.least_deviation": 1e-30, "attack.calibrated": False, "attack.average": "pooled"},
    **{"defence.slope": 0.0},
}


def differences(settings: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Where settings, as `memgrid.audit.config.settings` gives them, are not the published ones: key, value, published value."""
    own = flat(settings)
    found = []
    for key, published in PUBLISHED.items():
        allowed = published if isinstance(published, tuple) else (published,)
        if own.get(key) not in allowed:
            found.append((key, own.get(key), " or ".join(allowed) if isinstance(published, tuple) else published))
    return found


def protocol_sentence(settings: Mapping[str, Any]) -> str:
    """By which protocol an audit was made, in words."""
    found = differences(settings)
    if not found:
        return f"Protocol: the published one (experiment={NAME})."
    return (
        f"Protocol: memgrid's own, which differs from the published one (experiment={NAME}) in {len(found)} of {len(PUBLISHED)} settings."
    )
