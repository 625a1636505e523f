"""A figure in memory, for whoever looks at results in Python: a notebook shows it, `save` writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from memgrid.errors import UserError
from memgrid.io.files import write_bytes


@dataclass(frozen=True, repr=False)
class Drawing:
    """A figure of one or several pages: a notebook shows it, `save` writes it.

    Attributes:
        png, pdf: the bytes of each page. missing: where it cannot be drawn, why, and the command that makes what it lacks; a notebook shows
            this sentence in its place.
    """

    png: tuple[bytes, ...]
    pdf: tuple[bytes, ...]
    missing: str | None = None

    def __repr__(self) -> str:
        return self.missing or f"a drawing of {len(self.png)} page{'s' * (len(self.png) > 1)}: save(path) writes it"

    def _ipython_display_(self) -> None:
        """Show every page, at the size that it has in print."""
        from IPython.display import Image, display

        if self.missing:
            print(self.missing)
        for page in self.png:
            display(Image(page, retina=True))

    def save(self, path: str | Path) -> list[Path]:
        """Write a .png or a .pdf, with several pages `<stem>-1` and so on; returns what was written.

        Raises:
            UserError: it could not be drawn, or the name has another ending.
        """
        path = Path(path)
        if self.missing:
            raise UserError(self.missing)
        if path.suffix not in (".png", ".pdf"):
            raise UserError(f"{path} is no name of a drawing: let it end in .png or .pdf")
        pages = self.png if path.suffix == ".png" else self.pdf
        names = [path] if len(pages) == 1 else [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, len(pages) + 1)]
        for name, page in zip(names, pages, strict=True):
            write_bytes(page, name)
        return names


def drawing(name: str, drawings: Mapping[str, Callable[[Path], object]]) -> Drawing:
    """The drawing of that name: what its function writes beside the path that it is given; what it lacks becomes the drawing's sentence.

    Raises:
        UserError: there is no drawing of that name.
    """
    if name not in drawings:
        raise UserError(f"there is no drawing {name!r}: use {', '.join(drawings)}")
    with TemporaryDirectory() as folder:
        try:
            drawings[name](Path(folder) / "page")
        except UserError as error:
            return Drawing((), (), str(error))
        pages = sorted((path.stem for path in Path(folder).glob("*.png")), key=lambda page: (len(page), page))
        png, pdf = (tuple(Path(folder, f"{page}.{kind}").read_bytes() for page in pages) for kind in ("png", "pdf"))
        return Drawing(png, pdf)
