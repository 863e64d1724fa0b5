"""Getting tokens, and what every path of the API says to credentials and to browsers."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from access_tokens import SECRET_KEY, bearer, claims_of, public_token
from guarded import RESTRICTED_KEY, STAGING_KEY, Guarded
from serving import Serving

CLAIMS, PUBLIC_TOKENS, JWT = (
    "/api/v1/auth/jwt/claims",
    "/api/v1/auth/public-tokens",
    "/api/v1/auth/jwt",
)
RUNS = "/realtime/v1/runs?tags=a"
ORIGIN = "https://app.example"


def post(guarded: Guarded, path: str, body: Any = None, key: str | None = SECRET_KEY) -> Any:
    headers = {"content-type": "application/json", **(bearer(key) if key else {})}
    return httpx.post(f"{guarded.url}{path}", json=body, headers=headers)


def seconds_of(answer: httpx.Response) -> float:
    """How long the token lasts that was given."""
    assert answer.status_code == 200, answer.text
    claims = claims_of(answer.json()["token"])
    assert claims["iat"] <= time.time()
    return claims["exp"] - claims["iat"]


# -- the endpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "environment"), [(SECRET_KEY, "default"), (STAGING_KEY, "staging")]
)
def test_what_a_client_that_signs_itself_needs(
    key: str, environment: str, guarded: Guarded
) -> None:
    """As the SDK does it: the claims, spread into a token that the secret key signs."""
    answer = httpx.post(
        f"{guarded.url}{CLAIMS}", headers={**bearer(key), "content-type": "application/json"}
    )
    claims = answer.json()
    assert (claims["sub"], claims["pub"], set(claims)) == (environment, True, {"sub", "pub", "jti"})
    token = public_token(key, ["read:tags:a"], **claims)
    assert httpx.get(f"{guarded.url}{RUNS}", headers=bearer(token)).status_code == 200


def test_a_token_that_the_server_signed(guarded: Guarded) -> None:
    body = {
        "scopes": ["read:tags:a", "read:runs:run_1"],
        "expirationTime": "2 hours",
        "oneTimeUse": True,
        "realtime": {"skipColumns": ["payload"]},
        "shapes": [{"table": "orders", "columns": ["id"], "where": "tenant = 1"}],
    }
    answer = post(guarded, PUBLIC_TOKENS, body)
    assert set(answer.json()) == {"token"}
    claims = claims_of(answer.json()["token"])
    assert claims["scopes"] == body["scopes"]
    assert (claims["sub"], claims["pub"], claims["otu"]) == ("default", True, True)
    assert claims["realtime"] == body["realtime"]
    assert claims["shapes"] == body["shapes"]
    assert seconds_of(answer) == 7200
    assert answer.headers["cache-control"] == "no-store"
    read = httpx.get(f"{guarded.url}{RUNS}", headers=bearer(answer.json()["token"]))
    assert read.status_code == 200


def test_one_time_tokens_of_the_same_second_are_not_the_same(guarded: Guarded) -> None:
    body = {"scopes": ["trigger:tasks:a"], "oneTimeUse": True}
    tokens = {post(guarded, PUBLIC_TOKENS, body).json()["token"] for _ in range(5)}
    assert len(tokens) == 5
    claims = {post(guarded, CLAIMS).json()["jti"] for _ in range(5)}
    assert len(claims) == 5


def test_how_long_tokens_last(guarded: Guarded) -> None:
    scopes = ["read:runs"]
    assert seconds_of(post(guarded, PUBLIC_TOKENS, {"scopes": scopes})) == 900
    assert seconds_of(post(guarded, JWT, {"claims": {"scopes": scopes}})) == 3600
    at = int(time.time()) + 500
    answer = post(guarded, PUBLIC_TOKENS, {"scopes": scopes, "expirationTime": at})
    assert abs(claims_of(answer.json()["token"])["exp"] - at) <= 1
    month = post(guarded, PUBLIC_TOKENS, {"scopes": scopes, "expirationTime": "30d"})
    assert seconds_of(month) == 30 * 86400


def test_a_token_for_tables_alone(guarded: Guarded) -> None:
    shapes = [{"table": "orders", "where": "tenant = 1"}]
    answer = post(guarded, PUBLIC_TOKENS, {"shapes": shapes})
    assert answer.status_code == 200
    claims = claims_of(answer.json()["token"])
    assert (claims["scopes"], claims["shapes"]) == ([], shapes)


WHENS: list[Any] = ["soon", "31d", "1h ago", "0s", 0, 4e9, True, None, {}, "9" * 99 + "y"]
BODIES: list[Any] = [
    [],
    {},
    {"scopes": []},
    {"shapes": []},
    {"shapes": 1},
    {"scopes": None, "shapes": [{"table": "a"}]},
    {"scopes": "read:runs"},
    {"scopes": [""]},
    {"scopes": [1]},
    {"scopes": ["read:runs"], "oneTimeUse": "yes"},
    {"scopes": ["read:runs"], "realtime": []},
    {"scopes": ["read:runs"], "realtime": {"skipColumns": "payload"}},
    {"scopes": ["read:runs"], "shapes": [{"table": "a", "rows": "1 = 1"}]},
    {"scopes": ["read:runs:" + "x" * 7000]},
    *({"scopes": ["read:runs"], "expirationTime": when} for when in WHENS),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body)[:60])
def test_a_body_that_cannot_be_used_is_refused(body: object, guarded: Guarded) -> None:
    answer = post(guarded, PUBLIC_TOKENS, body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_no_body_is_no_token_but_the_old_endpoint_needs_none(guarded: Guarded) -> None:
    headers = {**bearer(SECRET_KEY), "content-type": "application/json"}
    answer = httpx.post(f"{guarded.url}{PUBLIC_TOKENS}", headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "Request body is empty"})
    answer = httpx.post(f"{guarded.url}{PUBLIC_TOKENS}", headers=headers, content="{")
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid JSON"})
    answer = httpx.post(f"{guarded.url}{JWT}", headers=headers)
    assert claims_of(answer.json()["token"])["scopes"] == []
    for claims in ("x", {"scopes": "x"}, {"scopes": [1]}):
        assert post(guarded, JWT, {"claims": claims}).status_code == 400


def test_a_restricted_key_gives_out_no_more_than_it_has(guarded: Guarded) -> None:
    def ask(path: str, *scopes: str, **more: Any) -> httpx.Response:
        return post(guarded, path, {"scopes": scopes, **more}, RESTRICTED_KEY)

    answer = ask(PUBLIC_TOKENS, "read:runs:run_1", "trigger:tasks:resize")
    assert claims_of(answer.json()["token"])["scopes"] == [
        "read:runs:run_1",
        "trigger:tasks:resize",
    ]
    refused = ask(PUBLIC_TOKENS, "read:runs", "write:runs", "trigger:tasks", "admin")
    assert refused.status_code == 403
    assert refused.json()["code"] == "scopes_exceed_key_access"
    assert refused.json()["deniedScopes"] == ["write:runs", "trigger:tasks", "admin"]
    assert ask(PUBLIC_TOKENS, shapes=[{"table": "allowed", "where": "a = 1"}]).status_code == 200
    assert ask(PUBLIC_TOKENS, shapes=[{"table": "others"}]).status_code == 403
    assert post(guarded, JWT, {"claims": {"scopes": ["admin"]}}, RESTRICTED_KEY).status_code == 403
    # It could not sign tokens that count.
    assert post(guarded, CLAIMS, key=RESTRICTED_KEY).status_code == 403
    token = public_token(RESTRICTED_KEY, ["read:runs"])
    assert httpx.get(f"{guarded.url}{RUNS}", headers=bearer(token)).status_code == 401


@pytest.mark.parametrize("path", [CLAIMS, PUBLIC_TOKENS, JWT])
def test_tokens_give_out_no_tokens(path: str, guarded: Guarded) -> None:
    body = {"scopes": ["read:runs"]}
    for credential, message in (
        (None, "Invalid or Missing API key"),
        ("tr_dev_unknown", "Invalid API key"),
        (public_token(SECRET_KEY, ["admin"]), "Invalid API key"),
        (public_token("unknown key", ["admin"]), "Public Access Token is invalid"),
    ):
        answer = post(guarded, path, body, credential)
        assert (answer.status_code, answer.json()) == (401, {"error": message})


# -- every path ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credential", "error"),
    [
        (None, "Invalid or Missing API key"),
        ("nothing", "Invalid API key"),
        (public_token(SECRET_KEY, ["admin"], seconds=-1), "Public Access Token has expired"),
        (public_token(STAGING_KEY, ["admin"]), "Public Access Token is invalid"),
    ],
)
def test_who_is_not_known_is_told_so(credential: str | None, error: str, guarded: Guarded) -> None:
    headers = bearer(credential) if credential else {}
    answer = httpx.get(f"{guarded.url}{RUNS}", headers={**headers, "origin": ORIGIN})
    assert (answer.status_code, answer.json()) == (401, {"error": error})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_who_may_not_is_told_so(guarded: Guarded) -> None:
    headers = bearer(public_token(SECRET_KEY, ["read:tags:b"]))
    answer = httpx.get(f"{guarded.url}{RUNS}", headers=headers)
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "Unauthorized",
        "code": "unauthorized",
        "param": "access_token",
        "type": "authorization",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", RUNS, 200),
        ("GET", "/realtime/v1/runs/run_unknown", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", CLAIMS, 405),
        ("POST", PUBLIC_TOKENS, 400),
    ],
)
def test_browsers_may_read_every_answer(
    method: str, path: str, status: int, guarded: Guarded
) -> None:
    headers = {**bearer(SECRET_KEY), "origin": ORIGIN}
    answer = httpx.request(method, f"{guarded.url}{path}", headers=headers)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = set(answer.headers["access-control-expose-headers"].split(","))
    assert exposed >= {
        *("electric-handle", "electric-offset", "electric-cursor", "electric-schema"),
        *("electric-up-to-date", "x-stream-version", "x-session-settled", "x-trigger-jwt"),
        *("x-trigger-jwt-claims", "x-should-retry", "x-ratelimit-reset", "retry-after"),
    }


@pytest.mark.parametrize("path", [RUNS, CLAIMS, "/api/v1/tasks/a%2Fb/trigger", "/api/v1/nothing"])
def test_browsers_may_ask_beforehand(path: str, guarded: Guarded) -> None:
    wanted = "authorization,content-type,trigger-version,x-trigger-api-version"
    answer = httpx.options(
        f"{guarded.url}{path}",
        headers={
            "origin": ORIGIN,
            "access-control-request-method": "GET",
            "access-control-request-headers": wanted,
        },
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET,HEAD,PUT,PATCH,POST,DELETE"
    assert answer.headers["access-control-allow-headers"] == wanted
    assert answer.headers["access-control-max-age"] == "300"


def test_no_shared_cache_keeps_what_a_credential_opens(guarded: Guarded) -> None:
    answer = httpx.get(f"{guarded.url}{RUNS}", headers=bearer(SECRET_KEY))
    parts = {part.strip() for part in answer.headers["cache-control"].split(",")}
    assert parts & {"private", "no-store"}
    assert "public" not in parts
    assert answer.headers["vary"] == "authorization"


def test_no_secret_is_in_the_log(guarded: Guarded) -> None:
    token = post(guarded, PUBLIC_TOKENS, {"scopes": ["read:runs"]}).json()["token"]
    for credential in (token, "tr_dev_some_unknown_key_0001"):
        httpx.get(f"{guarded.url}/v1/shape?table=a&offset=-1&token={credential}")
        httpx.get(f"{guarded.url}{RUNS}", headers=bearer(credential))
    log = guarded.log()
    for secret in (token, token.split(".")[2], SECRET_KEY, STAGING_KEY, RESTRICTED_KEY):
        assert secret not in log
    assert "tr_dev_some_unknown_key_0001" not in log


def test_who_serves_everybody_is_warned_at_start_and_others_are_not(
    server: Serving, guarded: Guarded
) -> None:
    (line,) = [line for line in server.log.splitlines() if "INSECURE" in line]
    assert "WARNING" in line
    assert "INSECURE" not in guarded.log()
    assert "answer 401 to everything" not in guarded.log()
