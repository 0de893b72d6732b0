"""What every Provider promises, over all of them, at small size; on the CPU but for ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from standins import VERSIONS  # type: ignore[import-not-found]

from autotune.backends.gpu.providers import PROVIDERS, Provider, ProviderSite, open_provider
from autotune.backends.gpu.providers.ours import Ours
from autotune.errors import ProviderError
from autotune.kernels.inputs import MoeInputs, make_inputs, make_routing, make_weights
from autotune.kernels.reference import moe_reference
from autotune.kernels.verify import TOLERANCE, relative_error
from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, KernelMode, Problem

SITE = ProviderSite("cpu", Target("cuda", 90))
PROBLEM = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=7)
NO_GATE = replace(PROBLEM, intermediate=64, gated=False)
"""Half of its activations are 0: wider, so that a row is of as many others as with a gate."""
CONFIG = Config(16, 32, 32, 1, 4, 3)
PAIR = ConfigPair(CONFIG, replace(CONFIG, block_size_n=16))
CASES = [
    PROBLEM,
    replace(PROBLEM, dtype=Dtype.FP16),
    replace(PROBLEM, dtype=Dtype.FP32),
    replace(PROBLEM, ep_size=2, ep_rank=1),
    NO_GATE,
    replace(NO_GATE, dtype=Dtype.FP16),
    replace(NO_GATE, dtype=Dtype.FP8_W8A8, block_shape=(32, 32)),
    replace(NO_GATE, dtype=Dtype.INT8_W8A8, per_channel_quant=True),
    replace(NO_GATE, dtype=Dtype.INT8_W8A16, block_shape=(0, 32), zero_points=True),
    replace(NO_GATE, dtype=Dtype.INT4_W4A16, block_shape=(0, 32)),
    replace(PROBLEM, dtype=Dtype.FP8_W8A8),
    replace(PROBLEM, dtype=Dtype.FP8_W8A8, per_channel_quant=True),
    replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(32, 32), ep_size=2),
    replace(PROBLEM, dtype=Dtype.INT8_W8A8),
    replace(PROBLEM, dtype=Dtype.INT8_W8A8, per_channel_quant=True),
    replace(PROBLEM, dtype=Dtype.INT8_W8A16, per_channel_quant=True),
    replace(PROBLEM, dtype=Dtype.INT8_W8A16, block_shape=(0, 32)),
    replace(PROBLEM, dtype=Dtype.INT8_W8A16, block_shape=(0, 32), zero_points=True),
    replace(PROBLEM, dtype=Dtype.INT4_W4A16, block_shape=(0, 32)),
    replace(PROBLEM, dtype=Dtype.INT4_W4A16, block_shape=(0, 32), zero_points=True),
]
NAMES = ["autotune", *(f"{e} {v}" for e, vs in VERSIONS.items() for v in vs)]
NAMES += [name for name in PROVIDERS if name.startswith("torch")]
COMPILED = CASES[-1]
"""What ``torch-compile`` is tested on here, bf16 being left to the tests of ``compare``: compiling
takes seconds a case."""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(name: str, device: str) -> ProviderSite:
    """Our kernels are interpreted only where a session has no GPU."""
    if name != "autotune" or device == "cpu":
        return SITE
    major, minor = torch.cuda.get_device_capability()
    return ProviderSite(device, Target("cuda", 10 * major + minor))


@pytest.fixture
def provider(
    name: str, site: ProviderSite, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Provider]:
    name, _, version = name.partition(" ")
    if version:
        install(name, version)
    interpreted = name == "autotune" and not site.is_gpu
    if interpreted:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    opened = Ours(site, is_interpreted=True) if interpreted else open_provider(name, site)
    yield opened
    opened.close()


@pytest.fixture(params=CASES, ids=lambda problem: problem.name)
def problem(request: pytest.FixtureRequest, provider: Provider, site: ProviderSite) -> Problem:
    """Those that the provider computes."""
    case: Problem = request.param
    if reason := provider.why_not(case):
        pytest.skip(reason)
    is_compiled = provider.name != "autotune" or site.is_gpu
    if not is_compiled and case.dtype not in (Dtype.FP16, Dtype.FP32):
        pytest.skip("the interpreter computes bf16 dots wrongly (Triton 3.9)")
    if provider.name == "torch-compile" and case is not COMPILED:
        pytest.skip("compiling takes seconds")
    return case


def _inputs(problem: Problem, site: ProviderSite) -> MoeInputs:
    return make_inputs(problem, make_weights(problem, site.target, site.name), site.target)


def test_computes_the_layer_for_whatever_routing(
    provider: Provider, problem: Problem, site: ProviderSite
) -> None:
    inputs = _inputs(problem, site)
    before = inputs.x.clone()
    layer = provider.prepare(inputs)
    for instance in (0, 3):
        layer.route(make_routing(problem, instance, torch.device(site.name)))
        output = layer.run(CONFIG if provider.name == "autotune" else None)
        assert relative_error(output, moe_reference(inputs)) < TOLERANCE[problem.dtype]
    assert torch.equal(inputs.x.view(torch.uint8), before.view(torch.uint8))
    assert output.shape == (problem.tokens, problem.hidden)


def test_runs_pairs_and_their_halves_where_it_says_so(
    provider: Provider, site: ProviderSite, request: pytest.FixtureRequest
) -> None:
    if not site.is_gpu:
        request.getfixturevalue("launched_in_python")
    problem = replace(PROBLEM, dtype=Dtype.FP16, kernel=KernelMode.SEPARATE)
    inputs = _inputs(problem, site)
    layer = provider.prepare(inputs)
    if not provider.takes_pairs:
        with pytest.raises(ProviderError, match="not a pair"):
            layer.halves(PAIR)
        return
    halves = layer.halves(PAIR)
    layer.route(make_routing(problem, 3, torch.device(site.name)))
    for call in (halves.feed, halves.up, halves.down):
        call()
    assert relative_error(layer.run(PAIR), moe_reference(inputs)) < TOLERANCE[problem.dtype]


def test_says_what_it_is(provider: Provider) -> None:
    assert provider.version.split()[0] in ("autotune", "sglang", "vllm", "torch")
    assert any(character.isdigit() for character in provider.version)
    assert provider.does


def test_the_right_answer_is_not_just_any(provider: Provider, site: ProviderSite) -> None:
    """The tolerance bites: another routing's output is wrong."""
    if provider.name in ("torch-compile", "autotune"):
        pytest.skip("slow here, and as the others")
    inputs = _inputs(PROBLEM, site)
    layer = provider.prepare(inputs)
    output = layer.run(None).clone()
    layer.route(make_routing(PROBLEM, 3, torch.device("cpu")))
    assert relative_error(output, moe_reference(inputs)) > 1
