"""The Hugging Face hub: its local cache, downloads into it, and data sets pushed to it; everything that can go wrong is one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors, get_token, snapshot_download

from memgrid.errors import UserError

TIMEOUT = 20.0  # seconds; a cluster node without a network may drop packets silently
NOT_YOURS = (401, 403)  # statuses: who asks may not do it
ITS_OWN = ".gitattributes"  # a file that the hub puts into a new repository
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


def kept(model: str) -> bool:
    """Whether the local cache has anything of a model, without a look at what."""
    return (Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}").is_dir()


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


def refuse_push(setting: str, repository: str, public: bool, mark: str) -> None:
    """Refuse what could not be pushed to a data set of the hub, before any work.

    Args:
        setting: how the user named it. repository: owner/name. public: whether everybody is to see it.
        mark: a file that says, in a repository that is there, that it may be replaced.

    Raises:
        UserError: it is no name, nobody is logged in, the hub does not answer, or what is there is something else.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII) or ".." in repository or "--" in repository:
        raise UserError(f"{setting} names no data set of the hub: write hub:owner/name, of letters, digits and _.-, such as hub:me/my-runs")
    if get_token() is None:
        raise UserError(f"{setting} needs a login on the hub: type `hf auth login` first, or set HF_TOKEN")
    hub = HfApi()
    try:
        try:
            there = hub.repo_info(repository, repo_type="dataset", timeout=TIMEOUT)
        except errors.RepositoryNotFoundError:
            there = None
        me = hub.whoami()
    except Exception as error:  # as in `download_as`
        raise UserError(f"{setting} cannot be pushed because {push_trouble(error)}") from None
    mine, owner = [me["name"], *(team["name"] for team in me.get("orgs") or [])], repository.partition("/")[0]
    if owner not in mine:
        raise UserError(
            f"{setting} belongs to {owner}, and you are logged in as {mine[0]}: use {' or '.join(f'hub:{name}/…' for name in mine)}"
        )
    if there is None:
        return
    files = {file.rfilename for file in there.siblings or []}
    if files - {ITS_OWN} and mark not in files:
        raise UserError(f"{setting} exists and is no export of memgrid: choose another name")
    if bool(there.private) == public:
        mend = "add public=true to push what everybody sees" if public is False else "leave public=true out, or change that on its page"
        raise UserError(f"{setting} exists and is {'private' if there.private else 'public'}: {mend}")


def push(setting: str, repository: str, public: bool, folder: Path) -> str:
    """Make a data set of the hub what a folder is, in one commit; returns its address.

    Raises:
        UserError: it cannot be pushed.
    """
    hub, own = HfApi(), sorted(path for path in folder.rglob("*") if path.is_file())
    added = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in own]
    try:
        made = hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        there = {file.rfilename for file in hub.repo_info(repository, repo_type="dataset", timeout=TIMEOUT).siblings or []}
        removed = [CommitOperationDelete(name) for name in sorted(there - {ITS_OWN, *(file.path_in_repo for file in added)})]
        hub.create_commit(repository, [*added, *removed], commit_message="Export of memgrid", repo_type="dataset")
    except Exception as error:  # as in `download_as`
        raise UserError(f"{setting} cannot be pushed because {push_trouble(error)}") from None
    return str(made)


def push_trouble(error: Exception) -> str:
    """What kept a data set from being pushed, and what to do about it: the second half of a sentence."""
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in NOT_YOURS:
        return "the hub refuses your login there: log in with a token that may write, by `hf auth login --force`, or unset HF_TOKEN"
    return trouble(error, "dataset", None)
