"""A Postgres that speaks TLS only: a proxy in front of one that does not know it.

The Postgres that the tests bring along is built without OpenSSL. This one answers its clients'
SSLRequest, shows them a certificate, and passes on what they then send.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Certificates:
    """`authority` has signed the server's certificate, `stranger` has not."""

    authority: Path
    stranger: Path
    server: Path
    key: Path


def make_certificates(folder: Path, names: str) -> Certificates:
    """`names` are those of the server, as a subjectAltName: `DNS:localhost,IP:127.0.0.1`."""

    def run(*words: str) -> None:
        command = ["openssl", *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("authority", "stranger"):
        subject = ("-subj", f"/CN=pgtide test {name}", "-days", "2")
        run("req", "-x509", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
    run("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "names").write_text(f"subjectAltName={names}\n")
    signing = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2")
    run("x509", "-req", "-in", "server.csr", *signing, "-extfile", "names", "-out", "server.pem")
    return Certificates(
        folder / "authority.pem",
        folder / "stranger.pem",
        folder / "server.pem",
        folder / "server.key",
    )


class TlsProxy:
    """Forwards `host`:`port`, TLS only, to 127.0.0.1:`to_port`.

    `encrypted` counts connections that shook hands, `failed` those that did not like the certificate,
    `plain` those that tried without TLS.
    """

    def __init__(self, to_port: int, certificates: Certificates, host: str = "127.0.0.1") -> None:
        self.port = 0
        self.encrypted = self.failed = self.plain = 0
        self._host = host
        self._to_port = to_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server, certificates.key)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[TlsProxy]:
        server = await asyncio.start_server(self._accept, self._host, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first[4:] == bytes.fromhex("04d21630"):  # GSSENCRequest
            writer.write(b"N")
            first = await reader.readexactly(8)
        if first != SSL_REQUEST:
            self.plain += 1
            return
        writer.write(b"S")
        await writer.drain()
        try:
            await writer.start_tls(self._context)
        except (ssl.SSLError, ConnectionError):
            self.failed += 1
            raise
        self.encrypted += 1
        far, opposite = await asyncio.open_connection("127.0.0.1", self._to_port)
        try:
            pumps = [
                asyncio.create_task(_pump(reader, opposite)),
                asyncio.create_task(_pump(far, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            opposite.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
