//! The JSON Schema of the format, for editors and for whoever writes definitions with a program.
//!
//! It tells the shape: keys, types, ranges, names. What nodes say about each other, templates, conditions, the bytes of
//! texts and the exactness of amounts are `parse`'s alone, so a text may keep to this schema and still be refused;
//! what `parse` accepts always keeps to it. The limits are the parser's own.

mod layers;

use serde_json::{Map, Value, json};

use self::layers::{map, plan, repeat, review, workflow_ref};
use super::approval::{EXPIRE_WORDS, REJECT_WORDS};
use super::memory::KINDS;
use super::on_error::WORDS;
use super::retry_on::CLASSES;
use super::signal::SILENCE_WORDS;
use crate::limits::{
    MAX_AGENTS, MAX_ATTEMPTS, MAX_BACKOFF_FACTOR, MAX_CONCURRENCY, MAX_EXEC_ARGUMENTS, MAX_EXEC_CODES,
    MAX_EXEC_VARIABLES, MAX_HTTP_BODY_BYTES, MAX_HTTP_EXPECTED, MAX_HTTP_FIELDS, MAX_MEMORY_TOKENS,
    MAX_MODEL_NAME_BYTES, MAX_MODELS, MAX_NAME_BYTES, MAX_NEEDS_PER_NODE, MAX_NODES, MAX_OUTPUT_TOKENS, MAX_OUTPUTS,
    MAX_POOL_NAME_BYTES, MAX_PRIORITY, MAX_REPAIRS, MAX_SCHEMAS, MAX_TOOL_CALLS, MAX_TOOLS, MAX_TURNS,
    MAX_UNIT_QUANTITY, MAX_UNITS_PER_NODE,
};

/// The JSON Schema (draft 2020-12) of a workflow definition.
pub fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bursar workflow",
        "description": "A workflow: agents and the nodes they work on. YAML or JSON.",
        "type": "object",
        "required": ["workflow", "nodes"],
        "additionalProperties": false,
        "properties": {
            "workflow": described(dashed(MAX_NAME_BYTES), "Its name."),
            "description": described(text(), "What it is for."),
            "inputs": described(json!({"type": "object"}), "The JSON Schema of a mission's input."),
            "budget": described(of("budget"), "The most a mission may spend."),
            "flat_fee": described(of("credits"), "Charged once, when a mission succeeds."),
            "deadline": described(of("duration"), "How long a mission may take."),
            "defaults": {
                "description": "What holds for all nodes that do not say otherwise.",
                "type": "object",
                "additionalProperties": false,
                "properties": with_call(json!({
                    "timeout": described(of("duration"), "How long one attempt may take."),
                    "deadline": described(of("duration"), "How long a node may take altogether, once its needs are done."),
                    "retry": of("retry"),
                    "on_error": on_error(),
                })),
            },
            "agents": described(named(&identifier(), MAX_AGENTS, &of("agent")), "Who does the work, by name."),
            "schemas": described(
                named(&format!("^[A-Za-z][A-Za-z0-9_]{{0,{}}}$", MAX_NAME_BYTES.saturating_sub(1)), MAX_SCHEMAS, &json!({"type": "object"})),
                "JSON Schemas of outputs, by name."
            ),
            "nodes": described(
                with(named(&identifier(), MAX_NODES, &of("node")), json!({"minProperties": 1})),
                "The work, by name."
            ),
            "outputs": described(
                named(&identifier(), MAX_OUTPUTS, &json!({"type": "string", "pattern": "^nodes\\."})),
                "What a mission hands on, by name: paths such as nodes.summary.output."
            ),
        },
        "$defs": definitions(),
    })
}

fn definitions() -> Value {
    json!({
        "duration": {
            "description": "A whole number with its unit: 500ms, 30s, 10m, 2h or 1d.",
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
        },
        "credits": {
            "description": "An amount of credits: a whole number, or a decimal in quotes.",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9.]+$",
        },
        "budget": {
            "type": "object",
            "required": ["credits"],
            "additionalProperties": false,
            "properties": {
                "credits": described(of("credits"), "The most; more than zero."),
                "on_exhausted": {
                    "description": "What happens when it is spent; by default the work pauses.",
                    "enum": ["pause", "fail"],
                },
            },
        },
        "retry": retry(),
        "output": {
            "description": "What an agent answers: JSON that keeps to a schema.",
            "type": "object",
            "required": ["schema"],
            "additionalProperties": false,
            "properties": {
                "schema": described(
                    json!({"type": ["string", "object"]}),
                    "The name of one of the `schemas`, or a JSON Schema in place."
                ),
                "repair": described(whole(0, MAX_REPAIRS), "How often an answer may be sent back to be mended."),
            },
        },
        "agent": {
            "type": "object",
            "required": ["instructions"],
            "additionalProperties": false,
            "properties": with_call(json!({
                "instructions": described(text(), "Who it is."),
                "output": of("output"),
                "tools": tools(),
            })),
        },
        "approval": approval(),
        "signal": signal(),
        "node": node(),
        "map": map(),
        "repeat": repeat(),
        "review": review(),
    })
}

