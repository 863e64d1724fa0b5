"""Credentials that count, and every way in which one does not."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jwt
import pytest
from access_tokens import AUDIENCE, ISSUER, claims_of, encode, encoded, public_token, signed
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from engine.configuration.access_keys import read_access_keys
from engine.configuration.settings import Settings
from shapes.access.authority import MISSING, MOST_REMEMBERED, UNKNOWN, Authority
from shapes.access.claims import EXPIRED, INVALID
from shapes.access.grant import AuthenticationError, Grant, TableGrant
from shapes.access.keys import KeyRing
from shapes.access.scopes import Scope

KEY = "tr_dev_0123456789abcdefghij"
STAGING = "tr_stg_0123456789abcdefghij"
OLD, RESTRICTED = "tr_prod_old0123456789abcdef", "tr_prod_sk_0123456789abcdefghij0123"
PRIVATE_RSA = rsa.generate_private_key(65537, 2048)
OTHERS_RSA = rsa.generate_private_key(65537, 2048)
PRIVATE_EC = ec.generate_private_key(ec.SECP256R1())
PRIVATE_ED = ed25519.Ed25519PrivateKey.generate()
OCT_KEY = os.urandom(32)


class Clock:
    """Seconds since 1970, as the test wants them."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._begin = time.time()

    def __call__(self) -> float:
        return self._begin + self.ahead


def authority(
    clock: Clock | None = None,
    *,
    secret_keys: tuple[str, ...] = (KEY,),
    config_file: Path | None = None,
    insecure: bool = False,
) -> Authority:
    settings = Settings(secret_keys=secret_keys, config_file=config_file, insecure=insecure)
    return Authority(settings, clock or Clock())


def judge(judging: Authority, credential: str | None, *, public: bool = True) -> Grant:
    header = None if credential is None else f"Bearer {credential}"
    return judging.authenticate(header, public=public)


def refusal(judging: Authority, credential: str | None, *, public: bool = True) -> str:
    with pytest.raises(AuthenticationError) as caught:
        judge(judging, credential, public=public)
    return str(caught.value)


def jwk(private: Any, kid: str | None = None) -> dict[str, Any]:
    """The public part, as its owner would publish it."""
    kinds: list[tuple[type[Any], Any]] = [
        (rsa.RSAPrivateKey, RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, ECAlgorithm),
        (ed25519.Ed25519PrivateKey, OKPAlgorithm),
    ]
    algorithm = next(one for kind, one in kinds if isinstance(private, kind))
    made: dict[str, Any] = algorithm.to_jwk(private.public_key(), as_dict=True)
    return made if kid is None else made | {"kid": kid}


OCT: dict[str, Any] = {
    "kty": "oct",
    "kid": "oct",
    "k": encode(OCT_KEY),
}


def issuing(folder: Path, keys: list[dict[str, Any]], more: str = "") -> Path:
    """A settings file with an issuer whose keys lie in a file of their own."""
    (folder / "jwks.json").write_text(json.dumps({"keys": keys}))
    path = folder / "pgtide.toml"
    path.write_text(
        f"""
        [environments.staging]
        secret_keys = ["{STAGING}", {{ key = "{OLD}", expires_at = 2100-01-01T00:00:00Z }}]
        restricted_keys = [
            {{ sha256 = "{hashlib.sha256(RESTRICTED.encode()).hexdigest()}", scopes = ["read:runs"] }}
        ]
        [[signing_keys.issuers]]
        issuer = "https://login.example"
        audience = "pgtide"
        environment = "staging"
        jwks_file = "jwks.json"
        {more}
        """
    )
    return path


def issued(private: Any, algorithm: str, kid: str | None = None, **claims: Any) -> str:
    payload = claims_of(public_token(KEY, ["read:runs"], environment="someone"))
    payload |= {"iss": "https://login.example", "aud": "pgtide", **claims}
    return jwt.encode(payload, private, algorithm, headers={"kid": kid} if kid else None)


# -- keys ------------------------------------------------------------------------------------------


