"""Secure aggregation in whole runs: sites in this process and in processes of their own, one bit pattern, faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from fedlight_algorithms import FedPer, Quantise

from fedlight.checkpoint import RunFolder
from fedlight.cli import run
from fedlight.executors import InProcess, MultiProcess
from fedlight.executors.executor import Phase, Reply
from fedlight.federation import Federation
from fedlight.preparation import ConfigError
from fedlight.schedule import Buffered
from fedlight.secure_aggregation import SecureAggregation
from fedlight.server import RoundFailedError
from fedlight.state import digest
from fedlight.update import Sent, SiteFailure
from tests.conftest import small_sites, small_task
from tests.executors.faulty import Faulty

Federate = Callable[..., Federation]
SECURE: dict[str, Any] = {"secure_aggregation": SecureAggregation(), "rounds": 2, "evaluate_every": 2, "threads": 1}


class Losing(InProcess):
    """Loses a site before a step of the first round."""

    def __init__(self, site: str, step: Phase) -> None:
        super().__init__()
        self.site, self.step = site, step

    def call(self, phase: Phase, messages: Mapping[str, Sent]) -> Iterator[tuple[str, Reply]]:
        lost = [site for site, message in messages.items() if (site, phase, message.round) == (self.site, self.step, 1)]
        yield from ((site, SiteFailure(site, 1, phase, "lost", "gone")) for site in lost)
        yield from super().call(phase, {site: message for site, message in messages.items() if site not in lost})


def model(folder: RunFolder) -> dict[str, Any]:
    saved = folder.load()
    assert saved is not None
    return {**saved["server"]["params"], **saved["server"]["buffers"]}


def test_a_run_is_the_plain_one_but_for_rounding(federate: Federate, tmp_path: Path) -> None:
    """BatchNorm, parameters that stay at sites, broadcasts with a codec: a round's model agrees within float32."""
    settings = {**SECURE, "rounds": 1, "plugins": [FedPer()], "downlink": [Quantise(8)]}
    found = federate(**settings).fit(small_task(norm="batch"), small_sites())
    plain = {**settings, "secure_aggregation": None, "run_folder": str(tmp_path / "plain")}
    expected = model(federate(**plain).fit(small_task(norm="batch"), small_sites()))
    for name, value in model(found).items():
        assert value.dtype == expected[name].dtype
        assert float((value.double() - expected[name].double()).abs().max()) <= 1e-6, name


def test_sites_without_room_in_memory_and_in_other_processes_make_the_same_bits(
    federate: Federate, tmp_path: Path
) -> None:
    """Masks cancel exactly; what a site has in memory between the steps survives that its network makes room."""
    executors = {"one": InProcess(), "little": InProcess(resident=1), "processes": MultiProcess(2)}
    bits = {
        name: digest(
            model(federate(**SECURE, executor=each, run_folder=str(tmp_path / name)).fit(small_task(), small_sites()))
        )
        for name, each in executors.items()
    }
    assert len(set(bits.values())) == 1


def test_a_killed_process_is_a_lost_site(federate: Federate, tmp_path: Path) -> None:
    """Of four sites one is killed in training and one raises in the second round: three are left in each."""
    (tmp_path / "pids").mkdir()
    bits = set()
    for name, how, executor in (("killed", "kill", MultiProcess(4, retries=0)), ("raising", "raise", InProcess())):
        faulty = Faulty({"site2, 1": how, "site4, 2": "raise"}, str(tmp_path / "pids"))
        federation = federate(**SECURE, plugins=[faulty], executor=executor, run_folder=str(tmp_path / name))
        bits.add(digest(model(federation.fit(small_task(), small_sites(num_sites=5, held_out="site5")))))
    assert len(bits) == 1


@pytest.mark.parametrize("step", ["shares", "masked", "reveal"])
def test_a_site_that_did_not_get_into_the_sum_forgets_the_round(federate: Federate, step: Phase) -> None:
    """Until its vector is handed over the round has not happened for a site; after that it has."""
    federation = federate(**{**SECURE, "rounds": 1, "optimizer_state": "keep"}, executor=Losing("site2", step))
    folder = federation.fit(small_task(), small_sites(num_sites=5, held_out="site5"))
    kept = {path.parent.name for path in folder.sites.glob("*/00001.safetensors")}
    assert kept == {"site1", "site3", "site4"} | ({"site2"} if step == "reveal" else set())
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert {row["site"] for row in rows if row["kind"] == "fit"} == kept


def test_an_update_out_of_range_is_stopped_at_the_site_by_name(federate: Federate) -> None:
    setting = SecureAggregation(fraction=40)  # sums below 2^22
    task = small_task(optimizer=lambda parameters: __import__("torch").optim.SGD(parameters, lr=1e9))
    with pytest.raises(
        RoundFailedError, match=r"(must be below|not finite).*nothing|nothing.*(must be below|not finite)"
    ):
        federate(**{**SECURE, "secure_aggregation": setting}).fit(task, small_sites())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cohort": 0.67}, "cohort must give every round at least 3 sites under secure_aggregation, got 2"),
        ({"sampling": "poisson", "cohort": 0.9}, "min_sites must give every round at least 3 sites"),
        ({"schedule": Buffered(buffer=3)}, "schedule must be one in which sites work together, got Buffered"),
        ({"uplink": [Quantise(8)]}, "uplink must be left out under secure_aggregation"),
    ],
)
def test_what_cannot_be_secure_is_refused_before_training(
    federate: Federate, settings: dict[str, Any], reason: str
) -> None:
    federation = federate(**SECURE, **settings)
    with pytest.raises(ConfigError, match=reason):
        federation.fit(small_task(), small_sites())
    assert not federation.run_folder.exists()


def test_its_config_composes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file on top of the quickstart and a method that cannot be: the whole way from YAML to the sentence."""
    root = Path(__file__).parents[1] / "configs"
    names = ["quickstart.yaml", "algorithms/krum.yaml", "privacy/secure_aggregation.yaml"]
    configs = [part for name in names for part in ("-c", str(root / name))]
    assert run(["fit", *configs, "--federation.run_folder", str(tmp_path / "run")]) == 2
    assert "Krum needs every site's update, and secure_aggregation hides them" in capsys.readouterr().err
    plain = yaml.safe_load((root / names[-1]).read_text())["federation"]["secure_aggregation"]["init_args"]
    assert plain == vars(SecureAggregation())
