//! Workflows that were sound until something happened to them: every shipped workflow and every example of the pages,
//! with one to four mutations each. Whatever comes out, reading it ends soon, in a definition or in problems that say
//! where and what. Case `n` is always the same one; a failure names it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::test_runner::Config;
use serde_json::{Value, json};

use super::problem::Problems;
use super::{Definition, Problem, Syntax, parse, parse_value, strict};
use crate::limits::{MAX_DEFINITION_BYTES, MAX_PROBLEMS};

/// Cases unless `PROPTEST_CASES` says more, e.g. 100000.
const CASES: u32 = 3_000;
/// How long one may take, unoptimised, on a machine that is busy with other tests.
const LONGEST: Duration = Duration::from_secs(5);
/// What the problems of one definition may weigh together.
const MOST_SAID_BYTES: usize = 256 * 1024;

/// Words that belong somewhere, but rarely where they are put.
const WORDS: [&str; 34] = [
    "",
    " ",
    "a",
    "nodes",
    "inputs",
    "needs",
    "1s",
    "-1s",
    "99999999999999999999d",
    "1e999",
    "{{",
    "}}",
    "{{ nodes.",
    "{{ inputs.x",
    "{{ nodes.a.output | upper }}",
    "{% for x in inputs %}",
    "{% for x in range(100000000) %}{{ x }}{% endfor %}",
    "nodes.a.output ==",
    "inputs.x and (",
    "not not not",
    "\u{0}",
    "\u{feff}",
    "\u{202e}abc",
    "é\u{301}\u{1f9d1}\u{200d}\u{1f680}",
    "/a~b/",
    "~",
    "null",
    "__proto__",
    "../../etc/passwd",
    "file:///etc/passwd",
    "(((((((((((a+)+)+)+)+)+)+)+)+)+)+)$",
    "#/$defs/a",
    "$ref",
    "simulated-small",
];

/// `SplitMix64`: the same numbers for the same case, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(most.max(1)).unwrap()).unwrap()
    }

    fn word(&mut self) -> String {
        WORDS[self.below(WORDS.len())].to_owned()
    }

    /// A value that is rarely what is expected.
    fn oddity(&mut self) -> Value {
        match self.below(16) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!([]),
            3 => json!({}),
            4 => json!(0),
            5 => json!(-1),
            6 => json!(i64::MAX),
            7 => json!(i64::MIN),
            8 => json!(u64::MAX),
            9 => json!(1e300),
            10 => json!(-0.5),
            11 => json!("x".repeat(70_000)),
            12 => json!(vec!["a"; 300]),
            13 => nested(self.below(80)),
            _ => json!(self.word()),
        }
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, level| if level % 2 == 0 { json!({"a": inner}) } else { json!([inner]) })
}

/// All texts to begin with.
fn sound() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shipped = std::fs::read_dir(root.join("workflows")).unwrap();
    let mut paths: Vec<_> = shipped.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut texts: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for page in ["workflow-format.md", "agent-step.md"] {
        let page = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
        let examples = page.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned()));
        texts.extend(examples);
    }
    texts
}

/// The pointers of everything inside.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, inner)| places(inner, &super::problem::below(at, key), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| places(inner, &super::problem::below(at, index), found));
        }
        _ => {}
    }
}

fn any_place(value: &Value, dice: &mut Dice) -> String {
    let mut found = Vec::new();
    places(value, "", &mut found);
    found.swap_remove(dice.below(found.len()))
}

fn mutate(root: &mut Value, dice: &mut Dice) {
    let kind = dice.below(9);
    let (from, to) = (any_place(root, dice), any_place(root, dice));
    let other = root.pointer(&to).cloned().unwrap_or_default();
    if kind == 0 {
        // two change places
        let own = root.pointer(&from).cloned().unwrap_or_default();
        root.pointer_mut(&from).into_iter().for_each(|place| *place = other.clone());
        root.pointer_mut(&to).into_iter().for_each(|place| *place = own.clone());
        return;
    }
    if kind == 1 {
        // needs in a circle, of oneself, or of nobody
        let Some(Value::Object(nodes)) = root.get_mut("nodes") else { return };
        let keys: Vec<String> = nodes.keys().cloned().collect();
        let needs: Vec<String> = (0..=dice.below(3))
            .map(|_| keys.get(dice.below(keys.len() + 1)).cloned())
            .map(Option::unwrap_or_default)
            .collect();
        let node = nodes.values_mut().nth(dice.below(keys.len()));
        node.and_then(Value::as_object_mut).and_then(|node| node.insert("needs".to_owned(), json!(needs)));
        return;
    }
    let Some(place) = root.pointer_mut(&from) else { return };
    match (kind, place) {
        (2, Value::Object(fields)) => {
            let key = fields.keys().nth(dice.below(fields.len())).cloned();
            key.and_then(|key| fields.remove(&key));
        }
        (2, Value::Array(items)) if !items.is_empty() => drop(items.swap_remove(dice.below(items.len()))),
        (3, Value::Object(fields)) => {
            // a key by another name, or there twice
            let Some(key) = fields.keys().nth(dice.below(fields.len())).cloned() else { return };
            let inner = if dice.below(2) == 0 { fields.remove(&key) } else { fields.get(&key).cloned() };
            let name = if dice.below(2) == 0 { dice.word() } else { format!("{key}{}", dice.below(3)) };
            fields.insert(name, inner.unwrap_or_default());
        }
        (4, Value::Object(fields)) => drop(fields.insert(dice.word(), dice.oddity())),
        (4, Value::Array(items)) => items.push(dice.oddity()),
        (5, Value::String(text)) => {
            // an expression cut in the middle, or with something in it
            let at = text.char_indices().map(|(at, _)| at).nth(dice.below(text.chars().count())).unwrap_or_default();
            if dice.below(2) == 0 { text.truncate(at) } else { text.insert_str(at, &dice.word()) }
        }
        (6, place) => *place = other,
        (7, place) => {
            let depth = dice.below(40);
            *place = (0..depth).fold(place.take(), |inner, _| json!([inner]));
        }
        (_, place) => *place = dice.oddity(),
    }
}

