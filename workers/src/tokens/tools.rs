//! What the definitions of tools cost in tokens: `OpenAI` renders them into the prompt in a form of its own.
//!
//! The constants are those that the [cookbook] documents for `gpt-4o` (`o200k_base`) and for the models before it; flat
//! schemas are counted exactly as there. What the cookbook leaves open is counted so that it is rather too much: nested
//! properties like those of the top, and anything else in a schema (`anyOf`, `$ref`, …) as the JSON text that it is.
//!
//! [cookbook]: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb

use serde_json::{Map, Value};

/// Nesting of schemas that is looked into; deeper ones count as their JSON text.
const MOST_DEPTH: usize = 16;

/// Tokens of a group of tools, once.
const GROUP_END: u64 = 12;
/// Tokens of a list of properties, once.
const PROPERTIES: u64 = 3;
/// Tokens of one property.
const PROPERTY: u64 = 3;
/// Tokens of one value of an enumeration, of which the first costs nothing.
const ENUM_ITEM: u64 = 3;

/// Keywords of a schema that the rendering knows.
const KNOWN_KEYWORDS: [&str; 8] =
    ["type", "description", "properties", "required", "enum", "items", "additionalProperties", "title"];

/// The texts that stand in the prompt for tool definitions, and the tokens between them.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// Counted one by one.
    pub(super) texts: Vec<String>,
    /// Punctuation and framing.
    pub(super) overhead: u64,
}

/// Renders tools as they are sent: `{"type": "function", "function": {"name", "description", "parameters"}}`, or the
/// function alone. `tokens_per_tool` is what framing one costs.
pub(super) fn render(tools: &[Value], tokens_per_tool: u64) -> Rendered {
    let mut rendered = Rendered::default();
    for tool in tools {
        let function = tool.get("function").unwrap_or(tool);
        rendered.overhead = rendered.overhead.saturating_add(tokens_per_tool);
        rendered.texts.push(format!("{}:{}", text(function, "name"), sentence(function)));
        if let Some(schema) = function.get("parameters") {
            rendered.properties(schema, 0);
            rendered.leftovers(schema);
        }
    }
    if !tools.is_empty() {
        rendered.overhead = rendered.overhead.saturating_add(GROUP_END);
    }
    rendered
}

impl Rendered {
    /// The properties of an object's schema.
    fn properties(&mut self, schema: &Value, depth: usize) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|all| !all.is_empty()) else {
            return;
        };
        self.overhead = self.overhead.saturating_add(PROPERTIES);
        for (name, property) in properties {
            self.overhead = self.overhead.saturating_add(PROPERTY);
            self.texts.push(format!("{name}:{}:{}", type_of(property), sentence(property)));
            self.inside(property, depth);
        }
    }

    /// What a property's schema has besides its name, type and description.
    fn inside(&mut self, schema: &Value, depth: usize) {
        if depth >= MOST_DEPTH {
            self.texts.push(schema.to_string());
            return;
        }
        let values = schema.get("enum").and_then(Value::as_array);
        for (at, value) in values.into_iter().flatten().enumerate() {
            self.overhead = self.overhead.saturating_add(if at == 0 { 0 } else { ENUM_ITEM });
            self.texts.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        let deeper = depth.saturating_add(1);
        self.properties(schema, deeper);
        if let Some(items) = schema.get("items") {
            self.overhead = self.overhead.saturating_add(PROPERTY);
            self.texts.push(format!("{}:{}", type_of(items), sentence(items)));
            self.inside(items, deeper);
        }
        self.leftovers(schema);
    }

    /// Keywords that are not rendered by any rule that is known.
    fn leftovers(&mut self, schema: &Value) {
        let keywords = schema.as_object().into_iter().flatten();
        let unknown = keywords.filter(|(keyword, _)| !KNOWN_KEYWORDS.contains(&keyword.as_str()));
        let unknown: Map<String, Value> = unknown.map(|(keyword, value)| (keyword.clone(), value.clone())).collect();
        if !unknown.is_empty() {
            self.texts.push(Value::Object(unknown).to_string());
        }
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The description without the full stop at its end, which is not rendered.
fn sentence(value: &Value) -> &str {
    let description = text(value, "description");
    description.strip_suffix('.').unwrap_or(description)
}

/// The type, several as their JSON text.
fn type_of(schema: &Value) -> String {
    match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(several) => several.to_string(),
        None => String::new(),
    }
}
