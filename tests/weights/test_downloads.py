"""Downloads from a server on this machine that can misbehave."""

import hashlib
import os
import re
import shutil
import socket
import threading
import urllib.request
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from minifcn.files import FileError, InUseError
from minifcn.weights import PUBLISHED, download, downloads

CONTENT = np.random.default_rng(0).bytes(3_000_017)
FILE = f"tiny-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Server(ThreadingHTTPServer):
    """Sends a file, and records the requests.

    Attributes:
        content: The file.
        ranges: Whether it sends parts.
        stops: Bytes after which it closes the connection, for each request in turn; then it sends all.
        stalls: Whether it waits instead of closing it.
        location: Where it redirects to, if anywhere.
        length_text: The length that it declares, if another one.
        length: Whether it says how much it sends.
        status: Its answer instead of the file, if any.
        shift: Difference between the parts it sends and those that were requested.
        asked: Headers of all requests.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.stops, self.stalls = CONTENT, True, [], False
        self.location, self.length_text, self.over = None, None, threading.Event()
        self.length, self.status, self.shift, self.asked = True, None, 0, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/models"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server, start = self.server, 0
        server.asked.append(self.headers)
        if server.location is not None:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if server.status is not None or self.path != f"/models/{FILE}":
            self.send_error(server.status or 404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.ranges:
            start = int(wanted[1])
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start + server.shift}-{last}/{last + 1}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", server.length_text or str(len(server.content) - start))
        self.end_headers()
        stop = server.stops.pop(0) if server.stops else None
        self.wfile.write(server.content[start:][:stop])
        if server.stalls and stop is not None:
            server.over.wait(10)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setitem(PUBLISHED, "tiny", FILE)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def fetch(server, folder):
    return download("tiny", folder, url=server.url, progress=False)


def names(folder):
    return sorted(os.listdir(folder))


def test_the_published_files():
    """Names and digits as torchvision's documentation of its weights has them."""
    assert sorted(PUBLISHED.values()) == [
        *("alexnet-owt-7be5be79.pth", "googlenet-1378be20.pth", "mobilenet_v2-b0353104.pth"),
        *("resnet101-63fe2227.pth", "resnet152-394f9c45.pth", "resnet18-f37072fd.pth"),
        *("resnet34-b627a593.pth", "resnet50-0676ba61.pth"),
        *("squeezenet1_0-b66bff10.pth", "squeezenet1_1-b8a52dc0.pth"),
        *("vgg11-8a719046.pth", "vgg11_bn-6002323d.pth", "vgg13-19584684.pth", "vgg13_bn-abd245e5.pth"),
        *("vgg16-397923af.pth", "vgg16_bn-6c64b313.pth", "vgg19-dcbb9e9d.pth", "vgg19_bn-c79401a0.pth"),
    ]
    assert all(file.startswith(name) for name, file in PUBLISHED.items())
    assert downloads.URL == "https://download.pytorch.org/models"
    with pytest.raises(ValueError, match=r"unknown file of weights 'caffenet': known are .*vgg16"):
        download("caffenet")


