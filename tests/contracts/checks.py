"""What every plugin promises, as functions of its class: the claims that ``test_contracts.py`` makes of all of them."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import torch
from fedlight_algorithms import FedAvg
from torch import Tensor

from fedlight.channel import Compression
from fedlight.plugins import Aggregator, ClientPlugin, Codec, Lossless, Plugin
from fedlight.serialization import pack, unpack
from fedlight.state import State, digest, parameters_of, zip_map
from tests.contracts import harness
from tests.contracts.harness import Clinic, TinySites, aggregate, context_of, images_of, pick, second_round, task

RARE = 0.1
"""Probability below which a plugin that acts now and then need not act in a run of a few steps."""


def played(plugin: Plugin, rounds: int = 3, data: TinySites | None = None) -> Clinic:
    """Plays rounds with one plugin, whichever half it is."""
    if isinstance(plugin, Aggregator):
        return Clinic.of(plugin, data=data).play(rounds)
    if isinstance(plugin, (Codec, Lossless)):
        return Clinic.of(FedAvg(), data=data, compression=Compression(uplink=[plugin])).play(rounds)
    assert isinstance(plugin, ClientPlugin)
    return Clinic.of(FedAvg(), [plugin], data).play(rounds)


def outcome(plugin: Plugin) -> tuple[str, str]:
    """Plays a whole run and returns the bits of the global model and of the one that is evaluated and kept."""
    server = played(plugin, rounds=4).server
    return digest(server.params), digest(server.deployed)


def tensors(shared: Any) -> State:
    return {f"{owner}/{name}": value for owner, part in shared.items() for name, value in part.items()}


# --- every plugin --------------------------------------------------------------------------------------------------


def constructor_only_stores(cls: type[Plugin]) -> None:
    begun = time.perf_counter()
    plugin = cls()
    assert time.perf_counter() - begun < 0.01
    plugin.validate()
    for twin in (copy.deepcopy(plugin), pickle.loads(pickle.dumps(plugin))):
        assert type(twin) is cls
        assert twin.__dict__ == plugin.__dict__


def null_setting_is_fedavg(cls: type[Plugin]) -> None:
    if cls.null is None:
        return
    assert outcome(cls(**cls.null)) == outcome(FedAvg())


def default_setting_is_not_fedavg(cls: type[Plugin]) -> None:
    """A coin that falls rarely by default may not fall at all in so short a run, so it is made a fair one."""
    if not cls.null:
        return
    plugin: Any = cls()
    if getattr(plugin, "p", 1.0) < RARE:
        plugin.p = 0.5
    assert outcome(plugin) != outcome(FedAvg())


def state_survives(cls: type[Plugin]) -> None:
    """Two rounds, a restart from bytes and a third round give the bits of three rounds."""
    whole = played(cls(), rounds=3)
    saved = pack(played(cls(), rounds=2).state_dict())
    resumed = played(cls(), rounds=0).load_state_dict(unpack(saved)).play(1)
    assert pack(resumed.state_dict()) == pack(whole.state_dict())
    assert digest(resumed.server.deployed) == digest(whole.server.deployed)


def alone_is_finite(cls: type[Plugin]) -> None:
    """A federation of one site trains."""
    server = played(cls(), data=TinySites(("A",))).server
    assert all(bool(value.isfinite().all()) for value in {**server.params, **tensors(server.shared)}.values())


# --- aggregators -----------------------------------------------------------------------------------------------------


def _start(aggregator: Aggregator) -> State:
    """The parameters that an aggregator gets to see: those that its client half does not keep at the sites."""
    params = parameters_of(task())
    half = aggregator.client_half()
    private = set(half.private(params)) if half is not None else set()
    return {name: value for name, value in params.items() if name not in private}


def _moved(start: State, amount: float) -> State:
    return zip_map(lambda value: value + amount * torch.linspace(-1, 1, value.numel()).view_as(value), start)


def agreement_is_a_fixed_point(cls: type[Aggregator]) -> None:
    """Sites that all return the same parameters get these: the ones they were sent, or others in the first round.

    An aggregator that makes steps of its own length promises the former only.
    """
    start = _start(cls())
    for agreed in (start, _moved(start, 0.3)) if cls.averages else (start,):
        result = aggregate(cls(), context_of(), start, dict.fromkeys(harness.SITES, agreed))
        assert digest(result) == digest(agreed)


def order_does_not_matter(cls: type[Aggregator]) -> None:
    """The order of updates and the names of sites change a result by rounding only."""
    start = _start(cls())
    updates = {site: _moved(start, step) for site, step in zip(harness.SITES, (0.1, -0.4, 0.7), strict=True)}
    context = context_of()
    result = aggregate(cls(), context, start, updates)
    backwards = aggregate(cls(), context, start, dict(reversed(updates.items())))
    renamed = dict(zip(harness.SITES, ("Z", "Y", "X"), strict=True))
    other = context_of(tuple(renamed.values()))
    elsewhere = aggregate(cls(), other, start, {renamed[site]: params for site, params in updates.items()})
    for name, value in result.items():
        torch.testing.assert_close(backwards[name], value, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(elsewhere[name], value, rtol=1e-6, atol=1e-7)


def rescaled_weights_do_not_matter(cls: type[Aggregator]) -> None:
    start = _start(cls())
    updates = {site: _moved(start, step) for site, step in zip(harness.SITES, (0.1, -0.4, 0.7), strict=True)}
    result = aggregate(cls(), context_of(A=1, B=2, C=3), start, updates)
    scaled = aggregate(cls(), context_of(A=10, B=20, C=30), start, updates)
    for name, value in result.items():
        torch.testing.assert_close(scaled[name], value, rtol=1e-6, atol=1e-7)


def aggregation_modifies_nothing(cls: type[Aggregator]) -> None:
    """What goes in stays as it is, and the result has the names, shapes and dtypes of what was sent."""
    start = _start(cls())
    updates = {site: _moved(start, step) for site, step in zip(harness.SITES, (0.1, -0.4, 0.7), strict=True)}
    before = digest(start), [digest(params) for params in updates.values()]
    result = aggregate(cls(), context_of(), start, updates)
    assert (digest(start), [digest(params) for params in updates.values()]) == before
    assert [(n, v.shape, v.dtype) for n, v in result.items()] == [(n, v.shape, v.dtype) for n, v in start.items()]


def abandoned_round_leaves_no_trace(cls: type[Aggregator]) -> None:
    """A round without ``finish`` changes no server state."""
    start = _start(cls())
    once, twice = cls(), cls()
    twice.begin(context_of(), start)
    twice.add(harness.update_of("A", _moved(start, 5.0)))
    results = [aggregate(each, context_of(), start, {"A": _moved(start, 0.1)}) for each in (once, twice)]
    assert digest(results[0]) == digest(results[1])


# --- client plugins --------------------------------------------------------------------------------------------------


def _restyled(plugin: ClientPlugin, batch: Any) -> tuple[Any, dict[str, Tensor], Any]:
    """Sends one batch through a plugin's two transforms; features are those of the plain network."""
    with second_round(plugin) as module:
        before = torch.get_rng_state()
        out = plugin.transform_batch(batch)
        features = {stage: _feature(module, stage, batch["image"]) for stage in plugin.stages}
        styled = {stage: plugin.restyle(stage, x, out) for stage, x in features.items()}
        assert torch.equal(torch.get_rng_state(), before), "random numbers come from self.generator"
    return out, features, styled