/// The text with some of its lines lost, doubled, swapped, moved in or cut.
fn mangle(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=dice.below(3) {
        let (at, other) = (dice.below(lines.len()), dice.below(lines.len()));
        match dice.below(6) {
            0 if lines.len() > 1 => drop(lines.remove(at)),
            1 => lines.insert(other, lines[at].clone()),
            2 => lines.swap(at, other),
            3 => lines[at].insert_str(0, "  "),
            4 => {
                let end = lines[at].char_indices().map(|(at, _)| at).nth(dice.below(lines[at].chars().count()));
                lines[at].truncate(end.unwrap_or_default());
            }
            _ => {
                let word = dice.word();
                lines[at].push_str(&word);
            }
        }
    }
    lines.join("\n")
}

/// Whether it is there, or what it would be in is.
fn is_a_place(root: &Value, pointer: &str) -> bool {
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    root.pointer(pointer).is_some() || matches!(root.pointer(parent), Some(Value::Object(_) | Value::Array(_)))
}

/// Judges what was said about a definition; whether it was accepted.
fn judge(case: u64, outcome: Result<Definition, Vec<Problem>>, root: Option<&Value>) -> bool {
    let problems = match outcome {
        Ok(definition) => {
            let again = parse_value(&definition.source);
            assert_eq!(again.as_ref(), Ok(&definition), "case {case}: its canonical source is the same definition");
            let printed = parse(&definition.source.to_string(), Syntax::Json);
            assert_eq!(printed.as_ref(), Ok(&definition), "case {case}: printed, it is the same definition");
            return true;
        }
        Err(problems) => problems,
    };
    assert!((1..=MAX_PROBLEMS).contains(&problems.len()), "case {case}: {} problems", problems.len());
    let mut said = 0;
    for problem in &problems {
        assert!(!problem.message.trim().is_empty() && !problem.code.is_empty(), "case {case}: {problem:?}");
        assert!(problem.pointer.is_empty() || problem.pointer.starts_with('/'), "case {case}: {problem:?}");
        let is_there = root.is_none_or(|root| is_a_place(root, &problem.pointer));
        assert!(is_there, "case {case}: points nowhere: {problem:?}");
        said += problem.pointer.len() + problem.message.len() + problem.hint.as_ref().map_or(0, String::len);
    }
    assert!(said <= MOST_SAID_BYTES, "case {case}: {said} bytes of problems");
    false
}

#[test]
fn mutated_workflows_are_read_in_bounded_time_or_refused_with_a_place_and_a_message() {
    let cases = Config::default().cases.max(CASES);
    let texts = sound();
    let roots: Vec<Value> =
        texts.iter().map(|text| strict::read(text, Syntax::Yaml, &mut Problems::default()).unwrap()).collect();
    assert!(texts.len() > 20, "{} texts", texts.len());
    let (began, mut accepted, mut longest) = (Instant::now(), 0_u32, (Duration::ZERO, 0));
    for case in 0..u64::from(cases) {
        let mut dice = Dice(case);
        let which = dice.below(texts.len());
        let one = Instant::now();
        let is_accepted = if dice.below(4) == 0 {
            judge(case, parse(&mangle(&texts[which], &mut dice), Syntax::Yaml), None)
        } else {
            let mut root = roots[which].clone();
            (0..=dice.below(4)).for_each(|_| mutate(&mut root, &mut dice));
            let text = root.to_string();
            assert!(text.len() < 4 * MAX_DEFINITION_BYTES, "case {case} is beyond what anybody may send");
            judge(case, parse_value(&root), Some(&root));
            judge(case, parse(&text, Syntax::Json), Some(&root))
        };
        accepted += u32::from(is_accepted);
        longest = longest.max((one.elapsed(), case));
        assert!(one.elapsed() < LONGEST, "case {case} took {:?}", one.elapsed());
    }
    println!("{cases} cases in {:?}, {accepted} accepted, the longest {longest:?}", began.elapsed());
    assert!(accepted > cases / 100 && accepted < cases / 2, "{accepted} of {cases} accepted");
}
