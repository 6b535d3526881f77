"""What went wrong between us and the hub, in one line: what was found, what was expected, what to do.

Knows the errors of huggingface_hub, which is imported on use; no network.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from stillframe.files.kinds import shown
from stillframe.models.hub.ids import HubId

TOKEN = "`hf auth login`, or HF_TOKEN with a token that may read it"  # noqa: S105 (where one comes from)
FIRST = 5  # files that are listed of many


def explained(error: BaseException, wanted: HubId, missing: Sequence[str] = ()) -> str:
    """The line. `missing`: files that were being fetched."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return _offline(wanted, missing)
    causes = list(_causes(error))
    found = next((text for cause in causes if (text := _denied(cause, wanted, constants.ENDPOINT))), None)
    return found or _disk(causes, wanted, constants.HF_HUB_CACHE) or _unreachable(causes, wanted, constants.ENDPOINT)


def _denied(error: BaseException, wanted: HubId, endpoint: str) -> str | None:
    """By what the hub answered."""
    from huggingface_hub import errors

    repository, status = wanted.repository, getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: accept its terms at {endpoint}/{repository} with your account, then give the "
            f"account's token: {TOKEN}"
        )
    if isinstance(error, errors.DisabledRepoError):
        return f"{repository} is disabled at {endpoint}; expected one that can be downloaded"
    if (
        isinstance(error, errors.RepositoryNotFoundError) or status == 401
    ):  # as the hub answers for what it does not show
        return (
            f"{endpoint} has no repository {repository}, or a private one; check the name, and for a private one "
            f"give a token: {TOKEN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repository} has no revision {shown(repr(wanted.revision))} at {endpoint}; expected a branch, a tag or "
            "a whole commit hash, as its page lists them"
        )
    if status == 403:
        return f"{endpoint} refuses {repository} with status {status}; expected access: {TOKEN}"
    return f"{endpoint} answers {repository} with status {status}; try again later" if status else None


def _offline(wanted: HubId, missing: Sequence[str]) -> str:
    """What to do where HF_HUB_OFFLINE forbids to fetch."""
    from huggingface_hub import constants

    cache = constants.HF_HUB_CACHE
    what = f" {_listed(missing)} of" if missing else ""
    return (
        f"HF_HUB_OFFLINE is set, and the cache {shown(cache)} lacks{what} {wanted}; unset it, or run "
        f"`hf download {wanted.repository}{f' --revision {wanted.revision}' if wanted.revision else ''}` where there "
        "is a network, and HF_HOME names this cache"
    )


def _disk(causes: Sequence[BaseException], wanted: HubId, cache: str) -> str | None:
    codes = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if codes & {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"the disk of the cache {shown(cache)} is full, so {wanted} cannot be fetched; make room (`hf cache rm` "
            "removes what is not needed), or set HF_HOME to a folder on another disk; files that are complete stay"
        )
    if codes & {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"the cache {shown(cache)} cannot be written to, to fetch {wanted}; set HF_HOME to a folder that can"
    return None


def _unreachable(causes: Sequence[BaseException], wanted: HubId, endpoint: str) -> str:
    first = causes[-1]
    said = " ".join(str(first).split())
    return (
        f"{wanted} cannot be fetched from {endpoint}, and the cache does not have all of it: {type(first).__name__}"
        f"{f' ({shown(said)})' if said else ''}; check the network, the proxy and HF_ENDPOINT, and start again: "
        "files that are complete stay"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """It, and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - FIRST} more" if len(names) > FIRST else ""
    return f"{', '.join(map(shown, names[:FIRST]))}{more}"
