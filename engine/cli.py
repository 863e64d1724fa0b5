"""The command `pgtide`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from engine.configuration.access_keys import (
    DEFAULT_ENVIRONMENT,
    AccessKeys,
    access_warnings,
    read_access_keys,
)
from engine.configuration.data_folder import require_data_folder
from engine.configuration.kinds import SWITCH
from engine.configuration.settings import SETTINGS, Settings
from engine.configuration.strangers import notices
from engine.errors import DatabaseSetupError, PgtideError, SettingsError
from engine.redaction import redact

Flags = Mapping[str, str | bool | None]
Command = Callable[[Flags, Mapping[str, str]], int]

BAD_USE = 2
INTERRUPTED = 130
_DEV_DEFAULTS = {"host": "127.0.0.1"}
_KNOWN = [name for setting in SETTINGS for name in (setting.variable, *setting.about.foreign)]
_FOREIGN_DATABASE = ("DATABASE_URL", "ELECTRIC_POOLED_DATABASE_URL", "ELECTRIC_QUERY_DATABASE_URL")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code. What is wrong is one line on stderr."""
    parser = _parser()
    given, strange = parser.parse_known_args(arguments)
    flags = vars(given)
    command: Command = flags.pop("command")
    try:
        if strange:
            what, name = " ".join(strange), command.__name__
            raise SettingsError(f"not understood: {what}. `pgtide {name} --help` lists the options")
        return command(flags, os.environ)
    except PgtideError as error:
        print("pgtide:", " ".join(str(error).split()), file=sys.stderr)
        return BAD_USE
    except KeyboardInterrupt:
        return INTERRUPTED


def dev(flags: Flags, environ: Mapping[str, str]) -> int:
    # A DATABASE_URL for something else is often around; changing that database would be a surprise.
    own = {name: text for name, text in environ.items() if name not in _FOREIGN_DATABASE}
    settings = Settings.load(flags, own, _DEV_DEFAULTS)
    if settings.database_url is None:
        # Nobody's own database gets a demo written into it unasked.
        settings = Settings.load(flags, own, {**_DEV_DEFAULTS, "demo": "true"})
    local = _is_local(settings.listen_host)
    if settings.secret is None and not settings.insecure:
        if not local:
            raise SettingsError(
                f"pgtide dev serves everybody, and others can reach {settings.listen_host}: give "
                "--insecure if they may, or set PGTIDE_SECRET"
            )
        settings = replace(settings, insecure=True)
    keys = _check_access(settings, environ)
    warnings = [] if local else access_warnings(settings, keys)
    notes: list[str] = []
    if settings.database_url is None and environ.get("DATABASE_URL"):
        notes.append("DATABASE_URL is left alone; --database-url makes pgtide dev follow it")
    if settings.insecure and local:
        notes.append(f"no secret is set: whoever reaches {settings.listen_host} is served")
    from engine.processes import development

    require_data_folder(settings.data_dir)
    own = [key.text for key in keys.secret_keys if key.environment == DEFAULT_ENVIRONMENT]
    if not own:
        own = [development.secret_key(settings.data_dir)]
        settings = replace(settings, secret_keys=(own[0],))
    ready = partial(development.greet, own[0])
    with development.no_file_left(settings.data_dir):
        return _supervise(settings, environ, notes, warnings, ready)


def serve(flags: Flags, environ: Mapping[str, str]) -> int:
    settings = Settings.load(flags, environ)
    _require_database(settings)
    keys = _check_access(settings, environ)
    if keys.any and settings.insecure:
        # Whoever gives out keys does not expect that nobody needs one.
        raise SettingsError(
            "keys and insecure exclude each other: unset PGTIDE_INSECURE (or give --no-insecure), "
            "or do without PGTIDE_SECRET_KEYS and the keys in the settings file"
        )
    return _supervise(settings, environ, warnings=access_warnings(settings, keys))


