//! Reads `exec`: a node that runs a program on the worker's machine.
//!
//! Whether such nodes run at all, and within which limits, is the operator's decision and not the definition's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::name::VARIABLE;
use super::problem::below;
use super::reader::{Entry, Fields, wrong_type};
use super::step::read_template;
use crate::limits::{MAX_EXEC_ARGUMENTS, MAX_EXEC_CODES, MAX_EXEC_VARIABLES, MAX_PROMPT_BYTES, MAX_TIMEOUT_MS};

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecStep {
    /// The program and its arguments: templates, one for each argument. No shell reads them.
    pub command: Vec<String>,
    /// The template of what the program reads; `None` is nothing.
    pub stdin: Option<String>,
    /// Templates of environment variables, by name. The program sees these and no others.
    pub env: BTreeMap<String, String>,
    /// How long it may run, in milliseconds, where that is less than the attempt's timeout.
    pub timeout_ms: Option<i64>,
    /// The exit codes that are a success.
    pub ok_codes: BTreeSet<u8>,
}

/// What templates mention, with the pointers to the templates.
type Mentions<'v> = super::step::Seen<'v>;

/// Reads `exec` and notes what its templates mention.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, mentions: &mut Mentions<'v>) -> Option<ExecStep> {
    let mut section = fields.section("exec")?;
    if !section.has_any(&["command"]) {
        section.missing("command", "it is the program and its arguments, as a list");
    }
    let command = read_command(&mut section, mentions);
    let stdin = section.text("stdin", MAX_PROMPT_BYTES);
    if let Some(stdin) = stdin {
        let at = section.at("stdin");
        read_template(stdin, &at, mentions, section.problems);
    }
    let mut env = BTreeMap::new();
    for Entry { name, value, at } in section.entries("env", &VARIABLE, MAX_EXEC_VARIABLES) {
        if let Some(text) = template(value, &at, mentions, &mut section) {
            env.insert(name.to_owned(), text.to_owned());
        }
    }
    let timeout_ms = section.duration_ms("timeout", 1, MAX_TIMEOUT_MS);
    let ok_codes = read_codes(&mut section).unwrap_or_else(|| BTreeSet::from([0]));
    section.close(&[]);
    Some(ExecStep { command: command?, stdin: stdin.map(str::to_owned), env, timeout_ms, ok_codes })
}

fn read_command<'v>(section: &mut Fields<'v, '_>, mentions: &mut Mentions<'v>) -> Option<Vec<String>> {
    let value = section.value("command")?;
    let at = section.at("command");
    let Value::Array(items) = value else {
        section.problems.push(wrong_type(at, "a list: the program and its arguments", value));
        return None;
    };
    if items.is_empty() || items.len() > MAX_EXEC_ARGUMENTS {
        let message = format!("`command` has 1 to {MAX_EXEC_ARGUMENTS} parts, this has {}", items.len());
        section.problems.add(at, "out_of_range", message);
        return None;
    }
    let mut command = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let text = template(item, &below(&at, index), mentions, section);
        command.push(text.unwrap_or_default().to_owned());
    }
    Some(command)
}

fn read_codes(section: &mut Fields<'_, '_>) -> Option<BTreeSet<u8>> {
    let value = section.value("ok_codes")?;
    let at = section.at("ok_codes");
    let Value::Array(items) = value else {
        section.problems.push(wrong_type(at, "a list of exit codes", value));
        return None;
    };
    if items.is_empty() || items.len() > MAX_EXEC_CODES {
        let message = format!("`ok_codes` has 1 to {MAX_EXEC_CODES} codes, this has {}", items.len());
        section.problems.add(at, "out_of_range", message);
        return None;
    }
    let mut codes = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        match item.as_u64().and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                codes.insert(code);
            }
            None => section.problems.add(below(&at, index), "out_of_range", "an exit code is a number from 0 to 255"),
        }
    }
    Some(codes)
}

/// A text that may hold template code.
fn template<'v>(
    value: &'v Value,
    at: &str,
    mentions: &mut Mentions<'v>,
    section: &mut Fields<'_, '_>,
) -> Option<&'v str> {
    let Value::String(text) = value else {
        section.problems.push(wrong_type(at.to_owned(), "text", value));
        return None;
    };
    if text.len() > MAX_PROMPT_BYTES {
        section.problems.add(at, "too_long", format!("a template has at most {MAX_PROMPT_BYTES} bytes"));
        return None;
    }
    read_template(text, at, mentions, section.problems);
    Some(text)
}
