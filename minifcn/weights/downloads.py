"""Public weight files from the network: downloads are resumed, and verified before they get their name."""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from minifcn.files import FileError, locked
from minifcn.models import registry
from minifcn.weights.tensors import MAX_BYTES, shown

PUBLISHED = {name: published.file for name, published in registry.PUBLISHED.items() if published.file}
"""torchvision's files of weights from ImageNet. Each name ends in the first 8 hex digits of its SHA-256.

No more of the digests is published, so 32 bits are all that can be verified: enough against damage, but not
against somebody who forges a file on purpose.
"""

URL = "https://download.pytorch.org/models"

_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_MAX_SECONDS = 4 * 3600


class _StoppedError(OSError):
    """A server has stopped before the end of a file."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and from https to https only."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except BaseException:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("https:",) if req.type == "https" else ("https:", "http:")):
            raise urllib.error.URLError(f"it redirects from {req.type} to {shown(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    name: str, folder: str | os.PathLike[str] = ".", *, url: str | None = None, progress: bool = True
) -> Path:
    """Download a public weight file.

    A server that stops is asked for the rest, as long as each request brings some of it, for four hours at
    most. What has arrived of an interrupted download is kept beside the file, with the suffix ".part", and
    continued by the next call. A file that exists already is verified and not downloaded again. Only one
    process downloads a file. Verified are the digits that are published; see `PUBLISHED`.

    Args:
        name: One of `PUBLISHED`.
        folder: Where to put it; made if it does not exist.
        url: Folder on the server; torchvision's by default.
        progress: Whether to draw a progress bar, on terminals only.

    Returns:
        The file.

    Raises:
        ValueError: If the name is unknown, or the URL is not one of http or https.
        FileError: If the existing or the downloaded file is not the published one.
        InUseError: If another process is downloading it to the same folder.
        OSError: If the server cannot be reached or stops, or the disk is too full.

    Example:
        >>> path = download("squeezenet1_0", "weights")  # doctest: +SKIP
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown file of weights {name!r}: known are {', '.join(PUBLISHED)}")
    if not (url or URL).startswith(("https://", "http://")):
        raise ValueError(f"url must begin with https:// or http://, got {url!r}")
    target = Path(folder) / PUBLISHED[name]
    digits = target.stem.rpartition("-")[2]
    if target.exists():
        if not _is_published(target, digits):
            raise FileError(f"{target} exists, and it is not the published file: move it away")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    address = f"{url or URL}/{target.name}"
    with locked(part) as lock:
        try:
            _fetch_all(address, part, progress)
            if not _is_published(part, digits):
                os.truncate(part, 0)
                wrong = f"is not the published file (its SHA-256 does not begin with {digits})"
                raise FileError(f"the download from {address} {wrong}, and was deleted")
            if os.name == "nt":  # where files that are open cannot be renamed
                lock.close()
            part.replace(target)
        finally:
            if part.exists() and not part.stat().st_size:
                if os.name == "nt":
                    lock.close()
                part.unlink()
    return target


def _is_published(file: Path, digits: str) -> bool:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest().startswith(digits)


def _fetch_all(url: str, part: Path, progress: bool) -> None:
    """Request a file until it is complete, or a request has brought nothing."""
    deadline = time.monotonic() + _MAX_SECONDS
    while True:
        have = part.stat().st_size
        try:
            return _fetch(url, part, progress, deadline)
        except _StoppedError:
            if part.stat().st_size <= have or time.monotonic() > deadline:
                raise


def _fetch(url: str, part: Path, progress: bool, deadline: float) -> None:
    """Download a file, starting where the last download stopped; its hash is checked by the caller."""
    have = part.stat().st_size
    request = urllib.request.Request(url, headers={"User-Agent": "minifcn"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing follows what is there: it is complete, or wrong
            return
        reason = shown(error.reason)
        raise OSError(f"{url} is not available: the server answers {error.code} {reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: of a malformed address
        reason = shown(getattr(error, "reason", error) or type(error).__name__)
        raise OSError(f"{url} cannot be reached: {reason}") from error
    with response:
        if response.status != 206:  # the server sends the whole file
            have = 0
            os.truncate(part, 0)
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
            raise OSError(f"{url} was asked for its bytes from {have} on, and the server sends others")
        length = response.headers["Content-Length"] or ""
        number = length.isascii() and length.isdigit()
        total = have + int(length[:16]) if number else None  # numbers of 16 digits are too large in any case
        _check_room(url, part.parent, total or 0, have)
        _receive(url, response, part, have, total, progress, deadline)


def _check_room(url: str, folder: Path, total: int, have: int) -> None:
    """Refuse a file that is too large, before any of it is written."""
    if total > MAX_BYTES:
        raise FileError(f"{url} has {total:,} bytes, and at most {MAX_BYTES:,} are downloaded")
    free = shutil.disk_usage(folder).free
    if total - have > free:
        raise OSError(f"{url} takes {total - have:,} bytes more, and {folder} has room for {free:,}")


def _receive(
    url: str,
    response: http.client.HTTPResponse,
    part: Path,
    have: int,
    total: int | None,
    progress: bool,
    deadline: float,
) -> None:
    """Append what a server sends to what is there."""
    from tqdm import tqdm

    hidden = None if progress else True  # None: hidden where there is no terminal
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=hidden)
    stopped = ""
    with bar, part.open("ab") as file:
        try:
            # read1 returns what has arrived, so that nothing is lost when the connection stalls
            while have <= MAX_BYTES and (block := response.read1(_BLOCK)):
                have += file.write(block)
                bar.update(len(block))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{_MAX_SECONDS:,} seconds are over")
        except (OSError, http.client.HTTPException) as error:
            stopped = shown(str(error) or type(error).__name__)
    if have > MAX_BYTES:
        os.truncate(part, 0)
        raise FileError(f"{url} is larger than the {MAX_BYTES:,} bytes that are downloaded")
    if stopped or total not in (None, have):
        stopped = stopped or "the server sends no more"
        count = f"{have:,} of {total:,}" if total else f"{have:,}"
        said = f"{url} stopped after {count} bytes ({stopped})"
        raise _StoppedError(f"{said}: the next download continues there")
