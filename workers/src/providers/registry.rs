//! Which provider serves which model.
//!
//! Models that a configuration lists come first, then `simulated-*`, then the one endpoint that takes
//! everything. Built once at the start and checked whole, so that a mistake stops the start and not a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_domain::outcome::{ErrorClass, StepError};

use super::Provider;
use super::openai::{Models, OpenAi, OpenAiConfig};
use super::simulated::{self, CallJournal, Simulated, SimulatedConfig};
use crate::exec::ExecService;
use crate::http::HttpService;
use crate::tools::Tools;

/// Why a set of providers cannot be used, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvidersError {
    /// Two providers have one name, or one has the built-in provider's, `simulated`.
    #[error("the provider name `{0}` is taken: give each its own (`simulated` is the built-in one's)")]
    DuplicateName(String),
    /// Two providers list one model.
    #[error("model `{model}` is served by both `{first}` and `{second}`: list it once")]
    DuplicateModel {
        /// The model.
        model: String,
        /// The provider that listed it first.
        first: String,
        /// The provider that listed it again.
        second: String,
    },
    /// Two providers take every model.
    #[error("both `{0}` and `{1}` take every model: list the models of one of them")]
    TwoCatchAlls(String, String),
    /// A base URL is no URL to send requests to.
    #[error("provider `{name}`: base URL refused: {reason}")]
    BadBaseUrl {
        /// The provider.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An API key has characters that no header can carry. The key itself is not shown.
    #[error("provider `{0}`: the API key has characters that an HTTP header cannot carry (a line break?)")]
    BadApiKey(String),
    /// The HTTP client cannot be built.
    #[error("provider `{name}`: the HTTP client cannot be built: {reason}")]
    HttpClient {
        /// The provider.
        name: String,
        /// What the client says.
        reason: String,
    },
}

/// All providers of a process, the tools that its agents may call, and what its http and exec steps may do. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    listed: BTreeMap<String, Arc<dyn Provider>>,
    simulated: Option<Arc<dyn Provider>>,
    catch_all: Option<Arc<dyn Provider>>,
    tools: Tools,
    http: Option<Arc<HttpService>>,
    exec: Option<Arc<ExecService>>,
}

impl Providers {
    /// Begins an empty set.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The tools.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// What http steps may call, if they may.
    pub(crate) fn http(&self) -> Option<&HttpService> {
        self.http.as_deref()
    }

    /// What runs programs, if they may run.
    pub(crate) fn exec(&self) -> Option<&ExecService> {
        self.exec.as_deref()
    }

    /// The provider that serves `model`, or `no_provider_for_model` (permanent) with what to configure.
    pub fn resolve(&self, model: &str) -> Result<Arc<dyn Provider>, StepError> {
        let simulated = || self.simulated.as_ref().filter(|_| simulated::serves(model));
        // A made-up name must never reach a real endpoint because the simulated provider is off.
        let catch_all = || self.catch_all.as_ref().filter(|_| !simulated::serves(model));
        self.listed.get(model).or_else(simulated).or_else(catch_all).cloned().ok_or_else(|| self.nobody_serves(model))
    }

    fn nobody_serves(&self, model: &str) -> StepError {
        let advice = if simulated::serves(model) {
            "the simulated provider is not enabled here".to_owned()
        } else if self.listed.is_empty() {
            "configure an OpenAI-compatible provider (base URL and key), or use a `simulated-…` model for development"
                .to_owned()
        } else {
            let known: Vec<&str> = self.listed.keys().take(20).map(String::as_str).collect();
            format!("add it to a provider's `models`, or use one of: {}", known.join(", "))
        };
        let model: String = model.chars().take(100).collect();
        StepError::new(
            ErrorClass::Permanent,
            "no_provider_for_model",
            format!("no provider serves model `{model}`: {advice}"),
        )
    }
}

/// Collects providers; [`Builder::build`] checks them.
#[derive(Debug, Default)]
pub struct Builder {
    simulated: Option<SimulatedConfig>,
    journal: Option<CallJournal>,
    openai: Vec<OpenAiConfig>,
    tools: Tools,
    http: Option<HttpService>,
    exec: Option<ExecService>,
}

impl Builder {
    /// Adds the simulated provider, which serves `simulated-*`, at a pace for watching.
    #[must_use]
    pub fn simulated(self) -> Self {
        self.simulated_with(SimulatedConfig::default())
    }

    /// Adds the simulated provider at a pace of your own.
    #[must_use]
    pub fn simulated_with(mut self, config: SimulatedConfig) -> Self {
        self.simulated = Some(config);
        self
    }

    /// Has the simulated provider note what it is asked.
    #[must_use]
    pub fn simulated_journal(mut self, journal: CallJournal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Sets the tools.
    #[must_use]
    pub fn tools(mut self, tools: Tools) -> Self {
        self.tools = tools;
        self
    }

    /// Lets http steps call services.
    #[must_use]
    pub fn http(mut self, http: HttpService) -> Self {
        self.http = Some(http);
        self
    }

    /// Lets exec steps run programs.
    #[must_use]
    pub fn exec(mut self, exec: ExecService) -> Self {
        self.exec = Some(exec);
        self
    }

    /// Adds an OpenAI-compatible endpoint.
    #[must_use]
    pub fn openai(mut self, config: OpenAiConfig) -> Self {
        self.openai.push(config);
        self
    }

    /// Checks the set and prepares the HTTP clients. The process must have installed a rustls crypto provider
    /// before (`rustls::crypto::ring::default_provider().install_default()`).
    pub fn build(self) -> Result<Providers, ProvidersError> {
        let mut providers = Providers {
            tools: self.tools,
            http: self.http.map(Arc::new),
            exec: self.exec.map(Arc::new),
            ..Providers::default()
        };
        // Taken even where the simulated provider is off: the name is what labels a call as simulated.
        let mut names = vec![simulated::NAME.to_owned()];
        if let Some(config) = self.simulated {
            providers.simulated = Some(Arc::new(Simulated::new(config, self.journal)));
        }
        for config in self.openai {
            if names.contains(&config.name) {
                return Err(ProvidersError::DuplicateName(config.name));
            }
            names.push(config.name.clone());
            let models = config.models.clone();
            providers.add(Arc::new(OpenAi::new(config)?), models)?;
        }
        Ok(providers)
    }
}

impl Providers {
    fn add(&mut self, provider: Arc<dyn Provider>, models: Models) -> Result<(), ProvidersError> {
        let models = match models {
            Models::Any => {
                if let Some(first) = self.catch_all.replace(Arc::clone(&provider)) {
                    return Err(ProvidersError::TwoCatchAlls(first.name().to_owned(), provider.name().to_owned()));
                }
                return Ok(());
            }
            Models::Listed(models) => models,
        };
        for model in models {
            if let Some(first) = self.listed.insert(model.clone(), Arc::clone(&provider)) {
                return Err(ProvidersError::DuplicateModel {
                    model,
                    first: first.name().to_owned(),
                    second: provider.name().to_owned(),
                });
            }
        }
        Ok(())
    }
}
