//! Catalogues in small: what becomes a book, what is refused, what is told to be missing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::credits::Ucr;
use crate::usage::Usage;

fn wanted() -> Wanted {
    Wanted { name: "new".to_owned(), on: "2026-11-23".to_owned(), models: Vec::new(), default_context: None }
}

fn litellm(text: &str) -> Imported {
    import(Catalogue::Litellm, text, &wanted(), None, false).unwrap()
}

fn genai(text: &str) -> Imported {
    import(Catalogue::GenaiPrices, text, &wanted(), None, false).unwrap()
}

/// A catalogue of genai-prices with one provider.
fn of(provider: &str, models: &str) -> String {
    format!(r#"[{{"id": "{provider}", "pricing_urls": ["https://example.com/{provider}"], "models": [{models}]}}]"#)
}

fn told(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(|remark| format!("{}: {}", remark.subject, remark.reason)).collect()
}

/// The exact cost in USD of 1,000 tokens in (200 read, 300 written, 100 of them for an hour) and 100 out.
fn usd(book: &PriceBook, model: &str, variant: Option<&str>, input_tokens: u64) -> String {
    let usage = Usage {
        input_tokens,
        cache_read_tokens: 200,
        cache_write_tokens: 300,
        cache_write_1h_tokens: 100,
        output_tokens: 100,
        reasoning_tokens: 0,
    };
    book.quote(model, variant, &usage).unwrap().usd
}

const ENTRY: &str =
    r#""litellm_provider": "anthropic", "mode": "chat", "max_input_tokens": 1000000, "max_output_tokens": 64000"#;

#[test]
fn a_model_of_litellm_keeps_every_price_exactly() {
    let text = format!(
        r#"{{"sample_spec": {{"mode": "one of …"}}, "sonnet": {{{ENTRY},
        "source": "https://example.com/sonnet", "deprecation_date": "2027-05-01",
        "input_cost_per_token": 3e-06, "cache_read_input_token_cost": 3E-7, "output_cost_per_token": 0.000015,
        "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
        "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
        "input_cost_per_token_batches": 1.5e-06, "output_cost_per_token_batches": 7.5e-06,
        "input_cost_per_token_flex": 1e-06, "input_cost_per_token_above_200k_tokens_flex": 2e-06,
        "input_cost_per_token_priority": 6e-06, "output_cost_per_token_priority": 3e-05,
        "input_cost_per_token_above_200k_tokens_priority": 1.2e-05, "supports_vision": true}}}}"#
    );
    let imported = litellm(&text);
    assert!(imported.refused.is_empty());
    let book = &imported.book;
    // 500 · 3 + 200 · 0.3 + 200 · 3.75 + 100 · 6 + 100 · 15 per million
    assert_eq!(usd(book, "sonnet", None, 1_000), "0.00441");
    // above: input and output have prices of their own, the cache keeps its: 199,501 · 6 + 60 + 750 + 600 + 2,250
    assert_eq!(usd(book, "sonnet", None, 200_001), "1.200666");
    // a batch stands for itself, without a discount for its cache and without a threshold: 1,000 · 1.5 + 100 · 7.5
    assert_eq!(usd(book, "sonnet", Some("batch"), 1_000), "0.00225");
    assert_eq!(usd(book, "sonnet", Some("batch"), 200_001), "0.3007515");
    // a service tier has the standard price for what it does not tell: 500 · 1 + 60 + 750 + 600 + 100 · 15
    assert_eq!(usd(book, "sonnet", Some("flex"), 1_000), "0.00341");
    // above the threshold, a priority call's output has the standard tier's price, which is cheaper than below it
    let left_out = told(&imported.partly);
    assert!(matches!(left_out.as_slice(), [one] if one.starts_with("sonnet: the variant `priority` is left out: ")));
    assert!(book.model("sonnet").unwrap().card(Some("priority")).is_none());
    let model = book.model("sonnet").unwrap();
    assert_eq!((model.provider(), model.source()), ("anthropic", "https://example.com/sonnet"));
    assert_eq!(model.note(), Some("End announced for 2027-05-01."));
    assert_eq!((model.context_tokens(), model.max_output_tokens()), (1_000_000, 64_000));
    assert_eq!(model.tokenizer_factor_ppm(), 1_150_000);
}

