//! Known texts have their known counts, and no text brings the counter down.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;

fn plain(model: &str) -> Counter {
    Counter::for_model(model, (None, 1_000_000))
}

/// Texts of about so many bytes that tokenizers were brought down with.
pub(super) fn pathological(bytes: usize) -> Vec<(&'static str, String)> {
    let units = [
        ("one letter", "a"),
        ("spaces", " "),
        ("no-break spaces", "\u{a0}"),
        ("lines", "\n"),
        ("blanks of all kinds", " \n\t\r "),
        ("emoji", "🦀"),
        ("families of emoji", "👩‍👩‍👧‍👦"),
        ("base64", "iVBORw0KGgoAAAANSUhEUgAAAAUA+/9AAAFCAYAAACNbyblAAAAHElEQVQI12P4"),
        ("ideographs", "漢字仮名交"),
        ("marks", "a\u{301}\u{302}"),
        ("digits", "8"),
        ("dots", "."),
        ("nothing", "\0"),
        ("changing case", "aA"),
    ];
    units.into_iter().map(|(name, unit)| (name, unit.repeat(bytes / unit.len()))).collect()
}

#[test]
fn a_known_text_has_its_known_number_of_tokens() {
    assert_eq!(plain("gpt-4.1").count("hello world"), 2);
    assert_eq!(plain("openai/gpt-4.1").count("hello world"), 2);
    assert_eq!(plain("gpt-4").count("tiktoken is great!"), 6);
}

#[tokio::test]
async fn messages_carry_their_overheads() {
    let counter = plain("gpt-4.1");
    assert_eq!(counter.count_messages(&["hello world", "hello world"]).await, 3 + 2 * (4 + 2));
    assert_eq!(counter.count_messages(&[]).await, 3);
}

#[test]
fn special_token_strings_count_as_ordinary_text() {
    assert!(plain("gpt-4.1").count("<|endoftext|><|endoftext|>") > 2);
}

#[test]
fn a_named_tokenizer_and_its_factor_are_obeyed() {
    let text = "Der Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetzentwurf";
    let newer = Counter::for_model("unheard-of", (Some("o200k_base".into()), 1_000_000)).count(text);
    let older = Counter::for_model("unheard-of", (Some("cl100k_base".into()), 1_000_000)).count(text);
    assert!(older > newer, "{older} > {newer}");
    let doubled = Counter::for_model("unheard-of", (Some("o200k_base".into()), 2_000_000)).count(text);
    assert_eq!(doubled, 2 * newer);
}

#[test]
fn an_unknown_model_is_counted_on_the_safe_side() {
    let text = "Write the product requirements for a to-do list that five people share. ".repeat(20);
    let exact = plain("gpt-4.1").count(&text);
    for model in ["claude-sonnet-4", "unheard-of", "anthropic/claude-sonnet-4", "deepseek-chat"] {
        assert!(plain(model).count(&text) > exact, "{model}");
    }
    let learned = Counter::for_model("unheard-of", (None, 500_000)).count(&text);
    assert_eq!(learned, (exact * 600_000).div_ceil(1_000_000));
    assert_eq!(Counter::for_model("gpt-4.1", (None, 0)).count(&text), exact);
}

#[test]
fn cutting_a_long_text_into_chunks_does_not_change_its_count() {
    let text = "The quick brown fox (aged 7) can't jump: \n  it's 12345 años, sí? 漢字 and so on. ".repeat(2_000);
    for tokenizer in [Tokenizer::O200kBase, Tokenizer::Cl100kBase] {
        let counter = Counter { tokenizer, factor_ppm: ONE_PPM };
        let whole = vocabulary(tokenizer).expect("compiled in").count_ordinary(&text) as u64;
        assert_eq!(counter.count(&text), whole, "{tokenizer:?}");
    }
}

#[test]
fn a_megabyte_of_anything_is_counted_whole_and_never_too_small() {
    let counter = plain("gpt-4.1");
    for (name, text) in pathological(1 << 20) {
        // what the vocabulary says of a piece that it can take at once, for as many pieces as there are
        let piece = text.floor_char_boundary(1_500);
        let vocabulary = vocabulary(Tokenizer::O200kBase).unwrap();
        let expected = vocabulary.count_ordinary(&text[..piece]) as u64 * (text.len() / piece) as u64;
        let tokens = counter.count(&text);
        assert!(tokens <= 2 * text.len() as u64, "{name}: {tokens}");
        assert!(tokens * 20 >= expected * 19, "{name}: {tokens} of {expected}");
    }
}

#[test]
fn a_forced_cut_never_makes_a_count_too_small() {
    for tokenizer in [Tokenizer::O200kBase, Tokenizer::Cl100kBase] {
        let counter = Counter { tokenizer, factor_ppm: ONE_PPM };
        let vocabulary = vocabulary(tokenizer).unwrap();
        for (name, text) in pathological(12_000) {
            let whole = vocabulary.count_ordinary(&text) as u64;
            assert!(counter.count(&text) >= whole, "{tokenizer:?} {name}");
        }
        // words, symbols and digits without a single space, as chance will have it
        let mut state: u64 = 7;
        let parts = ["the", "Token", "_", "0", "ü", "漢", "{\"", "\":", "==", "\n", "🦀", "ing"];
        for _ in 0..20 {
            let mut text = String::new();
            while text.len() < 9_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(parts[(state >> 33) as usize % parts.len()]);
            }
            assert!(counter.count(&text) >= vocabulary.count_ordinary(&text) as u64, "{text}");
        }
    }
}

