"""Our prices against the two public calculators: 10,000 random calls.

4,000 calls by a book imported from LiteLLM's catalogue against LiteLLM, 4,000 by one imported from genai-prices
against genai-prices, 2,000 by the built-in book against both. LiteLLM calculates in floats: what is the same to
1e-9 is the same. genai-prices calculates in decimals: the same is the same. What differs has to be listed, with its
reason, in differences.toml, and what is listed has to occur.

    BURSAR_INTEROP_PROGRAM=…/bursar python test_catalogues.py [-v]      BURSAR_INTEROP_SEED chooses other calls
"""

import fnmatch
import json
import os
import random
import subprocess
import tempfile
import tomllib
import unittest
from collections import Counter
from decimal import Decimal
from pathlib import Path

import calculators
import genai_catalogue

PROGRAM = os.environ["BURSAR_INTEROP_PROGRAM"]
DEFAULT_SEED = 20261123
SEED = int(os.environ.get("BURSAR_INTEROP_SEED", DEFAULT_SEED))
HERE = Path(__file__).parent
TOLERANCE = Decimal("1e-9")
VARIANTS = {"batch", "flex", "priority"}


def run(folder, *arguments, **options):
    """Runs our program where no database is."""
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    done = subprocess.run(
        [PROGRAM, "prices", *arguments], cwd=folder, env=environment, capture_output=True, text=True, **options
    )
    if done.returncode != 0:
        raise AssertionError(f"bursar prices {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def random_usage(chance, thresholds):
    """A usage whose parts fit into their totals, often around a threshold."""
    if thresholds and chance.random() < 0.5:
        total = max(1, chance.choice(thresholds) + chance.choice([-1, 0, 1, chance.randint(-5_000, 50_000)]))
    else:
        total = chance.choice([1, 7, chance.randint(1, 2_000), chance.randint(1, 150_000)])
    read = chance.choice([0, 0, chance.randint(0, total)])
    writes = chance.choice([0, 0, chance.randint(0, total - read)])
    hour = chance.choice([0, chance.randint(0, writes)])
    output = chance.choice([0, 1, chance.randint(0, 20_000)])
    return {
        "input_tokens": total,
        "cache_read_tokens": read,
        "cache_write_tokens": writes,
        "cache_write_1h_tokens": hour,
        "output_tokens": output,
        "reasoning_tokens": chance.choice([0, chance.randint(0, output)]),
    }


class Differences:
    """The checked-in list of what may differ, and which of it did."""

    def __init__(self):
        with open(HERE / "differences.toml", "rb") as file:
            self.entries = tomllib.load(file)["difference"]
        self.seen = Counter()

    def explains(self, book, against, call, entry_of):
        for at, entry in enumerate(self.entries):
            names = any(fnmatch.fnmatchcase(call["model"], pattern) for pattern in entry["models"])
            parts = all(call["usage"][part] > 0 for part in entry.get("with", []))
            variant = entry.get("variant", call["variant"] or "standard") == (call["variant"] or "standard")
            free = "free" not in entry or entry_of(call).get(entry["free"]) == 0
            if names and parts and variant and free and entry["book"] == book and entry["against"] == against:
                self.seen[at] += 1
                return True
        return False


class Catalogues(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        where = Path(cls.folder.name)
        (where / "genai.json").write_text(genai_catalogue.catalogue(), encoding="utf-8")
        common = ["--on", "2026-11-23", "--context-tokens", "1000000"]
        run(where, "import", "--from", "litellm", calculators.LITELLM_FILE, "--out", "litellm.toml", *common)
        run(where, "import", "--from", "genai-prices", "genai.json", "--out", "genai-prices.toml", *common)
        cls.differences = Differences()
        cls.chance = random.Random(SEED)
        cls.told = []

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
        print("\n".join(["", f"seed {SEED}", *cls.told]))

    def book(self, name):
        return json.loads(run(self.folder.name, "show", name, "--json"))

    def calls(self, book, count, kept):
        """Random calls of random models and variants of a book."""
        models = [model for model in book["model"] if kept(model["name"])]
        calls = []
        for _ in range(count):
            model = self.chance.choice(models)
            names = [None] * 2 + [entry["name"] for entry in model.get("variant", []) if entry["name"] in VARIANTS]
            thresholds = [int(tier["above_input_tokens"]) for tier in model.get("tier", [])]
            calls.append({
                "model": model["name"], "variant": self.chance.choice(names),
                "usage": random_usage(self.chance, thresholds),
            })
        return calls

    def price(self, book, calls):
        lines = "".join(json.dumps(call) + "\n" for call in calls)
        answers = run(self.folder.name, "cost", "--book", book, input=lines).splitlines()
        self.assertEqual(len(answers), len(calls))
        return [Decimal(json.loads(answer)["usd"]) for answer in answers]

    def compare(self, book, against, calls, costs, theirs, tolerance, entry_of=lambda call: {}):
        """Fails with everything that differs and is not listed; `entry_of` is the catalogue's entry of a call."""
        same, listed, wrong = 0, 0, []
        for call, ours in zip(calls, costs, strict=True):
            other = theirs(call)
            if abs(ours - other) <= tolerance * max(ours, other):
                same += 1
            elif self.differences.explains(book, against, call, entry_of):
                listed += 1
            else:
                wrong.append(f"{call}: ours {ours}, theirs {other}")
        self.told.append(f"{book} against {against}: {len(calls)} calls, {same} the same, {listed} listed")
        self.assertEqual(wrong, [], f"{len(wrong)} of {len(calls)} calls differ and are not listed")

    @staticmethod
    def litellm(call, name=None, provider=None):
        return Decimal(repr(calculators.litellm_cost(name or call["model"], provider, call["variant"], call["usage"])))

    def test_1_litellm_prices_what_was_imported_from_it_alike(self):
        with open(calculators.LITELLM_FILE, encoding="utf-8") as file:
            catalogue = json.load(file)
        book = self.book("litellm.toml")
        calls = self.calls(book, 4_000, lambda name: name in catalogue)
        costs = self.price("litellm.toml", calls)
        theirs = lambda call: self.litellm(call, provider=catalogue[call["model"]]["litellm_provider"])
        self.compare("litellm", "litellm", calls, costs, theirs, TOLERANCE, lambda call: catalogue[call["model"]])

    def test_2_genai_prices_prices_what_was_imported_from_it_alike(self):
        named = calculators.genai_models()
        calls = self.calls(self.book("genai-prices.toml"), 4_000, lambda name: name in named)
        costs = self.price("genai-prices.toml", calls)
        theirs = lambda call: calculators.genai_cost(*named[call["model"]], call["variant"], call["usage"])
        self.compare("genai-prices", "genai-prices", calls, costs, theirs, Decimal(0))

    def test_3_the_built_in_book_is_what_both_say(self):
        named = calculators.genai_models()
        book = self.book("builtin")
        places = {
            "openai": ("", "openai", "openai"), "anthropic": ("", "anthropic", "anthropic"),
            "google": ("gemini/", "gemini", "google"), "deepseek": ("deepseek/", "deepseek", "deepseek"),
            "mistral": ("mistral/", "mistral", "mistral"), "xai": ("xai/", "xai", "x-ai"),
            "cohere": ("", "cohere_chat", "cohere"),
        }
        provider_of = {model["name"]: model["provider"] for model in book["model"] if model["provider"] in places}
        calls = self.calls(book, 2_000, lambda name: name in provider_of)
        costs = self.price("builtin", calls)

        def by_litellm(call):
            prefix, provider, _ = places[provider_of[call["model"]]]
            return self.litellm(call, name=prefix + call["model"], provider=provider)

        def by_genai(call):
            wanted = places[provider_of[call["model"]]][2]
            provider = next(provider for provider in calculators.providers if provider.id == wanted)
            model = provider.find_model(call["model"])
            return calculators.genai_cost(provider, model, call["variant"], call["usage"])

        with open(calculators.LITELLM_FILE, encoding="utf-8") as file:
            catalogue = json.load(file)
        entry_of = lambda call: catalogue[places[provider_of[call["model"]]][0] + call["model"]]
        self.compare("builtin", "litellm", calls, costs, by_litellm, TOLERANCE, entry_of)
        self.compare("builtin", "genai-prices", calls, costs, by_genai, Decimal(0))
        self.assertGreater(len(named), 1_000)

    def test_4_every_listed_difference_occurs(self):
        entries = self.differences.entries
        idle = [entry["reason"] for at, entry in enumerate(entries) if not self.differences.seen[at]]
        # other seeds may miss a rare one
        self.assertLessEqual(len(idle), 0 if SEED == DEFAULT_SEED else 3, f"listed, and did not occur: {idle}")
        for at, entry in enumerate(entries):
            self.told.append(f"{self.differences.seen[at]:5} {entry['book']} against {entry['against']}: {entry['reason']}")


if __name__ == "__main__":
    unittest.main()