#[test]
fn what_litellm_says_and_a_book_cannot_is_told() {
    let text = format!(
        r#"{{
        "free": {{{ENTRY}, "input_cost_per_token": 0.0, "output_cost_per_token": 0}},
        "float": {{{ENTRY}, "input_cost_per_token": 7.500000000000001e-08, "output_cost_per_token": 1e-6}},
        "half": {{{ENTRY}, "input_cost_per_token": 1e-6}},
        "ranges": {{{ENTRY}, "tiered_pricing": [{{"range": [0, 1]}}]}},
        "hours": {{{ENTRY}, "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "off_peak_pricing": {{}}}},
        "picture": {{"litellm_provider": "p", "mode": "image_generation"}},
        "windowless": {{"litellm_provider": "p", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}},
        "negative": {{{ENTRY}, "input_cost_per_token": -1, "output_cost_per_token": 1e-6}},
        "part": {{{ENTRY}, "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "input_cost_per_audio_token": 4e-6, "output_cost_per_image": 0.0, "output_cost_per_second": null,
            "cache_creation_input_token_cost": 0.0, "search_context_cost_per_query": {{"low": 0.01}}}},
        "tier": {{{ENTRY}, "input_cost_per_token": 2e-6, "output_cost_per_token": 2e-6,
            "input_cost_per_token_above_200k_tokens": 1e-6}}}}"#
    );
    let imported = litellm(&text);
    let free = "a price is above zero";
    assert_eq!(
        told(&imported.refused),
        [
            "float: a price is not exact at 1e-12 USD for 1,000,000,000 tokens, or is above 1,000,000 USD",
            &format!("free: `input` costs nothing, and {free}"),
            "half: /rates: `output` is missing",
            "hours: its price depends on the time of the day",
            "negative: `input_cost_per_token`: `-1` is not a price that can be read exactly",
            "picture: its mode `image_generation` has no counterpart",
            "ranges: its price is a table of ranges",
            "tier: /tier/0/rates: `input` is cheaper than below the threshold: a longer input must not cost less; \
             /tier/0/rates: `input.cache_read` is cheaper than below the threshold: a longer input must not cost less; \
             /tier/0/rates: `input.cache_write` is cheaper than below the threshold: a longer input must not cost less; \
             /tier/0/rates: `input.cache_write_1h` is cheaper than below the threshold: a longer input must not cost less",
            "windowless: its context window is not given",
        ]
    );
    assert_eq!(
        told(&imported.partly),
        [
            "part: `input.cache_write` costs nothing there; here it costs what `input` does",
            "part: `input_cost_per_audio_token` has no counterpart",
            "part: `search_context_cost_per_query` has no counterpart",
        ]
    );
    assert_eq!(imported.book.models().count(), 1);
    let roomy = Wanted { default_context: Some(100_000), models: vec!["wind*".to_owned()], ..wanted() };
    let imported = import(Catalogue::Litellm, &text, &roomy, None, false).unwrap();
    assert_eq!(imported.book.model("windowless").unwrap().context_tokens(), 100_000);
}

#[test]
fn units_of_litellm_are_embeddings_reranks_and_seconds() {
    let imported = litellm(
        r#"{
        "small": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08, "output_cost_per_token": 0.0,
            "input_cost_per_image": 1},
        "sorter": {"litellm_provider": "cohere", "mode": "rerank", "input_cost_per_query": 0.002},
        "ears": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001},
        "gift": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 0.0}}"#,
    );
    let units = imported.book.units().map(|unit| (unit.name(), unit.price_usd(), unit.per())).collect::<Vec<_>>();
    let expected = [
        ("embedding.small", "0.02".to_owned(), 1_000_000),
        ("rerank.sorter", "0.002".to_owned(), 1),
        ("second.ears", "0.0001".to_owned(), 1),
    ];
    assert_eq!(units, expected);
    assert_eq!(told(&imported.refused), ["gift: it costs nothing, and a price is above zero"]);
    assert_eq!(told(&imported.partly), ["embedding.small: `input_cost_per_image` has no counterpart"]);
}

