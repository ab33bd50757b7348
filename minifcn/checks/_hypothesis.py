"""Hypothesis, or one sentence that says how to get it."""

try:
    import hypothesis
    import hypothesis.strategies as st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "these checks search for failing cases with Hypothesis: pip install hypothesis",
        name=error.name,
    ) from error

__all__ = ["hypothesis", "st"]
