"""Large payloads and outputs: where to upload and download them, and both."""

from __future__ import annotations

from collections.abc import Sequence

from shapes.access.scopes import Resource
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.public_address import base_address
from shapes.http.api.refusals import refusing
from shapes.http.api.retrieve_routes import found_run, resources_of
from shapes.http.api.routes import Needs, Route, SecretKey, Unchecked, get, put
from shapes.http.responses import NO_STORE, Header
from shapes.runs.packets import (
    MOST_BYTES,
    MOST_NAME_CHARACTERS,
    STORE,
    Packet,
    PacketAddressError,
    PacketAddresses,
    Packets,
    new_path,
)
from shapes.runs.run_changes import RunChanges

_FIELDS = ("payload", "output")

# What is served comes from whoever uploaded it: no browser should take it for a page of ours.
_HARMLESS: tuple[Header, ...] = (
    NO_STORE,
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"content-disposition", b"attachment"),
)


def packet_routes(
    packets: Packets, addresses: PacketAddresses, changes: RunChanges, public_url: str | None
) -> list[Route]:
    """The routes of packets."""
    routes = _PacketRoutes(packets, addresses, changes, public_url)
    data = "/api/v1/packet-data/{environment}/{path}"
    return [
        put("/api/v1/packets/{path}", SecretKey(), routes.offer_upload),
        put("/api/v2/packets/{path}", SecretKey(), routes.offer_upload),
        get("/api/v1/packets/{path}", SecretKey(), routes.offer_download),
        get(
            "/api/v1/runs/{id}/packets/{field}", Needs("read", routes.find_run), routes.offer_of_run
        ),
        put(data, Unchecked(), routes.upload, max_body=MOST_BYTES),
        get(data, Unchecked(), routes.download),
    ]


class _PacketRoutes:
    def __init__(
        self,
        packets: Packets,
        addresses: PacketAddresses,
        changes: RunChanges,
        public_url: str | None,
    ) -> None:
        self._packets = packets
        self._addresses = addresses
        self._changes = changes
        self._public_url = public_url

    # -- addresses ---------------------------------------------------------------------------------

    async def offer_upload(self, call: Call) -> Reply:
        name = call.values["path"]
        if len(name) > MOST_NAME_CHARACTERS:
            raise ApiError(400, f"a packet's name may have {MOST_NAME_CHARACTERS} characters")
        path = new_path(name)
        base = base_address(call, self._public_url)
        url = self._addresses.upload(base, call.grant.environment, path)
        return Reply({"presignedUrl": url, "storagePath": path})

    async def offer_download(self, call: Call) -> Reply:
        return self._offer(call, call.values["path"])

    async def find_run(self, call: Call) -> Sequence[Resource]:
        if call.values["field"] not in _FIELDS:
            raise NotFoundError
        return resources_of(await found_run(self._changes, call))

    async def offer_of_run(self, call: Call) -> Reply:
        field = call.values["field"]
        path, kind = call.found.get(field), call.found.get(f"{field}_type")
        hidden = field in (call.grant.skip_columns or ())
        if kind != STORE or not isinstance(path, str) or hidden:
            raise NotFoundError
        return self._offer(call, path)

    def _offer(self, call: Call, path: str) -> Reply:
        base = base_address(call, self._public_url)
        url = self._addresses.download(base, call.grant.environment, path)
        return Reply({"presignedUrl": url})

    # -- the packets themselves --------------------------------------------------------------------

    async def upload(self, call: Call) -> Reply:
        environment, path = self._addressed(call)
        packet = Packet(call.header(b"content-type") or "", await call.body())
        with refusing():
            await self._packets.store(environment, path, packet)
        return Reply()

    async def download(self, call: Call) -> None:
        environment, path = self._addressed(call)
        with refusing():
            packet = await self._packets.load(environment, path)
        if packet is None:
            raise NotFoundError
        kind = packet.content_type.encode("latin-1")
        headers: list[Header] = [(b"content-type", kind), *_HARMLESS]
        await call.responder.send_body(200, headers, packet.data)

    def _addressed(self, call: Call) -> tuple[str, str]:
        """The environment and the path of an address. Raises ApiError (403)."""
        environment, path = call.values["environment"], call.values["path"]
        expires, seal = call.query.get("expires", ""), call.query.get("seal", "")
        try:
            self._addresses.check(call.method, environment, path, expires, seal)
        except PacketAddressError as error:
            raise ApiError(403, str(error)) from error
        return environment, path
