"""The parts of the page that name things: which samples are memorized most, and by which protocol the audit was made."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from memgrid.audit.attack.evaluation import Evidence
from memgrid.audit.attack.samples import sample_table
from memgrid.audit.context import Audit
from memgrid.audit.report import figures
from memgrid.audit.report.protocol import NAME, differences, protocol_sentence
from memgrid.audit.result import AuditResult
from memgrid.io.display import csv_text
from memgrid.io.files import write_text
from memgrid.report import page

SHOWN = 24  # samples that are drawn


def samples_section(audit: Audit, result: AuditResult, evidence: Evidence) -> page.Section:
    """The most memorized samples, as pictures where they are images; all of them are in samples.csv and samples.md, which this writes."""
    folder, eta = audit.attack_folder, audit.run.attack.eta[0]
    table = sample_table(audit.population, audit.data.identifiers, evidence, result.moment, eta)
    write_text(csv_text(table), folder.samples)
    page.write_markdown(table, folder.samples.with_suffix(".md"))
    columns = {"id": "id", "kind": "kind", "label": "label", "truth": "truth", "lambda": "Λ", "lambda_others": "Λ, others", "psmi": "PSMI"}
    named = table.with_columns(pl.col("kind").replace(figures.KIND_NAMES))
    rows = page.listing(
        named.head(SHOWN),
        columns,
        "The most memorized samples",
        f"Mean Λ over the models that have seen a sample, and over the others; PSMI is that of the {result.moment}. "
        f"All {table.height} are in the file.",
        folder.samples.stem,
    )
    parts: list[page.Part] = [rows]
    if audit.data.are_images and audit.data.images.shape[1] in (1, 3):
        path = folder.figures / "samples"
        first = table.head(SHOWN)
        figures.draw_samples(pictures(audit, first["id"].to_numpy()), captions(first), path)
        caption = f"The {first.height} with the highest Λ, with id, label (and the true one, where it is another), Λ and PSMI."
        parts.insert(0, page.picture(path.with_suffix(".png"), "Memorized samples", caption, caption, f"{folder.figures.name}/samples.pdf"))
    return page.Section("samples", "Which samples", [], parts)


def pictures(audit: Audit, identifiers: np.ndarray) -> np.ndarray:
    """Images as they are, (n, height, width) or (n, height, width, 3), pixels from 0 to 1."""
    places = np.searchsorted(audit.data.identifiers, identifiers)
    pixels = np.clip(audit.data.scale.undo(audit.population.images[places]), 0, 1)
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def captions(table: pl.DataFrame) -> list[str]:
    """Two lines for each sample."""
    lines = []
    for row in table.iter_rows(named=True):
        truth = f" ({row['truth']})" if row["truth"] != row["label"] else ""
        lines.append(f"{row['id']}: {row['label']}{truth}\nΛ {row['lambda']:.1f}, PSMI {row['psmi']:.2f}")
    return lines


def protocol_section(settings: dict[str, Any]) -> page.Section:
    """By which protocol the audit was made, and where it differs from the published one."""
    rows = [{"setting": key, "here": typed(own), "published": typed(published)} for key, own, published in differences(settings)]
    if not rows:
        return page.Section("protocol", "Protocol", [protocol_sentence(settings)], [])
    listing = page.listing(
        pl.DataFrame(rows),
        {"setting": "setting", "here": "here", "published": f"published ({NAME})"},
        "Where this audit differs from the published one",
        "Dentan et al., on CIFAR-10. What no setting reaches stands in docs/audit.md.",
        "",
    )
    return page.Section("protocol", "Protocol", [protocol_sentence(settings)], [listing])


def typed(value: Any) -> str:
    """A value as it is typed."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
