"""Mail with an envelope: typed messages in order per node, and questions with answers, on top of a Directory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from signaling.directory import Directory
from signaling.node_messages import Ask, Mail, Question, Reply

log = logging.getLogger(__name__)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Mail)

# What may wait for one node while the directory is slow; more is as good as lost.
MAX_QUEUED = 2_000


class NotAnswered(Exception):
    """`code`: unreachable (nobody there), timeout, or the error of the one who was asked."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


Answerer = Callable[[str, Any], Awaitable[str]]


class Post:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._queues: dict[str, asyncio.Queue[Mail]] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._questions: dict[str, tuple[str, asyncio.Future[str]]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {}
        self._answerers: dict[type, Answerer] = {}
        self._undelivered: list[Callable[[str, Mail], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        directory.on_mail(self._arrived)
        directory.on_gone(lambda member: self._give_up(member.node))

    def handle(self, kind: type, handler: Callable[[Any], None]) -> None:
        """Called with each mail of this kind."""
        self._handlers[kind] = handler

    def answer(self, kind: type, answerer: Answerer) -> None:
        """Called with (the asking node, the question); returns the result or raises NotAnswered."""
        self._answerers[kind] = answerer

    def on_undelivered(self, listener: Callable[[str, Mail], None]) -> None:
        """Called with the node and the mail that certainly did not arrive."""
        self._undelivered.append(listener)

    def send(self, node: str, mail: Mail) -> None:
        queue = self._queues.get(node)
        if queue is None:
            queue = self._queues[node] = asyncio.Queue(MAX_QUEUED)
            self._senders[node] = asyncio.create_task(self._send(node, queue), name=f"post {node}")
        try:
            queue.put_nowait(mail)
        except asyncio.QueueFull:
            self._failed(node, mail)

    async def _send(self, node: str, queue: asyncio.Queue[Mail]) -> None:
        while True:
            mail = await queue.get()
            if not await self._directory.post(node, _encoder.encode(mail)):
                self._failed(node, mail)
            queue.task_done()

    def _failed(self, node: str, mail: Mail) -> None:
        if isinstance(mail, Ask):
            self._settle(mail.id, NotAnswered("unreachable"))
            return
        for listener in self._undelivered:
            listener(node, mail)

    async def ask(self, node: str, question: Question, timeout_s: float) -> str:
        """The result. Raises NotAnswered."""
        identifier = secrets.token_hex(8)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._questions[identifier] = (node, future)
        self.send(node, Ask(id=identifier, node=self._directory.own.node, question=question))
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError as error:
            raise NotAnswered("timeout") from error
        finally:
            self._questions.pop(identifier, None)

    def _settle(self, identifier: str, outcome: str | NotAnswered) -> None:
        _, future = self._questions.get(identifier, ("", None))
        if future is None or future.done():
            return
        if isinstance(outcome, NotAnswered):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _give_up(self, node: str) -> None:
        """The one who was asked is dead: no need to wait for the timeout."""
        for identifier, (asked, _) in list(self._questions.items()):
            if asked == node:
                self._settle(identifier, NotAnswered("unreachable"))

    def _arrived(self, body: bytes) -> None:
        try:
            mail: Mail = _decoder.decode(body)
        except msgspec.MsgspecError:
            # Another version of this program during an upgrade; its question runs into the timeout.
            log.warning("mail that cannot be read was dropped (%d bytes)", len(body))
            return
        if isinstance(mail, Reply):
            self._settle(mail.id, NotAnswered(mail.error, mail.detail) if mail.error else mail.result)
        elif isinstance(mail, Ask):
            task = asyncio.create_task(self._answer(mail))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif handler := self._handlers.get(type(mail)):
            handler(mail)

    async def _answer(self, ask: Ask) -> None:
        answerer = self._answerers.get(type(ask.question))
        try:
            if answerer is None:
                raise NotAnswered("unknown")
            reply = Reply(id=ask.id, result=await answerer(ask.node, ask.question))
        except NotAnswered as error:
            reply = Reply(id=ask.id, error=error.code, detail=error.detail)
        except Exception as error:
            # The asker must not wait for the timeout because of a defect here.
            log.exception("a question of another process failed")
            reply = Reply(id=ask.id, error="unavailable", detail=type(error).__name__)
        self.send(ask.node, reply)

    async def stop(self) -> None:
        """Let what is queued leave, briefly, then stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(queue.join() for queue in self._queues.values()))
        for task in [*self._senders.values(), *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._senders.values(), *self._tasks, return_exceptions=True)
        self._senders.clear()
        self._queues.clear()
