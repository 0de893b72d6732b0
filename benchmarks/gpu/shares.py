"""How close recorded times of whole layers come to the GPU's stated ceilings: a lower bound of
what the GEMMs reach, since alignment, activation and sum count too.

    python benchmarks/gpu/shares.py benchmarks/landscapes/*.npz

For each recording and batch size the fastest config. ``quality.py`` times the GEMMs alone against
ceilings that it measures, and needs the GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune.backends.hardware import find_spec
from autotune.backends.replay.recording_format import read_recording
from autotune.report.html.roofline import roofline
from autotune.studies.outcome import Outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    print("| recording | tokens | best µs | share of bandwidth | share of matrix rate |")
    print("|---|---|---|---|---|")
    for path in parser.parse_args().files:
        recording = read_recording(path)
        spec = find_spec(recording.device.name)
        for key in sorted(recording.studies, key=lambda key: key.problem.tokens):
            times = [
                result.measurement.geomean_us
                for result in recording.studies[key].values()
                if result.outcome is Outcome.OK and result.measurement is not None
            ]
            best, least = min(times), roofline(key.problem, spec)
            shares = f"{least.memory_us / best:.2f} | {least.compute_us / best:.2f}"
            print(f"| {path.stem} | {key.problem.tokens} | {best:.1f} | {shares} |")


if __name__ == "__main__":
    main()
