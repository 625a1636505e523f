"""What the words of an audit mean: told where each stands first on a page, and all together at its end."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from memgrid.audit.config import AuditConfig
from memgrid.report import page

BELONGS = re.compile(r" (?:[≥<] )?\d+(?:\.\d+)?(?: \([^)]*\))?")


def meanings(run: AuditConfig) -> dict[str, str]:
    """Word, as it stands in sentences → what it means, in a clause."""
    return {
        "Λ": "how strongly a model has memorized a sample: the logarithm of how much likelier its final score is if the model has seen it, "
        "by the scores of the other models",
        "η": "the Λ from which on a sample counts as memorized",
        "shadow models": "classifiers that are trained alike, each on a half of the watched samples and on all others",
        "members": "samples in the training data of the model in question",
        "canaries": "samples that are watched",
        "OOD canary": "a canary that is an image of another domain, with a label of this one",
        "AUC": "the area under the ROC curve, from 0 to 1: 1 is perfect, 0.5 a guess",
        "false positives": "others that are taken for what is looked for",
        "PSMI": "pointwise sliced mutual information between a sample's last hidden layer and its label, negative where they do not fit",
        "logit gap": "the logit of the label less the highest of the other labels",
        "Mahalanobis distance": "of the last hidden layer from the mean of the label's class, in units of its spread",
        "pixels: class mean": "no network: how far the image lies from the mean of its class",
        "pixels: neighbours": "no network: the distance to the nearest image of its class over that to the nearest of another",
        "trigger": f"the moment early in training when predictors are computed: the median training loss has fallen to "
        f"{100 * run.predictors.share:g} % of its first value",
        "TPR": "true-positive rate, the share that is found of what is looked for",
        "FPR": "false-positive rate, the share of the others that is taken for it",
    }


def define(sections: Sequence[page.Section], words: dict[str, str]) -> None:
    """Tell each word where it stands first in the sections' sentences and captions; changes these."""
    left = dict(words)
    for section in sections:
        section.found[:] = [told(text, left) for text in section.found]  # a page begins with them
    for section in sections:
        section.text[:] = [told(text, left) for text in section.text]
        for part in section.parts:
            if isinstance(part, page.Listing | page.Picture):
                part.caption = told(part.caption, left)


def told(text: str, left: dict[str, str]) -> str:
    """The sentence with the meaning of each word that is left, in brackets behind it; takes these words away."""
    for word in list(left):
        if found := re.search(rf"(?<![\w^]){re.escape(word)}(?!\w)", text):
            # Behind what belongs to it, such as `Λ ≥ 4` or `AUC 0.91 (0.89 to 0.93)`.
            behind = (BELONGS.match(text[found.end() :]) or [""])[0]
            end, name = found.end() + len(behind), f"{word}: " if behind else ""
            text = f"{text[:end]} [{name}{left.pop(word)}]{text[end:]}"
    return text


def words_section(words: dict[str, str]) -> page.Section:
    """All of them."""
    rows = pl.DataFrame({"word": list(words), "meaning": list(words.values())})
    listing = page.listing(rows, {"word": "word", "meaning": "meaning"}, "Words", "As they are used on this page.", "")
    return page.Section("words", "Words", [], [listing])
