from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.spec.measurement import CompileFailure, Resources
from autotune.spec.problem import Problem
from autotune.tune.compile_service.orders import Answer, CompiledAhead, Orders

ONE, OTHER = Problem(8, 2, 512, 256, 1), Problem(8, 2, 512, 256, 64)
SMALL, LARGE = Resources(16, 0, 512), Resources(8, 64, 1024)


@pytest.fixture
def orders() -> Orders:
    return Orders()


def _config(number: int) -> Config:
    return Config(number, 64, 64, 1, 4, 3)


def _take_all(orders: Orders) -> list[int]:
    taken = []
    while (binary := orders.take()) is not None:
        taken.append(binary.config.block_size_m)
    return taken


def _finish(orders: Orders, *results: Resources | CompileFailure, seconds: float = 1.0) -> None:
    for result in results:
        binary = orders.take()
        assert binary is not None
        orders.note(binary, Answer(result, seconds))


def test_needs_go_first_in_their_order_and_studies_take_turns(orders: Orders) -> None:
    orders.want(ONE, map(_config, (16, 32, 48)))
    orders.want(OTHER, map(_config, (64, 80)))
    orders.need(ONE, _config(128))
    orders.need(ONE, _config(112))
    assert _take_all(orders) == [128, 112, 16, 64, 32, 80, 48]


def test_new_wishes_replace_those_of_their_problem_alone(orders: Orders) -> None:
    orders.want(ONE, [_config(16)])
    orders.want(OTHER, [_config(32)])
    orders.want(ONE, [_config(48)])
    assert sorted(_take_all(orders)) == [32, 48]
    orders.want(OTHER, [])
    assert _take_all(orders) == []


def test_a_binary_in_work_or_known_is_not_taken_again(orders: Orders) -> None:
    orders.want(ONE, [_config(16)])
    binary = orders.take()
    assert binary is not None
    orders.want(OTHER, [_config(16)])
    future = orders.need(OTHER, replace(_config(16), group_size_m=64))
    assert orders.take() is None
    orders.note(binary, Answer(SMALL, 2.0))
    assert future.result(0) == CompiledAhead(SMALL, 2.0)
    orders.want(OTHER, [_config(16)])
    assert orders.take() is None


def test_what_is_put_back_is_taken_again(orders: Orders) -> None:
    future = orders.need(ONE, _config(16))
    binary = orders.take()
    assert binary is not None
    orders.put_back(binary)
    _finish(orders, SMALL)
    assert future.result(0) == CompiledAhead(SMALL, 1.0)


def test_seconds_are_charged_once(orders: Orders) -> None:
    first, second = orders.need(ONE, _config(16)), orders.need(OTHER, _config(16))
    _finish(orders, SMALL, seconds=3.0)
    charged = [future.result(0) for future in (first, second, orders.need(ONE, _config(16)))]
    assert [answer and answer.seconds for answer in charged] == [3.0, 0.0, 0.0]


def test_of_a_pair_the_worse_of_each_resource_counts(orders: Orders) -> None:
    pair = ConfigPair(_config(16), replace(_config(16), num_warps=8))
    future = orders.need(ONE, pair)
    _finish(orders, SMALL)
    assert not future.done()
    assert orders.result(ONE, pair) is None
    _finish(orders, LARGE)
    assert future.result(0) == CompiledAhead(Resources(16, 64, 1024), 2.0)
    assert orders.result(ONE, pair) == Resources(16, 64, 1024)


def test_one_failure_of_a_pair_is_enough(orders: Orders) -> None:
    pair = ConfigPair(_config(16), replace(_config(16), num_warps=8))
    future = orders.need(ONE, pair)
    _finish(orders, CompileFailure("no"))
    assert future.result(0) == CompiledAhead(CompileFailure("no", "up"), 1.0)
    _finish(orders, CompileFailure("neither"))


def test_nobody_waits_for_ever(orders: Orders) -> None:
    waiting = orders.need(ONE, _config(16))
    orders.close()
    assert waiting.result(0) is None
    assert orders.need(ONE, _config(32)).result(0) is None


def test_a_callback_may_order_more(orders: Orders) -> None:
    orders.need(ONE, _config(16)).add_done_callback(lambda _: orders.want(ONE, [_config(32)]))
    _finish(orders, SMALL)
    assert _take_all(orders) == [32]
