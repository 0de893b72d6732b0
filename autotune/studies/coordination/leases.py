"""Leases tell which workers of a storage are alive, without trusting a clock.

A worker is a running trial of one bookkeeping study, and counts up its attribute ``beat`` every
few seconds. Trials in work name their worker. Whoever looks decides who is dead: on the same
machine by the process, elsewhere when the count has stood still for a minute of the looker's own
monotonic clock. So a wrong clock anywhere, or one that is set, changes nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from autotune.studies.storage.protocol import WORKER
from autotune.studies.storage.retry import TRANSIENT_ERRORS, retry_storage
from autotune.studies.storage.transactions import study_id_of, trial_id_of

LEASES = "autotune workers"
"""Name of the bookkeeping study."""
BEAT_S = 10.0
SILENCE_S = 60.0
"""Seconds without a beat after which a worker counts as dead."""
_BEAT = "beat"
_LOOK_S = 2.0
"""Seconds after which beats are read again."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_SPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class WorkerId:
    """One life of one process. ``machine`` is the boot and the process-id space, in which alone
    ``pid`` and ``started`` mean something: containers of one host have several."""

    host: str
    pid: int
    started: str
    machine: str
    token: str

    def __str__(self) -> str:
        return "/".join(map(str, astuple(self)))

    @classmethod
    def of_this_process(cls) -> WorkerId:
        """Return a new id each time."""
        pid = os.getpid()
        host = socket.gethostname().replace("/", "_")
        return cls(host, pid, _started(pid) or "?", _machine(), uuid.uuid4().hex[:8])

    @classmethod
    def parse(cls, text: str) -> WorkerId | None:
        """Read an id; None if the text is none."""
        parts = text.split("/")
        if len(parts) != 5 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2], parts[3], parts[4])

    @property
    def is_gone(self) -> bool:
        """True if this machine knows that the process has ended. False says nothing."""
        is_here = "?" not in (self.started, self.machine) and self.machine == _machine()
        return is_here and _started(self.pid) != self.started


class Lease:
    """Context manager: this process is at work. A thread of its own beats."""

    def __init__(self, storage: BaseStorage, device: str, *, beat_s: float = BEAT_S) -> None:
        """``storage`` should have a connection for each thread. ``device`` is for people."""
        self._storage = storage
        self._device = device
        self._beat_s = beat_s
        self._names: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def worker(self) -> str:
        """Name that new trials carry."""
        return self._names[-1]

    @property
    def names(self) -> Collection[str]:
        """This name and earlier ones: a worker that was taken for dead (a laptop that slept) gets a
        new one, since its trials were given away."""
        return tuple(self._names)

    def __enter__(self) -> Lease:
        retry_storage(self._sign)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(1.0)
        # Where it fails, who looks sees that we are gone.
        with suppress(UpdateFinishedTrialError, *TRANSIENT_ERRORS):
            self._storage.set_trial_state_values(self._trial_id, TrialState.COMPLETE, [0.0])

    def _sign(self) -> None:
        worker = str(WorkerId.of_this_process())
        attrs = {WORKER: worker, "device": self._device, _BEAT: 0}
        template = create_trial(state=TrialState.RUNNING, user_attrs=attrs)
        self._trial_id = self._storage.create_new_trial(leases_of(self._storage), template)
        self._names.append(worker)
        self._count = 0

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_s):
            with suppress(*TRANSIENT_ERRORS):  # the next beat may pass
                self._count += 1
                try:
                    self._storage.set_trial_user_attr(self._trial_id, _BEAT, self._count)
                except UpdateFinishedTrialError:
                    self._sign()


class Census:
    """Decides which workers are dead; remembers since when each count stands still."""

    def __init__(
        self, storage: BaseStorage, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._study_id = leases_of(storage)
        self._looked_at: float | None = None
        self._leases: dict[str, int] = {}
        self._moved: dict[str, tuple[object, float]] = {}
        self._unsigned: dict[int, float] = {}

    def dead(self, workers: Collection[str]) -> set[str]:
        """Return those of ``workers`` that work no more, and end their leases for all to see."""
        if not workers:
            return set()
        self._look(anew=not self._leases.keys() >= set(workers))
        found = {worker for worker in workers if self._is_dead(worker)}
        for worker in found & self._leases.keys():
            self._bury(worker)
        return found

    def is_forgotten(self, trial_id: int) -> bool:
        """Return True if a running trial is unsigned for longer than a worker may be silent."""
        now = self._clock()
        return now - self._unsigned.setdefault(trial_id, now) > SILENCE_S

    def living(self) -> set[str]:
        """Return every worker with a lease that is not known to be dead."""
        self._look()
        return set(self._leases) - self.dead(list(self._leases))

    def _is_dead(self, worker: str) -> bool:
        if worker not in self._leases:
            return True  # it has left, or was buried
        known = WorkerId.parse(worker)
        if known is not None and known.is_gone:
            return True
        return self._clock() - self._moved[worker][1] > SILENCE_S

    def _look(self, *, anew: bool = False) -> None:
        """Read the beats; ``anew`` if a worker is unknown: it signs before it takes a trial."""
        now = self._clock()
        if not anew and self._looked_at is not None and now - self._looked_at < _LOOK_S:
            return
        running = self._storage.get_all_trials(
            self._study_id, deepcopy=False, states=(TrialState.RUNNING,)
        )
        self._looked_at = now
        beats = {
            str(t.user_attrs[WORKER]): (trial_id_of(t), t.user_attrs.get(_BEAT))
            for t in running
            if WORKER in t.user_attrs  # others are nobody's lease
        }
        self._leases = {worker: trial_id for worker, (trial_id, _) in beats.items()}
        before, self._moved = self._moved, {}
        for worker, (_, beat) in beats.items():
            last = before.get(worker)
            self._moved[worker] = last if last is not None and last[0] == beat else (beat, now)

    def _bury(self, worker: str) -> None:
        with suppress(UpdateFinishedTrialError):  # somebody else did
            self._storage.set_trial_state_values(self._leases.pop(worker), TrialState.FAIL)


def leases_of(storage: BaseStorage) -> int:
    """Return the id of the bookkeeping study; it is made if it is missing."""
    study = optuna.create_study(storage=storage, study_name=LEASES, load_if_exists=True)
    return study_id_of(study)


@cache
def _machine() -> str:
    """Return boot and process-id space; "?" if the system does not say."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()[:8]
        space = str(_PID_SPACE.readlink()).strip("pid:[]")
    except OSError:
        return "?"
    return f"{boot}.{space}"


def _started(pid: int) -> str | None:
    """Return the process's start in ticks since boot; None if there is none, or only a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text.rsplit(")", 1)[1].split()
    return None if words[0] in "ZX" else words[19]
