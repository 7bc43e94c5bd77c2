//! Which provider serves which model, and which sets of providers are refused at the start.

use bursar_workers::Providers;
use bursar_workers::providers::{Models, OpenAiConfig, ProvidersError};

fn config(name: &str, models: Models) -> OpenAiConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    OpenAiConfig { models, ..OpenAiConfig::new(name, "http://127.0.0.1:9/v1") }
}

fn listed(name: &str, models: &[&str]) -> OpenAiConfig {
    config(name, Models::Listed(models.iter().map(|model| (*model).to_owned()).collect()))
}

#[test]
fn listed_models_come_first_then_simulated_ones_then_everything_else() {
    let providers = Providers::builder()
        .openai(config("rest", Models::Any))
        .openai(listed("local", &["tiny", "simulated-odd"]))
        .simulated()
        .build()
        .unwrap();
    for (model, name) in
        [("tiny", "local"), ("simulated-odd", "local"), ("simulated-small", "simulated"), ("gpt-4.1", "rest")]
    {
        assert_eq!(providers.resolve(model).unwrap().name(), name, "{model}");
    }
}

#[test]
fn a_simulated_model_never_reaches_a_real_endpoint_by_accident() {
    let providers = Providers::builder().openai(config("rest", Models::Any)).build().unwrap();
    let error = providers.resolve("simulated-small").unwrap_err();
    assert!(error.message.contains("not enabled"), "{}", error.message);
}

#[test]
fn a_missing_model_names_the_ones_there_are() {
    let providers = Providers::builder().openai(listed("local", &["tiny"])).build().unwrap();
    let error = providers.resolve("huge").unwrap_err();
    assert_eq!(error.code, "no_provider_for_model");
    assert!(error.message.contains("tiny"), "{}", error.message);
}

#[test]
fn contradictory_sets_are_refused_by_name() {
    let build = |first: OpenAiConfig, second: OpenAiConfig| {
        Providers::builder().simulated().openai(first).openai(second).build().unwrap_err()
    };
    assert_eq!(build(listed("a", &["x"]), listed("a", &["y"])), ProvidersError::DuplicateName("a".into()));
    assert_eq!(
        build(listed("a", &["x"]), listed("simulated", &["y"])),
        ProvidersError::DuplicateName("simulated".into())
    );
    assert_eq!(
        build(listed("a", &["x"]), listed("b", &["x"])),
        ProvidersError::DuplicateModel { model: "x".into(), first: "a".into(), second: "b".into() }
    );
    assert_eq!(
        build(config("a", Models::Any), config("b", Models::Any)),
        ProvidersError::TwoCatchAlls("a".into(), "b".into())
    );
}

#[test]
fn no_endpoint_can_pass_for_the_simulated_model() {
    let error = Providers::builder().openai(listed("simulated", &["x"])).build().unwrap_err();
    assert_eq!(error, ProvidersError::DuplicateName("simulated".into()));
}

#[test]
fn a_base_url_that_cannot_work_is_refused() {
    for base_url in ["", "localhost:8080", "ftp://x/v1", "http://user:secret@x/v1", "http://x/v1?key=1"] {
        let config = OpenAiConfig { base_url: base_url.into(), ..config("a", Models::Any) };
        let error = Providers::builder().openai(config).build().unwrap_err();
        assert!(matches!(error, ProvidersError::BadBaseUrl { .. }), "{base_url}: {error}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[test]
fn a_key_is_masked_wherever_a_configuration_is_shown() {
    let good = OpenAiConfig { api_key: Some("sk-secret".into()), ..config("a", Models::Any) };
    assert!(!format!("{good:?}").contains("sk-secret"));
    let providers = Providers::builder().openai(good.clone()).build().unwrap();
    assert!(!format!("{providers:?}").contains("sk-secret"));
    let broken = OpenAiConfig { api_key: Some("sk-secret\n".into()), ..good };
    let error = Providers::builder().openai(broken).build().unwrap_err();
    assert_eq!(error, ProvidersError::BadApiKey("a".into()));
    assert!(!error.to_string().contains("sk-secret"));
}
