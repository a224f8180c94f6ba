"""The hub, through `huggingface_hub` (the extra `hub`): what a repository holds, and the bytes of a file.

The library reads HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and the token of `hf auth login` by itself. Its
own `hf_hub_download` throws away what has come when it is ended (2.4.0), so the bytes go through its `http_get` into a
file of ours, from where the last try ended. That asks the hub for each piece anew: signed addresses don't grow old.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from roundhouse.app.hub.offers import HubFile
from roundhouse.app.hub.problems import HubProblem, HubRefusal

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING: Final = "Pulling models needs the package huggingface_hub: pip install 'roundhouse-llm[hub]'."
LIMIT: Final = 20.0
"""Seconds for the hub to answer."""
LARGEST: Final = 50 * 10**9
"""Bytes of the largest file that the hub gives by plain HTTP; larger ones need its own protocol (Xet)."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]


class Hub:
    """The hub as this user reaches it. Raises HubProblem if the library is not installed.

    Attributes:
        endpoint: its address.
    """

    def __init__(self) -> None:
        try:
            self._library: Any = import_module("huggingface_hub")
            self._download: Any = import_module("huggingface_hub.file_download")
        except ImportError:
            raise HubProblem(MISSING) from None
        self._library.utils.logging.set_verbosity_error()  # what it says of retries holds addresses
        self._library.utils.disable_progress_bars()
        self.endpoint = (os.environ.get("HF_ENDPOINT") or self._library.constants.ENDPOINT).rstrip("/")

    def listing(self, repository: str, revision: str | None) -> Listing:
        """All files of a repository. Raises HubProblem, HubRefusal."""
        with self._in_words(repository, revision):
            told = self._library.HfApi(endpoint=self.endpoint).model_info(
                repository, revision=revision, files_metadata=True, timeout=LIMIT
            )
        files = (_file(sibling) for sibling in told.siblings or ())
        return Listing(repository, told.sha, tuple(file for file in files if file is not None))

    def read(self, listing: Listing, file: HubFile, into: BinaryIO, start: int) -> None:
        """Writes a file from byte `start` on; a connection that breaks is taken up again some times.

        Args:
            listing: where it is.
            file: one of its files.
            into: written to, and from its start again (`seek`, `truncate`) where the hub can't go on in the middle.
            start: bytes that are there already.

        Raises:
            HubProblem, HubRefusal; OSError of `into` itself.
        """
        if file.size > LARGEST:
            raise HubProblem(
                f"{file.path} is larger than 50 GB, which the hub gives by its own protocol only:"
                f" hf download {listing.repository} {file.path} --local-dir FOLDER"
            )
        address = self._library.hf_hub_url(
            listing.repository, file.path, revision=listing.commit, endpoint=self.endpoint
        )
        # A compressed answer could not be taken up in the middle.
        headers = {**self._library.utils.build_hf_headers(), "accept-encoding": "identity"}
        with self._in_words(listing.repository, None, file.path):
            self._download.http_get(address, into, resume_size=start, headers=headers, expected_size=file.size)

    @contextmanager
    def _in_words(self, repository: str, revision: str | None, path: str = "") -> Iterator[None]:
        """Errors of the library as ours."""
        errors = self._library.errors
        # The library's HTTP client is httpx in version 1 and httpx2 in version 2; its errors derive from that one's.
        network = tuple(base for base in errors.HfHubHTTPError.__bases__ if base is not OSError)
        try:
            yield
        except errors.GatedRepoError:
            raise HubRefusal(
                f"{repository} is gated: accept its terms at {self.endpoint}/{repository}, then {self._sign_in()}."
            ) from None
        except errors.RevisionNotFoundError:
            raise HubRefusal(f"{repository} has no revision {revision!r}.") from None
        except errors.RepositoryNotFoundError:
            raise HubRefusal(
                f"There is no {repository} at {self.endpoint}, or it is private: correct it, or {self._sign_in()}."
            ) from None
        except errors.EntryNotFoundError:
            raise HubRefusal(f"{repository} has no {path} any more.") from None
        except errors.HFValidationError:
            raise HubRefusal(f"{repository!r} can't be the name of a repository.") from None
        except errors.OfflineModeIsEnabled:
            raise HubProblem("HF_HUB_OFFLINE is set, so the hub is not asked; unset it to pull.") from None
        except errors.HfHubHTTPError as error:
            status = getattr(error.response, "status_code", 0)
            made = HubRefusal if status in {401, 403, 404} else HubProblem
            raise made(f"The hub at {self.endpoint} answers HTTP {status} for {repository}.") from None
        except network as error:
            raise HubProblem(f"The hub at {self.endpoint} can't be reached ({_cause(error)}).") from None
        except OSError as error:
            if error.errno is not None:
                raise  # of the file that is written
            raise HubProblem(f"The hub sent another {path} than it said; try again.") from None
        except (ValueError, KeyError) as error:  # JSON that is none, or lacks what it should hold
            raise HubProblem(
                f"What answers at {self.endpoint} is no Hugging Face hub ({type(error).__name__})."
            ) from None

    def _sign_in(self) -> str:
        if self._library.get_token():
            return "give a token that may read it (HF_TOKEN, or hf auth login): the one you have may not"
        return "give a token: HF_TOKEN, or hf auth login"


def _file(sibling: Any) -> HubFile | None:  # noqa: ANN401 - the library's own class, which is not always installed
    if sibling.size is None:
        return None
    stored = sibling.lfs
    return HubFile(
        sibling.rfilename,
        int(sibling.size),
        cast("str", stored.sha256) if stored is not None else "",
        "" if stored is not None else sibling.blob_id or "",
    )


def _cause(error: BaseException) -> str:
    """What went wrong below, without addresses."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or type(error).__name__