def migrate(flags: Flags, environ: Mapping[str, str]) -> int:
    settings = Settings.load(flags, environ)
    database_url = _require_database(settings)
    import asyncio

    from psycopg import OperationalError

    from engine.postgres.migrate import migrate as apply
    from engine.postgres.refusal import remedy_for

    publish = not settings.manual_table_publishing
    try:
        done = asyncio.run(apply(database_url, stream_id=settings.stream_id, publish=publish))
    except OperationalError as error:
        raise DatabaseSetupError(
            f"no connection to {redact(database_url)}: {redact(str(error))}. "
            f"{remedy_for(str(error))}; `pgtide doctor` tells more"
        ) from error
    print("\n".join(done) if done else "nothing to do: the schema is up to date")
    return 0


def doctor(flags: Flags, environ: Mapping[str, str]) -> int:
    settings = Settings.load(flags, environ)
    _require_database(settings)
    import asyncio

    from engine.doctor import doctor as examine

    for notice in notices(environ.keys(), _KNOWN):
        print("!", notice)
    return asyncio.run(examine(settings))


_COMMANDS: tuple[tuple[str, Command, str], ...] = (
    ("dev", dev, "run everything here, with a Postgres of its own and a demo"),
    ("serve", serve, "run beside an existing Postgres"),
    ("migrate", migrate, "create or update the schema `pgtide` in a Postgres"),
    ("doctor", doctor, "check that a Postgres has all that pgtide needs"),
)


def _supervise(
    settings: Settings,
    environ: Mapping[str, str],
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    on_ready: Callable[[str, Settings], None] = lambda url, settings: None,
) -> int:
    import logging

    from engine import logs
    from engine.configuration.run_settings import read_run_table
    from engine.processes.supervisor import Supervisor

    read_run_table(settings.config_file)
    require_data_folder(settings.data_dir)

    logs.configure("supervisor", settings.log_level)
    logger = logging.getLogger(__name__)
    given = settings.describe()
    logger.info("settings  %s", " ".join(f"{name}={text}" for name, text in given.items()))
    for notice in (*warnings, *notices(environ.keys(), _KNOWN)):
        logger.warning("%s", notice)
    for note in notes:
        logger.info("%s", note)
    return Supervisor(settings, on_ready=on_ready).run()


def _require_database(settings: Settings) -> str:
    if settings.database_url is None:
        raise SettingsError("no database is given: set DATABASE_URL or --database-url")
    return settings.database_url


def _check_access(settings: Settings, environ: Mapping[str, str]) -> AccessKeys:
    keys = read_access_keys(settings, environ)
    if settings.secret is None and not keys.any and not settings.insecure:
        raise SettingsError(
            "who may read is not said. Set PGTIDE_SECRET_KEYS to the keys of your back ends, from "
            "which browsers get tokens; or PGTIDE_SECRET to a secret that requests to /v1/shape "
            "must carry; or PGTIDE_INSECURE=true to serve everybody"
        )
    if settings.secret is not None and settings.insecure:
        raise SettingsError(
            "a secret and insecure exclude each other: unset PGTIDE_SECRET (or ELECTRIC_SECRET), "
            "or give --no-insecure"
        )
    return keys


def _is_local(host: str) -> bool:
    """Whether no other machine can reach the address."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("pgtide", description="Live data from Postgres over HTTP.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in _COMMANDS:
        description = text[0].upper() + text[1:] + "."
        usage = f"pgtide {name} [options]"
        one = commands.add_parser(
            name, help=text, description=description, usage=usage, allow_abbrev=False
        )
        one.set_defaults(command=command)
        _add_settings(one)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    for setting in SETTINGS:
        default = setting.format(setting.default)
        names = ", ".join((setting.variable, *setting.about.foreign))
        text = f"{setting.about.text} [{names}{'; ' + default if default else ''}]"
        text = text.replace("%", "%%")
        if setting.about.kind is SWITCH:
            switch = argparse.BooleanOptionalAction
            parser.add_argument(setting.flag, action=switch, dest=setting.name, help=text)
        else:
            metavar = setting.about.kind.metavar
            parser.add_argument(setting.flag, dest=setting.name, metavar=metavar, help=text)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"pgtide {version('pgtide')}")
        except PackageNotFoundError:
            print("pgtide (from a checkout, not installed)")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
