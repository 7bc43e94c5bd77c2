"""What the two public calculators say that a call costs, each in its own terms."""

import datetime
import os
from decimal import Decimal

# no look at the network for a newer catalogue: the one in the package counts
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from genai_prices.data import providers  # noqa: E402
from genai_prices.types import Usage as GenaiUsage  # noqa: E402
from litellm.cost_calculator import batch_cost_calculator  # noqa: E402
from litellm.litellm_core_utils.llm_cost_calc import utils as llm_cost_utils  # noqa: E402
from litellm.types.utils import (  # noqa: E402
    CacheCreationTokenDetails,
    CompletionTokensDetailsWrapper,
    PromptTokensDetailsWrapper,
    Usage,
)

# the day of the default book, at an hour when nobody has a discount
NOW = datetime.datetime(2026, 11, 23, 2, 0, tzinfo=datetime.timezone.utc)
# off-peak discounts are told by the clock: ours stands at the hour of NOW
llm_cost_utils.current_billing_time = lambda: NOW

LITELLM_FILE = os.path.join(os.path.dirname(litellm.__file__), "model_prices_and_context_window_backup.json")
# providers that name their own models; as in domain/src/pricing/import/genai.rs
MAKERS = {
    "anthropic", "cohere", "deepseek", "google", "meta", "minimax", "mistral", "moonshotai", "openai", "perplexity",
    "voyageai", "x-ai", "zai",
}


def litellm_usage(usage):
    """Our canonical usage as LiteLLM's."""
    writes, hour = usage["cache_write_tokens"], usage["cache_write_1h_tokens"]
    return Usage(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        total_tokens=usage["input_tokens"] + usage["output_tokens"],
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=usage["cache_read_tokens"],
            cache_creation_tokens=writes,
            cache_creation_token_details=CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=writes - hour, ephemeral_1h_input_tokens=hour
            ),
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=usage["reasoning_tokens"]),
    )


def litellm_cost(model, provider, variant, usage):
    """USD as a float: LiteLLM has no other."""
    reported = litellm_usage(usage)
    if variant == "batch":
        parts = batch_cost_calculator(usage=reported, model=model, custom_llm_provider=provider)
    else:
        parts = litellm.cost_per_token(
            model=model, custom_llm_provider=provider, usage_object=reported, service_tier=variant
        )
    return sum(parts)


def genai_models():
    """Name in our books → (provider, model)."""
    named = {}
    for provider in providers:
        for model in provider.models:
            name = model.id if provider.id in MAKERS else f"{provider.id}/{model.id}"
            named.setdefault(name, (provider, model))
    return named


def genai_cost(provider, model, variant, usage):
    """USD as an exact decimal."""
    context = None
    if variant is not None:
        context = {"processing": "batch"} if variant == "batch" else {"service_tier": variant}
    reported = GenaiUsage(
        input_tokens=usage["input_tokens"],
        cache_read_tokens=usage["cache_read_tokens"],
        cache_write_tokens=usage["cache_write_tokens"],
        cache_write_1h_tokens=usage["cache_write_1h_tokens"],
        output_tokens=usage["output_tokens"],
        output_reasoning_tokens=usage["reasoning_tokens"],
    )
    price = model.calc_price(reported, provider, genai_request_timestamp=NOW, price_context=context)
    assert isinstance(price.total_price, Decimal)
    return price.total_price