def test_a_secret_key_may_do_everything_in_its_environment(tmp_path: Path) -> None:
    judging = authority(config_file=issuing(tmp_path, [OCT]))
    for key, environment in ((KEY, "default"), (STAGING, "staging"), (OLD, "staging")):
        for public in (True, False):
            grant = judge(judging, key, public=public)
            assert (grant.environment, grant.unlimited) == (environment, True)


def test_a_restricted_key_is_known_by_its_hash(tmp_path: Path) -> None:
    judging = authority(config_file=issuing(tmp_path, [OCT]))
    grant = judge(judging, RESTRICTED, public=False)
    assert (grant.environment, grant.scopes) == ("staging", (Scope("read", "runs"),))
    assert not grant.public
    digest = hashlib.sha256(RESTRICTED.encode()).hexdigest()
    assert refusal(judging, digest) == UNKNOWN


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, MISSING),
        ("", MISSING),
        (KEY, MISSING),
        (f"Basic {KEY}", MISSING),
        ("Bearer ", MISSING),
        (f"Bearer {KEY}x", UNKNOWN),
        (f"Bearer {KEY[:-1]}", UNKNOWN),
        (f"Bearer {KEY.upper()}", UNKNOWN),
        ("Bearer a.b.c", UNKNOWN),
        ("Bearer ä", UNKNOWN),
    ],
)
def test_what_is_no_key_is_refused(header: str | None, message: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        authority().authenticate(header, public=True)
    assert str(caught.value) == message


def test_the_scheme_is_written_in_any_case() -> None:
    assert authority().authenticate(f"bearer  {KEY} ", public=False).unlimited


def test_a_rotated_key_and_its_tokens_count_until_it_expires(tmp_path: Path) -> None:
    clock = Clock()
    path = issuing(tmp_path, [OCT])
    path.write_text(path.read_text().replace("2100-01-01", "2040-01-01"))
    judging = authority(clock, config_file=path)
    of_old = public_token(OLD, ["read:runs"], environment="staging", exp=9e9)
    expires = judge(judging, of_old).expires_at
    assert expires == judge(judging, OLD).expires_at == 2208988800.0
    clock.ahead = 2208988800.0 - clock() + 1
    assert refusal(judging, OLD) == UNKNOWN
    assert refusal(judging, of_old) == INVALID
    assert judge(judging, STAGING).unlimited


# -- tokens ----------------------------------------------------------------------------------------


def test_a_token_that_the_client_signed() -> None:
    token = public_token(KEY, ["read:runs:run_1", "read:tags:user:1"], seconds=60)
    grant = judge(authority(), token)
    assert grant.environment == "default"
    assert grant.scopes == (Scope("read", "runs", "run_1"), Scope("read", "tags", "user:1"))
    assert grant.public
    assert (grant.skip_columns, grant.digest, grant.tables) == (None, None, ())
    assert grant.expires_at == claims_of(token)["exp"]


def test_everything_that_a_token_may_say() -> None:
    shapes = [{"table": "Orders", "columns": ["id"], "where": "a = $1", "params": {"1": 42}}]
    token = public_token(KEY, None, otu=True, realtime={"skipColumns": ["payload"]}, shapes=shapes)
    grant = judge(authority(), token)
    assert grant.scopes == ()
    assert grant.skip_columns == ("payload",)
    assert grant.realtime == {"skipColumns": ["payload"]}
    assert grant.digest is not None
    assert grant.tables == (TableGrant("public", "orders", ("id",), "a = $1", (("1", "42"),)),)


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://else.example"},
    {"iss": None},
    {"iss": ["https://id.trigger.dev"]},
    {"aud": "https://else.example"},
    {"aud": None},
    {"aud": ["https://else.example"]},
    {"exp": None},
    {"exp": "9999999999"},
    {"exp": True},
    {"nbf": 9e9},
    {"nbf": "soon"},
    {"iat": 9e9},
    {"sub": None},
    {"sub": "staging"},
    {"sub": 1},
    {"scopes": "admin"},
    {"scopes": {"read": True}},
    {"scopes": [["admin"]]},
    {"otu": "no"},
    {"realtime": "all"},
    {"realtime": {"skipColumns": "payload"}},
    {"shapes": {}},
    {"shapes": ["orders"]},
    {"shapes": [{"columns": ["id"]}]},
    {"shapes": [{"table": "a.b.c"}]},
    {"shapes": [{"table": "a", "columns": []}]},
    {"shapes": [{"table": "a", "columns": "id"}]},
    {"shapes": [{"table": "a", "where": 1}]},
    {"shapes": [{"table": "a", "where": " "}]},
    {"shapes": [{"table": "a", "params": [1]}]},
    {"shapes": [{"table": "a", "rows": "tenant = 1"}]},
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=str)
def test_a_token_with_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    payload = claims_of(public_token(KEY, ["read:runs"])) | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    assert refusal(authority(), signed(payload, KEY.encode())) == INVALID


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999"])
def test_an_expiry_that_is_no_number_is_none(number: str) -> None:
    payload = json.dumps(claims_of(public_token(KEY, [], exp=4711))).replace("4711", number)
    text = f"{encoded({'alg': 'HS256'})}.{encode(payload.encode())}"
    signature = hmac.new(KEY.encode(), text.encode(), hashlib.sha256).digest()
    assert refusal(authority(), f"{text}.{encode(signature)}") in (INVALID, UNKNOWN)


