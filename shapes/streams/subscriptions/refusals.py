"""Why something cannot be done with a subscription, in the words of the protocol. Pure."""

from __future__ import annotations

from enum import Enum

from engine.errors import PgtideError


class Code(Enum):
    """By which clients tell refusals apart."""

    INVALID_REQUEST = "INVALID_REQUEST"
    WEBHOOK_URL_REJECTED = "WEBHOOK_URL_REJECTED"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    NOT_FOUND = "SUBSCRIPTION_NOT_FOUND"
    ALREADY_EXISTS = "SUBSCRIPTION_ALREADY_EXISTS"
    FENCED = "FENCED"
    ALREADY_CLAIMED = "ALREADY_CLAIMED"
    NO_PENDING_WORK = "NO_PENDING_WORK"
    INVALID_OFFSET = "INVALID_OFFSET"


class SubscriptionError(PgtideError):
    """Refused; `more` goes into the answer beside code and message."""

    code = "subscription_refused"

    def __init__(self, why: Code, message: str, **more: object) -> None:
        super().__init__(message)
        self.why = why
        self.more = more


def invalid(message: str) -> SubscriptionError:
    return SubscriptionError(Code.INVALID_REQUEST, message)
