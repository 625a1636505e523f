"""What must be known of a ranking's rows before their scores are compared: doubts about networks, and where null taxonomies land."""

from __future__ import annotations

import polars as pl

from memgrid.io.display import plural

NAMED = 5  # of the rows that a sentence is about
DOUBTS = {
    "constant": "with a network that gives the same answer to every sample, so that their score says nothing of the classes",
    "undertrained": "with a network that learned less of its training samples than a linear probe tells of others (use more cnn.epochs)",
}


def doubt_text(table: pl.DataFrame) -> list[str]:
    """Which rows of a ranking have scores that say less than they seem to; nothing where none has."""
    text = []
    for word, why in DOUBTS.items():
        rows = table.filter(pl.col("doubt").str.contains(word))
        if rows.height:
            names = "; ".join(rows["label"].head(NAMED)) + (f" and {rows.height - NAMED} more" if rows.height > NAMED else "")
            text.append(f"{plural(rows.height, 'setting')} {'is' if rows.height == 1 else 'are'} {word}, {why}: {names}.")
    return text


def null_text(table: pl.DataFrame) -> list[str]:
    """Where the null taxonomies land; nothing where none was run."""
    table = table.with_row_index("place", offset=1)
    rows = table.filter(family="null")
    if not rows.height:
        return []
    landed = "; ".join(f"{row['label']}: {row['min_f1']:.1f}, place {row['place']}" for row in rows.iter_rows(named=True))
    return [
        "Null taxonomies split what is memorized for no reason, by a coin or at the median of its duplicates, and land here of "
        f"{plural(table.height, 'setting')}: {landed}. What stands below a coin tells nothing of how text is memorized."
    ]
