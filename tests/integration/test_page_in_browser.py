"""The report's page in a real browser: all of it can be asked, by hand or keyboard, on a narrow screen, in the dark, without a network."""

import csv
import io
import shlex

import pytest
from browser import KEYS, NARROW, WIDE
from runs_maker import Run, finish, leave, make_labels, make_runs

from memgrid.report.__main__ import PAIR
from memgrid.report.report import gather, write_report

ROOT_NAME = "runs of mine"  # a shell needs quotes for it
RANKING = "#table-ranking"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page on made-up runs of two models, with everything that it can have without a trained network; sent to someone, alone."""
    root = tmp_path_factory.mktemp("page") / ROOT_NAME
    choice = {"taxonomies": ("rasy", "prashanth", "recite", "guess_recite", "code"), "seeds": (0, 1), "rhos": (0.3, 0.5, 0.7)}
    for llm in ("toy", "tiny_random"):
        make_runs(root, llms=(llm,), **choice, overrides=(f"llm={llm}",))
    finish(Run(root, "toy", overrides=("cnn.epochs=3",)))
    leave(Run(root, "toy", seed=7), "failed")
    make_labels(root, "toy")
    write_report(gather(root, root / "report", PAIR))
    return (root / "report" / "index.html").rename(root.parent / "page.html")


@pytest.fixture
def page(window, path):
    """The page as somebody sees it first: wide, light."""
    window.size(*WIDE)
    window.scheme("light")
    window.open(path)
    window.run("try { localStorage.clear() } catch { }")
    return window.open(path)


def column(page, place, table=RANKING):
    """The texts of a column's cells that are seen, each without what stands below or beside it."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => (e.querySelector('.hint') || e).firstChild.textContent.trim())"
    return page.run(script, f"{table} tbody tr:not(.group):not([hidden]) td:nth-child({place})")


def place_of(page, name):
    """Which column of the ranking has a name, from 1 on."""
    return page.run(f"return [...document.querySelectorAll('{RANKING} thead th')].findIndex(e => e.dataset.name === '{name}') + 1")


def groups_of(page, place):
    """The numbers of a column, for each group of rows."""
    numbers = "[...body.rows].slice(1).map(row => parseFloat(row.cells[arguments[1]].innerText))"
    return page.run(f"return [...document.querySelectorAll(arguments[0])].map(body => {numbers})", f"{RANKING} tbody", place - 1)


def test_findings_come_first_and_nothing_is_asked_of_the_network(page):
    assert page.texts("main h2")[0].startswith("1 What came out")
    assert "min-F1" in page.texts("#found p")[0]
    assert page.requests() == []
    assert page.complaints() == []


def test_tables_are_sorted_by_hand_and_by_keyboard_within_their_groups(page):
    place = place_of(page, "confidence_min_f1")
    heading = f"{RANKING} thead th:nth-child({place})"
    page.click(f"{heading} button")
    assert page.one(heading).get_attribute("aria-sort") == "descending"
    groups = groups_of(page, place)
    assert len(groups) == 2
    assert groups == [sorted(group, reverse=True) for group in groups]
    page.press(KEYS.ENTER)
    assert page.one(heading).get_attribute("aria-sort") == "ascending"
    assert groups_of(page, place) == [sorted(group) for group in groups]
    assert {each.get_attribute("aria-sort") for each in page.all(f"{RANKING} thead th:not(:nth-child({place}))")} == {"none"}
    page.press(KEYS.SPACE)
    assert page.one(heading).get_attribute("aria-sort") == "none"


def test_a_table_is_filtered_by_every_word(page):
    before = column(page, 1)
    field = page.click(f"{RANKING} input[type=search]")
    field.send_keys("recite[50] guess")
    assert 0 < len(column(page, 1)) < len(before)
    rows = page.texts(f"{RANKING} tbody tr:not(.group):not([hidden])")
    assert all("Recite[50]" in row and "Guess" in row for row in rows)
    assert f"of {len(before)} rows" in page.texts(f"{RANKING} .tools")[0]
    field.clear()
    field.send_keys(" ")
    assert column(page, 1) == before


def test_a_copied_link_opens_the_same_view(page, path):
    page.click(f"{RANKING} thead th:nth-child(2) button")
    page.press(KEYS.ENTER)
    page.click(f"{RANKING} input[type=search]").send_keys("guess")
    seen = column(page, 1)
    link = page.driver.current_url
    assert link.endswith("#table-ranking?table-ranking.sort=min_f1.asc&table-ranking.filter=guess")
    page.open(path, "#" + link.split("#")[1])
    assert column(page, 1) == seen
    assert page.one(f"{RANKING} input").get_attribute("value") == "guess"
    assert page.until(lambda: abs(page.run(f"return document.querySelector('{RANKING}').getBoundingClientRect().top")) < 60)