/// A node that does something, and does not just wait.
fn works() -> Value {
    let waits = ["sleep", "until", "approval", "signal"].map(|kind| json!({"required": [kind]}));
    json!({"not": {"anyOf": waits}})
}

fn on_error() -> Value {
    json!({
        "description": "What becomes of the run when a node fails for good; by default it fails as well.",
        "enum": WORDS,
    })
}

fn on_error_of_node() -> Value {
    let fallback = "The node that stands in for this one when it fails; the fallback of no other.";
    json!({
        "description": "What becomes of the run when the node fails for good; by default it fails as well.",
        "anyOf": [
            {"enum": WORDS},
            {
                "type": "object",
                "required": ["fallback"],
                "additionalProperties": false,
                "properties": {"fallback": described(json!({"type": "string", "pattern": identifier()}), fallback)},
            },
        ],
    })
}

fn signal() -> Value {
    json!({
        "description": "Waits for a signal from outside.",
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": {
                "description": "The signal's name.",
                "type": "string",
                "pattern": format!("^[a-z][a-z0-9_-]{{0,{}}}$", MAX_NAME_BYTES.saturating_sub(1)),
            },
            "expires": described(of("duration"), "How long it is waited for; 24h by default."),
            "on_expire": {
                "description": "What happens when it does not come; by default the node fails.",
                "enum": SILENCE_WORDS.map(|(word, _)| word),
            },
        },
    })
}

fn approval() -> Value {
    json!({
        "description": "Waits until a person decides.",
        "type": "object",
        "required": ["show"],
        "additionalProperties": false,
        "properties": {
            "show": described(text(), "A template: what whoever decides is shown."),
            "expires": described(of("duration"), "How long they have; 72h by default."),
            "on_expire": {
                "description": "What happens when nobody decided in time; by default it counts as a rejection.",
                "enum": EXPIRE_WORDS.map(|(word, _)| word),
            },
            "on_reject": {
                "description": "What a rejection does; by default the node fails.",
                "enum": REJECT_WORDS.map(|(word, _)| word),
            },
        },
    })
}

fn retry() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "max_attempts": described(whole(1, MAX_ATTEMPTS), "All attempts, the first one included."),
            "on": {
                "description": "The classes of errors that are worth another attempt; by default all of these.",
                "type": "array",
                "items": {"enum": CLASSES},
            },
            "backoff": {
                "description": "The pauses between attempts.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "initial": of("duration"),
                    "factor": whole(1, MAX_BACKOFF_FACTOR),
                    "max": of("duration"),
                    "jitter": {"type": "boolean"},
                },
            },
        },
    })
}

fn tools() -> Value {
    json!({
        "description": "The tools that the agent may call, by the names that the workers know them by; \
                        `mcp__SERVER__TOOL` for one of an MCP server.",
        "type": "array",
        "maxItems": MAX_TOOLS,
        "uniqueItems": true,
        "items": {
            "type": "string",
            "pattern": format!("^[A-Za-z][A-Za-z0-9_-]{{0,{}}}$", MAX_NAME_BYTES.saturating_sub(1)),
            "anyOf": [{"not": {"pattern": "^mcp__"}}, {"pattern": "^mcp__[a-z][a-z0-9-]{0,31}__."}],
        },
    })
}

