//! The names of tools of MCP servers: `mcp__SERVER__TOOL`, as models take them.
//!
//! Knows the form alone. Which servers there are, the operator says.

/// What such a name begins with.
const PREFIX: &str = "mcp__";

/// What stands between the server and its tool. No server's name contains it.
const BETWEEN: &str = "__";

/// Whether the name claims to be one of an MCP server's tool.
pub(super) fn claims_to_be_mcp(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The server and the tool of `mcp__SERVER__TOOL`; `None` for every other name.
pub fn mcp_tool(name: &str) -> Option<(&str, &str)> {
    let (server, tool) = name.strip_prefix(PREFIX)?.split_once(BETWEEN)?;
    (is_mcp_server(server) && !tool.is_empty()).then_some((server, tool))
}

/// Whether a server may have that name: 1 to 32 lower-case letters, digits and `-`, a letter first.
pub fn is_mcp_server(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 32 && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && name.bytes().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_server_and_tool() {
        assert_eq!(mcp_tool("mcp__files__read"), Some(("files", "read")));
        assert_eq!(mcp_tool("mcp__my-files__read__all"), Some(("my-files", "read__all")));
        for other in
            ["http_get", "mcp__files", "mcp__files__", "mcp____read", "mcp__Files__read", "mcp__1__x", "mcp_a__b"]
        {
            assert_eq!(mcp_tool(other), None, "{other}");
        }
    }
}
