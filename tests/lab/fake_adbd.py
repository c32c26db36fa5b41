"""The device's side of the adb protocol, for states that the real adbd cannot be put into.

Enough of the protocol for the real adb client to connect, run shell commands and push or pull
files (AOSP packages/modules/adb: protocol.txt, SYNC.TXT, shell_protocol.h, file_sync_protocol.h).
Commands run on this machine with the device's folder as working directory: no isolation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .host import LabError


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


_CNXN, _AUTH, _OPEN = _word(b"CNXN"), _word(b"AUTH"), _word(b"OPEN")
_OKAY, _CLSE, _WRTE = _word(b"OKAY"), _word(b"CLSE"), _word(b"WRTE")
# A_VERSION_SKIP_CHECKSUM: the newest version; the client then leaves checksums out as well.
_VERSION = 0x01000001
_MAX_DATA = 256 * 1024
_AUTH_TOKEN, _AUTH_SIGNATURE = 1, 2
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_BANNER = (
    b"device::ro.product.name=edgelab;ro.product.model=Stand-in;ro.product.device=edgelab;"
    b"features=shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"
)
_NO_SPACE = "write failed: No space left on device"


@dataclass(frozen=True)
class Behaviour:
    """What is wrong with the device; nothing by default.

    unauthorized: asks for a key and accepts none. offline: accepts the connection and never
    introduces itself. full: every write of a pushed file fails. stall_after_bytes: stops
    answering after so many bytes from the client. garbage: shell commands print these bytes and
    exit 0. drop_after_bytes: closes the connection after so many bytes from the client.
    """

    unauthorized: bool = False
    offline: bool = False
    full: bool = False
    stall_after_bytes: int | None = None
    drop_after_bytes: int | None = None
    garbage: bytes | None = None


class _StreamClosed(Exception):
    """The client closed this stream."""


class _Stream:
    """One service opened by the client: an ordered pipe in both directions."""

    def __init__(self, send: Callable[[int, int, int, bytes], None], remote: int, local: int):
        self._send = send
        self._remote = remote
        self._local = local
        self._received: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._acknowledged = asyncio.Event()
        self._buffer = b""

    def accept(self) -> None:
        self._send(_OKAY, self._local, self._remote, b"")

    def close(self) -> None:
        self._send(_CLSE, self._local, self._remote, b"")

    def take(self, data: bytes | None) -> None:
        """Data from the client; None when the client closed the stream."""
        self._received.put_nowait(data)
        if data is None:
            self._acknowledged.set()

    def acknowledge(self) -> None:
        self._acknowledged.set()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _MAX_DATA):
            self._acknowledged.clear()
            self._send(_WRTE, self._local, self._remote, data[start : start + _MAX_DATA])
            await self._acknowledged.wait()

    async def read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = await self._received.get()
            if data is None:
                raise _StreamClosed
            self._buffer += data
            self.accept()
        wanted, self._buffer = self._buffer[:count], self._buffer[count:]
        return wanted


class _Connection:
    """One client (an adb server) and the streams it has opened."""

    def __init__(
        self,
        behaviour: Behaviour,
        root: Path,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._behaviour = behaviour
        self._root = root
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._received_bytes = 0
        self._last_stream = 0

    def _send(self, command: int, first: int, second: int, data: bytes) -> None:
        check = sum(data) & 0xFFFFFFFF
        head = struct.pack("<6I", command, first, second, len(data), check, command ^ 0xFFFFFFFF)
        self._writer.write(head + data)

    async def serve(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(24)
                command, first, second, size = struct.unpack("<4I", head[:16])
                data = await self._reader.readexactly(size) if size else b""
                if not await self._answer(command, first, second, data):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            for task in self._tasks:
                task.cancel()
            self._writer.close()

    async def _answer(self, command: int, first: int, second: int, data: bytes) -> bool:
        """Handle one message; False ends the connection."""
        # A signature is answered by the next token; a key that was offered (3) by nothing, as on
        # a phone where nobody taps "allow".
        if command == _CNXN or (command == _AUTH and first == _AUTH_SIGNATURE):
            self._introduce()
        elif command == _OPEN:
            self._open(first, data.rstrip(b"\0").decode())
        elif second in self._streams:
            stream = self._streams[second]
            if command == _OKAY:
                stream.acknowledge()
            elif command == _CLSE:
                self._streams.pop(second).take(None)
            elif command == _WRTE:
                stream.take(data)
                return await self._count(len(data))
        return True

    async def _count(self, size: int) -> bool:
        self._received_bytes += size
        stall, drop = self._behaviour.stall_after_bytes, self._behaviour.drop_after_bytes
        if stall is not None and self._received_bytes > stall:
            await asyncio.Event().wait()  # never set: the connection stays open and silent
        return drop is None or self._received_bytes <= drop

    def _introduce(self) -> None:
        if self._behaviour.offline:
            return
        if self._behaviour.unauthorized:
            self._send(_AUTH, _AUTH_TOKEN, 0, os.urandom(20))
        else:
            self._send(_CNXN, _VERSION, _MAX_DATA, _BANNER)

    def _open(self, remote: int, service: str) -> None:
        self._last_stream += 1
        local = self._last_stream
        name, _, argument = service.partition(":")
        if name.split(",")[0] not in ("shell", "exec", "sync"):
            self._send(_CLSE, 0, remote, b"")
            return
        stream = self._streams[local] = _Stream(self._send, remote, local)
        stream.accept()
        if name == "sync":
            work = _Sync(stream, self._root, self._behaviour).serve()
        else:
            work = _shell(stream, self._root, argument, "v2" in name, self._behaviour.garbage)
        # The loop holds its tasks only weakly (asyncio.create_task), so they are held here.
        self._tasks.add(asyncio.ensure_future(self._finish(stream, work)))

    async def _finish(self, stream: _Stream, work: Awaitable[None]) -> None:
        with contextlib.suppress(_StreamClosed, ConnectionError):
            await work
            stream.close()


async def _shell(stream: _Stream, root: Path, command: str, has_packets: bool, garbage: bytes | None) -> None:
    """Run one command; with packets (shell_v2), output, errors and exit code stay apart."""

    def packet(kind: int, data: bytes) -> bytes:
        return struct.pack("<BI", kind, len(data)) + data if has_packets else data

    if garbage is not None:
        await stream.write(packet(_STDOUT, garbage))
        if has_packets:
            await stream.write(packet(_EXIT, b"\0"))
        return
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", command),
        cwd=root,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if has_packets else asyncio.subprocess.STDOUT,
    )
    feed = asyncio.ensure_future(_feed(stream, process, has_packets))
    try:
        if process.stdout:
            while data := await process.stdout.read(65536):
                await stream.write(packet(_STDOUT, data))
        if process.stderr:
            while data := await process.stderr.read(65536):
                await stream.write(packet(_STDERR, data))
        code = await process.wait()
        if has_packets:
            await stream.write(packet(_EXIT, bytes([code & 255])))
    finally:
        feed.cancel()
        if process.returncode is None:
            process.kill()


async def _feed(stream: _Stream, process: asyncio.subprocess.Process, has_packets: bool) -> None:
    if process.stdin is None:
        return
    try:
        while True:
            if not has_packets:
                process.stdin.write(await stream.read(1))
                continue
            kind, size = struct.unpack("<BI", await stream.read(5))
            data = await stream.read(size)
            if kind == _STDIN:
                process.stdin.write(data)
                await process.stdin.drain()
            elif kind == _CLOSE_STDIN:
                process.stdin.close()
    except (_StreamClosed, ConnectionError):
        process.stdin.close()


class _Sync:
    """The file service: stat, list, send, receive."""

    def __init__(self, stream: _Stream, root: Path, behaviour: Behaviour) -> None:
        self._stream = stream
        self._root = root
        self._behaviour = behaviour

    async def serve(self) -> None:
        handlers = {
            b"STAT": self._stat,
            b"STA2": self._stat_followed,
            b"LST2": self._stat_link,
            b"LIST": self._list,
            b"LIS2": self._list2,
            b"SEND": self._receive_file,
            b"RECV": self._send_file,
        }
        while True:
            request, size = struct.unpack("<4sI", await self._stream.read(8))
            if request == b"QUIT":
                return
            name = (await self._stream.read(size)).decode()
            if request not in handlers:
                await self._fail(f"unknown request {request!r}")
                return
            await handlers[request](name)

    def _path(self, name: str) -> Path:
        return self._root / name.lstrip("/")

    async def _fail(self, message: str) -> None:
        await self._stream.write(struct.pack("<4sI", b"FAIL", len(message)) + message.encode())

    def _status(self, path: Path, follow: bool = False) -> os.stat_result | None:
        try:
            return path.stat() if follow else path.lstat()
        except OSError:
            return None

    async def _stat(self, name: str) -> None:
        found = self._status(self._path(name))
        mode, size, mtime = (found.st_mode, found.st_size, found.st_mtime) if found else (0, 0, 0)
        await self._stream.write(struct.pack("<4sIII", b"STAT", mode, size & 0xFFFFFFFF, int(mtime)))

    def _stat2(self, tag: bytes, found: os.stat_result | None) -> bytes:
        """struct sync_stat_v2: error, device, inode, mode, links, owner, group, size, times."""
        if found is None:
            return struct.pack("<4sI", tag, 2) + bytes(64)  # ENOENT
        owner = (found.st_mode, found.st_nlink, found.st_uid, found.st_gid)
        times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
        identity = (0, found.st_dev, found.st_ino)
        return struct.pack("<4sIQQIIIIQqqq", tag, *identity, *owner, found.st_size, *times)

    async def _stat_followed(self, name: str) -> None:
        await self._stream.write(self._stat2(b"STA2", self._status(self._path(name), follow=True)))

    async def _stat_link(self, name: str) -> None:
        await self._stream.write(self._stat2(b"LST2", self._status(self._path(name))))

    def _entries(self, name: str) -> list[Path]:
        folder = self._path(name)
        return sorted(folder.iterdir()) if folder.is_dir() else []

    async def _list(self, name: str) -> None:
        answer = b""
        for path in self._entries(name):
            state, label = path.lstat(), path.name.encode()
            row = (state.st_mode, state.st_size & 0xFFFFFFFF, int(state.st_mtime), len(label))
            answer += struct.pack("<4s4I", b"DENT", *row) + label
        await self._stream.write(answer + struct.pack("<4s4I", b"DONE", 0, 0, 0, 0))

    async def _list2(self, name: str) -> None:
        answer = b""
        for path in self._entries(name):
            label = path.name.encode()
            answer += self._stat2(b"DNT2", self._status(path))
            answer += struct.pack("<I", len(label)) + label
        await self._stream.write(answer + b"DONE" + bytes(72))

    async def _receive_file(self, name_and_mode: str) -> None:
        """The client pushes; a failure is told after its last byte, as adbd does."""
        name, _, mode_text = name_and_mode.rpartition(",")
        path, mode = self._path(name), int(mode_text)
        content, mtime, failure = b"", 0, ""
        while True:
            tag, size = struct.unpack("<4sI", await self._stream.read(8))
            if tag == b"DONE":
                mtime = size
                break
            data = await self._stream.read(size)
            if self._behaviour.full:
                failure = _NO_SPACE
            else:
                content += data
        try:
            if not failure:
                _store(path, content, mode, mtime)
        except OSError as error:
            failure = error.strerror or str(error)
        if failure:
            await self._fail(failure)
        else:
            await self._stream.write(struct.pack("<4sI", b"OKAY", 0))

    async def _send_file(self, name: str) -> None:
        try:
            content = self._path(name).read_bytes()
        except OSError as error:
            await self._fail(error.strerror or str(error))
            return
        for start in range(0, len(content), 65536):
            data = content[start : start + 65536]
            await self._stream.write(struct.pack("<4sI", b"DATA", len(data)) + data)
        await self._stream.write(struct.pack("<4sI", b"DONE", 0))


def _store(path: Path, content: bytes, mode: int, mtime: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        path.symlink_to(content.rstrip(b"\0").decode())
        return
    path.write_bytes(content)
    path.chmod(mode & 0o777)
    os.utime(path, (mtime, mtime))


class FakeAdbd:
    """A stand-in device on a port of the loopback interface, served by a thread of its own."""

    def __init__(self, root: Path, behaviour: Behaviour | None = None) -> None:
        self.root = root
        self._behaviour = behaviour or Behaviour()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._serve, name="fake-adbd", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise LabError("the stand-in for adbd did not start")

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self._port}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20))
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled by close(); asyncio would log a connection that ends by cancellation.
        with contextlib.suppress(asyncio.CancelledError):
            await _Connection(self._behaviour, self.root, reader, writer).serve()

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)

    def __enter__(self) -> FakeAdbd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