def _feature(module: Any, stage: str, images: Tensor) -> Tensor:
    x = images
    with torch.no_grad():
        for name, child in module.network.named_children():
            if stage == "input":
                break
            x = child(x)
            if name == stage:
                break
    return x


def masks_are_never_touched(cls: type[ClientPlugin]) -> None:
    batch = images_of("A")
    out, _, _ = _restyled(cls(), batch)
    assert torch.equal(out["mask"], images_of("A")["mask"])
    assert torch.equal(out["valid"], images_of("A")["valid"])
    assert out["case"] == images_of("A")["case"]


def inputs_are_not_modified(cls: type[ClientPlugin]) -> None:
    """Neither the batch nor feature maps are edited in place; what comes back is like what went in."""
    batch = images_of("A")
    plugin = cls()
    out, features, styled = _restyled(plugin, batch)
    for name, value in images_of("A").items():
        assert torch.equal(batch[name], value) if isinstance(value, Tensor) else batch[name] == value  # type: ignore[literal-required]
    assert (out["image"].shape, out["image"].dtype) == (batch["image"].shape, batch["image"].dtype)
    for stage, x in features.items():
        assert torch.equal(x, _feature(task(), stage, batch["image"]))
        assert (styled[stage].shape, styled[stage].dtype) == (x.shape, x.dtype)


