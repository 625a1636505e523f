"""The audit's page in a real browser: what it says first, words, pictures, downloads, dark mode, narrow windows, and axe-core's rules."""

import polars as pl
import pytest
from audits_maker import metrics_of, results_of, undisturbed_audit
from browser import NARROW, WIDE


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a tiny audit's page. To read from only."""
    return results_of(undisturbed_audit(tmp_path_factory)) / "report"


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return metrics_of(undisturbed_audit(tmp_path_factory))


@pytest.fixture
def page(window, report):
    """The page at its usual size, in light colours."""
    window.size(*WIDE)
    window.scheme("light")
    return window.open(report / "index.html")


def test_it_begins_with_numbers_on_the_terminals_scale(page, metrics):
    first = page.texts("main section")[0]
    every = metrics["attack"][0]
    assert f"{100 * every['memorized_at_4']:.0f} % ({100 * every['memorized_low']:.0f} to" in first
    assert f"AUC {every['auc']:.2f} ({every['auc_low']:.2f} to {every['auc_high']:.2f}) [AUC: the area under the ROC curve" in first
    assert "not clearly better than" in first
    shown = page.run(
        "return [...document.querySelector('#predictors table').querySelectorAll('td:not(:first-child)')].map(e => e.innerText)"
    )
    told = [row["auc"] for row in metrics["predictions"] if row["moment"] == "trigger"]
    assert sorted(shown) == sorted("–" if area is None else f"{area:.2f}" for area in told)
    assert not page.requests()
    assert not page.complaints()


def test_samples_are_named_and_shown(page, report):
    table = pl.read_csv(report / "samples.csv")
    cells = page.texts("#samples tbody tr td:first-child")
    assert cells == [str(number) for number in table["id"].head(24)]
    assert page.run("return document.querySelector('#samples img').naturalWidth") > 500


def test_tables_are_handed_over(page, report):
    page.click("#samples button[aria-label$='samples.csv']")
    assert page.downloaded("samples.csv") == (report / "samples.csv").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_is_cut_and_nobody_is_kept_out(scheme, size, page, report):
    page.size(*size)
    page.scheme(scheme)
    page.open(report / "index.html")
    assert not page.cut_off()
    assert not page.violations()
