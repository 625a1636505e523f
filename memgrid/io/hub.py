"""The Hugging Face hub: what lies in its local cache, and downloads into it, of which everything that can go wrong is one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, errors, snapshot_download

from memgrid.errors import UserError

TIMEOUT = 20.0  # seconds; a cluster node without a network may drop packets silently
TOO_MANY = 429  # a status: a cluster's users share an address, of which the hub answers so many requests and no more


@dataclass(frozen=True)
class Choice:
    """One of the forms in which a repository may hold what is wanted: the patterns of its files.

    Attributes:
        needed: a file of one of these names must be there, or nothing is wanted of this form; empty if it goes without.
        allow: what is downloaded. ignore: but for this.
    """

    needed: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, Any]:
        """The same as arguments of `cached` and `download`."""
        return {"allow_patterns": list(self.allow) or None, "ignore_patterns": list(self.ignore) or None}

    def fits(self, names: Sequence[str]) -> bool:
        """Whether a repository of files with these names has this form; a pattern does not reach into folders."""
        named = [(name, pattern) for name in names for pattern in self.needed]
        return not self.needed or any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for name, pattern in named)


def absent() -> str:
    """Where something is not, and what to do about it: the end of a sentence."""
    cache = constants.HF_HUB_CACHE
    return f"in the local hub cache {cache}: check its name and HF_HOME, or run once with stages=[fetch] where there is a network"


def cached(repository: str, kind: str, revision: str | None, **files: Any) -> Path | None:
    """Where the hub cache keeps a repository's files, all of them; None if it does not.

    Args:
        kind: `model` or `dataset`.
        files: allow_patterns and ignore_patterns, the same as when they were downloaded: the cache would miss the files left out.
    """
    try:
        return Path(snapshot_download(repository, repo_type=kind, revision=revision, local_files_only=True, **files))
    except (OSError, ValueError):
        return None


def cached_as(repository: str, kind: str, revision: str | None, choices: Sequence[Choice]) -> Path | None:
    """Where the hub cache keeps a repository's files in the first of some forms of which it has them all; None if in none."""
    for choice in choices:
        folder = cached(repository, kind, revision, **choice.files)
        if folder is not None and choice.fits([str(path.relative_to(folder)) for path in folder.rglob("*")]):
            return folder
    return None


def download(setting: str, repository: str, kind: str, revision: str | None, needed: str | None = None, **files: Any) -> Path:
    """Download a repository's files into the hub cache; where the hub cannot be asked, what is already there will do.

    Args:
        setting: how the user named it, such as `llm.path=someone/model`.
        needed: a pattern that one of its file names must match, which is found out before anything is downloaded.
        files: allow_patterns and ignore_patterns.

    Raises:
        UserError: it cannot be had, or has no such file.
    """
    allow, ignore = (tuple(files.get(name) or ()) for name in ("allow_patterns", "ignore_patterns"))
    return download_as(setting, repository, kind, revision, [Choice((needed,) if needed else (), allow, ignore)])


def download_as(setting: str, repository: str, kind: str, revision: str | None, choices: Sequence[Choice]) -> Path:
    """Download a repository's files in the first of some forms that it has, and nothing of the others; else as `download`."""
    try:
        listed = HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT).siblings or []
        names = [file.rfilename for file in listed]
        if (choice := next((choice for choice in choices if choice.fits(names)), None)) is not None:
            return Path(snapshot_download(repository, repo_type=kind, revision=revision, **choice.files))
    except Exception as error:  # from the hub library, its HTTP client, its downloader in Rust, or the operating system
        if (folder := cached_as(repository, kind, revision, choices)) is not None:
            return folder
        raise UserError(f"{setting} cannot be fetched because {trouble(error, kind, revision)}") from None
    wanted = " or ".join(pattern for choice in choices for pattern in choice.needed)
    raise UserError(f"{setting} has no {wanted} on the hub, which is all that memgrid reads: choose another {kind} or revision")


def trouble(error: Exception, kind: str, revision: str | None) -> str:
    """What kept a repository from being fetched, and what to do about it: the second half of a sentence."""
    remedies: list[tuple[Any, str]] = [
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set: unset it where there is a network"),
        (errors.FileMetadataError, "what answers is not the hub: look at HF_ENDPOINT and at the proxy"),
        (errors.GatedRepoError, "its owners decide who may have it: ask for access on its page, and log in with `hf auth login`"),
        (errors.RevisionNotFoundError, f"it has no revision {revision}: name another"),
        ((errors.RepositoryNotFoundError, errors.HFValidationError), f"the hub has no such {kind}: check its name, or log in if private"),
    ]
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # "not in the cache, and cannot be had because of this": only the latter is news
    if words := next((words for kinds, words in remedies if isinstance(error, kinds)), None):
        return words
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == TOO_MANY:
        return "too many have asked the hub from this address: wait five minutes, or log in with `hf auth login`"
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub answers with status {error.response.status_code}: try again later"
    if "No space left" in str(error) or "quota exceeded" in str(error):  # the downloader in Rust knows no errno
        return "the disk is full: make room, or set HF_HOME to a folder on another disk"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be written ({error.strerror}): set HF_HOME to a folder of yours"
    return f"the hub does not answer ({type(error).__name__}): run it where there is a network, or try again later"
