"""One run over what is due: claim, send, write down what became of it.

A message is claimed by a write that moves its due time past the longest run, so that two runs at once do not send it
twice, and a crash anywhere leaves it due again. What was sent is written down after it was sent: a crash between sends
it again, under the same id. Each channel has a worker of its own, so that one that hangs holds up no other; the main
thread alone writes rows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol

from tollgate.clock import Clock, rfc3339_ms
from tollgate.notify.channels import CUSTOMERS, NAMED, Channel, Settings
from tollgate.notify.letter import (
    DIGESTED,
    FAILED,
    HELD,
    OPEN,
    SENT,
    SKIPPED,
    WAITING,
    Counts,
    Delivery,
    Letter,
    NoReceiver,
    NotDelivered,
    not_sent,
    put_off,
    sent,
)
from tollgate.notify.templates import DIGEST, digest

MOST_A_RUN: Final = 500
"""Messages that one run claims; the rest follow a minute later, oldest due time first."""
DOWN_AFTER: Final = 3
"""Attempts of a run that may fail one after another before its other messages on that channel are put off."""
PUT_OFF_S: Final = 60
"""The least; a message that has waited longer is put off as long again, so that what a channel that is down for days
heaps up does not take every run's time from the others."""
ATTEMPT_S: Final = 14
"""After which an attempt is given up whatever it waits for: a silent name server is bounded by nothing else."""
MOST_FAILURES: Final = 5
"""Messages that could not be claimed, of which a run's error tells; more are counted among what is left."""
MOST_IN_DIGEST: Final = 50
"""A transaction takes 100 writes, and an event on a bus 256 KB."""
_HOUR: Final = 3600
_TRIES: Final = 5


class Letters(Protocol):
    """`letter_store.LetterTable`."""

    def due(self, now: int) -> Iterator[str]: ...
    def get(self, place: str) -> Letter | None: ...
    def replace(self, before: Letter, after: Letter, now: int) -> Letter | None: ...
    def put_digest(self, digest: Letter, parts: Sequence[tuple[Letter, Letter]], now: int) -> bool: ...
    def take(self, counted_as: str, per_hour: int, now: int) -> bool: ...


Send = Callable[[Channel, Letter], None]
"""Sends one message on one channel. Raises NotDelivered."""


