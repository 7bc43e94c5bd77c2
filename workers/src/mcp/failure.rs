//! What it means when a server does not answer as it should: whether the tool ran, and what becomes of the step.

use bursar_domain::outcome::{ErrorClass, StepError};
use rmcp::model::{ErrorCode, ErrorData};
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use crate::limits::{ERROR_MESSAGE_CHARS, MCP_MESSAGE_BYTES};
use crate::outbound;
use crate::tools::ToolError;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    kind: Kind,
    why: String,
    /// Whether the request surely never reached a tool.
    before: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody there, or not able to: may pass.
    Unavailable,
    /// Its address is not one that may be called.
    Hidden,
    /// It does not let us.
    Unauthorized,
    /// It does not speak as it should.
    Protocol,
    /// Its answer has too many bytes.
    TooLarge,
    /// It says what is wrong with the call.
    Refused,
}

impl Failure {
    fn new(kind: Kind, why: impl Into<String>, before: bool) -> Self {
        let why: String = why.into();
        Self { kind, why: why.chars().take(ERROR_MESSAGE_CHARS).collect(), before }
    }

    /// Nobody is there.
    pub(super) fn unreachable(why: &str) -> Self {
        Self::new(Kind::Unavailable, why, true)
    }

    /// The program was not started.
    pub(super) fn not_started(error: &std::io::Error) -> Self {
        Self::new(Kind::Unavailable, format!("the program can't be started: {error}"), true)
    }

    /// No session began.
    pub(super) fn of_beginning(error: &ClientInitializeError) -> Self {
        let failure = match error {
            ClientInitializeError::TransportError { error, .. } => Self::of_transport(error),
            ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::Cancelled => {
                Self::unreachable("it closed the connection before a session began")
            }
            ClientInitializeError::JsonRpcError(data) => Self::of_answer(data),
            ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
                Self::new(Kind::Protocol, "there is no protocol version that both sides speak", true)
            }
            _ => Self::new(Kind::Protocol, "it does not begin a session as the protocol says", true),
        };
        Self { before: true, ..failure }
    }

    /// A request has no answer.
    pub(super) fn of_request(error: &ServiceError) -> Self {
        match error {
            ServiceError::McpError(data) => Self::of_answer(data),
            ServiceError::TransportSend(error) => Self::of_transport(error),
            ServiceError::TransportClosed => Self::new(Kind::Unavailable, "the connection broke", false),
            ServiceError::Cancelled { .. } => Self::new(Kind::Unavailable, "it cancelled the request", false),
            ServiceError::Timeout { .. } => Self::new(Kind::Unavailable, "no answer in time", false),
            _ => Self::new(Kind::Protocol, "it asks for something instead of answering", false),
        }
    }

    fn of_answer(data: &ErrorData) -> Self {
        let is_ours = [ErrorCode::PARSE_ERROR, ErrorCode::INVALID_REQUEST, ErrorCode::METHOD_NOT_FOUND];
        if is_ours.contains(&data.code) {
            return Self::new(Kind::Protocol, format!("it answers with error {}", data.code.0), true);
        }
        Self::new(Kind::Refused, data.message.to_string(), false)
    }

    fn of_transport(error: &DynamicTransportError) -> Self {
        let Some(error) = error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>() else {
            return Self::new(Kind::Unavailable, "the connection broke", false);
        };
        match error {
            StreamableHttpError::Client(error) if outbound::is_hidden(error) => {
                Self::new(Kind::Hidden, "its name leads to an address that is not public", true)
            }
            StreamableHttpError::Client(error) => match error.status().map(|status| status.as_u16()) {
                Some(401 | 403) => Self::new(Kind::Unauthorized, "it does not accept our credentials", true),
                Some(status) => Self::new(Kind::Protocol, format!("it answers with HTTP {status}"), false),
                None => Self::new(Kind::Unavailable, outbound::cause(error), error.is_connect()),
            },
            StreamableHttpError::HttpStatus(error) => {
                let why = format!("it answers with HTTP {}", error.status);
                // too many requests: it did not take this one
                Self::new(Kind::Unavailable, why, error.status == 429)
            }
            StreamableHttpError::AuthRequired(_) | StreamableHttpError::InsufficientScope(_) => {
                Self::new(Kind::Unauthorized, "it does not accept our credentials", true)
            }
            StreamableHttpError::ResponseBodyTooLarge { .. } => {
                Self::new(Kind::TooLarge, format!("the answer has more than {MCP_MESSAGE_BYTES} bytes"), false)
            }
            StreamableHttpError::UnexpectedServerResponse(text) => {
                // of what it says only the status: the rest may repeat what it was asked
                let status = text.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)).unwrap_or("no JSON");
                let kind = if matches!(status, "401" | "403") { Kind::Unauthorized } else { Kind::Protocol };
                Self::new(
                    kind,
                    format!("it answers with {status}, which the protocol does not know"),
                    kind != Kind::Protocol,
                )
            }
            StreamableHttpError::UnexpectedContentType(_) | StreamableHttpError::Deserialize(_) => {
                Self::new(Kind::Protocol, "it answers with what is no message of the protocol", false)
            }
            StreamableHttpError::SessionExpired => Self::new(Kind::Unavailable, "its session expired", true),
            _ => Self::new(Kind::Unavailable, "the connection broke", false),
        }
    }

    /// What the step ends with, where it is one that the step ends with.
    pub(super) fn into_step_error(self, server: &str) -> StepError {
        let (class, code) = match self.kind {
            Kind::Unavailable => (ErrorClass::Retryable, "mcp_unavailable"),
            Kind::Hidden => (ErrorClass::Permanent, "mcp_address_refused"),
            Kind::Unauthorized => (ErrorClass::Permanent, "mcp_unauthorized"),
            Kind::Protocol | Kind::TooLarge | Kind::Refused => (ErrorClass::Permanent, "mcp_protocol_error"),
        };
        StepError::new(class, code, format!("MCP server `{server}`: {}", self.why))
    }

    /// What becomes of a call of a tool.
    pub(super) fn into_tool_error(self, server: &str) -> ToolError {
        match (self.kind, self.before) {
            (Kind::TooLarge | Kind::Refused, _) => ToolError::Told(format!("mcp_tool_failed: {}", self.why)),
            (_, true) => ToolError::NotRun(self.into_step_error(server)),
            (_, false) => ToolError::Unknown(self.into_step_error(server)),
        }
    }
}
