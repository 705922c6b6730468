"""The checks of a verification and how much text it measures."""

from typing import Annotated

from pydantic import Field

from ftm_jobs.contract.base import Contract

HELD_OUT_TOKENS = 1024
"""Tokens of text that a verification measures at most: every model runs all of them, on CPUs if need be."""


class Check(Contract):
    """One measured figure, with its bound."""

    name: str
    """MergeAgrees, AdapterEffect, QuantizedDivergence, …"""
    value: float
    """The figure; 1e308 where it is not finite."""
    bound: float
    """The bound that the figure is compared with: the largest that passes, or the smallest for AdapterEffect."""
    unit: str
    """nats/token, differences, answers."""
    passed: bool
    """True when the figure is within its bound."""


class Verification(Contract):
    """The verdict whether the model to be served says what was trained; verification.json in the artifact has more."""

    passed: bool
    """True when all checks passed."""
    checks: Annotated[tuple[Check, ...], Field(max_length=64)]
    """The measurements, each beside its bound."""
