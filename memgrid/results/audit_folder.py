"""An audit on disk: every file of it, once. What the files hold is for `memgrid.audit`; here is where they lie and which are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memgrid.io.files import DAMAGED
from memgrid.results.work import WorkFolder


@dataclass(frozen=True)
class ShadowFolder(WorkFolder):
    """Where one shadow model is trained, `<audit>/shadows/shadow-0007`; the file that it leaves lies beside this folder."""

    @property
    def arrays(self) -> Path:
        """What the trained model leaves: `shadow-0007.h5`, written last."""
        return self.path.with_suffix(".h5")

    @property
    def checkpoint(self) -> Path:
        """The model after its last checkpointed epoch; gone when it is trained."""
        return self.path / "last.ckpt"

    @property
    def weights(self) -> Path:
        """The model itself at three moments, where it is kept: `weights-0007.h5`, written before the other file."""
        return self.path.with_name(self.path.name.replace("shadow", "weights")).with_suffix(".h5")

    def is_trained(self, keep: str = "answers") -> bool:
        """Whether the model has left its file, and itself where weights are kept."""
        return self.arrays.exists() and (keep != "weights" or self.weights.exists())

    def clear(self) -> None:
        """Remove the model, and what a training could go on from."""
        self.arrays.unlink(missing_ok=True)
        self.weights.unlink(missing_ok=True)
        self.clear_checkpoints()

    def clear_checkpoints(self) -> None:
        """Remove what a training could go on from."""
        for path in self.path.glob(f"{self.checkpoint.stem}.*"):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class AttackFolder(WorkFolder):
    """One attack on the shadow models of an audit, `<audit>/attack-hinge-<hash>`."""

    @property
    def metrics(self) -> Path:
        """The result, written last: its presence says that the attack is finished."""
        return self.path / "metrics.json"

    @property
    def arrays(self) -> Path:
        """The attack's scores and Λ of every sample under every model."""
        return self.path / "attack.h5"

    @property
    def report(self) -> Path:
        """The folder of the page, with its tables beside it."""
        return self.path / "report"

    @property
    def page(self) -> Path:
        """The page."""
        return self.report / "index.html"

    @property
    def figures(self) -> Path:
        """The page's figures, each as PNG and PDF."""
        return self.report / "figures"

    @property
    def samples(self) -> Path:
        """Every audited sample with its number, its Λ and its predictors."""
        return self.report / "samples.csv"

    def table(self, name: str, suffix: str) -> Path:
        """A table of the page as a file, such as `report/predictions.csv`."""
        return self.report / f"{name}.{suffix}"

    def is_finished(self) -> bool:
        """Whether the attack has its result."""
        return self.metrics.exists()

    def page_is_current(self) -> bool:
        """Whether the page has been drawn since the attack was made."""
        return self.page.exists() and self.is_finished() and self.page.stat().st_mtime_ns >= self.metrics.stat().st_mtime_ns


@dataclass(frozen=True)
class AuditFolder(WorkFolder):
    """The folder of one audit, `<root>/audits/<dataset>/<model>/<name>`."""

    @property
    def population(self) -> Path:
        """Labels, kinds and members of all samples, for readers."""
        return self.path / "population.h5"

    @property
    def shadows(self) -> Path:
        """The folder of the shadow models' files, and of the pieces that starts for some of them work on."""
        return self.path / "shadows"

    def shadow(self, number: int) -> ShadowFolder:
        """One shadow model."""
        return ShadowFolder(self.shadows / f"shadow-{number:04}")

    def part(self, part: int, parts: int) -> WorkFolder:
        """Where a start for a share of the models notes how it went."""
        return WorkFolder(self.shadows / f"part{part}of{parts}")

    def attack(self, name: str) -> AttackFolder:
        """One attack on the models; `name` is `hinge-<hash>`."""
        return AttackFolder(self.path / f"attack-{name}")

    def trained(self) -> int:
        """How many shadow models have left their file."""
        return len(list(self.shadows.glob("shadow-*.h5")))

    def begun(self) -> bool:
        """Whether a shadow model is trained, or half trained."""
        return self.trained() > 0 or any(self.shadows.glob(f"*/{self.shadow(0).checkpoint.stem}*{self.shadow(0).checkpoint.suffix}"))

    def pieces(self) -> list[WorkFolder]:
        """The folders of all starts for some of the models, one model or a share of them, sorted."""
        return [WorkFolder(path) for path in sorted(self.shadows.glob("*")) if path.is_dir() and path.name != DAMAGED]

    def attacks(self) -> list[AttackFolder]:
        """All attacks that were begun, sorted."""
        return [AttackFolder(path) for path in sorted(self.path.glob("attack-*"))]

    def piece_failures(self) -> list[str]:
        """How starts for some of the models failed, each with the name of its piece in front."""
        return [f"{piece.path.name}: {failure}" for piece in self.pieces() if (failure := piece.failure())]