@dataclass(frozen=True, slots=True)
class NotifyDeps:
    """`channels`: read when something is due. `gone`: a receiver wants nothing more. `told`: a new message, for the
    log. `jitter(n)`: 0 to n - 1."""

    letters: Letters
    channels: Callable[[], Settings]
    send: Send
    gone: Callable[[Channel], None]
    told: Callable[[Letter], None]
    clock: Clock
    jitter: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of one attempt. `trouble` None: it was sent; a `defect` is one of our own."""

    channel: Channel
    letter: Letter
    trouble: NotDelivered | None = None
    defect: Exception | None = None
    nobody: str | None = None
    put_off: bool = False


def run(deps: NotifyDeps, in_time: Callable[[], bool]) -> Counts:
    """Deliver what is due, as far as `in_time` allows."""
    counts = Counts()
    now = deps.clock() // 1000
    settings: Settings | None = None
    claimed: dict[str, Letter] = {}
    work: dict[str, list[Letter]] = {}
    held: dict[str, list[Letter]] = {}
    for looked, place in enumerate(deps.letters.due(now)):
        if looked >= MOST_A_RUN or not in_time():
            counts.left += 1
            break
        settings = settings or deps.channels()
        try:
            letter = _claim(deps, settings, place, now, counts)
        except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
            # Nor do many of them: they stay at the head of the line, and whatever came later would wait for good.
            if len(counts.failures) < MOST_FAILURES:
                error.add_note(f"claiming message {Letter(place, {}).id}")  # its place may name a member
                counts.failures.append(error)
            else:
                counts.left += 1
            continue
        if letter is None:
            continue
        claimed[place] = letter
        for name in letter.ready(now):
            if _delivery(letter, name).state == HELD:
                held.setdefault(settings.channels[name].counted_as(letter), []).append(letter)
            work.setdefault(name, []).append(letter)
    if settings is None:
        return counts
    for counted_as, waiting in held.items():
        _digest(deps, counted_as, waiting, claimed, work, now, counts)
    try:
        _deliver(deps, settings, work, claimed, in_time, counts)
    except Exception as error:  # noqa: BLE001 - raised by the caller: what was given up before must reach its alarm
        counts.failures.append(error)
    return counts


# -- claiming ----------------------------------------------------------------------------------------------------------


def _claim(deps: NotifyDeps, settings: Settings, place: str, now: int, counts: Counts) -> Letter | None:
    """Make a message this run's own, with every channel that is not to be used now put off; None where there is
    nothing to do, or another run has it."""
    before = deps.letters.get(place)
    if before is None or before.due_at is None or before.due_at > now:
        return None  # the index lags behind the row
    letter = _begun(settings, before, now)
    for name in letter.ready(now):
        letter = letter.having(name, _planned(deps, settings, letter, name, now, counts))
    ready = bool(letter.ready(now))
    there = deps.letters.replace(before, letter.leased(now) if ready else letter, now)
    if there is not None and before.deliveries is None:
        deps.told(there)
    return there if ready else None


def _begun(settings: Settings, letter: Letter, now: int) -> Letter:
    """With the channels that it goes to, chosen once."""
    if letter.deliveries is not None:
        return letter
    wanted = [name for name, channel in settings.channels.items() if channel.wants(letter)]
    return letter.at_channels({name: Delivery(WAITING, now) for name in wanted})


def _planned(deps: NotifyDeps, settings: Settings, letter: Letter, name: str, now: int, counts: Counts) -> Delivery:
    """What to do about one channel now: as it is where it may be tried."""
    delivery, channel = _delivery(letter, name), settings.channels.get(name)
    if channel is None:
        return replace(delivery, state=SKIPPED, at=now, reason="the channel is off")
    if settings.is_critical(letter.kind):
        return delivery
    ends = None if channel.quiet is None else channel.quiet.until(now)
    if ends is not None:
        return replace(delivery, at=ends if delivery.state == HELD else ends + deps.jitter(PUT_OFF_S))
    # A digest is what the limit left; what was tried or put off before, or has waited for its hour, is counted already.
    if channel.per_hour is None or letter.kind == DIGEST or delivery.since or delivery.state == HELD:
        return delivery
    if deps.letters.take(channel.counted_as(letter), channel.per_hour, now):
        return delivery
    counts.held += 1
    return replace(delivery, state=HELD, at=now // _HOUR * _HOUR + _HOUR)  # all at once: they are to be one digest


def _digest(
    deps: NotifyDeps,
    counted_as: str,
    held: Sequence[Letter],
    claimed: dict[str, Letter],
    work: dict[str, list[Letter]],
    now: int,
    counts: Counts,
) -> None:
    """Put together what was held back on a channel. A single one goes as it is."""
    name = counted_as.partition("#")[0]
    for first in range(0, len(held), MOST_IN_DIGEST):
        some = [claimed[one.place] for one in held[first : first + MOST_IN_DIGEST]]
        if len(some) < 2:
            return
        message = digest(some, rfc3339_ms(deps.clock()), customer=name == CUSTOMERS)
        put_ms = deps.clock()
        made = Letter(f"{put_ms:013d}#{name} {message['id']}", message)
        made = made.having(name, Delivery(WAITING, now)).leased(now)
        ended = [one.having(name, Delivery(DIGESTED, now, reason=made.id)) for one in some]
        # A message with other channels to go stays this run's.
        parts = [
            (before, after.leased(now) if after.due_at is not None else after)
            for before, after in zip(some, ended, strict=True)
        ]
        if not deps.letters.put_digest(made, parts, now):
            work[name] = [one for one in work[name] if one.place not in {each.place for each in some}]
            continue  # one of them changed: all come again when their lease ends
        for _, after in parts:
            claimed[after.place] = replace(after, version=after.version + 1)
        work[name] = [one for one in work[name] if one.place not in {each.place for each in some}]
        claimed[made.place] = made
        work[name].append(made)
        counts.digests += 1


# -- sending -----------------------------------------------------------------------------------------------------------


def _deliver(
    deps: NotifyDeps,
    settings: Settings,
    work: Mapping[str, list[Letter]],
    claimed: dict[str, Letter],
    in_time: Callable[[], bool],
    counts: Counts,
) -> None:
    results: queue.SimpleQueue[_Result | None] = queue.SimpleQueue()
    stopped = threading.Event()
    lanes = [(settings.channels[name], letters) for name, letters in work.items() if letters]
    if not lanes:
        return

    def go_on() -> bool:
        return in_time() and not stopped.is_set()

    with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
        workers = [pool.submit(_work, deps.send, channel, letters, go_on, results) for channel, letters in lanes]
        running = len(workers)
        try:
            while running:
                result = results.get()
                if result is None:
                    running -= 1
                else:
                    _write(deps, result, claimed, counts)
        finally:
            # Where a row cannot be written, nothing more is sent: it would be sent again.
            stopped.set()
    for worker in workers:
        worker.result()


def _work(
    send: Send,
    channel: Channel,
    letters: Sequence[Letter],
    in_time: Callable[[], bool],
    results: queue.SimpleQueue[_Result | None],
) -> None:
    """One channel's messages, one after another. Those that it leaves come due again when their lease ends."""
    failed = 0
    try:
        for letter in letters:
            if not in_time():
                break
            if failed >= DOWN_AFTER:
                results.put(_Result(channel, letter, put_off=True))
                continue
            try:
                _attempt(send, channel, letter)
            except NoReceiver as nobody:
                results.put(_Result(channel, letter, nobody=str(nobody)))
            except NotDelivered as trouble:
                failed = 0 if trouble.final else DOWN_AFTER if trouble.gone else failed + 1
                results.put(_Result(channel, letter, trouble))
            except Exception as defect:  # noqa: BLE001 - handed to the main thread, which raises it at the end
                failed += 1
                results.put(_Result(channel, letter, NotDelivered(type(defect).__name__), defect))
            else:
                failed = 0
                results.put(_Result(channel, letter))
    finally:
        results.put(None)


