//! What a person is told about two books.

use serde_json::{Value, json};

use super::super::{Change, PriceBook};
use super::{BOOK, book, json as parse};

fn edited(edit: impl FnOnce(&mut Value)) -> PriceBook {
    let mut value = parse(BOOK);
    edit(&mut value);
    PriceBook::from_value(value).unwrap()
}

fn change(subject: &str, field: &str, before: Option<&str>, after: Option<&str>) -> Change {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Change { subject: subject.to_owned(), field: field.to_owned(), before: text(before), after: text(after) }
}

#[test]
fn order_notation_and_the_name_are_no_difference() {
    let other = edited(|value| {
        value["name"] = json!("test-2");
        value["model"].as_array_mut().unwrap().reverse();
        value["unit"][1]["price"] = json!("1.2500");
    });
    assert_eq!(book().diff(&other), []);
}

#[test]
fn each_changed_field_is_told_with_both_values() {
    let newer = edited(|value| {
        value["model"][0]["rates"]["input"] = json!("3.10");
        value["model"][0]["tier"][0]["rates"]["input"] = json!("0.0062");
        value["model"][0]["aliases"] = json!(["sonnet-1"]);
        value["model"][1]["note"] = json!("Ends soon.");
        value["sell"]["markup_ppm"] = json!(50_000);
    });
    let expected = [
        change("model flash", "note", Some("For tests."), Some("Ends soon.")),
        change("model sonnet", "aliases", Some("sonnet-1, sonnet-latest"), Some("sonnet-1")),
        change("model sonnet", "rates.input", Some("3"), Some("3.1")),
        change("model sonnet", "tier.above_200000.rates.input", Some("0.006"), Some("0.0062")),
        change("sell", "markup_ppm", Some("0"), Some("50000")),
    ];
    assert_eq!(book().diff(&newer), expected);
}

#[test]
fn what_came_and_what_went_is_told_with_its_prices() {
    let newer = edited(|value| {
        value["model"].as_array_mut().unwrap().remove(1);
        value["unit"][0]["name"] = json!("stride");
        value["model"][0]["checked"].take();
        value["model"][0].as_object_mut().unwrap().remove("checked");
    });
    let rates = "input 0.3, output 2.5, output.reasoning 3.5, per 1000000, request 0.005";
    let expected = [
        change("model flash", "", Some(rates), None),
        change("model sonnet", "checked", Some("2026-11-04"), None),
        change("unit step", "", Some("per 1, price 0.00001"), None),
        change("unit stride", "", None, Some("per 1, price 0.00001")),
    ];
    assert_eq!(book().diff(&newer), expected);
    assert_eq!(newer.diff(&book()).len(), expected.len());
}
