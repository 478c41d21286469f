"""Attacks on a run, made where its data are: what an update, a shared statistic and the model give away."""

from fedlight.audit.report import Budget, audit

__all__ = ["Budget", "audit"]
