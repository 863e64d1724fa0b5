"""Reading and changing the metadata of runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import Route, SecretKey, get, put
from shapes.http.api.trigger_routes import request_key
from shapes.runs.metadata import MetadataChange, RunMetadata
from shapes.runs.metadata_operations import InvalidOperationError, TooMuchWorkError
from shapes.runs.run_changes import NoSuchRunError

MOST_BODY = 2 << 20


def metadata_routes(metadata: RunMetadata) -> list[Route]:
    """The routes of runs' metadata."""
    routes = _MetadataRoutes(metadata)
    path = "/api/v1/runs/{id}/metadata"
    return [
        get(path, SecretKey(), routes.read),
        put(path, SecretKey(), routes.change, max_body=MOST_BODY),
    ]


class _MetadataRoutes:
    def __init__(self, metadata: RunMetadata) -> None:
        self._metadata = metadata

    async def read(self, call: Call) -> Reply:
        with _refusing():
            found = await self._metadata.read(call.grant.environment, call.values["id"])
        return Reply({"metadata": found})

    async def change(self, call: Call) -> Reply:
        body = await call.json_object()
        with _refusing():
            change = MetadataChange.parse(body)
            environment, run_id = call.grant.environment, call.values["id"]
            result = await self._metadata.change(environment, run_id, change, request_key(call))
        return Reply({"metadata": result})


@contextmanager
def _refusing() -> Generator[None]:
    """Raises ApiError for what is wrong with a request."""
    try:
        with refusing():
            yield
    except InvalidOperationError as error:
        raise ApiError(400, str(error)) from error
    except TooMuchWorkError as error:
        raise ApiError(422, str(error)) from error
    except ApiError as error:
        if isinstance(error.__cause__, NoSuchRunError):
            raise NotFoundError from error
        raise
