"""The map of the code in docs/how-it-works.md: every module stands there, and no other."""

import re

from memgrid.io.paths import PACKAGE

PAGE = PACKAGE.parent / "docs" / "how-it-works.md"
NOT_NAMED = {"__init__", "__main__"}  # every package may have these


def rows_of_the_map():
    """Package, its column of modules, and all that its row says; a row without a package belongs to the one above."""
    package = ""
    for line in PAGE.read_text().split("## 3. The map")[1].split("## 4.")[0].splitlines():
        if line.startswith("| ") and not line.startswith("| package"):
            where, modules, job = (part.strip() for part in line.strip("|").split("|", 2))
            package = where.strip("`/") or package
            yield package, modules, f"{modules} {job}"


def named(text):
    return {name.rstrip("/") for name in re.findall(r"`([a-z_]+/?)`", text)}


def modules_of(folder):
    return {path.stem for path in folder.rglob("*.py")} - NOT_NAMED


def test_every_package_and_module_is_on_the_map():
    on_the_map = {}
    for package, _, text in rows_of_the_map():
        on_the_map.setdefault(package, set()).update(named(text))
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert set(on_the_map) - {"__main__"} == packages | {path.stem for path in PACKAGE.glob("*.py")} - NOT_NAMED
    missing = {package: modules_of(PACKAGE / package) - on_the_map[package] for package in packages}
    assert {package: names for package, names in missing.items() if names} == {}


def test_nothing_on_the_map_is_nowhere():
    for package, modules, _ in rows_of_the_map():
        if (folder := PACKAGE / package).is_dir():
            there = modules_of(folder) | {path.name for path in folder.iterdir() if path.is_dir()} | {"__main__"}
            assert named(modules) <= there, package
