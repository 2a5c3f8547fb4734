"""From the name of a pretrained model to a directory on this machine: a directory as it is, or a hub id, downloaded.

``org/name`` or ``org/name@revision`` is looked up on the hub, or when offline (``HF_HUB_OFFLINE=1``, or
``local_files_only``) in its local cache. Only the files asked for are fetched. Knows nothing of what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from egowm_core.errors import CheckpointError, ConfigError

_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_OTHER_PRECISIONS = ["*.fp16*", "*.bf16*", "*.fp8*", "*.non_ema*"]  # duplicates beside the weights proper


def local_directory(
    source: str | Path,
    *,
    files: Sequence[str],
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> tuple[Path, str | None]:
    """The directory that ``source`` names and its commit hash (None for a directory of the user's own).

    ``files`` are glob patterns of what is needed; ``revision`` a branch, tag or commit; ``token`` a hub access token
    (None: the one of the machine's login).

    Raises:
        CheckpointError: no such directory or repository or revision, gated, or not in the cache while offline.
        ConfigError: a revision for a directory, or two revisions.
    """
    directory = Path(source).expanduser()
    if directory.is_dir():
        if revision is not None:
            raise ConfigError(f"{source} is a directory and has no revision {revision!r}; leave the revision out")
        return directory, None
    match = _HUB_ID.fullmatch(str(source))
    if not match:
        raise CheckpointError(f"{source}: no such directory; expected a directory or a hub id org/name[@revision]")
    if revision is not None and match["revision"] not in (None, revision):
        raise ConfigError(f"{source} names another revision than {revision!r}; give one")
    wanted = revision or match["revision"]
    import huggingface_hub

    try:
        snapshot = huggingface_hub.snapshot_download(
            match["name"],
            revision=wanted,
            allow_patterns=list(files),
            ignore_patterns=_OTHER_PRECISIONS,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
    except Exception as error:  # the hub's, its transport's and the disk's
        raise CheckpointError(_explain(match["name"], wanted, error)) from error
    return Path(snapshot), Path(snapshot).name  # a snapshot's folder is named after its commit


def _explain(name: str, revision: str | None, error: Exception) -> str:
    """What went wrong and what to do, by the hub's kind of error."""
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error.__cause__, errors.HfHubHTTPError) else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    page = f"https://huggingface.co/{name}"
    if isinstance(cause, errors.GatedRepoError) or status == 403:
        return (
            f"{name} is gated: accept its licence at {page} with your account, then log in (`hf auth login`, or the "
            "variable HF_TOKEN) and try again"
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r}; see the branches, tags and commits at {page}"
    if isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        return (
            f"{name}: no such directory here and no such repository on the hub, unless a private one; check it at "
            f"{page}, or log in (`hf auth login`)"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        at = f" at revision {revision!r}" if revision else ""
        return (
            f"{name}{at} is not cached here, or not wholly, and the hub was not reached ({_first_line(error)}); run "
            f"`hf download {name}` while online (without HF_HUB_OFFLINE), or give a directory that holds it"
        )
    return (
        f"{name} could not be had from the hub ({_first_line(error)}); check the name, the network and the disk's space"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
