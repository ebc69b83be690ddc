"""Refuse to speak to addresses that no repository and no registry lives at. Who may be spoken to at all is policy.

Link-local addresses are where clouds answer with the machine's own credentials; a URL in a
definition must not reach them, however it is spelt (decimal, IPv6-mapped, or a name that resolves there).
"""

from __future__ import annotations

import ipaddress
import socket

from pipeline.errors import Unavailable

_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})


def check(host: str, port: int = 443) -> list[str]:
    """Resolve a host and return its addresses.

    Raises:
        Unavailable: it does not resolve, or an address of it is link-local, multicast or unspecified.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"the host {host!r} can not be found: {error}",
            hint="Is the name right, and does this machine's DNS answer?",
        ) from error
    resolved = [str(entry[4][0]) for entry in found]
    for text in resolved:
        if _refused(text):
            raise Unavailable(
                f"the host {host!r} is at {text}, where no repository or registry may be",
                hint="Addresses of the link itself, such as 169.254.169.254, are refused.",
            )
    return resolved


def _refused(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA
