//! Forecast: what a mission would cost, before it is submitted. Reads facts, writes nothing.

use bursar_domain::flow::{self, Forecast, ForecastRequest, Submission};
use bursar_domain::pricing::PricingError;

use super::Engine;
use crate::store::StoreError;

/// Why there is no forecast.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// A model or unit has no price.
    #[error(transparent)]
    Pricing(#[from] PricingError),
    /// The workflow or the prices do not exist.
    #[error("the workflow or its prices do not exist")]
    Unknown,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// What the submission would cost, by what is known now.
    pub async fn forecast(&self, submission: &Submission) -> Result<Forecast, ForecastError> {
        let facts = &self.parts.facts;
        let definition = facts.workflow(&self.parts.store, submission.workflow_id).await?;
        let prices = facts.prices(&self.parts.store, submission.price_book_id).await?;
        let (definition, prices) = definition.zip(prices).ok_or(ForecastError::Unknown)?;
        let request = ForecastRequest {
            definition: &definition,
            prices: &prices,
            price_book_id: submission.price_book_id,
            tenant_id: submission.tenant_id,
            input: &submission.input,
        };
        Ok(flow::forecast(&facts.snapshot().learned, &request)?)
    }
}
