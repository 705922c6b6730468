"""Writes the PromQL of a version's figures. Pure.

A counter's growth since a step began is `increase` of the series that were there before, and all of those that were
not: a new pod's counters, and a kind of answer that nobody had before, begin with what they have at the first scrape,
which `increase` would leave out.
"""

from ftm_operator.engines.metrics import RequestMetrics

FIGURE, STATUS = "figure", "status"
"""Labels of the answer: the figure, and of requests the class of their HTTP status."""
REQUESTS, ENGINE_ERRORS = "requests", "engine_errors"
FIRST_TOKENS, FIRST_TOKEN_SECONDS = "first_tokens", "first_token_seconds"
TOKENS, TOKEN_SECONDS = "tokens", "token_seconds"


def figures_query(names: RequestMetrics, series: str, seconds: int) -> str:
    """Returns the PromQL of all figures of the series with these labels over the last seconds."""
    posts = f'{names.requests}{{{series},method="POST"}}'
    errors = f'{names.finished}{{{series},finished_reason="error"}}'
    figures = {
        REQUESTS: f"sum by ({STATUS}) ({_growth(posts, seconds)})",
        ENGINE_ERRORS: f"sum({_growth(errors, seconds)})",
        **_mean_of(names.first_token_seconds, series, seconds, (FIRST_TOKEN_SECONDS, FIRST_TOKENS)),
        **_mean_of(names.token_seconds, series, seconds, (TOKEN_SECONDS, TOKENS)),
    }
    return " or ".join(f'label_replace({query}, "{FIGURE}", "{figure}", "", "")' for figure, query in figures.items())


def _mean_of(histogram: str, series: str, seconds: int, figures: tuple[str, str]) -> dict[str, str]:
    parts = zip(figures, ("sum", "count"), strict=True)
    return {figure: f"sum({_growth(f'{histogram}_{part}{{{series}}}', seconds)})" for figure, part in parts}


def _growth(counter: str, seconds: int) -> str:
    before = f"{counter} offset {seconds}s"
    window = f"{counter}[{seconds}s]"
    return f"(increase({window}) and {before}) or (last_over_time({window}) unless {before})"
