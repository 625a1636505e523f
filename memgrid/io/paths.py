"""The package itself: its version, and where it, its configuration, its embedded corpus and its embedded models lie."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel conf/ lies inside the package, in a checkout beside it. Hydra needs an absolute path: it would turn a relative one into pkg://.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
CONFIG = "config.yaml"  # in the folder of a run or an audit: its settings
TOY = PACKAGE / "assets" / "toy"


def embedded_models() -> dict[str, list[str]]:
    """The embedded models by name, each with the training steps that lie beside its last one, in their order."""
    models = sorted(path.parent for path in TOY.parent.glob("*/model.safetensors"))
    return {model.name: [path.parent.name for path in sorted(model.glob("step*/model.safetensors"), key=step_of_path)] for model in models}


def step_of_path(path: Path) -> int:
    """The training step of a file in a folder such as step500."""
    return int(path.parent.name.removeprefix("step"))
