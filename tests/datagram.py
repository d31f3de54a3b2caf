"""Journal datagrams, read as journald reads them (systemd, JOURNAL_NATIVE_PROTOCOL)."""

import struct


def parse_datagram(datagram: bytes) -> list[tuple[str, bytes]]:
    """Return the fields of a datagram, in order."""
    fields = []
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields.append((name.decode("ascii"), value))
        datagram = rest
    return fields