@pytest.mark.parametrize("pub", [None, False, 1, "true"])
def test_what_is_not_public_is_no_token(pub: object) -> None:
    assert refusal(authority(), public_token(KEY, ["admin"], pub=pub)) == UNKNOWN


def test_an_audience_may_be_one_of_several() -> None:
    token = public_token(KEY, [], aud=["https://else.example", AUDIENCE])
    assert judge(authority(), token).scopes == ()


def test_a_clock_that_is_a_little_ahead_is_forgiven_but_no_expiry() -> None:
    clock = Clock()
    judging = authority(clock)
    ahead = public_token(KEY, [], iat=clock() + 20, nbf=clock() + 20)
    assert judge(judging, ahead).public
    assert refusal(judging, public_token(KEY, [], nbf=clock() + 40)) == INVALID
    assert refusal(judging, public_token(KEY, [], exp=clock() - 0.01)) == EXPIRED


def test_a_token_that_was_seen_before_expires_all_the_same() -> None:
    clock = Clock()
    judging = authority(clock)
    token = public_token(KEY, ["read:runs"], seconds=60)
    first = judge(judging, token)
    assert judge(judging, token) is first
    clock.ahead = 61
    assert refusal(judging, token) == EXPIRED
    assert not judging.counts(first)


def test_more_tokens_than_are_remembered_all_count() -> None:
    judging = authority()
    token = public_token(KEY, ["read:runs"])
    first = judge(judging, token)
    for number in range(MOST_REMEMBERED):
        judge(judging, public_token(KEY, [], number=number))
    again = judge(judging, token)
    assert again == first
    assert again is not first


def test_where_only_keys_are_accepted_a_token_is_an_unknown_one() -> None:
    judging = authority()
    assert refusal(judging, public_token(KEY, ["admin"]), public=False) == UNKNOWN
    assert refusal(judging, judging.mint("default", ["admin"], 60), public=False) == UNKNOWN


# -- forgery ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["", "x", STAGING, KEY + "x", hashlib.sha256(KEY.encode()).hexdigest()]
)
def test_a_token_signed_with_another_key_is_refused(key: str) -> None:
    assert refusal(authority(), public_token(key, ["admin"])) == INVALID


def test_a_token_of_another_environment_s_key_is_refused(tmp_path: Path) -> None:
    judging = authority(config_file=issuing(tmp_path, [OCT]))
    assert refusal(judging, public_token(STAGING, [], environment="default")) == INVALID
    assert refusal(judging, public_token(KEY, [], environment="staging")) == INVALID
    assert refusal(judging, public_token(KEY, [], environment="nowhere")) == INVALID
    assert judge(judging, public_token(STAGING, [], environment="staging")).environment == "staging"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "HS512", "RS256", "", None, 1])
