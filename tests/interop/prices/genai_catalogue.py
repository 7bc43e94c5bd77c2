"""Writes the data of the installed genai-prices as its public data.json: what `bursar prices import` reads.

The package carries the data as Python objects only. Decimals become JSON numbers digit by digit.
"""

import dataclasses
import datetime
import json
import re
import sys
from decimal import Decimal

from genai_prices.data import providers
from genai_prices.types import ModelPrice


def plain(value):
    """The value as JSON knows it; a decimal is marked and unquoted later."""
    if isinstance(value, Decimal):
        return f"@@{value:f}@@"
    if isinstance(value, ModelPrice):
        return {key: plain(price) for key, price in value.__dict__.items() if price is not None}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if dataclasses.is_dataclass(value):
        fields = ((field.name.rstrip("_"), getattr(value, field.name, None)) for field in dataclasses.fields(value))
        return {name: plain(field) for name, field in fields if field is not None}
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def catalogue():
    """The text of the catalogue."""
    kept = []
    for provider in providers:
        entry = {"id": provider.id, "pricing_urls": provider.pricing_urls, "models": plain(provider.models)}
        kept.append(entry)
    return re.sub(r'"@@([0-9.]+)@@"', r"\1", json.dumps(kept))


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(catalogue())
