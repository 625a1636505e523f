"""Whether a text is source code: three detectors, chosen by `label.code`.

| detector   | says code where                                                                        |
|------------|----------------------------------------------------------------------------------------|
| magika     | the content type that the wheel's model gives is of the group `code`                   |
| fasttext   | a fastText classifier (`label.code_model`) says Code, or as `usepackage`: the paper's    |
| usepackage | LaTeX loads a package in it                                                            |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from memgrid.config.schema import LabelConfig
from memgrid.errors import UserError
from memgrid.io.display import progress_bar
from memgrid.io.hub import absent, cached, download

Detector = Callable[[Sequence[str]], list[bool]]
LATEX = "\\usepackage{"
PAPERS_MODEL = "kenhktsui/code-natural-language-fasttext-classifier"
MODEL_FILE = "model.bin"


def detector(config: LabelConfig) -> Detector:
    """The chosen detector: texts → whether each is code."""
    return {"magika": magika, "fasttext": lambda: fasttext(config), "usepackage": lambda: usepackage}[config.code]()


def usepackage(texts: Sequence[str]) -> list[bool]:
    """Whether each text holds `\\usepackage{`."""
    return [LATEX in text for text in texts]


def magika() -> Detector:
    """Magika with the model of its wheel; about 4 ms a text."""
    from magika import Magika  # a second to import, and few taxonomies need it

    model = Magika()

    def is_code(texts: Sequence[str]) -> list[bool]:
        with progress_bar() as bar:
            results = [model.identify_bytes(text.encode()) for text in bar.track(texts, description="telling code from text")]
        return [result.dl.group == "code" for result in results]

    return is_code


def fasttext(config: LabelConfig) -> Detector:
    """The paper's detector (its Section 3): a fastText model whose label is Code, or LaTeX.

    Raises:
        UserError: fastText is not installed, or the model is neither a file nor in the local hub cache.
    """
    try:
        import fasttext as library
    except ImportError:
        raise UserError("label.code=fasttext needs fastText: pip install 'memgrid[fasttext]', or use label.code=magika") from None
    path = code_model(config)
    try:
        model = library.load_model(str(path))
    except ValueError as error:
        raise UserError(f"label.code_model={path} is no fastText model: {error}") from None

    def is_code(texts: Sequence[str]) -> list[bool]:
        # fastText reads one line.
        labels, _ = model.predict([" ".join(text.split("\n")) for text in texts])
        return [label[0] == "__label__Code" or latex for label, latex in zip(labels, usepackage(texts), strict=True)]

    return is_code


def code_model(config: LabelConfig, offline: bool = True) -> Path:
    """The file of the fastText model: a local one, or out of the hub cache; not `offline`, it is downloaded.

    Raises:
        UserError: it is not there, or cannot be downloaded.
    """
    given = config.code_model or PAPERS_MODEL
    if Path(given).is_file():
        return Path(given)
    if not offline:
        return download(f"label.code_model={given}", given, "model", None, MODEL_FILE, allow_patterns=[MODEL_FILE]) / MODEL_FILE
    folder = cached(given, "model", None, allow_patterns=[MODEL_FILE])
    if folder is None:
        raise UserError(f"label.code_model={given} is neither a file nor a model {absent()}")
    return folder / MODEL_FILE