def test_the_algorithm_is_the_key_s(name: object) -> None:
    payload = claims_of(public_token(KEY, ["admin"]))
    for token in (
        signed(payload, KEY.encode(), {"alg": name}),
        f"{encoded({'alg': name})}.{encoded(payload)}.",
        f"{encoded({'alg': name})}.{encoded(payload)}.AA",
    ):
        assert refusal(authority(), token) in (INVALID, UNKNOWN)


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}]
)
def test_what_must_be_understood_and_is_not_is_refused(header: dict[str, Any]) -> None:
    token = public_token(KEY, ["admin"], header={"alg": "HS256", **header})
    assert refusal(authority(), token) == UNKNOWN


def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    """The classic confusion: HMAC with the text of the public key that verifies RSA."""
    judging = authority(config_file=issuing(tmp_path, [jwk(PRIVATE_RSA, "rsa")]))
    public = PRIVATE_RSA.public_key()
    texts = [
        public.public_bytes(serialization.Encoding.PEM, form)
        for form in (
            serialization.PublicFormat.SubjectPublicKeyInfo,
            serialization.PublicFormat.PKCS1,
        )
    ]
    texts += [json.dumps(jwk(PRIVATE_RSA, "rsa")).encode(), jwk(PRIVATE_RSA)["n"].encode()]
    payload = claims_of(issued(PRIVATE_RSA, "RS256"))
    for text in texts:
        for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": "rsa"}, {"alg": "RS256"}):
            for given in (payload, payload | {"iss": ISSUER, "aud": AUDIENCE, "sub": "staging"}):
                assert refusal(judging, signed(given, text, header)) == INVALID


def test_a_token_that_was_changed_is_refused() -> None:
    judging = authority()
    token = public_token(KEY, ["read:runs:a"])
    head, _, signature = token.split(".")
    more = encoded(claims_of(token) | {"scopes": ["admin"]})
    assert refusal(judging, f"{head}.{more}.{signature}") == INVALID
    assert judge(judging, token).public
    for spelled in (f"{token}=", f"{token} ", f"{token}\n", f"{token}.", f"{head}..{signature}"):
        if spelled.strip() != token:
            assert refusal(judging, spelled) == UNKNOWN


def test_a_token_has_one_spelling() -> None:
    """The last character of a signature has bits that no decoder reads."""
    token = public_token(KEY, [], otu=True)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [token[:-1] + char for char in alphabet if char != token[-1]]
    judging = authority()
    assert all(refusal(judging, other) in (UNKNOWN, INVALID) for other in others)


def test_a_one_time_token_is_the_same_however_it_is_signed(tmp_path: Path) -> None:
    """Signatures on curves are random: the same token twice is the same one-time token."""
    judging = authority(config_file=issuing(tmp_path, [jwk(PRIVATE_EC)]))
    first, second = (issued(PRIVATE_EC, "ES256", otu=True, jti="1", exp=9e9, iat=1) for _ in "ab")
    assert first != second
    assert judge(judging, first).digest == judge(judging, second).digest
    other = issued(PRIVATE_EC, "ES256", otu=True, jti="2", exp=9e9, iat=1)
    assert judge(judging, other).digest != judge(judging, first).digest


def test_an_oversized_token_is_refused() -> None:
    largest = public_token(KEY, [f"read:runs:{number}" for number in range(180)])
    assert len(largest) < 8192
    assert judge(authority(), largest).public
    larger = public_token(KEY, [f"read:runs:{number:040}" for number in range(180)])
    assert len(larger) > 8192
    assert refusal(authority(), larger) == INVALID


# -- tokens of pgtide's own ------------------------------------------------------------------------


def test_what_is_minted_is_accepted() -> None:
    judging = authority()
    scopes = [Scope("read", "runs", "run:1"), "write:inputStreams:run:1"]
    token = judging.mint("default", scopes, 60, {"skipColumns": ["output"]}, one_time=True)
    grant = judge(judging, token)
    assert grant.scopes == (Scope("read", "runs", "run:1"), Scope("write", "inputStreams", "run:1"))
    assert grant.skip_columns == ("output",)
    assert grant.digest is not None
    claims = claims_of(token)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, AUDIENCE, "default")
    assert claims["exp"] - claims["iat"] == 60
    assert KEY not in token


def test_other_processes_accept_what_one_has_minted() -> None:
    token = authority().mint("default", ["read:runs"], 60)
    assert judge(authority(), token).public
    assert refusal(authority(secret_keys=(STAGING,)), token) == INVALID


