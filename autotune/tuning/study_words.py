"""What people call a study: its model as it is split, its dtype and batch size. Its key is what
identifies it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from autotune.engines import ENGINES
from autotune.settings import split_words
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.study_attributes import StudyAttributes

_KIND = {DeviceKind.CUDA: "", DeviceKind.ESTIMATE: ", estimated", DeviceKind.REPLAY: ", replayed"}


def layer_words(label: str, problem: Problem) -> str:
    """Return "DeepSeek-V3 TP8 fp8_w8a8": the layer without its batch size; ``label`` is the model
    as it is split."""
    words = [label] if problem.dtype.value in label.split() else [label, problem.dtype.value]
    words += ["separate"] * (problem.kernel is KernelMode.SEPARATE)
    return " ".join([*words, *([] if problem.routing == "uniform" else [problem.routing])])


def stored_layer_words(attrs: StudyAttributes, problem: Problem) -> str:
    """Return ``layer_words`` of a study as its storage has it: under every model that it is of."""
    if attrs.models:
        return layer_words(" and ".join(sorted({*attrs.models.values()})), problem)
    model = attrs.settings.get("model")
    split: Mapping[str, object] = model if isinstance(model, dict) else {}
    is_shape = split.get("model") is None
    name = attrs.model if is_shape else attrs.model.rstrip("/").rpartition("/")[2]
    tp_size, ep_size = (split.get(flag) for flag in ("tp_size", "ep_size"))
    return layer_words(split_words(name, tp_size, ep_size), problem)


def place_words(device: Device) -> str:
    """Return "NVIDIA H200, estimated"."""
    return f"{device.name}{_KIND[device.kind]}"


def only_engine(attrs: StudyAttributes) -> list[str]:
    """Return the engine's title where the study serves one alone."""
    titles = [ENGINES[name].title for name in attrs.engines if name in ENGINES]
    return titles if len(titles) == 1 else []


def study_names(studies: Sequence[tuple[StudyKey, StudyAttributes]]) -> list[str]:
    """Return a name for each: "DeepSeek-V3 TP8 fp8_w8a8, batch size 64, SGLang: µs on NVIDIA H200".
    Those that would have the same also get the digest of their key."""
    names = [_name(key, attrs) for key, attrs in studies]
    count = Counter(names)
    return [
        f"{name} [{key.digest}]" if count[name] > 1 else name
        for name, (key, _) in zip(names, studies, strict=True)
    ]


def _name(key: StudyKey, attrs: StudyAttributes) -> str:
    layer, size = stored_layer_words(attrs, key.problem), f"batch size {key.problem.tokens}"
    return f"{', '.join([layer, size, *only_engine(attrs)])}: µs on {place_words(key.device)}"
