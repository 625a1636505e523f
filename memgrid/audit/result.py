"""The result of an attack as a type, its place in `metrics.json`, and its rows in tables.

A result that an older version wrote is read as long as it has what a result of that version had: what came later has a default. Anything
else is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from memgrid.results.boundary import decode, encode, parse

if TYPE_CHECKING:
    import polars as pl

TPR = "tpr_at_"  # in front of a false-positive rate: the key of a true-positive rate in files
Rates = dict[str, float | None]  # true-positive rate by false-positive rate, which is written as in `tpr_at_0.001`: "0.001"


@dataclass(frozen=True)
class Prediction:
    """How well one predictor at one moment answers one question; shares from 0 to 1, None where no model could be asked.

    Attributes:
        question: in words. eta: what counts as memorized; None where the question is whether a sample is an OOD canary.
        moment: start, trigger or end. predictor: a key of `memgrid.audit.shadow.predictors.PREDICTORS`.
        auc, auc_std: area under the ROC curve, mean and deviation over models. tpr: mean over models.
        models: how many could be asked. positives: mean number of samples per model that are memorized, or OOD canaries.
        auc_pooled: area under one curve of all models together. positives_in_all: how many there are in all models; -1: not counted.
        auc_low, auc_high: 95 % interval, over other models and other samples, of the area that is told: the mean, or the pooled one.
        p_beaten: p of that area being as high as the highest of its question and moment, corrected for all pairs; None for the highest.
    """

    question: str
    eta: float | None
    moment: str
    predictor: str
    auc: float | None
    auc_std: float | None
    tpr: Rates
    models: int
    positives: float
    auc_pooled: float | None = None
    positives_in_all: int = -1
    auc_low: float | None = None
    auc_high: float | None = None
    p_beaten: float | None = None


@dataclass(frozen=True)
class OperatingPoint:
    """What PSMI < 0 finds of the samples that a question asks for, and of the others; None where no model could be asked."""

    question: str
    tpr: float | None
    fpr: float | None
    models: int


@dataclass(frozen=True)
class AttackScores:
    """How well the attack tells members from others, over all models and the audited samples of a kind.

    Attributes:
        samples: the kind, or `all audited`. number: how many there are. auc, tpr: of Λ as a test of membership.
        median_ratio: median Λ of members. memorized_at_4, others_at_4: share of members, and of others, with Λ ≥ 4.
        published_memorized_at_4, published_others_at_4: the same of the likelihood ratio, whether Λ is calibrated or not.
        accuracy: where whatever lies above the median is called a member.
        global_auc, global_accuracy: of one threshold on the scores of all samples alike.
        auc_low and so on: 95 % intervals of auc, memorized_at_4 and others_at_4, over other models and other samples.
    """

    samples: str
    number: int
    auc: float
    tpr: Rates
    median_ratio: float
    memorized_at_4: float
    others_at_4: float
    accuracy: float | None = None
    published_memorized_at_4: float | None = None
    published_others_at_4: float | None = None
    global_auc: float | None = None
    global_accuracy: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    memorized_low: float | None = None
    memorized_high: float | None = None
    others_low: float | None = None
    others_high: float | None = None


@dataclass(frozen=True)
class DataOrigin:
    """The data set that was audited: its name, what tells its contents apart, and how many samples models can be trained on."""

    name: str
    fingerprint: str
    samples: int


@dataclass(frozen=True)
class AuditResult:
    """What a finished attack found: the content of `metrics.json`.

    Attributes:
        settings: those that decided the result, as `memgrid.audit.config.settings` gives them.
        models: tells the shadow models that were attacked from others.
        audited: how many samples are in some of the models only.
        accuracy, train_accuracy: mean over models, on held-out samples and on members.
        triggers: for each model after how many steps the trigger fired, 0 if it did not. steps: of a whole training.
        attack: over all audited samples, then for each kind.
        null_auc: the attack's area where nothing is memorized, which leaving one model out puts below a half; None before it was told.
        memgrid: the version that wrote it; empty before versions were noted.
    """

    settings: dict[str, Any]
    models: str
    data: DataOrigin
    audited: int
    accuracy: float
    train_accuracy: float
    triggers: list[int]
    steps: int
    predictions: list[Prediction]
    below_zero: list[OperatingPoint]
    attack: list[AttackScores]
    null_auc: float | None = None
    memgrid: str = ""

    @property
    def moment(self) -> str:
        """When predictors are compared: at the trigger, or at the end if it fired in no model."""
        return comparison_moment(self.triggers)

    @property
    def area(self) -> str:
        """The attribute of a prediction that is told: its mean area over models, or that of all models as one, as `attack.average` says."""
        return "auc_pooled" if self.settings["attack"].get("average") == "pooled" else "auc"

    def operating_point(self, question: str) -> OperatingPoint:
        """What PSMI < 0 finds of what a question asks for."""
        (point,) = (point for point in self.below_zero if point.question == question)
        return point


def comparison_moment(triggers: Sequence[int]) -> str:
    """When predictors are compared: at the trigger, or at the end if it fired in no model."""
    return "trigger" if any(triggers) else "end"


def flat(row: Prediction | OperatingPoint | AttackScores) -> dict[str, Any]:
    """A row as files have it: true-positive rates are keys of their own, `tpr_at_0.001`."""
    content: dict[str, Any] = {}
    for key, value in asdict(row).items():
        content |= {f"{TPR}{rate}": share for rate, share in value.items()} if isinstance(value, dict) else {key: value}
    return content


def nested(row: Any) -> Any:
    """The other way round, as far as `row` is one."""
    if not isinstance(row, dict):
        return row
    rates = {key.removeprefix(TPR): share for key, share in row.items() if key.startswith(TPR)}
    return {**{key: value for key, value in row.items() if not key.startswith(TPR)}, "tpr": rates}


def table(rows: Sequence[Prediction | OperatingPoint | AttackScores]) -> pl.DataFrame:
    """Rows as a table, with the columns that files have."""
    import polars as pl  # a refusal can do without it

    return pl.DataFrame([flat(row) for row in rows], infer_schema_length=None)


def to_json(result: AuditResult) -> dict[str, Any]:
    """The content of `metrics.json`."""
    return {**encode(result), **{name: [flat(row) for row in getattr(result, name)] for name in ("predictions", "below_zero", "attack")}}


def from_json(content: bytes | str) -> AuditResult:
    """The result that a `metrics.json` holds.

    Raises:
        UserError: it is damaged, or another version wrote what this one cannot read. The sentence has no subject: it follows on the name of
            the file or the folder.
    """
    name, again = "metrics.json", "add attack to stages"
    plain = parse(content, name, again)
    for key in ("predictions", "attack"):
        if isinstance(plain.get(key), list):
            plain[key] = [nested(row) for row in plain[key]]
    return decode(AuditResult, plain, name, again)
