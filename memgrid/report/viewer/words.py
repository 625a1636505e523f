"""The tokens of a sequence as text, for a page on which that may stand: no model and no torch is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from memgrid.errors import UserError
from memgrid.io.hub import Choice, cached_as
from memgrid.io.paths import TOY

FILE = "tokenizer.json"
SPACE = "\u2581"  # how some tokenizers write a space at the beginning of a token


def is_public(settings: Mapping[str, Any]) -> bool:
    """Whether a run's corpus is the embedded one, whose text everybody has."""
    return settings["corpus"].get("path", "unknown") is None and settings["corpus"].get("kind", "tables") == "tables"


def tokenizer_of(llm: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a model by its settings: an embedded one, a folder's, or one in the local hub cache.

    Raises:
        UserError: there is none.
    """
    path, revision = llm.get("path"), llm.get("revision")
    if llm.get("random") or path is None:
        folder: Path | None = TOY if llm.get("random") else TOY.parent / llm["name"] / (revision or "")
    else:
        folder = Path(path) if Path(path).is_dir() else cached_as(path, "model", revision, (Choice((FILE,), (FILE,)),))
    if folder is None or not (folder / FILE).is_file():
        raise UserError(f"the text of its tokens cannot be shown, since model {llm['name']} has no {FILE} in {folder or 'the hub cache'}")
    try:
        return Tokenizer.from_file(str(folder / FILE))
    except Exception as error:  # the library in Rust raises nothing more special
        raise UserError(f"the text of its tokens cannot be shown, since {folder / FILE} cannot be read ({error})") from None


def token_texts(tokenizer: Tokenizer, tokens: np.ndarray) -> list[str]:
    """Every token by itself as text.

    Args:
        tokens: int (length,).
    """
    texts = []
    for token in tokens.tolist():
        text = tokenizer.decode([token], skip_special_tokens=False)
        begins = (tokenizer.id_to_token(token) or "").startswith(SPACE) and not text.startswith(" ")
        texts.append(f" {text}" if begins else text)
    return texts
