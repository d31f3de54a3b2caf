"""The HTTP side: where to listen, metrics for Prometheus, and a page for a person."""

import errno
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from socketserver import TCPServer
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from sdnotify import SystemdNotifier  # type: ignore[import-untyped]  # it ships no types

from oomguard.core.errors import OomguardError
from oomguard.exporter.page import Page, as_html, as_text
from oomguard.report.streams import complain

PATH = "/metrics"

_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Vary", "Accept"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Headers of the page: it runs no script and loads nothing, whatever gets into it."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @property
    def family(self) -> int:
        """The socket family of this address."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse ADDRESS:PORT. ValueError: it is not valid; the message says what is allowed."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"must be ADDRESS:PORT with a port from 0 to 65535, got {text!r}")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        if host.startswith("[") and host.endswith("]"):
            return Address(str(IPv6Address(host[1:-1])), int(port))
        return Address(str(IPv4Address(host)), int(port))
    except AddressValueError as error:
        raise ValueError(
            f"must be an IP address before the port, such as 127.0.0.1:{port}, [::1]:{port}, or "
            f"0.0.0.0:{port} for every network; got {text!r}"
        ) from error


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        """Log no scrape."""


_OPEN_LIMIT = 16
"""Connections at once, half of the unit's TasksMax=. For one more, the oldest is closed."""


class Server(ThreadingWSGIServer):
    """Answers each request in a thread, and closes connections that are too old or too many."""

    longest_seconds = 10.0
    """How long a connection may take: an answer takes milliseconds, but a client can send a byte a second."""
    request_queue_size = 128
    """Connections that wait to be accepted. The kernel drops more, and a client retries after a second."""

    def __init__(self, address: Address, app: Callable[..., Iterable[bytes]]) -> None:
        self.address_family = address.family
        self._opened: dict[socket.socket, float] = {}
        super().__init__((address.host, address.port), _Handler)
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread."""
        while len(opened := list(self._opened)) >= _OPEN_LIMIT:  # a copy: threads remove theirs meanwhile
            self._cut(opened[0])
        self._opened[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._opened.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close the connections that are too old; socketserver calls this twice a second."""
        latest = time.monotonic() - self.longest_seconds
        for request in [request for request, since in list(self._opened.items()) if since < latest]:
            self._cut(request)

    def _cut(self, request: socket.socket) -> None:
        """Make the thread of a connection notice that it is closed."""
        self._opened.pop(request, None)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Bind, without the base class's search for a name, which asks the DNS."""
        TCPServer.server_bind(self)
        host, self.server_port = self.socket.getsockname()[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, _request: object, client_address: object) -> None:
        """Print one line about a request that failed; ignore clients that disconnect."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            complain(f"oomguard: a request from {client_address} failed: {error!r}")


def serve(registry: CollectorRegistry, home: Callable[[], Page], address: Address) -> None:
    """Answer requests until SIGTERM or SIGINT. OomguardError: the address cannot be listened on."""
    try:
        server = Server(address, _routes(make_wsgi_app(registry), home))
    except OSError as error:
        port = "a port from 1024 on" if error.errno == errno.EACCES else "a free port"
        raise OomguardError(
            f"cannot listen on {address}: {error.strerror}",
            hint=f"use --listen ADDRESS:PORT with an address of this host and {port}",
        ) from error
    with server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit())
        bound = Address(address.host, server.server_port)
        complain(f"oomguard: metrics are at http://{bound}{PATH}")
        SystemdNotifier().notify(f"READY=1\nSTATUS=http://{bound}{PATH}")
        server.serve_forever()


def _routes(
    metrics: Callable[..., Iterable[bytes]], home: Callable[[], Page]
) -> Callable[..., Iterable[bytes]]:
    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method == "HEAD":
            got: list[Any] = []
            body = b"".join(app(environ | {"REQUEST_METHOD": "GET"}, lambda *head: got.extend(head)))
            status, headers = got
            start_response(status, [*headers, ("Content-Length", str(len(body)))])
            return []
        if path == PATH:
            # Its filter, `name[]`, would leave nothing: it needs the names ahead of the scrape.
            environ |= {"QUERY_STRING": ""}
            try:
                return metrics(environ, start_response)
            except TypeError:  # prometheus_client compares a version in Accept that is not a number
                return metrics(environ | {"HTTP_ACCEPT": ""}, start_response)
        if path == "/" and method == "GET":
            is_browser = "text/html" in environ.get("HTTP_ACCEPT", "")
            kind, render = ("html", as_html) if is_browser else ("plain", as_text)
            start_response("200 OK", [("Content-Type", f"text/{kind}; charset=utf-8"), *_HEADERS])
            return [render(home())]
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"not found; metrics are at {PATH}\n".encode()]

    return app