def test_a_file_is_downloaded_once(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    file = fetch(server, folder)
    assert (file, file.read_bytes()) == (folder / FILE, CONTENT)
    assert names(folder) == [FILE]
    assert len(server.asked) == 1
    assert fetch(server, folder) == file
    assert len(server.asked) == 1


@pytest.mark.parametrize("stalls", [False, True])
def test_a_server_that_stops_is_asked_for_the_rest(server, tmp_path, stalls, monkeypatch):
    """Nothing that has arrived is lost, even less than a block."""
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    server.stops, server.stalls = [500_000, 499_999, 1, 1_000_001], stalls
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    asked = [headers["Range"] for headers in server.asked]
    assert asked == [None, *(f"bytes={n}-" for n in (500_000, 999_999, 1_000_000, 2_000_001))]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_continued(server, tmp_path, ranges):
    server.ranges = ranges
    for stops in ([1_000_000, 0], [700_001, 0]):
        server.stops = stops
        with pytest.raises(OSError, match=r"stopped after [\d,]+ of 3,000,017 bytes .* continues"):
            fetch(server, tmp_path)
        assert FILE not in names(tmp_path)
    part = tmp_path / f"{FILE}.part"
    assert not part.exists() or part.stat().st_size == (1_700_001 if ranges else 0)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == [FILE]
    *_, asked = server.asked
    assert asked["Range"] == ("bytes=1700001-" if ranges else None)


def test_the_time_is_limited(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_MAX_SECONDS", 0)
    with pytest.raises(OSError, match=r"stopped after [\d,]+ of 3,000,017 bytes \(0 seconds are over\)"):
        fetch(server, tmp_path)
    monkeypatch.setattr(downloads, "_MAX_SECONDS", 99)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    *_, asked = server.asked
    assert asked["Range"]  # it continued


@pytest.mark.parametrize(
    "location",
    [
        *("ftp://127.0.0.1/a", "file:///etc/passwd", "data:,a", "javascript:1", "http://", "//", ""),
        *("http://[::1", "http://127.0.0.1:port/", "http://127.0.0.1:99999/", "http://a\x7fb/"),
        *(f"http://{'a' * 300}/", f"/models/{FILE}"),
    ],
)
def test_bad_redirects_are_errors_in_one_sentence(server, tmp_path, location):
    server.location = location
    with pytest.raises(OSError, match=f"{FILE} (cannot be reached|is not available)") as refusal:
        fetch(server, tmp_path)
    assert str(refusal.value).isprintable()
    assert names(tmp_path) == []


def test_no_redirect_leads_from_https_to_http():
    request = urllib.request.Request("https://a/b")
    with pytest.raises(OSError, match="redirects from https to http://a/b"):
        downloads._Redirects().redirect_request(request, None, 302, "", {}, "http://a/b")


@pytest.mark.parametrize("url", ["ftp://a", "file:///tmp", "models"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match="url must begin with https:// or http://, got"):
        download("vgg16", tmp_path, url=url)


@pytest.mark.parametrize(
    ("length", "said"), [("9" * 5000, "at most"), *((n, None) for n in ("-5", "x", "³"))]
)
def test_lengths_of_other_kinds(server, tmp_path, length, said):
    server.length_text = length
    if said is None:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(FileError, match=said):
            fetch(server, tmp_path)


def test_a_file_that_changed_on_the_server_has_the_wrong_hash(server, tmp_path):
    server.content, server.stops = CONTENT[::-1], [1_000_000, 0]
    with pytest.raises(OSError, match="stopped after 1,000,000"):
        fetch(server, tmp_path)
    server.content = CONTENT
    with pytest.raises(FileError, match=r"not the published file .* and was deleted"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_verified(server, tmp_path):
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == [FILE]


@pytest.mark.parametrize("arrived", [b"", CONTENT[:-1] + b"?", CONTENT + b"?", b"?" * 1000])
def test_a_download_with_the_wrong_hash_is_deleted(server, tmp_path, arrived):
    part = tmp_path / f"{FILE}.part"
    if arrived:
        part.write_bytes(arrived)
    else:
        server.content = CONTENT[:-1] + b"?"
    with pytest.raises(FileError, match=r"is not the published file .* and was deleted") as refusal:
        fetch(server, tmp_path)
    assert str(refusal.value).count("\n") == 0
    assert names(tmp_path) == []
    server.content = CONTENT
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert "Range" not in server.asked[-1]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_second_download_is_refused_and_changes_nothing(server, tmp_path, ranges):
    """At any moment of the first one, which sends half of the file, then waits."""
    server.ranges, server.stops = ranges, [1_000_000, 0]
    with pytest.raises(OSError, match="stopped after"):
        fetch(server, tmp_path)
    refusals = []

    class Second(bytes):
        def __getitem__(self, key):
            with pytest.raises(InUseError, match=rf"{FILE}\.part is in use") as refusal:
                fetch(server, tmp_path)
            refusals.append(refusal)
            return CONTENT[key]

    server.content = Second(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert refusals
    assert names(tmp_path) == [FILE]


def test_nothing_is_appended_through_a_link(server, tmp_path):
    (tmp_path / "mine").write_bytes(CONTENT[:1000])
    (tmp_path / f"{FILE}.part").symlink_to("mine")
    with pytest.raises(FileError, match=r"part is no regular file"):
        fetch(server, tmp_path)
    assert (tmp_path / "mine").read_bytes() == CONTENT[:1000]
    assert server.asked == []


def test_a_server_that_sends_no_length(server, tmp_path):
    server.length = False
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_an_existing_file_is_not_overwritten(server, tmp_path):
    (tmp_path / FILE).write_bytes(b"mine")
    with pytest.raises(FileError, match=f"{FILE} exists, and it is not the published file: move it away"):
        fetch(server, tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "said"), [(404, "404 Not"), (503, "503 Service Unavailable"), (416, "416 ")]
)
def test_errors_of_the_server(server, tmp_path, status, said):
    server.status = status
    with pytest.raises(OSError, match=f"models/{FILE} is not available: the server answers {said}"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_a_wrong_range_is_refused(server, tmp_path):
    part = tmp_path / f"{FILE}.part"
    part.write_bytes(CONTENT[:1000])
    server.shift = 1
    with pytest.raises(OSError, match="was asked for its bytes from 1000 on, and the server sends others"):
        fetch(server, tmp_path)
    assert part.read_bytes() == CONTENT[:1000]


def test_an_unreachable_server(monkeypatch, tmp_path):
    monkeypatch.setitem(PUBLISHED, "tiny", FILE)
    with socket.socket() as reserved:  # a port at which nobody listens
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(OSError, match=r"cannot be reached: .*refused"):
            download("tiny", tmp_path, url=url, progress=False)
    assert names(tmp_path) == []


def test_a_full_disk_is_detected_before_writing(server, tmp_path, monkeypatch):
    room = namedtuple("Room", "total used free")(10**9, 10**9 - 2_000_000, 2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: room)
    with pytest.raises(OSError, match=r"takes 3,000,017 bytes more, and .* has room for 2,000,000"):
        fetch(server, tmp_path)
    assert not (tmp_path / f"{FILE}.part").exists()
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[: 3_000_017 - 2_000_001])
    with pytest.raises(OSError, match="takes 2,000,001 bytes more"):
        fetch(server, tmp_path)
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[: 3_000_017 - 2_000_000])  # the rest has just room
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False])
def test_files_that_are_too_large_are_refused(server, tmp_path, monkeypatch, length):
    monkeypatch.setattr(downloads, "MAX_BYTES", len(CONTENT) - 1)
    server.length = length
    with pytest.raises(FileError, match=r"3,000,016"):
        fetch(server, tmp_path)
    assert not {FILE, f"{FILE}.part"} & set(names(tmp_path))
    monkeypatch.setattr(downloads, "MAX_BYTES", len(CONTENT))
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_sends_no_more(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    silence = threading.Event()

    class Slow(bytes):
        def __getitem__(self, key):
            silence.wait(2)
            return b""

    server.content = Slow(CONTENT)
    with pytest.raises(OSError, match=r"stopped after 0 of 3,000,017 bytes .*timed out"):
        fetch(server, tmp_path)
    silence.set()
