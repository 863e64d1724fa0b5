"""Reading and changing the metadata of runs."""

from __future__ import annotations

from shapes.database import Database
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.routes import Route, SecretKey, get, put
from shapes.runs.metadata import MetadataChange, MetadataError, NoSuchRunError, RunMetadata
from shapes.runs.metadata_operations import InvalidOperationError, TooMuchWorkError
from shapes.runs.run_conditions import MissingColumnError
from shapes.runs.run_table import RunTable

MOST_BODY = 2 << 20


def metadata_routes(database: Database, runs: RunTable) -> list[Route]:
    """The routes of runs' metadata."""
    routes = _MetadataRoutes(RunMetadata(database, runs))
    path = "/api/v1/runs/{id}/metadata"
    return [
        get(path, SecretKey(), routes.read),
        put(path, SecretKey(), routes.change, max_body=MOST_BODY),
    ]


class _MetadataRoutes:
    def __init__(self, metadata: RunMetadata) -> None:
        self._metadata = metadata

    async def read(self, call: Call) -> Reply:
        try:
            found = await self._metadata.read(call.grant.environment, call.values["id"])
        except NoSuchRunError as error:
            raise NotFoundError from error
        except MissingColumnError as error:
            raise ApiError(422, str(error)) from error
        except MetadataError as error:
            raise ApiError(error.status, str(error)) from error
        return Reply({"metadata": found})

    async def change(self, call: Call) -> Reply:
        try:
            change = MetadataChange.parse(await call.json_object())
            result = await self._metadata.change(
                call.grant.environment,
                call.values["id"],
                change,
                call.header(b"x-trigger-request-idempotency-key"),
            )
        except InvalidOperationError as error:
            raise ApiError(400, str(error)) from error
        except (TooMuchWorkError, MissingColumnError) as error:
            raise ApiError(422, str(error)) from error
        except NoSuchRunError as error:
            raise NotFoundError from error
        except MetadataError as error:
            raise ApiError(error.status, str(error)) from error
        return Reply({"metadata": result})
