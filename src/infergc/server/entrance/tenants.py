"""Tenants: with whose API key a request came, and the salt that keeps its KV and its sessions from all others.

A key itself is kept nowhere: what is compared, and what salts are made of, is its BLAKE2b digest (RFC 7693).
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from fastapi import Request

_PERSON = b"infergc-tenant"  # so that digests of a key made elsewhere, for something else, are others
_LABEL_PERSON = b"infergc-label"
_BYTES = 32
_LABEL_BYTES = 4  # enough to tell some hundred tenants apart, far too few to find a key by


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who sends a request.

    Attributes:
        secret: digest of its API key; empty where the server asks for none.
    """

    secret: bytes = field(default=b"", repr=False)

    @property
    def label(self) -> str:
        """A name for logs, 8 hexadecimal digits, which stays the same; "" where the server asks for no key."""
        if not self.secret:
            return ""
        return blake2b(self.secret, digest_size=_LABEL_BYTES, person=_LABEL_PERSON).hexdigest()

    def salt(self, cache_salt: str = "") -> str:
        """The salt of the tenant's cache that it calls so itself, the same after a restart.

        It is a keyed digest of the name: nobody without the key can say a name that gives it. Without keys it is the
        name, as in vLLM: then tenants are who they say they are. Cost: about 2 µs.
        """
        if not self.secret:
            return cache_salt
        return blake2b(cache_salt.encode(), digest_size=_BYTES, key=self.secret).hexdigest()


class Keyring:
    """The API keys that are let in, as tenants."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._tenants = [Tenant(_secret(key.encode())) for key in dict.fromkeys(keys)]

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def tenant(self, key: bytes) -> Tenant | None:
        """Whose key it is, None if nobody's. Takes as long whoever it is: every key is compared, digest by digest."""
        given, found = _secret(key), None
        for tenant in self._tenants:
            if hmac.compare_digest(given, tenant.secret):
                found = tenant
        return found


def tenant_of(http: Request) -> Tenant:
    """Who sent a request, as ``limits.Keys`` found out."""
    tenant: Any = getattr(http.state, "tenant", None)
    return tenant if isinstance(tenant, Tenant) else Tenant()


def _secret(key: bytes) -> bytes:
    return blake2b(key, digest_size=_BYTES, person=_PERSON).digest()