fn http() -> Value {
    let texts = |pattern: &str, value: Value| {
        json!({
            "type": "object",
            "maxProperties": MAX_HTTP_FIELDS,
            "propertyNames": {"pattern": pattern},
            "additionalProperties": value,
        })
    };
    let secret = json!({
        "type": "object",
        "required": ["secret"],
        "additionalProperties": false,
        "properties": {"secret": described(
            json!({"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$"}),
            "The name of a secret of the operator."
        )},
    });
    json!({
        "type": "object",
        "required": ["url"],
        "additionalProperties": false,
        "properties": {
            "method": {"description": "GET where it is left out.", "enum": super::http::methods()},
            "url": described(text(), "A template: what to call."),
            "query": described(
                texts("^[!-~]{1,64}$", json!({"type": ["string", "number", "boolean"]})),
                "Values that are added to the URL, templates."
            ),
            "headers": described(
                texts("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", json!({"anyOf": [text(), secret]})),
                "What is sent along: templates, or secrets of the operator by their names."
            ),
            "body": {"description": "What is sent: a text that is a template, or a JSON value whose texts are."},
            "expect": {
                "description": "The statuses that are a success; 2xx where it is left out.",
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_HTTP_EXPECTED,
                "items": {"anyOf": [{"enum": ["2xx", "3xx", "4xx", "5xx"]}, whole(200, 599)]},
            },
            "max_bytes": described(whole(1, MAX_HTTP_BODY_BYTES), "The most bytes that an answer may have."),
        },
    })
}

fn exec() -> Value {
    json!({
        "type": "object",
        "required": ["command"],
        "additionalProperties": false,
        "properties": {
            "command": {
                "description": "The program and its arguments, templates; no shell reads them.",
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_EXEC_ARGUMENTS,
                "items": text(),
            },
            "stdin": described(text(), "A template: what the program reads."),
            "env": described(
                named("^[A-Za-z_][A-Za-z0-9_]{0,63}$", MAX_EXEC_VARIABLES, &text()),
                "Environment variables, templates; the program sees no others."
            ),
            "timeout": described(of("duration"), "How long it may run."),
            "ok_codes": {
                "description": "The exit codes that are a success; 0 where it is left out.",
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_EXEC_CODES,
                "items": whole(0, 255),
            },
        },
    })
}

fn cache() -> Value {
    json!({
        "description": "For how long its output may stand in for doing the same again.",
        "type": "object",
        "required": ["ttl"],
        "additionalProperties": false,
        "properties": {
            "ttl": described(of("duration"), "For how long."),
            "key": described(text(), "A template: what makes two tasks the same; by default all that its templates become."),
        },
    })
}

fn concurrency() -> Value {
    json!({
        "description": "How many tasks may run at once that share something.",
        "type": "object",
        "required": ["key", "max"],
        "additionalProperties": false,
        "properties": {
            "key": described(text(), "What they share, a template."),
            "max": described(whole(1, MAX_CONCURRENCY), "How many of them may run at once."),
        },
    })
}

/// A node: one kind, and what any node may say. Keys of agents stand beside an `agent` only.
fn node() -> Value {
    let call = with_call(json!({
        "prompt": described(text(), "A template: what to ask."),
        "output": of("output"),
        "tools": tools(),
    }));
    let asks = json!({"anyOf": [{"required": ["agent"]}, {"required": ["plan"]}]});
    let mut beside: Map<String, Value> =
        call.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), asks.clone())).collect();
    beside.insert("output".to_owned(), json!({"required": ["agent"]}));
    beside.extend(["map", "repeat", "review"].map(|key| (key.to_owned(), works())));
    // what goes with neither a plan nor another workflow, and what that one says itself
    let alone = |kinds: &[&str]| {
        let kinds: Vec<Value> = kinds.iter().map(|kind| json!({"required": [kind]})).collect();
        json!({"not": {"anyOf": kinds}})
    };
    beside.extend(["cache", "concurrency"].map(|key| (key.to_owned(), alone(&["plan", "workflow"]))));
    beside.extend(["retry", "timeout", "pool", "units"].map(|key| (key.to_owned(), alone(&["workflow"]))));
    let common = json!({
        "agent": described(text(), "The name of an agent."),
        "transform": {"description": "The output: any value, its texts are templates."},
        "http": described(http(), "Calls a service."),
        "exec": described(exec(), "Runs a program, where the operator allows it."),
        "sleep": described(of("duration"), "Waits so long."),
        "until": described(text(), "Waits until then: a time such as 2026-08-01T09:30:00Z, or a template that becomes one."),
        "approval": of("approval"),
        "signal": of("signal"),
        "workflow": workflow_ref(),
        "plan": plan(),
        "needs": {
            "description": "The nodes that must be done before.",
            "type": "array",
            "maxItems": MAX_NEEDS_PER_NODE,
            "uniqueItems": true,
            "items": {"type": "string"},
        },
        "when": described(text(), "A condition; the node is skipped where it does not hold."),
        "cache": cache(),
        "concurrency": concurrency(),
        "pool": described(dashed(MAX_POOL_NAME_BYTES), "The pool whose workers do it."),
        "priority": described(whole(-MAX_PRIORITY, MAX_PRIORITY), "Higher goes first, within its tenant and pool."),
        "retry": of("retry"),
        "timeout": described(of("duration"), "How long one attempt may take."),
        "deadline": described(of("duration"), "How long all of it may take, whatever it waits for, once its needs are done."),
        "on_error": on_error_of_node(),
        "units": described(
            named(
                &format!("^[a-z0-9][a-z0-9_.-]{{0,{}}}$", MAX_NAME_BYTES.saturating_sub(1)),
                MAX_UNITS_PER_NODE,
                &json!({"type": "integer", "minimum": 1, "maximum": MAX_UNIT_QUANTITY})
            ),
            "Priced quantities that it uses, by unit."
        ),
        "budget": described(of("budget"), "The most the node may spend."),
        "map": of("map"),
        "repeat": of("repeat"),
        "review": of("review"),
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [
            {"required": ["agent", "prompt"]}, {"required": ["transform"]}, {"required": ["http"]},
            {"required": ["exec"]}, {"required": ["sleep"]}, {"required": ["until"]}, {"required": ["approval"]},
            {"required": ["signal"]}, {"required": ["workflow"]}, {"required": ["plan", "prompt"]},
        ],
        "dependentSchemas": beside,
        "properties": with(common, call),
    })
}

