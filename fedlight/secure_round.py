"""A round of secure aggregation at the server: it passes on what it cannot read, and goes on with the sum.

    fit      every site trains, keeps what it learned and sends its public keys
    shares   all keys to every site; back come its secrets in shares, each encrypted for one other site
    masked   to every site the shares for it; back comes its masked update, a vector of integers
    reveal   who has sent a vector; back come shares of masks, never both of one site

Sites may be lost at any step. With fewer than are needed the round is given up, and no step is taken that would reveal
anything of those that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fedlight.executors.executor import Phase, Reply
from fedlight.privacy.fixed_point import Ring, SecureSumError
from fedlight.secure_aggregation import (
    MODEL,
    Announcement,
    Layout,
    SecureAggregation,
    context_of_mean,
    layout_of_model,
    mean_update,
    means_of,
    size_of,
    written,
)
from fedlight.server import RoundFailedError, Server, Traffic
from fedlight.stopwatch import section
from fedlight.tracking.tracker import SiteRound
from fedlight.update import Exchange, RoundContext, Sent, SiteFailure, Update

Call = Callable[[Phase, Mapping[str, Sent]], Iterator[tuple[str, Reply]]]
Content = Mapping[str, Mapping[str, bytes]]


@dataclass
class SecureRound:
    """The server's side of one round.

    Attributes:
        setting: As all sites have it.
        server: Whose model moves on.
        context: The round.
        buffers: Whether sites send running statistics.
        call: Runs a phase at sites.
        traffic: Takes the bytes.
        min_sites: How many sites the round needs in any case.
        failures: What became of the sites that were lost.
    """

    setting: SecureAggregation
    server: Server
    context: RoundContext
    buffers: bool
    call: Call
    traffic: Traffic
    min_sites: int = 1
    failures: list[SiteFailure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sent = self.server.received(self.context)

    def collect(self, replies: Iterable[tuple[str, object]]) -> tuple[list[SiteRound], list[SiteFailure]]:
        """Takes the replies of the sites that have trained, runs the exchange and moves the global model.

        Args:
            replies: Site and reply.

        Returns:
            What the sites did whose updates are in the sum, and the failures.

        Raises:
            RoundFailedError: If too few sites are left at a step, or what they say does not belong together.
        """
        updates, announced = self._announced(replies)
        with section("secure aggregation"):
            layout = self._layout(announced)
            shares = self._shares(announced, layout)
            total, arrived = self._masked(shares, size_of(layout))
            summed = self._unmasked(total, arrived, announced, shares)
            parts = means_of(summed, layout, self.setting.fraction)
        samples = sum(updates[site].num_samples for site in arrived)
        update = mean_update(parts, self.sent, self.server.plugins, layout, samples)
        context = context_of_mean(self.context, parts[MODEL][1])
        self.server.advance(context, update, {name: weight for name, (_, weight) in parts.items()})
        return [self._record(updates[site]) for site in arrived], self.failures

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _announced(self, replies: Iterable[tuple[str, object]]) -> tuple[dict[str, Update], dict[str, Announcement]]:
        updates: dict[str, Update] = {}
        announced: dict[str, Announcement] = {}
        for site, reply in replies:
            self.server.channel.answered(site, well=not isinstance(reply, SiteFailure))
            if isinstance(reply, SiteFailure):
                self.failures.append(reply)
            elif (wrong := self._fault(site, reply)) is not None or not isinstance(reply, Update):
                self._refuse(site, "fit", wrong or f"expected an update, got {type(reply).__name__}")
            else:
                try:
                    announced[site] = self._new(Announcement.read(reply.payload), announced.values())
                    updates[site] = reply
                except SecureSumError as error:
                    self._refuse(site, "fit", str(error))
                self.traffic.received(site, {"secure aggregation": len(reply.payload)})
        return updates, announced

    @staticmethod
    def _new(announcement: Announcement, others: Iterable[Announcement]) -> Announcement:
        """Refuses keys with which the others could agree on nothing, before they are told of them."""
        from fedlight.privacy.secure_sum import check_keys

        check_keys(announcement.keys, [other.keys for other in others])
        return announcement

    def _fault(self, site: str, reply: object) -> str | None:
        if not isinstance(reply, Update):
            return None
        if reply.params or reply.buffers or reply.shared:
            return "it is not masked"
        if (reply.site, reply.round) != (site, self.context.round):
            return f"it is from {reply.site}, round {reply.round}"
        return None if reply.num_samples > 0 else f"it counts {reply.num_samples} training cases"

    def _layout(self, announced: dict[str, Announcement]) -> Layout:
        """Agrees on the sections of vectors; a site that shares a statistic of another shape takes no part."""
        statistics: dict[str, Mapping[str, tuple[str, tuple[int, ...]]]] = {}
        linear = {plugin.instance_id for plugin in self.server.plugins if plugin.linear}
        for site, each in list(announced.items()):
            if wrong := [
                name for name, part in each.layout.items() if name not in linear or statistics.get(name, part) != part
            ]:
                del announced[site]
                self._refuse(site, "fit", f"what {wrong[0]} shares must be of the same dtypes and shapes at all sites")
            else:
                statistics |= each.layout
        return {**statistics, **layout_of_model(self.sent, self.buffers)}

    def _shares(self, announced: Mapping[str, Announcement], layout: Layout) -> dict[str, Mapping[str, bytes]]:
        self._require(announced, "have trained")
        agreed = {MODEL: written({name: part for name, part in layout.items() if name != MODEL})}
        keys = {site: each.keys.mask + each.keys.share for site, each in announced.items()}
        answers = self._ask("shares", announced, lambda site: {"keys": keys, "layout": agreed})
        return {
            site: content["shares"]
            for site, content in answers
            if self._is_complete(site, "shares", content, {"shares": announced.keys()})
        }

    def _masked(self, shares: Mapping[str, Mapping[str, bytes]], size: int) -> tuple[Ring, list[str]]:
        """Adds up vectors as they come; none is kept."""
        self._require(shares, "have shared their secrets")
        total, arrived = np.zeros(size, np.uint64), []
        answers = self._ask("masked", shares, lambda site: {"shares": {other: shares[other][site] for other in shares}})
        for site, content in answers:
            if self._is_complete(site, "masked", content, {"vector": {MODEL}}):
                if len(content["vector"][MODEL]) != 8 * size:
                    self._refuse(site, "masked", f"its vector must have {size} numbers")
                else:
                    total += np.frombuffer(content["vector"][MODEL], dtype="<u8").astype(np.uint64)
                    arrived.append(site)
        self._require(arrived, "have sent their vectors")
        return total, arrived

    def _unmasked(
        self, total: Ring, arrived: Collection[str], announced: Mapping[str, Announcement], sharing: Collection[str]
    ) -> Ring:
        from fedlight.privacy.secure_sum import Revealed, unmasked

        wanted = {"own_masks": set(arrived), "mask_keys": set(sharing) - set(arrived)}
        there = {"arrived": dict.fromkeys(arrived, b"")}
        revealed = {
            site: Revealed(content["own_masks"], content["mask_keys"])
            for site, content in self._ask("reveal", arrived, lambda site: there)
            if self._is_complete(site, "reveal", content, wanted)
        }
        self._require(revealed, "have revealed the masks")
        keys = {site: each.keys for site, each in announced.items()}
        try:
            return unmasked(total, arrived, keys, sharing, revealed, self._threshold, self.context.round)
        except ValueError as error:
            raise self._failed(f"the masks cannot be taken away: {error}") from error

    # --- what they have in common ----------------------------------------------------------------------------------

    @property
    def _threshold(self) -> int:
        return self.setting.needed(len(self.context.cohort))

    def _require(self, sites: Collection[str], what: str) -> None:
        needed = max(self._threshold, self.min_sites)
        if len(sites) < needed:
            raise self._failed(f"{len(sites)} sites {what}, but {needed} are needed, so nothing was revealed")

    def _failed(self, reason: str) -> RoundFailedError:
        lost = "".join(f"; {failure.site}: {failure.reason}" for failure in self.failures)
        return RoundFailedError(f"round {self.context.round}: {reason}{lost}", self.failures)

    def _ask(
        self, step: Phase, sites: Iterable[str], content: Callable[[str], Content]
    ) -> Iterator[tuple[str, Content]]:
        """Runs a step; yields what sites answer that are still there."""
        messages: dict[str, Sent] = {site: Exchange(site, self.context.round, content(site)) for site in sites}
        for site, message in messages.items():
            self.traffic.sent(site, message)
        for site, reply in self.call(step, messages):
            if isinstance(reply, SiteFailure):
                self.failures.append(reply)
            elif not isinstance(reply, Exchange) or (reply.site, reply.round) != (site, self.context.round):
                self._refuse(site, step, "it is no answer of this site to this step")
            else:
                self.traffic.received(site, reply.bytes_by_part)
                yield site, reply.content

    def _is_complete(self, site: str, step: Phase, content: Content, wanted: Mapping[str, Collection[str]]) -> bool:
        """Says whether an answer is of all sites that it must be of and no others; refuses it if not."""
        complete = {kind: set(parts) for kind, parts in content.items()} == {k: set(each) for k, each in wanted.items()}
        if not complete:
            self._refuse(site, step, "it is not of the sites that it must be of")
        return complete

    def _refuse(self, site: str, step: Phase, reason: str) -> None:
        self.failures.append(SiteFailure(site, self.context.round, step, "refused", f"answer refused: {reason}"))

    def _record(self, update: Update) -> SiteRound:
        seen = self.traffic.of(update.site, self.sent, replace(update, payload=b""))
        return SiteRound(update.site, update.num_samples, update.metrics, **seen)