def same_generator_same_result(cls: type[ClientPlugin]) -> None:
    (first, _, once), (second, _, again) = (_restyled(cls(), images_of("A")) for _ in range(2))
    assert torch.equal(first["image"], second["image"])
    assert all(torch.equal(once[stage], again[stage]) for stage in once)


def declared_independence_holds(cls: type[ClientPlugin]) -> None:
    """What becomes of one image does not depend on its neighbours, where the plugin says so."""
    if not cls.example_independent:
        return
    batch, other = images_of("A"), images_of("A")
    other["image"] = torch.cat([batch["image"][:1], images_of("C")["image"][1:]])
    (first, _, once), (second, _, again) = _restyled(cls(), batch), _restyled(cls(), other)
    torch.testing.assert_close(first["image"][0], second["image"][0])
    for stage in once:
        torch.testing.assert_close(once[stage][0], again[stage][0])


def hooks_are_gone(cls: type[ClientPlugin]) -> None:
    """After a round, module and network are what they were, but for the values of parameters."""
    plain = task()
    for client in played(cls(), rounds=2).clients.values():
        modules = dict(client.module.named_modules())
        assert list(modules) == list(dict(plain.named_modules()))
        for module in modules.values():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._backward_hooks
            assert not getattr(module, "parametrizations", {})
        assert [p.requires_grad for p in client.module.parameters()] == [p.requires_grad for p in plain.parameters()]


def hard_batches_stay_finite(cls: type[ClientPlugin]) -> None:
    """Loss and gradients are finite for one image, a constant one, no valid pixel, no foreground, in bfloat16."""
    whole = images_of("A")
    constant, invalid, empty = (images_of("A") for _ in range(3))
    constant["image"] = torch.full_like(whole["image"], 0.5)
    invalid["valid"] = torch.zeros_like(whole["valid"])
    empty["mask"] = torch.zeros_like(whole["mask"])
    for batch in (whole, pick(whole, [0]), constant, invalid, empty):
        for half in (False, True):
            with second_round(cls()) as module, torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = module.training_step(batch, 0)
                torch.autograd.backward(loss)
                gradients = [p.grad for p in module.parameters() if p.grad is not None]
                assert bool(loss.isfinite())
                assert gradients
                assert all(bool(gradient.isfinite().all()) for gradient in gradients)
                shared = module.plugins[0].on_round_end(module)
                assert all(bool(value.isfinite().all()) for value in shared.values())


def shares_site_level_only(cls: type[ClientPlugin]) -> None:
    """What a site shares is finite, detached and of a size that does not depend on how many images it has."""
    shapes = []
    for cases in (6, 12):
        clinic = Clinic.of(FedAvg(), [cls()], TinySites(cases=cases))
        update = clinic.fit("A", clinic.broadcast())
        shared = tensors(update.shared)
        assert all(bool(value.isfinite().all()) and not value.requires_grad for value in shared.values())
        shapes.append({name: (value.shape, value.dtype) for name, value in shared.items()})
    assert shapes[0] == shapes[1]


def what_is_shared_is_declared(cls: type[ClientPlugin]) -> None:
    """A plugin that shares says what, in a sentence that is no more than a statistic of a site if it can be helped.

    With its null setting it shares nothing and says so.
    """
    shares = bool(played(cls(), rounds=2).server.shared)
    said = cls().discloses()
    assert (said is not None) == shares
    assert said is None or (said.what and said.protection)
    if cls.null:
        assert cls(**cls.null).discloses() is None
        assert not played(cls(**cls.null), rounds=2).server.shared


EVERY = (
    constructor_only_stores,
    null_setting_is_fedavg,
    default_setting_is_not_fedavg,
    state_survives,
    alone_is_finite,
)
AGGREGATOR = (
    agreement_is_a_fixed_point,
    order_does_not_matter,
    rescaled_weights_do_not_matter,
    aggregation_modifies_nothing,
    abandoned_round_leaves_no_trace,
)
CLIENT = (
    masks_are_never_touched,
    inputs_are_not_modified,
    same_generator_same_result,
    declared_independence_holds,
    hooks_are_gone,
    hard_batches_stay_finite,
    shares_site_level_only,
    what_is_shared_is_declared,
)


def checks_of(cls: type[Plugin]) -> list[Any]:
    """Returns the claims that a plugin class must fulfil."""
    extra = AGGREGATOR if issubclass(cls, Aggregator) else CLIENT if issubclass(cls, ClientPlugin) else ()
    return [*EVERY, *extra]
