"""Code or text, by each detector."""

import numpy as np
import polars as pl
import pytest

from memgrid.config.schema import LabelConfig
from memgrid.errors import UserError
from memgrid.label.code import code_model, detector

PROGRAM = """import os
import sys


def main(argv):
    for name in argv[1:]:
        print(os.path.getsize(name))
"""
PROSE = "And it came to pass in those days, that there went out a decree that all the world should be taxed, and all went to be taxed."
TEXTS = {PROGRAM: True, PROSE: False}
LATEX = "\\documentclass{article}\n\\usepackage{amsmath}\n\\begin{document}\nIt is a truth universally acknowledged."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A real fastText classifier, trained on lines of the embedded documents."""
    fasttext = pytest.importorskip("fasttext", reason="fastText is not installed: pip install 'memgrid[fasttext]'")
    folder = tmp_path_factory.mktemp("fasttext")
    lines = [f"__label__{'Code' if code else 'NaturalLanguage'} {' '.join(text.split())}" for text, code in TEXTS.items()] * 200
    (folder / "train.txt").write_text("\n".join(lines))
    trained = fasttext.train_supervised(str(folder / "train.txt"), epoch=20, lr=0.2, verbose=0, thread=1, minCount=1)
    trained.save_model(str(folder / "model.bin"))
    return folder / "model.bin"


def test_magika():
    assert detector(LabelConfig("magika"))(list(TEXTS)) == list(TEXTS.values())


def test_fasttext_with_its_model(model):
    is_code = detector(LabelConfig("fasttext", str(model)))
    assert is_code([*TEXTS, LATEX]) == [*TEXTS.values(), True]


def test_usepackage():
    assert detector(LabelConfig("usepackage"))([*TEXTS, LATEX]) == [False, False, True]


def test_a_missing_model_says_to_fetch():
    with pytest.raises(UserError, match=r"label.code_model=nobody/nothing is neither a file nor .*stages=\[fetch\]"):
        code_model(LabelConfig("fasttext", "nobody/nothing"))


def test_no_network_is_one_sentence():
    with pytest.raises(UserError, match=r"label\.code_model=nobody/nothing cannot be fetched because HF_HUB_OFFLINE is set"):
        code_model(LabelConfig("fasttext", "nobody/nothing"), offline=False)


def test_a_foreign_file_is_refused(tmp_path):
    pytest.importorskip("fasttext", reason="fastText is not installed: pip install 'memgrid[fasttext]'")
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(UserError, match="is no fastText model"):
        detector(LabelConfig("fasttext", str(tmp_path / "model.bin")))


def test_answers_fit_a_polars_column():
    answers = detector(LabelConfig("usepackage"))(["a", LATEX])
    assert pl.Series([None, None, True], dtype=pl.Boolean).scatter(np.array([0, 1]), pl.Series(answers)).to_list() == [False, True, True]
