"""Gathers the requests that come at about the same time, so that the network is called once for many. Floor 17."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

from netwright.serving.answering import Question, Reply

GATHER = 0.002  # seconds that a first request waits for others while nothing else is in work
MOST_QUESTIONS = 512  # of one batch
MOST_BYTES = 8 << 20  # of the bodies of one batch, unless one alone is larger
PATIENCE = 1.0  # seconds after which it is watched whether a client is still there


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class BusyError(Exception):
    """More waits than may."""


@dataclass(frozen=True)
class _Waiting:
    """A question and where its reply goes."""

    question: Question
    reply: asyncio.Future[Reply]


@final
class Batcher:
    """Answers questions in batches, in one thread beside the event loop.

    While a batch is in work others gather, so batches grow with the load by themselves.

    Args:
        answer: Returns the replies to questions, in their order.
        most: Questions that may wait.
        on_batch: Told the number of questions of each batch.
    """

    def __init__(
        self, answer: Callable[[Sequence[Question]], list[Reply]], most: int, on_batch: Callable[[int], None]
    ) -> None:
        self._answer, self._most, self._on_batch = answer, most, on_batch
        self._queue: deque[_Waiting] = deque()
        self._awake = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="netwright-predict")
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether questions are answered."""
        return self._task is not None and not self._task.done() and not self._stopping

    @property
    def waiting(self) -> int:
        """The number of questions that wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to answer; an event loop must run."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Answer what waits, and end."""
        self._stopping = True
        self._awake.set()
        if self._task is not None:
            await self._task
        self._pool.shutdown()

    async def ask(self, question: Question, seconds: float, left: Callable[[], Awaitable[None]]) -> Reply:
        """Return the reply to a question.

        Args:
            question: What is asked.
            seconds: How long it may take.
            left: Returns when the client has gone.

        Raises:
            BusyError: Too many wait, or the server ends.
            TimeoutError: It took too long; what is not in work yet is dropped.
            ClientLeftError: The client has gone; the same.
        """
        if not self.ready or len(self._queue) >= self._most:
            raise BusyError
        waiting = _Waiting(question, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._awake.set()
        try:
            await asyncio.wait((waiting.reply,), timeout=min(PATIENCE, seconds))
            if not waiting.reply.done() and seconds > PATIENCE:
                await self._watched(waiting.reply, seconds - PATIENCE, left)
            if not waiting.reply.done():
                raise TimeoutError
            return waiting.reply.result()
        finally:
            waiting.reply.cancel()  # of a reply that is there this does nothing

    async def _watched(self, reply: asyncio.Future[Reply], seconds: float, left: Callable[[], Awaitable[None]]) -> None:
        """Wait for a reply while the client is there."""
        gone = asyncio.ensure_future(left())
        try:
            await asyncio.wait((reply, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not reply.done():
                raise ClientLeftError
        finally:
            gone.cancel()

    async def _work(self) -> None:
        """Answer batch after batch."""
        loop = asyncio.get_running_loop()
        while self._queue or not self._stopping:
            if not self._queue:
                self._awake.clear()
                await self._awake.wait()
                if not self._stopping:
                    await asyncio.sleep(GATHER)
            batch = self._next()
            if not batch:
                continue
            self._on_batch(len(batch))
            try:
                replies = await loop.run_in_executor(self._pool, self._answer, [one.question for one in batch])
                for one, reply in zip(batch, replies, strict=True):
                    if not one.reply.done():
                        one.reply.set_result(reply)
            except Exception as error:  # told to each of them; the next batch is not touched
                for one in batch:
                    if not one.reply.done():
                        one.reply.set_exception(error)

    def _next(self) -> list[_Waiting]:
        """Take the questions that are answered next; those that nobody waits for are dropped."""
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < MOST_QUESTIONS:
            size += len(self._queue[0].question.body)
            if batch and size > MOST_BYTES:
                break
            one = self._queue.popleft()
            if not one.reply.done():
                batch.append(one)
        return batch