#[test]
fn thresholds_of_xai_include_the_threshold_itself() {
    let entry = ENTRY.replace("anthropic", "xai");
    let prices = r#""input_cost_per_token": 2e-6, "output_cost_per_token": 6e-6, "input_cost_per_token_above_200k_tokens": 4e-6"#;
    let imported = litellm(&format!(r#"{{"grok": {{{entry}, {prices}}}}}"#));
    assert_eq!(imported.book.model("grok").unwrap().tiers()[0].above_input_tokens(), 199_999);
}

#[test]
fn a_model_of_genai_prices_keeps_tiers_variants_and_names() {
    let model = r#"{"id": "sonnet", "context_window": 1000000,
        "match": {"or": [{"equals": "sonnet"}, {"equals": "sonnet-1"}, {"or": [{"equals": "sonnet-2"}]}, {"regex": "^s"}]},
        "prices": {"input_mtok": {"base": 3, "tiers": [{"start": 200000, "price": 6}]}, "cache_read_mtok": 0.3,
            "cache_write_mtok": 3.75, "cache_write_1h_mtok": "6", "output_mtok": 15, "requests_kcount": 10,
            "web_searches_kcount": 10},
        "price_variants": [
            {"when": {"processing": "batch"}, "prices": {"input_mtok": 1.5}, "constraint": {"start_date": "2026-11-01"}},
            {"when": {"processing": "batch"}, "prices": {"input_mtok": 9, "output_mtok": 7.5}},
            {"when": {"service_tier": "default"}, "prices": {}},
            {"when": {"speed": "fast"}, "prices": {"output_mtok": 60}},
            {"when": {"service_tier": "flex"}, "prices": {"input_mtok": 1}, "constraint": {"start_date": "2026-12-01"}}]}"#;
    let imported = genai(&of("anthropic", model));
    let book = &imported.book;
    // 500 · 3 + 60 + 750 + 600 + 1,500 per million, and a hundredth of a dollar for the request
    assert_eq!(usd(book, "sonnet", None, 1_000), "0.01441");
    assert_eq!(usd(book, "sonnet-2", None, 200_001), "1.209916");
    // the first price told for a key stands: 500 · 1.5 + 60 + 750 + 600 + 750, and the request
    assert_eq!(usd(book, "sonnet", Some("batch"), 1_000), "0.01291");
    let variants = book.model("sonnet").unwrap().variants().iter().map(super::super::Variant::name);
    assert_eq!(variants.collect::<Vec<_>>(), ["batch", "speed.fast"]);
    assert_eq!(book.model("sonnet").unwrap().aliases(), ["sonnet-1", "sonnet-2"]);
    assert_eq!(told(&imported.partly), ["sonnet: `web_searches_kcount` has no counterpart"]);
}

#[test]
fn the_price_of_the_day_is_taken() {
    let model = r#"{"id": "m", "context_window": 9, "prices": [
        {"prices": {"input_mtok": 1, "output_mtok": 1}},
        {"prices": {"input_mtok": 2, "output_mtok": 2}, "constraint": {"start_date": "2026-10-29"}},
        {"prices": {"input_mtok": 3, "output_mtok": 3}, "constraint": {"start_date": "2026-12-01"}}]}"#;
    let on = |on: &str| {
        let wanted = Wanted { on: on.to_owned(), ..wanted() };
        let book = import(Catalogue::GenaiPrices, &of("openai", model), &wanted, None, false).unwrap().book;
        let model = book.model("m").unwrap().clone();
        (model.rates().usd_per_million(super::super::Dimension::Input).unwrap(), model.valid_from().map(str::to_owned))
    };
    assert_eq!(on("2026-10-28"), ("1".to_owned(), None));
    assert_eq!(on("2026-10-29"), ("2".to_owned(), Some("2026-10-29".to_owned())));
    assert_eq!(on("2027-01-01"), ("3".to_owned(), Some("2026-12-01".to_owned())));
}

#[test]
fn what_genai_prices_says_and_a_book_cannot_is_told() {
    let models = r#"
        {"id": "hours", "context_window": 9, "prices": [
            {"prices": {"input_mtok": 1, "output_mtok": 1}},
            {"prices": {"input_mtok": 2, "output_mtok": 2}, "constraint": {"start_time": "01:00:00Z", "end_time": "04:00:00Z"}}]},
        {"id": "pictures", "context_window": 9, "prices": {"output_image_mtok": 1}},
        {"id": "empty", "context_window": 9, "prices": []},
        {"id": "twin", "context_window": 9, "prices": {"input_mtok": 1, "output_mtok": 1}},
        {"id": "twin", "context_window": 9, "prices": {"input_mtok": 1, "output_mtok": 1}},
        {"id": "ada", "prices": {"input_mtok": 0.1}}"#;
    let imported = genai(&of("openai", models));
    assert_eq!(
        told(&imported.refused),
        [
            "empty: it has no price",
            "hours: its price depends on the time of the day",
            "pictures: it has no price for input and output tokens",
            "twin: the catalogue has it twice",
        ]
    );
    assert_eq!(imported.book.unit("embedding.ada").unwrap().price_usd(), "0.1");
}

