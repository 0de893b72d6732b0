from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from alive import is_alive
from fakes import (  # type: ignore[import-not-found]
    ABORT,
    FINE,
    FULL,
    HANG,
    RAISE,
    REFUSE,
    FaultyMeasurer,
)

from autotune.backends.protocol import Measurer
from autotune.errors import DeviceError
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome
from autotune.studies.search.pruning import Stop
from autotune.tuning.processes.child import Call, Child, ChildFault

PROBLEM = Problem(8, 2, 512, 256, 1)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child(FaultyMeasurer)
    yield child
    child.close()


def _config(stages: int) -> Config:
    return Config(16, 32, 64, 1, 4, stages)


def _measure(child: Child, stages: int) -> object:
    child.submit(Call.of(Measurer.measure, PROBLEM, _config(stages)))
    return child.receive()


def test_an_answer(child: Child) -> None:
    assert child.call(Measurer.device).name == "Faulty"
    assert (
        child.call(Measurer.measure, PROBLEM, _config(FINE), stop=Stop(((3.0,),))).outcome
        == Outcome.OK
    )


def _name_and(measurer: Measurer, number: int) -> tuple[str, int]:
    return measurer.device.name, number


def test_a_function_is_called_with_what_the_child_holds(child: Child) -> None:
    assert child.call(_name_and, 3) == ("Faulty", 3)


def test_a_crash_in_c_is_a_fault_and_a_restart_goes_on(child: Child) -> None:
    fault = _measure(child, ABORT)
    assert isinstance(fault, ChildFault)
    assert "SIGABRT" in fault.reason
    child.restart()
    assert child.call(Measurer.measure, PROBLEM, _config(FINE)).outcome == Outcome.OK


def test_an_unknown_exception_is_a_fault_with_its_first_line(child: Child) -> None:
    fault = _measure(child, RAISE)
    assert isinstance(fault, ChildFault)
    assert fault.reason == "RuntimeError: CUDA error: an illegal memory access"
    assert "Traceback" in fault.detail


def test_a_users_error_is_raised_here(child: Child) -> None:
    with pytest.raises(DeviceError, match="no such GPU"):
        _measure(child, REFUSE)


def test_a_full_disk_is_no_fault_of_a_config(child: Child) -> None:
    with pytest.raises(DeviceError, match=r"No space left on device: .*TRITON_CACHE_DIR"):
        _measure(child, FULL)


def test_a_hang_can_be_killed(child: Child) -> None:
    child.call(Measurer.device)
    child.submit(Call.of(Measurer.measure, PROBLEM, _config(HANG)))
    assert not child.process.link.poll(0.3)
    assert child.waited_s > 0.2
    child.restart()
    assert child.call(Measurer.measure, PROBLEM, _config(FINE)).outcome == Outcome.OK


def test_ctrl_c_in_the_terminal_does_not_reach_it(child: Child) -> None:
    child.call(Measurer.device)
    os.kill(child.process.pid, signal.SIGINT)
    assert child.call(Measurer.measure, PROBLEM, _config(FINE)).outcome == Outcome.OK


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_it_dies_with_its_parent_even_in_the_middle_of_a_measurement() -> None:
    code = (
        "from fakes import FaultyMeasurer, HANG\n"
        "from autotune.backends.protocol import Measurer\n"
        "from autotune.tuning.processes.child import Call, Child\n"
        "from autotune.spec.config import Config; from autotune.spec.problem import Problem\n"
        "import os, signal, time\n"
        "if __name__ == '__main__':\n"
        "    child = Child(FaultyMeasurer); child.call(Measurer.device)\n"
        "    problem, config = Problem(8, 2, 512, 256, 1), Config(16, 32, 64, 1, 4, HANG)\n"
        "    child.submit(Call.of(Measurer.measure, problem, config))\n"
        "    time.sleep(0.2); print(child.process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    pid = int(ended.stdout)
    for _ in range(50):
        if not is_alive(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} outlived its parent")


class SlowToOpen(FaultyMeasurer):
    """Takes a second to open."""

    def __init__(self) -> None:
        time.sleep(1.0)


def test_opening_the_device_does_not_count_as_waiting_for_a_config() -> None:
    child = Child(SlowToOpen)
    try:
        child.submit(Call.of(Measurer.measure, PROBLEM, _config(HANG)))
        for _ in range(8):
            time.sleep(0.1)
            assert child.waited_s == 0.0
        until = time.monotonic() + 60
        while child.waited_s < 0.3 and time.monotonic() < until:
            time.sleep(0.02)
        assert 0.3 <= child.waited_s < 10
    finally:
        child.kill()


def test_a_child_that_somebody_kills_says_so(child: Child) -> None:
    assert child.call(Measurer.device).name == "Faulty"
    child.submit(Call.of(Measurer.measure, PROBLEM, _config(HANG)))
    os.kill(child.process.pid, signal.SIGKILL)
    fault = child.receive()
    assert isinstance(fault, ChildFault)
    assert fault.is_kill
