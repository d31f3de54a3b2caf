"""What clients can do to the exporter's server: nobody keeps it from answering others."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app

from oomguard.exporter.server import Address, Server, _routes

BODY = b"x" * 32 * 1024 * 1024
"""More than the kernel keeps for a client that does not read."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server with a short deadline."""

    def app(environ: dict[str, str], start_response: object) -> list[bytes]:
        assert callable(start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [BODY if environ["PATH_INFO"] == "/long" else b"fine"]

    with Server(Address("127.0.0.1", 0), app) as made:
        made.longest_seconds = 1.0
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def connect(server: Server) -> socket.socket:
    """Return a connection to the server."""
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=10)


def get(server: Server) -> bytes:
    """Return an answer of the server."""
    url = f"http://127.0.0.1:{server.server_port}/"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def test_who_sends_a_byte_now_and_then_is_disconnected(server: Server) -> None:
    """The time for one read begins again with each byte; that for the connection does not."""
    begun = time.monotonic()
    with connect(server) as slow, suppress(ConnectionError):
        slow.sendall(b"GET / HTTP/1.1\r\n")
        slow.settimeout(0.1)
        while time.monotonic() < begun + 10:
            slow.sendall(b"X")
            with suppress(TimeoutError):
                assert slow.recv(1) == b""
                break
    assert 0.9 < time.monotonic() - begun < 8
    assert get(server) == b"fine"


def test_who_never_reads_is_disconnected(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """However long the answer is; that it did not arrive is no line in the log."""
    with connect(server) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /long HTTP/1.1\r\n\r\n")
        threads = threading.active_count
        end = time.monotonic() + 4  # without a deadline the write would fail after 5 s
        while threads() < 3 and time.monotonic() < end:
            time.sleep(0.001)
        while threads() > 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert threads() == 2, "this one, and that of the server"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=zz", "text/plain;version=zz"])
def test_a_version_that_is_no_number_gets_the_usual_metrics(accept: str) -> None:
    """Instead of a traceback in the log for each request."""
    registry = CollectorRegistry()
    Gauge("oomguard_x", "x", registry=registry).set(5)
    answers: list[str] = []
    app = _routes(make_wsgi_app(registry), lambda: pytest.fail("the page is not asked for"))
    asked = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "HTTP_ACCEPT": accept}
    body = b"".join(app(asked, lambda status, _headers: answers.append(status)))
    assert answers == ["200 OK"]
    assert b"oomguard_x 5.0\n" in body


def test_many_silent_clients_keep_nobody_out_and_take_no_more_threads(server: Server) -> None:
    """For each one more, the oldest is disconnected; nobody waits for the kernel's second try to connect."""
    server.longest_seconds = 60.0
    begun = time.monotonic()
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(60)]
        assert get(server) == b"fine"
        assert time.monotonic() - begun < 4  # 9 s with the five places of socketserver
        assert silent[0].recv(1) == b""
        end = time.monotonic() + 10
        while threading.active_count() > 18 and time.monotonic() < end:
            time.sleep(0.01)
        assert threading.active_count() <= 18
        assert get(server) == b"fine"
