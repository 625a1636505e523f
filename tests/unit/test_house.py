"""`python -m benchmarks.house` counts what is there, and its exit code says whether the limits hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import house
from memgrid.io.paths import PACKAGE

LAYERS = """
[[tool.importlinter.contracts]]
type = "layers"
layers = ["top", "middle | beside", "bottom"]
"""
SOUND = {
    "__init__.py": "",
    "top.py": "from memgrid.middle import made\nfrom memgrid.middle.made import answer\n",
    "middle/__init__.py": "",
    "middle/made.py": "def answer():\n    from memgrid import bottom\n\n    return bottom\n",
    "beside.py": "import memgrid.bottom\n",
    "bottom.py": "",
}


def checkout(folder: Path, **changed: str) -> Path:
    (folder / "pyproject.toml").write_text(LAYERS)
    for name, text in {**SOUND, **{key.replace("__", "/") + ".py": text for key, text in changed.items()}}.items():
        path = folder / "memgrid" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_small_house(tmp_path):
    numbers = {number.name: number.value for number in house.count(checkout(tmp_path))}
    assert list(numbers.values()) == [6, 3, 3, 3, 0, 0, 0, 4, 3, 4, 4]
    assert house.main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"bottom": "import memgrid.top\n"}, {"imports against the layers", "circles of modules", "circles of names at the top"}),
        ({"beside": "import memgrid.middle\n"}, {"imports against the layers"}),
        (
            {"middle__other": "from memgrid.middle import made\n", "middle__made": "from memgrid.middle import other\ndef f(): 0\n"},
            {"circles of modules"},
        ),
        ({f"middle__m{number}": "" for number in range(8)}, {"modules in the longest folder"}),
        ({f"m{number}": "" for number in range(18)}, {"names at the top", "modules in the longest folder"}),
        ({"bottom": "x = 1\n" * 301}, {"lines of the longest module"}),
        ({"bottom": "def long():\n" + "    x = 1\n" * 40}, {"lines of the longest function"}),
    ],
)
def test_every_limit_can_be_broken(tmp_path, capsys, changed, broken):
    folder = checkout(tmp_path, **changed)
    assert {number.name for number in house.count(folder) if not number.holds} == broken
    assert house.main([str(folder)]) == 1
    assert f"broken: {', '.join(number.name for number in house.count(folder) if not number.holds)}" in capsys.readouterr().out


def test_what_is_no_checkout_is_told(tmp_path, capsys):
    assert house.main([str(tmp_path)]) == 2
    assert "is no checkout" in capsys.readouterr().out


def test_another_checkout_is_counted_although_this_one_is_loaded(tmp_path):
    assert len(house.arrows(checkout(tmp_path))) < 10 < len(house.arrows(PACKAGE.parent))


def test_the_command_says_what_the_functions_count():
    command = [sys.executable, "-m", "benchmarks.house", str(PACKAGE.parent)]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    numbers = house.count(PACKAGE.parent)
    assert shown.returncode == int(not all(number.holds for number in numbers)), shown.stderr
    assert all(f"│ {number.value} " in shown.stdout for number in numbers)
