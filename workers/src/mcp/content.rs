//! What a tool of a server gives, as text for a model. What is no text is named and left out.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use crate::tools::ToolError;

/// The result's text. Errors: the tool says that it failed.
pub(super) fn read(result: &CallToolResult) -> Result<String, ToolError> {
    let mut parts: Vec<String> = result.content.iter().map(text_of).collect();
    if let Some(structured) = &result.structured_content {
        // most servers give both forms of the same
        let is_told =
            |part: &String| serde_json::from_str::<serde_json::Value>(part).is_ok_and(|told| told == *structured);
        if !parts.iter().any(is_told) {
            parts.push(structured.to_string());
        }
    }
    let text = parts.join("\n");
    if result.is_error == Some(true) {
        let why = if text.is_empty() { "it does not say why" } else { &text };
        return Err(ToolError::Told(format!("mcp_tool_failed: {why}")));
    }
    Ok(text)
}

fn text_of(block: &ContentBlock) -> String {
    let left_out = |what: &str, kind: &str| {
        let kind: String = kind.chars().take(100).collect();
        format!("[{what} ({kind}) is left out: only text is supported]")
    };
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => left_out("an image", &image.mime_type),
        ContentBlock::Audio(audio) => left_out("a sound", &audio.mime_type),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            ResourceContents::BlobResourceContents { mime_type, .. } => {
                left_out("a file", mime_type.as_deref().unwrap_or("of unknown type"))
            }
            _ => left_out("a resource", "of unknown type"),
        },
        ContentBlock::ResourceLink(link) => format!("[resource {}: {}]", link.name, link.uri),
        _ => left_out("a part", "of unknown type"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn result(value: serde_json::Value) -> CallToolResult {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn text_is_told_and_what_is_none_is_named() {
        let mixed = result(json!({"content": [
            {"type": "text", "text": "one"},
            {"type": "image", "data": "aGk=", "mimeType": "image/png"},
            {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "two"}},
            {"type": "resource", "resource": {"uri": "file:///b", "blob": "aGk=", "mimeType": "a/b"}},
            {"type": "resource_link", "uri": "file:///c", "name": "c"},
        ]}));
        let lines = [
            "one",
            "[an image (image/png) is left out: only text is supported]",
            "[a sound (audio/wav) is left out: only text is supported]",
            "two",
            "[a file (a/b) is left out: only text is supported]",
            "[resource c: file:///c]",
        ];
        assert_eq!(read(&mixed).unwrap(), lines.join("\n"));
    }

    #[test]
    fn what_is_structured_is_told_once() {
        let both = result(json!({"content": [{"type": "text", "text": "{\"a\": 1}"}], "structuredContent": {"a": 1}}));
        assert_eq!(read(&both).unwrap(), "{\"a\": 1}");
        let other = result(json!({"content": [{"type": "text", "text": "done"}], "structuredContent": {"a": 1}}));
        assert_eq!(read(&other).unwrap(), "done\n{\"a\":1}");
        let alone = result(json!({"structuredContent": [1, 2]}));
        assert_eq!(read(&alone).unwrap(), "[1,2]");
    }

    #[test]
    fn a_tool_that_failed_says_so_to_the_model() {
        let failed = result(json!({"content": [{"type": "text", "text": "no such file"}], "isError": true}));
        assert_eq!(read(&failed).unwrap_err(), ToolError::Told("mcp_tool_failed: no such file".into()));
    }
}