#[test]
fn resellers_models_carry_their_name_and_aliases_are_given_once() {
    let model = |id: &str, alias: &str, price: u32| {
        format!(
            r#"{{"id": "{id}", "context_window": 9, "match": {{"equals": "{alias}"}}, "prices": {{"input_mtok": {price}, "output_mtok": 1}}}}"#
        )
    };
    let both = format!(
        r#"[{{"id": "openai", "models": [{}, {}]}}, {{"id": "azure", "models": [{}]}}]"#,
        model("a", "x", 1),
        model("b", "x", 2),
        model("a", "a", 3)
    );
    let book = genai(&both).book;
    assert_eq!(book.models().map(|model| model.name().to_owned()).collect::<Vec<_>>(), ["a", "azure/a", "b"]);
    assert_eq!(book.model("x").unwrap().name(), "a", "the first who has it");
}

#[test]
fn the_new_book_sells_like_the_old_one_and_keeps_the_rest_where_asked() {
    let base = json!({
        "name": "old", "sell": {"markup_ppm": "50000"},
        "fallback": {"tokenizer": "o200k_base", "context_tokens": 9, "max_output_tokens": 9, "source": "made up",
            "rates": {"input": "9", "output": "9"}},
        "model": [
            {"provider": "p", "name": "mine", "tokenizer": "o200k_base", "context_tokens": 9, "max_output_tokens": 9,
                "source": "made up", "aliases": ["a"], "rates": {"input": "1", "output": "1"}},
            {"provider": "p", "name": "a-1", "tokenizer": "o200k_base", "context_tokens": 9, "max_output_tokens": 9,
                "source": "made up", "rates": {"input": "1", "output": "1"}}],
        "unit": [{"name": "step", "price": "1", "source": "made up"}],
    });
    let base = PriceBook::from_value(base).unwrap();
    let model = r#"{"id": "a", "context_window": 9, "match": {"equals": "a-1"}, "prices": {"input_mtok": 2, "output_mtok": 2}}"#;
    let with = |keep| import(Catalogue::GenaiPrices, &of("openai", model), &wanted(), Some(&base), keep).unwrap().book;
    let usage = Usage { input_tokens: 1_000, ..Usage::default() };
    // $0.002 and 5 % in credits of a cent
    assert_eq!(with(false).call_cost("a", &usage), Ok(Ucr::new(210_000)));
    assert!(
        with(false).fallback().is_some() && with(false).model("mine").is_none() && with(false).unit("step").is_none()
    );
    let kept = with(true);
    assert_eq!(kept.models().map(|model| model.name().to_owned()).collect::<Vec<_>>(), ["a", "mine"]);
    assert_eq!(kept.call_cost("a-1", &usage), Ok(Ucr::new(210_000)), "the new one took the name");
    assert!(kept.unit("step").is_some());
    assert_eq!(base.name(), "old");
}

#[test]
fn what_is_no_catalogue_is_refused() {
    for (catalogue, text) in [(Catalogue::Litellm, "[]"), (Catalogue::GenaiPrices, "{}"), (Catalogue::Litellm, "x")] {
        let refused = import(catalogue, text, &wanted(), None, false);
        assert!(matches!(refused, Err(ImportError::Shape(_))), "{text}");
    }
    assert_eq!(told(&litellm(r#"{"x": 1}"#).refused), ["x: its entry is not an object"]);
}

#[test]
fn a_pattern_takes_any_text_for_a_star() {
    for (pattern, name, fits) in [
        ("gpt-5", "gpt-5", true),
        ("gpt-5", "gpt-5-mini", false),
        ("gpt-*", "gpt-5", true),
        ("*", "", true),
        ("*mini", "gpt-5-mini", true),
        ("g*5*i", "gpt-5-mini", true),
        ("g*6*i", "gpt-5-mini", false),
        ("a*a", "a", false),
        ("a*b*b", "ab", false),
    ] {
        assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
    }
}
