"""Nothing that is read is ever run: by the source, whoever adds to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import autotune

_PACKAGE = Path(autotune.__file__).parent
_MODULES = {
    "_pickle", "cPickle", "cloudpickle", "code", "codeop", "dill", "joblib", "jsonpickle",
    "marshal", "pickle", "pickletools", "shelve", "telnetlib",
}  # fmt: skip
_HARMLESS = {"UnpicklingError"}
"""What torch.load raises where a file is none of tensors alone."""
_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
_MAY_RUN = {"engines/own_code/pieces.py", "engines/own_code/sglang.py"}
"""Files that run functions of an engine which the user installed, as importing it would."""
_NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
_NEVER = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}


def faults(source: str) -> Iterator[str]:
    """What must not be there, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            harmless = {alias.name for alias in node.names} <= _HARMLESS
            names = [] if harmless else [node.module or ""]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in _MODULES:
                yield f"{node.lineno}: imports {name}"
        if isinstance(node, ast.Call):
            yield from (f"{node.lineno}: {fault}" for fault in _of_call(node))


def _of_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in _CALLS or name.endswith((".read_pickle", ".to_pickle")):
        yield f"calls {name}"
    if name in _NEEDED:
        word, value = _NEEDED[name]
        if not _is(given.get(word), value):
            yield f"calls {name} without {word}={value}"
    for word, value in _NEVER.items():
        if _is(given.get(word), value):
            yield f"calls {name} with {word}={value}"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_source_runs_what_it_reads() -> None:
    found = [
        f"{path.relative_to(_PACKAGE)}:{fault}"
        for path in sorted(_PACKAGE.rglob("*.py"))
        if path.relative_to(_PACKAGE).as_posix() not in _MAY_RUN
        for fault in faults(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "AutoConfig.from_pretrained(name, trust_remote_code=True)",
        "os.system('ls')",
        "pandas.read_pickle(path)",
    ],
)
def test_the_check_bites(source: str) -> None:
    assert list(faults(source))


def test_the_check_lets_safe_ones_pass() -> None:
    source = "np.load(p, allow_pickle=False); torch.load(p, weights_only=True); model.eval()"
    assert list(faults(source)) == []
