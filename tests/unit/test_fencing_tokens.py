"""Tokens of wakes, and what webhooks are signed with."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.streams.subscriptions.refusals import Code, SubscriptionError
from shapes.streams.subscriptions.signatures import Signatures
from shapes.streams.subscriptions.tokens import LIFE_SECONDS, Fence, FencingTokens

OLD, NEW, OTHER = (f"tr_prod_fencing-key-{name}-0123" for name in ("old", "new", "other"))
FENCE = Fence("default", "sub", 7)


def authority(*keys: str) -> Authority:
    return Authority(Settings(secret_keys=keys))


def why(tokens: FencingTokens, header: str | None, subscription: str = "sub") -> Code:
    with pytest.raises(SubscriptionError) as caught:
        tokens.read(header, subscription)
    return caught.value.why


def test_a_token_is_good_for_its_subscription_wherever_the_key_is_known() -> None:
    token = FencingTokens(authority(OLD)).make(FENCE)
    assert FencingTokens(authority(OLD)).read(f"Bearer {token}", "sub") == FENCE
    assert FencingTokens(authority(NEW, OLD)).read(f"bearer {token}", "sub") == FENCE
    assert why(FencingTokens(authority(NEW)), f"Bearer {token}") is Code.TOKEN_INVALID
    assert why(FencingTokens(authority(OLD)), f"Bearer {token}", "other") is Code.TOKEN_INVALID


def test_what_is_no_token() -> None:
    tokens = FencingTokens(authority(OLD))
    token = tokens.make(FENCE)
    text, _, seal = token.partition(".")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "epoch": 8}).encode()).decode()
    for header in (
        *(None, "", "Bearer", token, f"Basic {token}", f"Bearer {text}", f"Bearer {text}."),
        *(f"Bearer {forged.rstrip('=')}.{seal}", f"Bearer {token}x", "Bearer é.é", "Bearer a.b"),
        *(f"Bearer {OLD}", f"Bearer {'x' * 9000}", f"Bearer {'[' * 2000}.x"),
    ):
        assert why(tokens, header) is Code.TOKEN_INVALID, header


def test_a_token_ends() -> None:
    now = 1e9
    tokens = FencingTokens(authority(OLD), lambda: now)
    header = f"Bearer {tokens.make(FENCE)}"
    now += LIFE_SECONDS - 1
    assert tokens.read(header, "sub") == FENCE
    now += 1
    assert why(tokens, header) is Code.TOKEN_EXPIRED


def verify(signatures: Signatures, header: str, body: bytes) -> None:
    """As a receiver does. Raises InvalidSignature, and StopIteration for a key that is not listed."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    key = next(one for one in signatures.public_keys()["keys"] if one["kid"] == parts["kid"])
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    signature = base64.urlsafe_b64decode(parts["ed25519"] + "==")
    public.verify(signature, parts["t"].encode() + b"." + body)


def test_webhooks_can_be_verified_with_the_public_keys() -> None:
    signatures = Signatures(authority(OLD), "seed")
    header = signatures.sign("default", b'{"a":1}')
    verify(signatures, header, b'{"a":1}')
    with pytest.raises(InvalidSignature):
        verify(signatures, header, b'{"a":2}')
    (key,) = signatures.public_keys()["keys"]
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
    thumbprint = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": key["x"]}, separators=(",", ":"))
    digest = hashlib.sha256(thumbprint.encode()).digest()
    assert key["kid"] == f"ds_{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert key["kid"] == signatures.key_id("default")


def test_keys_that_are_on_their_way_in_or_out_are_listed() -> None:
    before = Signatures(authority(OLD, NEW), "seed")
    after = Signatures(authority(NEW, OLD), "seed")
    header = before.sign("default", b"x")
    verify(after, header, b"x")
    verify(before, after.sign("default", b"x"), b"x")
    assert before.key_id("default") != after.key_id("default")
    with pytest.raises(StopIteration):
        verify(Signatures(authority(NEW), "seed"), header, b"x")


def test_both_halves_of_the_key_matter(tmp_path: Path) -> None:
    settings = tmp_path / "pgtide.toml"
    settings.write_text(f'[environments.other]\nsecret_keys = ["{OTHER}"]\n')
    two = Signatures(Authority(Settings(secret_keys=(OLD,), config_file=settings)), "seed")
    ids = {
        Signatures(authority(OLD), "seed").key_id("default"),
        Signatures(authority(OLD), "another seed").key_id("default"),
        Signatures(authority(NEW), "seed").key_id("default"),
        two.key_id("other"),
    }
    assert len(ids) == 4
    assert {key["kid"] for key in two.public_keys()["keys"]} == {
        two.key_id("default"),
        two.key_id("other"),
    }
