"""The server that the tests of @trigger.dev's packages share."""

from __future__ import annotations

from dataclasses import dataclass

from serving import Serving


@dataclass(frozen=True)
class RunsServer:
    """A pgtide that lets in whoever has a key: `root_key` is one that clients sign tokens with
    themselves, for `listed_key` (by its form) they ask pgtide to."""

    serving: Serving
    database_url: str
    root_key: str = "tr_prod_test-of-the-clients-0001"
    listed_key: str = "tr_prod_sk_0123456789abcdefABCDEF01"

    @property
    def url(self) -> str:
        return self.serving.url

    @property
    def environ(self) -> dict[str, str]:
        """For programs of node."""
        return {
            "PGTIDE_URL": self.url,
            "TRIGGER_API_URL": self.url,
            "TRIGGER_SECRET_KEY": self.root_key,
            "PGTIDE_ROOT_KEY": self.root_key,
            "PGTIDE_LISTED_KEY": self.listed_key,
            "DATABASE_URL": self.database_url,
        }
