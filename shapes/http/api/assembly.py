"""Puts the API together: every module of routes has one line here."""

from __future__ import annotations

from engine.settings import Settings
from shapes.access.grant import Grant
from shapes.database import Database
from shapes.http.api.api import Api
from shapes.http.api.routes import Route
from shapes.http.shape_endpoint import ShapeEndpoint


class _Everybody:
    """Takes the place of the authority until there is one."""

    def authenticate(self, authorization: str | None, *, public: bool) -> Grant:
        return Grant("default")


def make_api(settings: Settings, database: Database, endpoint: ShapeEndpoint) -> Api:
    """All routes, for one node."""
    del settings, database, endpoint  # Until there are routes that need them.
    routes: list[Route] = []
    return Api(routes, _Everybody())
