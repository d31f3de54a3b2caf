"""Where to listen."""

import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple


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
