"""What speed-ups are over, where that is not what an engine launches as it comes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from autotune.engines import ENGINES, Engine


def baseline_lines(by_rule: Iterable[str]) -> list[str]:
    """Return lines below a table. ``by_rule`` has the engines whose default is their own rule."""
    names = set(by_rule)
    titles: dict[bool, list[str]] = {}
    for name, engine in ENGINES.items():
        if name in names:
            has_files = engine.installed_config_folder() is not None
            titles.setdefault(has_files, []).append(engine.title)
    return [_line(" and ".join(each), has_files) for has_files, each in titles.items()]


def launch_lines(
    by_launch: Iterable[Engine], output_dir: Path, environment: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """Yield a line for each engine that was asked, in an ``environment`` that has it read the
    user's files."""
    for engine in dict.fromkeys(by_launch):
        if folder := engine.users_folder(environment, output_dir):
            yield f"default of {engine.title}: what it launches with {engine.env_variable}={folder}"


def _line(titles: str, has_files: bool) -> str:
    files = (
        "files that it ships are compared with too"
        if has_files
        else "files that it ships may be faster and cannot be seen where it is not installed"
    )
    return f"default of {titles}: what the engine's own rule says; {files}"
