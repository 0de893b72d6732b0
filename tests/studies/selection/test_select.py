from __future__ import annotations

from autotune.spec.config import Config
from autotune.studies.selection.select import beats, choose_winner
from autotune.studies.trial_record import Measured

DEFAULT, FAST, FILE = (Config(16, 32 * n, 64, 1) for n in (1, 2, 4))
ROUTINGS = (1.0, 1.1, 0.9, 1.05, 0.95)


def _entry(config: Config, us: float, *, complete: bool = True) -> Measured:
    return Measured(config, tuple(us * r for r in ROUTINGS), us, 0, complete)


def test_a_clear_win_over_every_incumbent() -> None:
    winner = choose_winner([_entry(DEFAULT, 100), _entry(FAST, 80), _entry(FILE, 90)], [DEFAULT])
    assert winner is not None
    assert (winner.config, winner.is_incumbent, winner.speedup) == (FAST, False, 1.25)


def test_the_fastest_incumbent_stays_where_nothing_beats_it() -> None:
    entries = [_entry(DEFAULT, 100), _entry(FAST, 90), _entry(FILE, 85)]
    winner = choose_winner(entries, [DEFAULT, FILE])
    assert winner is not None
    assert (winner.config, winner.is_incumbent, winner.speedup) == (FILE, True, 1.0)


def test_a_difference_within_the_noise_is_no_win() -> None:
    default = Measured(DEFAULT, (100.0, 100.0, 100.0, 100.0), 100.0, 0, True)
    lucky = Measured(FAST, (90.0, 112.0, 91.0, 109.0), 99.0, 1, True)
    winner = choose_winner([default, lucky], [DEFAULT])
    assert winner is not None
    assert winner.config == DEFAULT


def test_pruned_entries_never_win() -> None:
    winner = choose_winner([_entry(DEFAULT, 100), _entry(FAST, 1, complete=False)], [DEFAULT])
    assert winner is not None
    assert winner.config == DEFAULT


def test_an_incumbent_that_cannot_run_does_not_count() -> None:
    winner = choose_winner([_entry(FAST, 80)], [DEFAULT])
    assert winner is not None
    assert (winner.config, winner.speedup) == (FAST, None)


def test_nothing_measured_no_winner() -> None:
    assert choose_winner([], [DEFAULT]) is None
    assert choose_winner([_entry(FAST, 1, complete=False)], [DEFAULT]) is None


def test_beats_compares_routing_by_routing() -> None:
    slow = [100.0, 200.0, 300.0]
    assert beats([99.0, 198.0, 297.0], slow)
    assert not beats(slow, slow)
    assert not beats([101.0, 202.0, 303.0], slow)


def test_beats_takes_each_routing_by_itself() -> None:
    rival = [100.0, 300.0] * 5
    better = [90.0, 297.0] * 5  # 10 % under one routing, 1 % under the other
    assert beats(better, rival, 2)
    assert not beats([120.0, 297.0] * 5, rival, 2)  # on the whole it loses
