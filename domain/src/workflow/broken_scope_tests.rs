//! Broken plans and broken references to other workflows, each with where and what.

use super::Syntax;
use super::broken_tests::{around_node, check};

#[test]
fn plans_and_other_workflows() {
    let rows = r#"
workflow: [x] ¦ /nodes/a/workflow ¦ wrong_type ¦ expected the name of a workflow, or a mapping, found a list
workflow: Big ¦ /nodes/a/workflow ¦ invalid_name ¦ expected a workflow's name, or name@version; a name is 1 to 64 of the characters a-z, 0-9 and -
workflow: other@0 ¦ /nodes/a/workflow ¦ invalid_name ¦ expected a workflow's name, or name@version; a name is 1 to 64 of the characters a-z, 0-9 and -
workflow: { inputs: {} } ¦ /nodes/a/workflow/name ¦ missing ¦ `name` is missing: it is the workflow that runs, `name` or `name@3`
workflow: { name: other, inputs: [1] } ¦ /nodes/a/workflow/inputs ¦ wrong_type ¦ expected a mapping, found a list
workflow: { name: other, inputs: { x: "{{ input.y }}" } } ¦ /nodes/a/workflow/inputs/x ¦ unknown_variable ¦ the template uses `input`, which does not exist ¦ did you mean `inputs`?
workflow: { name: other, parent_close: keep } ¦ /nodes/a/workflow/parent_close ¦ unknown_choice ¦ `parent_close` must be one of: cancel, abandon
workflow: { name: other, version: 3 } ¦ /nodes/a/workflow/version ¦ unknown_key ¦ unknown key `version` ¦ known here: name, inputs, parent_close
workflow: other, retry: { max_attempts: 2 } ¦ /nodes/a/retry ¦ misplaced_key ¦ `retry` does not go with `workflow`
workflow: other, pool: fast ¦ /nodes/a/pool ¦ misplaced_key ¦ `pool` does not go with `workflow`
workflow: other, cache: { ttl: 1h } ¦ /nodes/a/cache ¦ misplaced_key ¦ `cache` does not go with `workflow`
workflow: other, prompt: x ¦ /nodes/a/prompt ¦ misplaced_key ¦ `prompt` belongs to nodes with an `agent`
workflow: other, agent: writer, prompt: x ¦ /nodes/a ¦ several_kinds ¦ a node is of one kind, this has: agent, workflow
plan: x, prompt: x ¦ /nodes/a/plan ¦ wrong_type ¦ expected a mapping, found text
plan: { agents: [writer] }, prompt: x ¦ /nodes/a/plan/agent ¦ missing ¦ `agent` is missing: it is the agent that plans
plan: { agent: writer }, prompt: x ¦ /nodes/a/plan/agents ¦ missing ¦ `agents` is missing: they are the agents that the steps of a plan may name
plan: { agent: writer, agents: [] }, prompt: x ¦ /nodes/a/plan/agents ¦ too_few ¦ a plan's steps need at least one agent
plan: { agent: writer, agents: writer }, prompt: x ¦ /nodes/a/plan/agents ¦ wrong_type ¦ expected a list of agents, found text
plan: { agent: writer, agents: [writer, 1] }, prompt: x ¦ /nodes/a/plan/agents/1 ¦ wrong_type ¦ expected the name of an agent, found a number
plan: { agent: writer, agents: [riter] }, prompt: x ¦ /nodes/a/plan/agents/0 ¦ unknown_agent ¦ there is no agent `riter` ¦ did you mean `writer`?
plan: { agent: writer, agents: [writer, writer] }, prompt: x ¦ /nodes/a/plan/agents/1 ¦ duplicate_agent ¦ the agent `writer` is listed twice
plan: { agent: writer, agents: [writer], max_nodes: 51 }, prompt: x ¦ /nodes/a/plan/max_nodes ¦ out_of_range ¦ `max_nodes` must be a whole number from 1 to 50
plan: { agent: writer, agents: [writer], depth: 4 }, prompt: x ¦ /nodes/a/plan/depth ¦ out_of_range ¦ `depth` must be a whole number from 1 to 3
plan: { agent: writer, agents: [writer] } ¦ /nodes/a/prompt ¦ missing ¦ `prompt` is missing: it says what to ask the agent
plan: { agent: writer, agents: [writer] }, prompt: x, output: { schema: {} } ¦ /nodes/a/output ¦ misplaced_key ¦ `output` does not go with `plan`
plan: { agent: writer, agents: [writer] }, prompt: x, concurrency: { key: k, max: 1 } ¦ /nodes/a/concurrency ¦ misplaced_key ¦ `concurrency` does not go with `plan`
"#;
    check(rows, Syntax::Yaml, around_node);
}