/// The given properties and those of a call to a model.
fn with_call(properties: Value) -> Value {
    let call = json!({
        "model": {
            "description": "Which model is asked.",
            "type": "string",
            "maxLength": MAX_MODEL_NAME_BYTES,
            "pattern": "^[!-~]+$",
        },
        "models": {
            "description": "Instead of `model`: models that are asked in turn until one answers.",
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_MODELS,
            "uniqueItems": true,
            "items": {"type": "string", "maxLength": MAX_MODEL_NAME_BYTES, "pattern": "^[!-~]+$"},
        },
        "max_output_tokens": described(whole(1, MAX_OUTPUT_TOKENS), "The most that one call may produce."),
        "temperature": {
            "description": "From 0 to 2, with at most six decimals.",
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": 2,
        },
        "max_turns": described(whole(1, MAX_TURNS), "How often the model may be asked within the step."),
        "max_tool_calls": described(whole(0, MAX_TOOL_CALLS), "How many tools it may call within the step."),
        "memory": memory(),
    });
    with(properties, call)
}

fn memory() -> Value {
    let kinds: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
    let window = json!({
        "type": "object",
        "required": ["kind"],
        "additionalProperties": false,
        "properties": {
            "kind": described(json!({"enum": kinds}), "Of what."),
            "tokens": described(whole(1, MAX_MEMORY_TOKENS), "The most that it may be; the oldest is left out first."),
        },
    });
    described(
        json!({"anyOf": [{"enum": kinds}, window]}),
        "What the agent remembers: what it was asked and answered before, or all that was said in the mission.",
    )
}

fn of(definition: &str) -> Value {
    json!({"$ref": format!("#/$defs/{definition}")})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn whole(least: i64, most: i64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

fn dashed(most: usize) -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9-]+$", "maxLength": most})
}

fn identifier() -> String {
    format!("^[a-z][a-z0-9_]{{0,{}}}$", MAX_NAME_BYTES.saturating_sub(1))
}

/// A mapping whose keys are names.
fn named(pattern: &str, most: usize, each: &Value) -> Value {
    json!({
        "type": "object",
        "maxProperties": most,
        "propertyNames": {"pattern": pattern},
        "additionalProperties": each,
    })
}

fn described(schema: Value, says: &str) -> Value {
    with(schema, json!({"description": says}))
}

/// Both mappings in one.
fn with(mut schema: Value, more: Value) -> Value {
    if let (Value::Object(schema), Value::Object(more)) = (&mut schema, more) {
        schema.extend(more);
    }
    schema
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_key_of_the_schema_says_what_it_is() {
        let schema = json_schema();
        for at in ["/properties", "/$defs/node/properties", "/$defs/agent/properties"] {
            for (key, value) in schema.pointer(at).unwrap().as_object().unwrap() {
                assert!(value.get("description").is_some() || value.get("$ref").is_some(), "{at}/{key}");
            }
        }
    }
}
