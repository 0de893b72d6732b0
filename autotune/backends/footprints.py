"""What is known of a space's configs because somebody compiled their binaries: another batch size,
an earlier run, or the compile pool ahead of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autotune.backends.binary_compiler import held_blocks
from autotune.backends.compile_cache import CompileCache
from autotune.spec.binary import BOTH, Which, binary_key
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.measurement import CompileResult, Resources, worse_of
from autotune.spec.occupancy import Footprint
from autotune.spec.problem import Problem


class Footprints:
    """Looks them up in a compile cache, again whenever it is called."""

    def __init__(
        self, cache: CompileCache, problem: Problem, configs: Sequence[Config], device: Device
    ) -> None:
        self._cache, self._device = cache, device
        self._configs = configs
        self._missing: dict[int, dict[Which, str]] = {
            row: {which: binary_key(problem, config, which) for which in BOTH}
            for row, config in enumerate(configs)
        }
        self._found: dict[int, Footprint] = {}
        self._answers = 0

    def __call__(self) -> Mapping[int, Footprint]:
        """By the config's row; only of those whose binaries of both GEMMs are compiled. Must not
        be changed; grows with later calls."""
        answers = self._cache.known()
        if len(answers) != self._answers:
            self._answers = len(answers)
            self._look_up(answers)
        return self._found

    def _look_up(self, answers: Mapping[str, CompileResult]) -> None:
        for row, keys in list(self._missing.items()):
            found = {which: answers[key] for which, key in keys.items() if key in answers}
            resources = [answer for answer in found.values() if isinstance(answer, Resources)]
            if len(resources) == len(keys):
                del self._missing[row]
                blocks = held_blocks(self._configs[row], found, self._device)
                self._found[row] = Footprint(worse_of(*resources).spill_bytes, blocks)
