"""The HTTP side: one page, to be scraped."""

import signal
import sys
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, NoReturn
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from sdnotify import SystemdNotifier  # type: ignore[import-untyped]  # it ships no types

from oomguard.core.errors import OomguardError
from oomguard.exporter.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from prometheus_client import CollectorRegistry

PATH = "/metrics"

_HOME = f'<!doctype html><title>oomguard</title><a href="{PATH}">{PATH}</a>\n'.encode()


class _Handler(WSGIRequestHandler):
    timeout = 5
    """A client that says nothing for so many seconds is hung up on; seconds, as socketserver has it."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        """Log no scrape."""


class _Server(ThreadingWSGIServer):
    def server_bind(self) -> None:
        """Bind, without the base class's search for a name, which asks the DNS."""
        TCPServer.server_bind(self)
        host, self.server_port = self.socket.getsockname()[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, _request: object, client_address: object) -> None:
        """Say in a line what went wrong with a request; a client that hung up is nothing to say."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"oomguard: a request of {client_address} failed: {error!r}", file=sys.stderr, flush=True)


def serve(registry: "CollectorRegistry", address: Address) -> None:
    """Answer scrapes until SIGTERM or SIGINT."""
    made = type("_Server", (_Server,), {"address_family": address.family})
    try:
        server = made((address.host, address.port), _Handler)
    except OSError as error:
        raise OomguardError(
            f"cannot listen on {address}: {error.strerror}",
            hint="--listen ADDRESS:PORT takes an address of this host, and a port that is free",
        ) from error
    with server:
        server.set_app(_routes(make_wsgi_app(registry)))
        signal.signal(signal.SIGTERM, _stop)
        bound = Address(address.host, server.server_port)
        print(f"oomguard: metrics are at http://{bound}{PATH}", file=sys.stderr, flush=True)
        SystemdNotifier().notify(f"READY=1\nSTATUS=http://{bound}{PATH}")
        server.serve_forever()


def _stop(_number: int, _frame: "FrameType | None") -> NoReturn:
    raise SystemExit(0)


def _routes(metrics: "Callable[..., Iterable[bytes]]") -> "Callable[..., Iterable[bytes]]":
    def app(environ: dict[str, Any], start_response: "Callable[..., object]") -> "Iterable[bytes]":
        path = environ["PATH_INFO"]
        if path == PATH:
            return metrics(environ, start_response)
        if path == "/" and environ["REQUEST_METHOD"] == "GET":
            start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [_HOME]
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"there is nothing here but {PATH}\n".encode()]

    return app
