"""What speed-ups are over, where no engine was asked what it launches by itself."""

from __future__ import annotations

from collections.abc import Iterable

from autotune.engines import ENGINES


def baseline_lines(by_rule: Iterable[str]) -> list[str]:
    """Return lines below a table. ``by_rule`` has the engines whose default is their own rule."""
    names = set(by_rule)
    titles: dict[bool, list[str]] = {}
    for name, engine in ENGINES.items():
        if name in names:
            has_files = engine.installed_config_folder() is not None
            titles.setdefault(has_files, []).append(engine.title)
    return [_line(" and ".join(each), has_files) for has_files, each in titles.items()]


def _line(titles: str, has_files: bool) -> str:
    files = (
        "files that it ships are compared with too"
        if has_files
        else "files that it ships may be faster and cannot be seen where it is not installed"
    )
    return f"default of {titles}: what the engine's own rule says; {files}"
