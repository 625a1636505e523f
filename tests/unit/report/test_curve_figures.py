import numpy as np
import polars as pl
from matplotlib.image import imread

from memgrid.report.figures.curves import draw_learning, short_number, ticks


def test_a_learning_curve_is_drawn_with_what_is_known(tmp_path):
    table = pl.DataFrame({"train": [50, 100], "min_f1": [50.0, 70], "low": [40.0, 60], "high": [60.0, 80], "together": [90.0, 91]})
    draw_learning(table.with_columns(probe=pl.lit(None, pl.Float64), confidence=pl.Series([80.0, None])), tmp_path / "learning")
    assert imread(tmp_path / "learning.png").shape[1] == 680


def test_numbers_on_the_axis_do_not_touch():
    assert ticks(np.array([50.0, 100, 200, 400]), 2.7) == [50, 100, 200, 400]
    assert ticks(np.array([50.0, 51, 52, 400]), 2.7) == [50, 400]
    assert ticks(np.array([50.0]), 2.7) == [50]


def test_large_numbers_are_written_short():
    numbers = (0, 256, 9999, 10_000, 65_536, 999_999, 4_194_304, 10**9, 3 * 10**15)
    assert [short_number(number) for number in numbers] == ["0", "256", "9,999", "10k", "65.5k", "1000k", "4.19M", "1G", "3000T"]