def _attempt(send: Send, channel: Channel, letter: Letter) -> None:
    """One attempt, in a thread of its own: one that is given up may still succeed, and the message comes twice then,
    under its one id. Raises what `send` raises, and NotDelivered after ATTEMPT_S."""
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            send(channel, letter)
        except BaseException as error:  # noqa: BLE001 - raised again by the worker that waits for it
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=attempt, daemon=True).start()
    try:
        error = ended.get(timeout=ATTEMPT_S)
    except queue.Empty:
        raise NotDelivered(f"no answer within {ATTEMPT_S} s") from None
    if error is not None:
        raise error


def _write(deps: NotifyDeps, result: _Result, claimed: dict[str, Letter], counts: Counts) -> None:
    """Write down what became of one attempt; a row that another run changed is read again."""
    now, name = deps.clock() // 1000, result.channel.name
    if result.trouble is not None and result.trouble.gone and name not in NAMED:
        deps.gone(result.channel)
    if result.defect is not None:
        counts.failures.append(result.defect)
    letter: Letter | None = claimed[result.letter.place]
    for _ in range(_TRIES):
        if letter is None or _delivery(letter, name).state not in OPEN:
            return  # another run has ended it meanwhile
        after = _after(deps, _delivery(letter, name), result, now)
        changed = letter.having(name, after)
        if letter.due_at is not None and any(one != name for one in letter.ready(now)):
            changed = replace(changed, due_at=letter.due_at)  # other channels of it are still this run's
        written = deps.letters.replace(letter, changed, now)
        if written is not None:
            claimed[result.letter.place] = written
            counts.sent += after.state == SENT
            counts.failed += after.state == FAILED
            counts.retried += after.state == WAITING and not result.put_off
            return
        letter = deps.letters.get(result.letter.place)
    raise RuntimeError(f"{result.letter.id} changed {_TRIES} times while it was written")


def _after(deps: NotifyDeps, delivery: Delivery, result: _Result, now: int) -> Delivery:
    if result.put_off:
        return put_off(delivery, max(PUT_OFF_S, now - result.letter.put_at), now, deps.jitter)
    if result.nobody is not None:
        return replace(delivery, state=SKIPPED, at=now, reason=result.nobody)
    if result.trouble is None:
        return sent(delivery, now)
    return not_sent(delivery, result.trouble, now, deps.jitter)


def _delivery(letter: Letter, name: str) -> Delivery:
    return (letter.deliveries or {})[name]
