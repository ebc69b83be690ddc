"""Open-model load on one port: requests begin when they are due, whatever became of those before. Every one is counted.

No client retry; a failure is a refused, reset or silent connection, a status other than 200, or a body that is
not the whole one that was meant.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Load:
    """What was sent to a port, and what came of it."""

    port: int
    rate: float = 50.0  # requests a second
    sent: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)  # when it was asked, and which release answered
    orders: list[str] = field(default_factory=list)
    _idle: list[Wire] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread
        self._thread.join()

    @property
    def count(self) -> int:
        """Return how many requests were sent."""
        return sum(self.sent.values())

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in itertools.count():
            delay = began + number / self.rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if self._over.is_set():
                break
            task = asyncio.create_task(self._one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()

    async def _one(self, number: int) -> None:
        kind = "stream" if number % 101 == 7 else "slow" if number % 67 == 5 else ("kept", "fresh", "order")[number % 3]
        self.sent[kind] += 1
        try:
            async with asyncio.timeout(60):
                await getattr(self, f"_{kind}")(number)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.failures.append(f"{kind} {number}: {error!r}")

    async def _kept(self, number: int) -> None:
        asked_at = time.monotonic()
        wire = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        self._answered(asked_at, await self._ask(wire, "GET / HTTP/1.1\r\nHost: load\r\n\r\n"))

    async def _fresh(self, number: int) -> None:
        asked_at = time.monotonic()
        wire = await asyncio.open_connection("127.0.0.1", self.port)
        self._answered(asked_at, await self._ask(wire, "GET / HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n"))

    async def _order(self, number: int) -> None:
        wire = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        order = f"{id(self)}-{number}"
        head = f"POST /order HTTP/1.1\r\nHost: load\r\nContent-Length: {len(order)}\r\n\r\n{order}"
        if (echoed := await self._ask(wire, head)) != order:
            raise ValueError(f"sent {order}, got {echoed}")
        self.orders.append(order)

    async def _slow(self, number: int) -> None:
        asked_at = time.monotonic()
        wire = await asyncio.open_connection("127.0.0.1", self.port)
        self._answered(
            asked_at, await self._ask(wire, "GET /slow/2 HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n")
        )

    async def _stream(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /stream/10 HTTP/1.1\r\nHost: load\r\n\r\n")
        text = (await reader.read(-1)).decode()
        writer.close()
        if not all(f"data: {tick}\n" in text for tick in range(10)):
            raise ValueError(f"a stream was cut: {text[-40:]!r}")

    async def _ask(self, wire: Wire, request: str) -> str:
        reader, writer = wire
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        body = (await reader.readexactly(length)).decode().strip()
        if "connection: close" in head or "connection: close" in request.lower():
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        else:
            self._idle.append(wire)
        if " 200 " not in head.partition("\r\n")[0]:
            raise ValueError(f"{head.partition(chr(13))[0]}: {body}")
        return body

    def _answered(self, asked_at: float, body: str) -> None:
        self.answers.append((asked_at, body))

    def since(self, moment: float) -> list[str]:
        """Return the answers to what was asked at `moment` or later; slow ones of before may still come in."""
        return [body for asked_at, body in self.answers[:] if asked_at >= moment]
