"""What a call costs, worked out from the price book's text with exact fractions: an oracle that shares no code with
Bursar. One ceil per call, nowhere else. Amounts are whole micro-credits.
"""

import math
import pathlib
import tomllib
from fractions import Fraction
from typing import Any

MICRO = 1_000_000
MILLION = 1_000_000


class PriceBook:
    """A book of `prices/*.toml`."""

    def __init__(self, file: pathlib.Path) -> None:
        self.book = tomllib.loads(file.read_text())

    def call_ucr(self, model: str, usage: dict[str, Any]) -> int:
        """The price of one call, from the usage as an OpenAI-compatible server reports it."""
        rates = next(entry for entry in self.book["model"] if entry["name"] == model)["rates"]
        assert rates.get("per", "1M") == "1M", "only prices for a million tokens are worked out here"
        cached = cached_tokens(usage)
        price_in, price_out = Fraction(rates["input"]), Fraction(rates["output"])
        price_cached = Fraction(rates.get("input.cache_read", rates["input"]))
        fresh = usage["prompt_tokens"] - cached
        usd = fresh * price_in + cached * price_cached + usage["completion_tokens"] * price_out
        usd = usd / MILLION + Fraction(rates.get("request", "0"))
        sell = self.book["sell"]
        credits = usd * (MILLION + sell.get("markup_ppm", 0)) / MILLION / Fraction(sell["usd_per_credit"])
        return math.ceil(credits * MICRO)


def cached_tokens(usage: dict[str, Any]) -> int:
    """The part of the prompt that the server found in its cache."""
    return (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


def ucr(amount: str) -> int:
    """An amount of credits as the API writes it, in micro-credits."""
    micro = Fraction(amount) * MICRO
    assert micro.denominator == 1, f"{amount} is finer than a micro-credit"
    return int(micro)
