"""The package itself: its version, and where it, its configuration and its embedded corpus lie."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel conf/ lies inside the package, in a checkout beside it. Hydra needs an absolute path: it would turn a relative one into pkg://.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
TOY = PACKAGE / "assets" / "toy"