def test_headers_with_a_token() -> None:
    judging = authority()
    headers = dict(judging.token_headers("default", ["read:runs:a"], 60))
    assert judge(judging, headers[b"x-trigger-jwt"].decode()).public
    assert json.loads(headers[b"x-trigger-jwt-claims"]) == {"sub": "default", "pub": True}


def test_the_first_key_signs_and_all_verify() -> None:
    before = authority(secret_keys=(OLD,))
    between = authority(secret_keys=(KEY, OLD))
    after = authority(secret_keys=(KEY,))
    old, new = before.mint("default", [], 60), between.mint("default", [], 60)
    assert judge(between, old).public
    assert judge(after, new).public
    assert refusal(after, old) == INVALID
    assert judge(between, public_token(OLD, [])).public


def test_signing_keys_of_one_s_own_are_for_all_environments(tmp_path: Path) -> None:
    def ring(*kids: str) -> Authority:
        own = ", ".join(f'{{ kid = "{kid}", secret = "{kid * 16}" }}' for kid in kids)
        file = tmp_path / f"{'-'.join(kids)}.toml"
        secret = f'[environments.staging]\nsecret_keys = ["{STAGING}"]\n'
        file.write_text(f"{secret}[signing_keys]\nown = [{own}]")
        return authority(config_file=file)

    before, between, after = ring("1"), ring("2", "1"), ring("2")
    old, new = before.mint("staging", [], 60), between.mint("staging", [], 60)
    assert jwt.get_unverified_header(new) == {"alg": "HS256", "kid": "2"}
    assert judge(between, old).environment == "staging"
    assert judge(after, new).environment == "staging"
    assert refusal(after, old) == INVALID
    # They are no root keys, and an environment has to be one that there is.
    assert refusal(after, "2" * 16) == UNKNOWN
    assert refusal(after, after.mint("nowhere", [], 60)) == INVALID


# -- other issuers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [(PRIVATE_RSA, "RS256"), (PRIVATE_EC, "ES256"), (PRIVATE_ED, "EdDSA"), (OCT_KEY, "HS256")],
    ids=["RSA", "EC", "OKP", "oct"],
)
def test_a_token_of_an_issuer(private: Any, algorithm: str, tmp_path: Path) -> None:
    key = OCT if private is OCT_KEY else jwk(private, "a")
    judging = authority(config_file=issuing(tmp_path, [key]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kid in (None, key["kid"]):
            grant = judge(judging, issued(private, algorithm, kid))
            assert grant.environment == "staging"
            assert grant.scopes == (Scope("read", "runs"),)
        for wrong in (
            issued(private, algorithm, "another"),
            issued(private, algorithm, iss=ISSUER),
            issued(private, algorithm, aud=AUDIENCE),
            issued(private, algorithm, iss=ISSUER, aud=AUDIENCE, sub="staging"),
            issued(OTHERS_RSA, "RS256", key["kid"]),
            public_token(KEY, [], iss="https://login.example", aud="pgtide"),
        ):
            assert refusal(judging, wrong) == INVALID
        assert refusal(judging, issued(private, algorithm, exp=1)) == EXPIRED


def test_an_algorithm_is_bound_to_its_key(tmp_path: Path) -> None:
    """PS256 and RS256 have the same kind of key."""
    judging = authority(config_file=issuing(tmp_path, [jwk(PRIVATE_RSA) | {"alg": "PS256"}]))
    assert judge(judging, issued(PRIVATE_RSA, "PS256")).public
    assert refusal(judging, issued(PRIVATE_RSA, "RS256")) == INVALID


def test_a_key_set_is_read_again_when_it_changes(tmp_path: Path) -> None:
    judging = authority(config_file=issuing(tmp_path, [jwk(PRIVATE_RSA, "1")]))
    old, new = issued(PRIVATE_RSA, "RS256", "1"), issued(PRIVATE_EC, "ES256", "2")
    before = judge(judging, old)
    of_secret = judge(judging, public_token(KEY, []))
    assert refusal(judging, new) == INVALID
    assert not judging.refresh()

    both = {"keys": [jwk(PRIVATE_RSA, "1"), jwk(PRIVATE_EC, "2")]}
    (tmp_path / "jwks.json").write_text(json.dumps(both))
    assert judging.refresh()
    assert judge(judging, new).public
    assert judging.counts(before)

    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(PRIVATE_EC, "2")]}))
    assert judging.refresh()
    assert refusal(judging, old) == INVALID
    assert not judging.counts(before)
    assert judging.counts(of_secret)


