"""The keys in the settings and in the settings file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import RSAAlgorithm

from engine.configuration.access_keys import AccessKeys, access_warnings, read_access_keys
from engine.configuration.settings import Settings
from engine.errors import SettingsError

KEY, OTHER = "tr_dev_0123456789abcdefghij", "tr_prod_0123456789abcdefghij"
DIGEST = "ab" * 32
OCT = {"kty": "oct", "k": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", "kid": "mine"}


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> AccessKeys:
    path = folder / "pgtide.toml"
    path.write_text(text)
    return read_access_keys(Settings(config_file=path), environ or {})


@pytest.mark.parametrize("name", ["PGTIDE_SECRET_KEYS", "PGTIDE_SECRET_KEY"])
def test_keys_in_a_variable_are_of_the_environment_default(name: str) -> None:
    settings = Settings.load({}, {name: f" {KEY} , {OTHER}"})
    assert settings.secret_keys == (KEY, OTHER)
    assert Settings.from_environ(settings.to_environ()) == settings
    assert KEY not in str(settings.describe())
    keys = read_access_keys(settings, {})
    assert [(key.environment, key.text) for key in keys.secret_keys] == [
        ("default", KEY),
        ("default", OTHER),
    ]
    assert KEY not in repr(keys)


def test_a_key_that_was_given_to_another_service_is_none_of_ours() -> None:
    assert Settings.load({}, {"TRIGGER_SECRET_KEY": KEY}).secret_keys == ()


def test_environments_have_keys_of_their_own(tmp_path: Path) -> None:
    text = f"""
        [environments.default]
        secret_keys = ["{KEY}"]
        [environments.staging]
        secret_keys = ["env:NEW", {{ key = "env:OLD", expires_at = 2030-01-01T00:00:00Z }}]
        restricted_keys = [{{ sha256 = "{DIGEST}", scopes = ["trigger:tasks:a", "read:runs"] }}]
    """
    keys = read(tmp_path, text, {"NEW": OTHER, "OLD": "x" * 16})
    found = [(key.environment, key.text, key.expires_at) for key in keys.secret_keys]
    assert found == [
        ("default", KEY, None),
        ("staging", OTHER, None),
        ("staging", "x" * 16, 1893456000.0),
    ]
    (restricted,) = keys.restricted_keys
    assert restricted.environment == "staging"
    assert restricted.digest.hex() == DIGEST
    assert restricted.scopes == ("trigger:tasks:a", "read:runs")


def test_signing_keys_and_issuers(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    key_file = tmp_path / "keys" / "jwks.json"
    key_file.write_text(json.dumps({"keys": [OCT, {"kty": "new", "kid": "later"}]}))
    text = f"""
        [environments.default]
        secret_keys = ["{KEY}"]
        [signing_keys]
        own = [{{ kid = "2", secret = "env:SIGN" }}, {{ kid = "1", secret = "{OTHER}" }}]
        [[signing_keys.issuers]]
        issuer = "https://login.example"
        audience = "pgtide"
        jwks_file = "keys/jwks.json"
    """
    keys = read(tmp_path, text, {"SIGN": KEY})
    assert [(key.kid, key.text) for key in keys.signing_keys] == [("2", KEY), ("1", OTHER)]
    (issuer,) = keys.issuers
    assert (issuer.issuer, issuer.audience) == ("https://login.example", "pgtide")
    assert issuer.environment == "default"
    # A type that nobody knows yet is left out.
    assert [(key.kid, key.algorithm) for key in issuer.keys] == [("mine", "HS256")]
    assert set(keys.files) == {tmp_path / "pgtide.toml", key_file}


def test_the_manual_s_example_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    example = page.split("```toml\n[environments.default]", 1)[1].split("```")[0]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [OCT]}))
    names = "NEW_KEY OLD_KEY STAGING_KEY SIGNING_KEY OLD_SIGNING_KEY".split()  # noqa: SIM905
    environ = {name: f"{name}-0123456789" for name in names}
    text = "[environments.default]" + example.replace('sha256 = "…"', f'sha256 = "{DIGEST}"')
    keys = read(tmp_path, text, environ)
    assert [key.environment for key in keys.secret_keys] == ["default", "default", "staging"]
    assert (len(keys.restricted_keys), len(keys.signing_keys), len(keys.issuers)) == (1, 2, 1)


def jwk(**members: object) -> str:
    """An issuer with one key, in TOML."""
    fields = ", ".join(f'{name} = "{value}"' for name, value in members.items())
    return f'{NAMED}\n[[signing_keys.issuers]]\nissuer = "x"\nkeys = [{{ {fields} }}]'


def rsa(bits: int, *, private: bool) -> str:
    key = generate_private_key(65537, bits)
    made = RSAAlgorithm.to_jwk(key if private else key.public_key(), as_dict=True)
    return jwk(**{name: value for name, value in made.items() if name != "key_ops"})


NAMED = f'[environments.default]\nsecret_keys = ["{KEY}"]'


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ('[environments."a b"]', "environments.a b", "letters, digits"),
        ("environments = 1", "environments", "a table"),
        ("[environments.x]\nkeys = []", "environments.x", "secret_keys, restricted_keys"),
        ('[environments.x]\nsecret_keys = "k"', "environments.x.secret_keys", "a list"),
        ('[environments.x]\nsecret_keys = ["short"]', "secret_keys[0].key", "16 characters"),
        ('[environments.x]\nsecret_keys = ["env:NO"]', "secret_keys[0].key", "NO is not set"),
        ("[environments.x]\nsecret_keys = [1]", "secret_keys[0]", "a table"),
        (
            f'[environments.x]\nsecret_keys = [{{ key = "{KEY}", expires_at = 2030-01-01 }}]',
            "secret_keys[0].expires_at",
            "with its zone",
        ),
        ('[environments.x]\nrestricted_keys = [{ sha256 = "ab" }]', "sha256", "64 hexadecimal"),
        (
            f'[environments.x]\nrestricted_keys = [{{ sha256 = "{DIGEST}", scopes = "read" }}]',
            "scopes",
            "a list of scopes",
        ),
        (
            f'[environments.x]\nrestricted_keys = [{{ sha256 = "{DIGEST}", scopes = [] }}]',
            "environment x has nothing to sign",
            "signing_keys.own",
        ),
        (f'{NAMED}\n[environments.x]\nsecret_keys = ["{KEY}"]', "default and x", "of its own"),
        (
            (
                f"[signing_keys]\nown = [{{ kid = 'a', secret = '{KEY}' }}, "
                f"{{ kid = 'a', secret = '{KEY}2' }}]"
            ),
            "signing_keys.own",
            "the same kid",
        ),
        ("[signing_keys]\nown = [{ kid = 'a' }]", "own[0].secret", "a text"),
        ("[signing_keys]\nown = [{ kid = 'a b', secret = 'c' }]", "own[0].kid", "spaces"),
        ("[signing_keys]\nissuer = 1", "signing_keys", "own, issuers"),
        ("[[signing_keys.issuers]]\nissuer = 'a'", "issuers[0]", "either keys or jwks_file"),
        ("[[signing_keys.issuers]]\nkeys = []", "issuers[0]", "at least one"),
        ("[[signing_keys.issuers]]\njwks_file = 'no.json'", "no.json", "cannot be read"),
        (jwk(kty="oct", k="c2hvcnQ", kid="k"), "issuers[0]", "fewer than 32 bytes"),
        (jwk(kty="weird"), "issuers[0]", "no key that could verify"),
        (jwk(kty="oct", k=OCT["k"], use="enc"), "issuers[0]", "no key that could verify"),
        (jwk(kty="oct", k=OCT["k"], alg="none"), "issuers[0]", "no key that could verify"),
        (rsa(2048, private=True), "issuers[0]", "private"),
        (rsa(1024, private=False), "issuers[0]", "fewer than 2048"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    text: str, place: str, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert place in str(caught.value)
    assert advice in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_weak_key_in_a_variable_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="PGTIDE_SECRET_KEYS") as caught:
        read_access_keys(Settings(secret_keys=("my-secret",)), {})
    assert "my-secret" not in str(caught.value)


def test_who_serves_everybody_or_nobody_is_warned() -> None:
    (open_to_all,) = access_warnings(Settings(insecure=True), AccessKeys())
    assert open_to_all.startswith("INSECURE")
    (closed,) = access_warnings(Settings(secret="s"), AccessKeys())
    assert "401" in closed
    settings = Settings(secret="s", secret_keys=(KEY,))
    assert not access_warnings(settings, read_access_keys(settings, {}))