#[tokio::test]
async fn a_text_counted_on_a_blocking_thread_has_the_same_count() {
    let text = "one two three ".repeat(10_000);
    let counter = plain("gpt-4.1");
    assert!(text.len() > COUNT_INLINE_BYTES);
    assert_eq!(counter.count_text(&text).await, counter.count(&text));
    let halves = [&text[..text.len() / 2], &text[text.len() / 2..]];
    let expected = counter.count(halves[0]) + counter.count(halves[1]) + 3 + 2 * 4;
    assert_eq!(counter.count_messages(&halves).await, expected);
}

#[tokio::test]
async fn a_large_count_waits_for_its_turn_and_leaves_it_when_nobody_waits() {
    let counter = plain("gpt-4.1");
    let text = "some words ".repeat(10_000);
    let all = LARGE_COUNTS.acquire_many(u32::try_from(COUNTS_AT_ONCE).unwrap()).await.unwrap();
    let mut count = Box::pin(counter.count_text(&text));
    assert!(futures::poll!(&mut count).is_pending(), "all turns are taken");
    drop(count);
    drop(all);
    assert_eq!(counter.count_text(&text).await, counter.count(&text));
}

#[test]
fn a_count_that_nobody_waits_for_ends_at_the_next_chunk() {
    let waiting = Waiting::default();
    let is_over = Arc::clone(&waiting.is_over);
    let counter = plain("gpt-4.1");
    assert!(counter.raw("some words", &is_over) > 0);
    drop(waiting);
    assert_eq!(counter.raw(&"some words ".repeat(100_000), &is_over), 0);
}

/// The conversation of the cookbook's example.
const COOKBOOK: [(Option<&str>, &str); 6] = [
    (None, "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."),
    (Some("example_user"), "New synergies will help drive top-line growth."),
    (Some("example_assistant"), "Things working well together will increase revenue."),
    (
        Some("example_user"),
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    (Some("example_assistant"), "Let's talk later when we're less busy about how to do better."),
    (None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
];

#[tokio::test]
async fn the_cookbooks_conversation_has_the_count_that_the_api_reported() {
    let messages = COOKBOOK.map(|(name, content)| Message { name, content });
    for (model, tokens) in [("gpt-4o", 124), ("gpt-4o-mini", 124), ("gpt-4", 129), ("gpt-3.5-turbo", 129)] {
        assert_eq!(plain(model).count_request(&messages, &[]).await, tokens, "{model}");
    }
}

#[tokio::test]
async fn the_cookbooks_tools_have_the_count_that_the_api_reported() {
    let contents = [
        "You are a helpful assistant that can answer to questions about the weather.",
        "What's the weather like in San Francisco?",
    ];
    let messages = contents.map(|content| Message { name: None, content });
    let tools = [weather()];
    for (model, tokens) in [("gpt-4o", 101), ("gpt-4o-mini", 101), ("gpt-4", 105), ("gpt-3.5-turbo", 105)] {
        assert_eq!(plain(model).count_request(&messages, &tools).await, tokens, "{model}");
    }
    let bare = [tools[0]["function"].clone()];
    let counter = plain("gpt-4o");
    assert_eq!(counter.count_request(&messages, &bare).await, 101, "the function alone is the same tool");
}

/// The tool of the cookbook's example.
fn weather() -> serde_json::Value {
    json!({
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Get the current weather in a given location",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                    "unit": {
                        "type": "string",
                        "description": "The unit of temperature to return",
                        "enum": ["celsius", "fahrenheit"],
                    },
                },
                "required": ["location"],
            },
        },
    })
}

#[tokio::test]
async fn whatever_a_schema_says_counts() {
    let counter = plain("gpt-4o");
    let count = |schema: serde_json::Value| async move {
        counter.count_request(&[], &[json!({"name": "f", "parameters": {"properties": {"p": schema}}})]).await
    };
    let mut last = count(json!({"type": "string"})).await;
    for more in [
        json!({"type": "string", "description": "where"}),
        json!({"type": "object", "properties": {"q": {"type": "string"}}}),
        json!({"type": "array", "items": {"type": "object", "properties": {"q": {"type": "string"}}}}),
        json!({"type": "array", "items": {"type": "object", "properties": {"q": {"type": "string", "enum": ["a", "b"]}}}}),
        json!({"anyOf": [{"type": "string", "description": "one of many ways to say where something is to be found"},
            {"$ref": "#/$defs/where"}], "pattern": "^[a-z]{3,40}$"}),
    ] {
        let tokens = count(more.clone()).await;
        assert!(tokens > last, "{more}: {tokens} after {last}");
        last = tokens;
    }
    let deep = (0..200).fold(json!({}), |inner, _| json!({"type": "object", "properties": {"deeper": inner}}));
    assert!(count(deep).await > 400, "deeper levels count as their text");
    assert_eq!(count(json!("no schema")).await, count(json!(null)).await);
}
