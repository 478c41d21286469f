"""What has been spent: epsilon is Opacus' own, and the ledger forgets nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlight.errors import DamagedFileError
from fedlight.privacy.accounting import MEANINGLESS, Accountant, Charge, Ledger, epsilon, noise_for, opacus_accountant

ACCOUNTANTS: tuple[Accountant, ...] = ("rdp", "prv")


@pytest.mark.parametrize("name", ACCOUNTANTS)
@pytest.mark.filterwarnings("ignore:Optimal order")
def test_epsilon_is_that_of_opacus_told_step_by_step(name: Accountant) -> None:
    theirs = opacus_accountant(name)
    for noise, steps in ((2.0, 5), (4.0, 3)):
        for _ in range(steps):
            theirs.step(noise_multiplier=noise, sample_rate=0.1)
    ours = [Charge(2.0, 0.1, 2), Charge(2.0, 0.1, 3), Charge(4.0, 0.1, 3)]
    assert epsilon(ours, 1e-5, name) == theirs.get_epsilon(delta=1e-5)


def test_one_release_with_everybody_by_hand() -> None:
    """Rényi divergence of order a is a / (2 z^2), z = 2: a / 8.

    epsilon = a/8 + log((a - 1) / a) - (log delta + log a) / (a - 1) (arXiv 2004.00010, proposition 12) is least near
    a = 9.5: 1.1875 - 0.1112 + (11.5129 - 2.2513) / 8.5 = 2.1659; an order of one more decimal place changes 1e-3.
    """
    assert epsilon([Charge(2.0, 1.0, 1)], 1e-5, "rdp") == pytest.approx(2.1659, abs=2e-3)


def test_nothing_spent_is_nothing_and_no_noise_is_no_privacy() -> None:
    assert epsilon([], 1e-5, "rdp") == 0
    assert epsilon([Charge(0.0, 0.1, 1)], 1e-5, "rdp") == float("inf")


def test_the_least_noise_for_a_budget_keeps_within_it() -> None:
    noise = noise_for(3.0, 1e-5, 0.05, 20, "rdp")
    assert 2.98 < epsilon([Charge(noise, 0.05, 20)], 1e-5, "rdp") <= 3
    assert epsilon([Charge(noise, 0.05, 21)], 1e-5, "rdp") > epsilon([Charge(noise, 0.05, 20)], 1e-5, "rdp")


def test_the_tighter_accountant_needs_less_noise_for_the_same_budget() -> None:
    noise = noise_for(3.0, 1e-5, 0.05, 20, "prv")
    assert 2.98 < epsilon([Charge(noise, 0.05, 20)], 1e-5, "prv") <= 3
    assert noise < noise_for(3.0, 1e-5, 0.05, 20, "rdp")


def test_a_release_with_everybody_raises_no_warning() -> None:
    assert epsilon([Charge(10.0, 1.0, 20)], 1e-5, "prv") < epsilon([Charge(10.0, 1.0, 20)], 1e-5, "rdp")


def test_where_nothing_is_promised_both_accountants_say_the_same() -> None:
    """Numerical composition overflows there: Opacus' "prv" is infinite, "rdp" 816."""
    hopeless = [Charge(0.7, 0.5, 2000)]
    assert MEANINGLESS < epsilon(hopeless, 1e-5, "prv") == epsilon(hopeless, 1e-5, "rdp") < float("inf")


@pytest.mark.parametrize(
    "charges",
    [
        "[]",
        '[{"noise": 1.5, "rate": 0.5, "steps": -18}]',
        '[{"noise": "a", "rate": 0.5, "steps": 1}]',
        '[{"noise": NaN, "rate": 0.5, "steps": 1}]',
        '[{"noise": 1.5, "rate": 2.0, "steps": 1}]',
    ],
)
def test_a_ledger_with_impossible_charges_is_damaged(tmp_path: Path, charges: str) -> None:
    (tmp_path / "privacy.json").write_text(charges)
    with pytest.raises(DamagedFileError, match=r"privacy\.json is damaged"):
        Ledger(tmp_path / "privacy.json")


def test_of_two_records_the_one_in_which_more_was_spent_counts() -> None:
    ledger = Ledger()
    ledger.add(Charge(1e9, 0.5, 18))
    ledger.restore([{"noise": 1.5, "rate": 0.5, "steps": 18}])
    assert ledger.charges == (Charge(1.5, 0.5, 18),)


def test_a_ledger_is_on_disk_as_soon_as_it_is_charged(tmp_path: Path) -> None:
    path = tmp_path / "site" / "privacy.json"
    Ledger(path).add(Charge(2.0, 0.5, 3))
    Ledger(path).add(Charge(2.0, 0.5, 3))
    assert Ledger(path).charges == (Charge(2.0, 0.5, 6),)


def test_an_older_state_takes_nothing_back_and_a_lost_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    ledger = Ledger(path)
    ledger.add(Charge(2.0, 0.5, 3))
    old = ledger.rows()
    ledger.add(Charge(2.0, 0.5, 3))
    ledger.restore(old)
    assert ledger.charges == (Charge(2.0, 0.5, 6),)
    path.unlink()
    lost = Ledger(path)
    lost.restore(old)
    assert Ledger(path).charges == (Charge(2.0, 0.5, 3),)


def test_a_damaged_ledger_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "privacy.json").write_text("[{")
    with pytest.raises(DamagedFileError, match="what was spent"):
        Ledger(tmp_path / "privacy.json")
