"""Decide who may see the page: this machine's own browser, or whoever has the token."""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field

COOKIE = "pixel_hrl_token"
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Access:
    """Hold what a request must show.

    host: address that the page is served on.
    token: asked of every request where the host is another than this machine's own; else empty.
    """

    host: str = "127.0.0.1"
    token: str = field(default="", repr=False)

    def admits(self, host_header: str, given: str) -> bool:
        """Return whether a request may be answered.

        Args:
            host_header: the name under which the page was asked for. On this machine's own address
                only its own names count, so that no other page can read this one by a name that
                it lets point here.
            given: the token of the request; empty for none.
        """
        if not self.token:
            return _name(host_header) in (*LOCAL_NAMES, self.host, f"[{self.host}]")
        return hmac.compare_digest(given.encode(), self.token.encode())


def access_for(host: str) -> Access:
    """Return what is asked of requests where the page is served on an address.

    Without a host it is served on this machine's own address alone, and asks for nothing. A host
    that others may reach asks for a token that is made anew at each start.
    """
    if not host:
        return Access()
    host = host.strip("[]")  # as an address of IPv6 is written in a page's address
    return Access(host, "" if _is_local(host) else secrets.token_urlsafe(24))


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host_header: str) -> str:
    """Return the name of a Host header without its port."""
    if host_header.startswith("["):
        return host_header.partition("]")[0] + "]"
    return host_header.partition(":")[0]
