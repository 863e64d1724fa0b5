"""Who may read `/v1/shape`, and what of it."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace

from engine.configuration.access_keys import DEFAULT_ENVIRONMENT
from engine.configuration.settings import Settings
from shapes.access.authority import ENDED, UNKNOWN, Authority, UnknownCredentialError
from shapes.access.grant import AuthenticationError, ForbiddenError, Grant, TableGrant
from shapes.access.scopes import ANY_ACTION, SHAPES
from shapes.definition import Definition, InvalidRequestError
from shapes.http.request import Parameters, ShapeRequest
from shapes.http.responder import Responder
from shapes.identifiers import parse_columns, parse_table
from shapes.where.rendering import quote_identifier

READ = "read"
SECRET_PARAMETERS = ("secret", "api_secret")

_NO_SECRET = "Unauthorized - Invalid API secret"


class ShapeAccess:
    """Knows the secret, and asks the authority about tokens and keys.

    General shapes are not divided by environments: they belong to the one called `default`.
    """

    def __init__(self, settings: Settings, authority: Authority) -> None:
        self._secret = settings.secret.encode() if settings.secret else None
        self._open = settings.insecure and self._secret is None
        self._authority = authority

    def admit(self, responder: Responder, parameters: Parameters) -> None:
        """Note at the responder what the request's credential allows: nothing is noted for one that
        may do everything. Raises AuthenticationError."""
        if self._secret is not None and _carries(parameters, self._secret):
            return
        credential = parameters.get("token") or _bearer(responder)
        if credential is None:
            if not self._open:
                raise AuthenticationError(_NO_SECRET)
            return
        try:
            responder.grant = self._authority.judge(credential, public=True)
        except UnknownCredentialError as error:
            if not self._open:
                text = str(error)
                raise AuthenticationError(
                    _NO_SECRET if text == UNKNOWN else f"Unauthorized - {text}"
                ) from error
        except AuthenticationError as error:
            raise AuthenticationError(f"Unauthorized - {error}") from error

    def narrowed(self, request: ShapeRequest, grant: Grant | None) -> ShapeRequest:
        """The request, for what the grant allows of it. Raises ForbiddenError.

        It does so before anybody looks whether there is such a table.
        """
        if grant is None:
            return request
        _check_environment(grant)
        if grant.unlimited:
            return request
        return replace(request, definition=_narrowed(request.definition, grant))

    def check_end(self, grant: Grant | None) -> None:
        """For answers that had to be waited for. Raises AuthenticationError if what allowed them has
        ended meanwhile."""
        if grant is not None and not self._authority.counts(grant):
            raise AuthenticationError(f"Unauthorized - {ENDED}")

    def check_deletion(self, grant: Grant | None) -> None:
        """Raises ForbiddenError for tokens: they are for reading."""
        if grant is not None:
            _check_environment(grant)
            if not grant.unlimited:
                raise ForbiddenError("Forbidden - a token does not allow to delete shapes")


def _carries(parameters: Parameters, secret: bytes) -> bool:
    for name in SECRET_PARAMETERS:
        if name in parameters:
            return hmac.compare_digest(parameters[name].encode(), secret)
    return False


def _bearer(responder: Responder) -> str | None:
    value = responder.header(b"authorization")
    scheme, _, credential = (value or b"").decode("latin-1").strip().partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def _check_environment(grant: Grant) -> None:
    if grant.environment != DEFAULT_ENVIRONMENT:
        raise ForbiddenError(
            f"Forbidden - tables are open to the environment {DEFAULT_ENVIRONMENT} only"
        )


def _narrowed(definition: Definition, grant: Grant) -> Definition:
    try:
        table = parse_table(definition.table)
    except ValueError as error:
        raise InvalidRequestError.of("table", str(error)) from error
    if _opens_whole(grant, table):
        return definition
    limit = next((one for one in grant.tables if (one.schema, one.name) == table), None)
    if limit is None:
        raise ForbiddenError("Forbidden - the token does not allow to read this table")
    return _bounded(definition, limit)


def _opens_whole(grant: Grant, table: tuple[str, str]) -> bool:
    for scope in grant.scopes or ():
        if scope.type == SHAPES and scope.action in (READ, ANY_ACTION):
            if scope.id is None:
                return True
            try:
                if parse_table(scope.id) == table:
                    return True
            except ValueError:
                continue
    return False


def _bounded(definition: Definition, limit: TableGrant) -> Definition:
    bound = definition.queryable_columns
    if limit.columns is not None:
        _check_columns("columns", definition.columns, limit.columns)
        _check_columns("queryable_columns", bound, limit.columns)
        if definition.window is not None:
            _check_names((definition.window.column,), limit.columns)
        if bound is None:
            bound = ",".join(map(quote_identifier, limit.columns))
    return definition._replace(queryable_columns=bound, within=limit)


def _check_columns(field: str, text: str | None, granted: Sequence[str]) -> None:
    if text is None:
        return
    try:
        names = parse_columns(text)
    except ValueError as error:
        raise InvalidRequestError.of(field, str(error)) from error
    _check_names(names, granted)


def _check_names(names: Sequence[str], granted: Sequence[str]) -> None:
    refused = [name for name in names if name not in granted]
    if refused:
        raise ForbiddenError(
            f"Forbidden - the token does not allow to read the columns {', '.join(refused)}"
        )
