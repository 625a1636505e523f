"""The Hugging Face hub: what lies in its local cache, and downloads into it, of which everything that can go wrong is one sentence."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, errors, snapshot_download

from memgrid.errors import UserError

TIMEOUT = 20.0  # seconds; a cluster node without a network may drop packets silently
LATER = "run once with stages=[fetch] where there is a network"


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


def download(setting: str, repository: str, kind: str, revision: str | None, needed: str | None = None, **files: Any) -> Path:
    """Download a repository's files into the hub cache; where the hub cannot be asked, what is already there will do.

    Args:
        setting: how the user named it, such as `llm.path=someone/model`.
        needed: a pattern that one of its file names must match, which is found out before anything is downloaded.

    Raises:
        UserError: it cannot be had, or has no such file.
    """
    try:
        listed = HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT).siblings or []
        if needed is None or any(fnmatch(file.rfilename, needed) and file.rfilename.count("/") == needed.count("/") for file in listed):
            return Path(snapshot_download(repository, repo_type=kind, revision=revision, **files))
    except Exception as error:  # from the hub library, its HTTP client, its downloader in Rust, or the operating system
        if (folder := cached(repository, kind, revision, **files)) is not None:
            return folder
        raise UserError(f"{setting} cannot be fetched because {trouble(error, kind, revision)}") from None
    raise UserError(f"{setting} has no {needed} on the hub, which is all that memgrid reads: choose another {kind} or revision")


def trouble(error: Exception, kind: str, revision: str | None) -> str:
    """What kept a repository from being fetched, and what to do about it: the second half of a sentence."""
    remedies: list[tuple[Any, str]] = [
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set: unset it where there is a network"),
        (errors.GatedRepoError, "its owners decide who may have it: ask for access on its page, and log in with `hf auth login`"),
        (errors.RevisionNotFoundError, f"it has no revision {revision}: name another"),
        ((errors.RepositoryNotFoundError, errors.HFValidationError), f"the hub has no such {kind}: check its name, or log in if private"),
    ]
    if words := next((words for kinds, words in remedies if isinstance(error, kinds)), None):
        return words
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub answers with status {error.response.status_code}: try again later"
    if "No space left" in str(error) or "quota exceeded" in str(error):  # the downloader in Rust knows no errno
        return "the disk is full: make room, or set HF_HOME to a folder on another disk"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be written ({error.strerror}): set HF_HOME to a folder of yours"
    return f"the hub does not answer ({type(error).__name__}): run it where there is a network, or try again later"
