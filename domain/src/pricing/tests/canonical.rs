//! The canonical form: it rebuilds the same book, and only what changes a price changes the hash.

use serde_json::{Value, json};

use super::super::{Dimension, ModelPrice, PriceBook};
use super::{BOOK, book, json as parse};

#[test]
fn a_book_is_rebuilt_exactly_from_its_canonical_json() {
    let text = serde_json::to_string(&book()).unwrap();
    let rebuilt = serde_json::from_str::<PriceBook>(&text).unwrap();
    assert_eq!(rebuilt, book());
    assert_eq!(rebuilt.content_hash(), book().content_hash());
    assert_eq!(serde_json::to_string(&rebuilt).unwrap(), text);
}

#[test]
fn the_canonical_json_has_sorted_keys_and_text_for_numbers() {
    let expected = concat!(
        r#"{"model":[{"checked":"2026-01-31","context_tokens":"1000","max_output_tokens":"100","name":"m","#,
        r#""provider":"p","rates":{"input":"0.4","output":"1.6","per":"1000000"},"source":"s","tokenizer":"#,
        r#""o200k_base","tokenizer_factor_ppm":"1000000"}],"name":"n","sell":{"flat_fee":"10.000000","#,
        r#""markup_ppm":"0","usd_per_credit":"0.01"},"unit":[]}"#,
    );
    let book = json!({
        "name": "n",
        "model": [{
            "provider": "p", "name": "m", "tokenizer": "o200k_base", "context_tokens": 1000,
            "max_output_tokens": "100", "source": "s", "checked": "2026-01-31",
            "rates": { "output": "1.60", "input": "00.400" },
        }],
    });
    let book = PriceBook::from_value(book).unwrap();
    assert_eq!(book.to_value().to_string(), expected);
    // what `sha256sum` says about the text above
    assert_eq!(book.content_hash(), "c91d784afc9a3d298e70e5776720f41210c3139965a3c3058d3ef75f287b033c");
}

#[test]
fn order_and_notation_do_not_change_the_hash_and_prices_do() {
    let mut other = parse(BOOK);
    for list in ["/model", "/unit"] {
        other.pointer_mut(list).and_then(Value::as_array_mut).unwrap().reverse();
    }
    other["sell"]["markup_ppm"] = json!("0");
    other["sell"]["usd_per_credit"] = json!("0.0100");
    let same = PriceBook::from_value(other.clone()).unwrap();
    assert_eq!((same.content_hash(), &same), (book().content_hash(), &book()));
    assert_eq!(same.content_hash().len(), 64);
    for (pointer, value) in [("/unit/0/price", "1.26"), ("/name", "test-2"), ("/model/1/source", "elsewhere")] {
        let mut changed = other.clone();
        *changed.pointer_mut(pointer).unwrap() = json!(value);
        assert_ne!(PriceBook::from_value(changed).unwrap().content_hash(), book().content_hash(), "{pointer}");
    }
}

#[test]
fn a_model_is_found_by_name_or_alias_and_case_matters() {
    let book = book();
    for name in ["sonnet", "sonnet-1", "sonnet-latest"] {
        assert_eq!(book.model(name).map(|model| (model.provider(), model.name())), Some(("anthropic", "sonnet")));
    }
    for name in ["Sonnet", "sonnet-2", "", "anthropic/sonnet"] {
        assert_eq!(book.model(name), None, "{name}");
    }
    assert_eq!(book.models().map(ModelPrice::name).collect::<Vec<_>>(), ["flash", "sonnet"]);
    assert_eq!(book.units().map(|unit| (unit.name(), unit.per())).collect::<Vec<_>>(), [("page", 1_000), ("step", 1)]);
}

#[test]
fn a_model_tells_what_the_file_says() {
    let book = book();
    let model = book.model("sonnet").unwrap();
    assert_eq!((model.tokenizer(), model.tokenizer_factor_ppm()), ("o200k_base", 1_300_000));
    assert_eq!((model.context_tokens(), model.max_output_tokens()), (1_000_000, 64_000));
    assert_eq!((model.source(), model.checked()), ("https://example.com/prices", Some("2026-11-04")));
    assert_eq!(model.aliases(), ["sonnet-1", "sonnet-latest"]);
    assert_eq!((model.sell_tier(), model.note()), (None, None));
    assert_eq!(model.rates().pico_usd(Dimension::CacheRead), 300_000_000_000);
    assert_eq!(model.rates().pico_usd(Dimension::Reasoning), model.rates().pico_usd(Dimension::Output));
    assert_eq!(model.rates().pico_usd(Dimension::Request), 0);
    let tiers = model.tiers().iter().map(|tier| (tier.above_input_tokens(), tier.rates().per())).collect::<Vec<_>>();
    assert_eq!(tiers, [(200_000, 1_000)]);
}

#[test]
fn a_broken_book_is_not_deserialised() {
    let error = serde_json::from_value::<PriceBook>(json!({ "name": "n", "x": 1, "unit": [1] })).unwrap_err();
    let expected = "not a price book: /unit/0: expected a table, found a number; \
                    /x: unknown key; known here: `name`, `sell`, `model`, `unit`, `fallback`";
    assert_eq!(error.to_string(), expected);
}