def test_every_section_table_and_row_has_a_link_of_its_own(page, path):
    for place in ("main > section", ".table", "figure", f"{RANKING} tbody tr:not(.group)"):
        own = "e => e.id && e.querySelector(`a[href='#${e.id}']`)"
        assert page.run(f"return [...document.querySelectorAll('{place}')].every({own})"), place
    row = page.run(f"return [...document.querySelectorAll('{RANKING} tbody tr[id]')].at(-1).id")
    page.open(path, f"#{row}")
    assert page.until(
        lambda: page.run(
            "const box = document.getElementById(arguments[0]).getBoundingClientRect(); return box.top >= 0 && box.bottom < innerHeight",
            row,
        )
    )
    folded = page.run("return document.querySelector('details:not(.typed) .table').id")
    page.open(path, f"#{folded}")
    assert page.until(lambda: page.run("return document.getElementById(arguments[0]).checkVisibility()", folded))


def test_intervals_are_told_when_a_score_is_pointed_at_or_has_the_focus(page):
    page.run(f"document.querySelector('{RANKING} .hint').focus()")
    told = page.texts("#tip")[0]
    assert told.startswith("95 % interval ")
    assert "over CNNs" in told
    assert page.all("#tip svg")
    page.press(KEYS.ESCAPE)
    assert not page.one("#tip").is_displayed()


def test_tables_and_figures_are_saved_from_the_page_alone(page, path):
    page.click(f"{RANKING} button[aria-label^='Save']")
    rows = list(csv.DictReader(io.StringIO(page.downloaded("ranking.csv"))))
    assert len(rows) > len(column(page, 1))  # the sweep over ρ, too
    assert "paper_min_f1" in rows[0]
    page.click("#table-best-of-each-family button[aria-label^='Save']")  # a table that has no file
    saved = list(csv.DictReader(io.StringIO(page.downloaded("table-best-of-each-family.csv"))))
    assert [row["setting"] for row in saved] == column(page, 1, "#table-best-of-each-family")
    page.click("#figure-ranking figcaption button")
    page.until((page.downloads / "figure-ranking.png").is_file)
    assert (page.downloads / "figure-ranking.png").read_bytes().startswith(b"\x89PNG")
    assert page.requests() == []


def test_a_command_is_copied_whole(page):
    page.click(f"{RANKING} details.typed summary")
    page.click(f"{RANKING} details.typed button")
    assert page.until(lambda: page.texts(f"{RANKING} details.typed button")[0] == "copied")
    command = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert command == page.run(f"return document.querySelector('{RANKING} details.typed code').textContent")
    assert command.startswith("python -m memgrid.run -m llm=")
    assert shlex.split(command)[-2].startswith('root="/')
    assert command.endswith(f"/{ROOT_NAME}\"' seed=0,1")


def test_where_nothing_may_be_copied_the_command_is_selected(page):
    page.run("navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false")
    page.click("#lacking .command button")
    assert page.until(lambda: page.texts("#lacking .command button")[0].startswith("selected"))
    assert page.run("return getSelection().toString()") == page.texts("#lacking .command code")[0]


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_is_cut_off(page, size):
    page.size(*size)
    page.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert page.cut_off() == []
    # What scrolls within itself says so, and can be reached with the keyboard.
    silent = "e => e.scrollWidth > e.clientWidth + 1 && (e.tabIndex !== 0 || e.previousElementSibling.hidden)"
    assert page.until(lambda: page.run(f"return [...document.querySelectorAll('.wide')].filter({silent}).length") == 0)
    if size == NARROW:
        assert any(page.run("return [...document.querySelectorAll('.scrolls')].map(e => e.checkVisibility())"))


def test_light_and_dark_follow_the_system_until_somebody_chooses(page, path):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(colour)
    page.scheme("dark")
    assert page.until(lambda: page.run(colour) != light)
    dark = page.run(colour)
    assert page.one("button.theme").text == "Light"
    page.click("button.theme")
    assert page.run(colour) == light
    page.open(path)
    assert page.run(colour) == light  # remembered
    page.scheme("light")
    page.click("button.theme")
    assert page.run(colour) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(page, scheme):
    page.scheme(scheme)
    assert page.violations() == {}


def test_printed_it_is_white_and_unfolded(page):
    page.scheme("dark")
    page.run("dispatchEvent(new Event('beforeprint'))")
    page.command("Emulation.setEmulatedMedia", media="print")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("return [...document.querySelectorAll('details:not(.typed)')].every(e => e.open)")
    assert not any(button.is_displayed() for button in page.all(".tools button, button.theme"))
    page.command("Emulation.setEmulatedMedia", media="")


def test_the_first_key_leads_past_the_contents(page):
    page.press(KEYS.TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press(KEYS.ENTER)
    assert page.run("return location.hash") == "#main"
