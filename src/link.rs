//! The way to a Redis server, shared by queue and streams. Connects on first use and again by itself.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};

/// How long any command but a blocking one may take.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Why Redis can't be used now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Redis is unavailable: {0}")]
pub struct LinkError(pub String);

impl From<redis::RedisError> for LinkError {
    fn from(error: redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

/// A way to a Redis server, shared by queue and streams.
#[derive(Clone)]
pub struct RedisLink {
    client: redis::Client,
    manager: Arc<tokio::sync::OnceCell<ConnectionManager>>,
}

impl std::fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisLink")
    }
}

impl RedisLink {
    /// Reads the URL; connects on first use.
    pub fn new(url: &str) -> Result<Self, LinkError> {
        let client = redis::Client::open(url).map_err(|error| LinkError(format!("REDIS_URL is not valid: {error}")))?;
        Ok(Self { client, manager: Arc::default() })
    }

    /// The shared connection; it reconnects by itself.
    pub async fn connection(&self) -> Result<ConnectionManager, LinkError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let connect = || ConnectionManager::new_with_config(self.client.clone(), config);
        Ok(self.manager.get_or_try_init(connect).await?.clone())
    }

    /// A connection of its own for commands that block up to `block`.
    pub async fn blocking_connection(&self, block: Duration) -> Result<MultiplexedConnection, LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(block + COMMAND_TIMEOUT));
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// A connection for subscriptions.
    pub async fn pubsub(&self) -> Result<redis::aio::PubSub, LinkError> {
        let connect = self.client.get_async_pubsub();
        tokio::time::timeout(COMMAND_TIMEOUT, connect)
            .await
            .map_err(|_| LinkError("no answer in time".to_owned()))?
            .map_err(LinkError::from)
    }
}