def test_a_file_that_cannot_be_used_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = issuing(tmp_path, [jwk(PRIVATE_RSA, "1")])
    judging = authority(config_file=path)
    token = issued(PRIVATE_RSA, "RS256", "1")
    for broken in ("{", json.dumps({"keys": []})):
        (tmp_path / "jwks.json").write_text(broken)
        for _ in range(3):
            assert not judging.refresh()
    (tmp_path / "jwks.json").unlink()
    assert not judging.refresh()
    assert judge(judging, token).public
    # Each trouble is told once.
    assert len(caplog.records) == 3
    issuing(tmp_path, [jwk(PRIVATE_EC, "2")])
    assert judging.refresh()
    assert refusal(judging, token) == INVALID


def test_secret_keys_in_the_file_are_read_again_too(tmp_path: Path) -> None:
    path = issuing(tmp_path, [OCT])
    judging = authority(config_file=path)
    token = judge(judging, public_token(STAGING, [], environment="staging"))
    path.write_text(path.read_text().replace(STAGING, "tr_stg_another0123456789"))
    assert judging.refresh()
    assert not judging.counts(token)
    assert refusal(judging, STAGING) == UNKNOWN
    assert judge(judging, "tr_stg_another0123456789").environment == "staging"


# -- serving everybody -----------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_who_serves_everybody_gives_all_to_strangers(keys: tuple[str, ...]) -> None:
    judging = authority(insecure=True, secret_keys=keys)
    payload = claims_of(public_token("x", ["read:runs"]))
    strangers = [None, "", "anything", public_token("another", ["read:runs"])]
    strangers += [signed(payload, b"", {"alg": "none"}), "x" * 9000]
    for credential in strangers:
        for public in (True, False):
            assert judge(judging, credential, public=public) == Grant("default")


def test_tokens_of_ours_mean_the_same_where_everybody_is_served() -> None:
    clock = Clock()
    for keys in ((), (KEY,)):
        judging = authority(clock, insecure=True, secret_keys=keys)
        token = judging.mint("default", ["read:runs:a"], 60)
        assert judge(judging, token).scopes == (Scope("read", "runs", "a"),)
        assert refusal(judging, token, public=False) == UNKNOWN
        expired = judging.mint("default", ["read:runs:a"], -1)
        assert refusal(judging, expired) == EXPIRED


def test_the_key_of_who_serves_everybody_is_worth_nothing_elsewhere() -> None:
    token = authority(insecure=True, secret_keys=()).mint("default", ["admin"], 60)
    assert refusal(authority(), token) == INVALID
    assert refusal(authority(secret_keys=()), token) == INVALID


def test_who_has_no_tokens_does_not_pay_for_them() -> None:
    """PyJWT brings cryptography along, which takes 11 MB per process."""
    script = (
        "import sys, shapes.node\n"
        "from engine.configuration.settings import Settings\n"
        "from shapes.access.authority import Authority\n"
        "judging = Authority(Settings(insecure=True))\n"
        "judging.authenticate('Bearer x', public=True)\n"
        "print({'jwt', 'cryptography'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True
    )
    assert result.stdout.strip() == "set()"


def test_no_secret_is_in_what_may_be_printed(tmp_path: Path) -> None:
    path = issuing(tmp_path, [OCT])
    keys = read_access_keys(Settings(secret_keys=(KEY,), config_file=path))
    ring = KeyRing(keys)
    signer = ring.signer("staging", 0)
    shown = repr((keys, signer, list(ring.verifiers(ISSUER, None, 0)), ring.judge(KEY, 0)))
    for secret in (KEY, STAGING, OLD, OCT["k"]):
        assert secret not in shown
        assert repr(secret.encode())[2:-1] not in shown
