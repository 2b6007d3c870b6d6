//! Conditions and transformations in the language of jq. No program runs without an end ([`fuel`]).

use jaq_core::load::parse::Def;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, data, unwrap_valr};
use jaq_json::Val;
use serde_json::Value;

mod fuel;
mod nesting;

/// The name of the program itself among the definitions.
const MAIN: &str = "iotctl_program";

const NO_OUTPUT: &str = "no output";

/// A program, compiled.
pub(crate) struct Program {
    filter: Filter<data::JustLut<Val>>,
    text: String,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "jq {:?}", self.text)
    }
}

impl Program {
    /// # Errors
    /// Where the program is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if nesting::is_program_too_deep(text) {
            return Err(format!(
                "not a jq program: {text:?} (brackets within brackets: give parts of it names with def)"
            ));
        }
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let defs: Vec<Def<&str>> = fuel::definitions().chain(defs).map(fuel::limited).collect();
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()).map(fuel::hide);
        let funs = funs.chain(fuel::steps());
        let arena = Arena::default();
        let Some(mut body) = load::parse(text, |parser| parser.term()) else {
            let errors = Loader::new([]).load(&arena, File { code: text, path: () }).err();
            return Err(format!("not a jq program: {text:?} ({})", wrong(&errors.unwrap_or_default())));
        };
        fuel::limit(&mut body);
        // The program is a definition, so that what it says is limited before it is compiled.
        let main = Def { name: MAIN, args: Vec::new(), body };
        let modules = Loader::new(defs.into_iter().chain([main]))
            .load(&arena, File { code: MAIN, path: () })
            .map_err(|errors| format!("not a jq program: {text:?} ({})", wrong(&errors)))?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let names: Vec<_> =
                errors.iter().flat_map(|(_, errors)| errors).map(|(name, _)| (*name).to_string()).collect();
            format!("jq program {text:?}: not defined: {}", names.join(", "))
        })?;
        Ok(Self { filter, text: text.to_owned() })
    }

    /// The first output.
    ///
    /// # Errors
    /// What the program says is wrong with the input; also if it has no output, or takes too many steps.
    pub(crate) fn run(&self, input: Value) -> Result<Value, String> {
        self.start(input)?.next().unwrap_or_else(|| Err(NO_OUTPUT.to_owned()))
    }

    /// All outputs, of which there is at least one.
    ///
    /// # Errors
    /// As [`Self::run`], for any of the outputs. Each output after the first takes a step.
    pub(super) fn outputs(&self, input: Value) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for output in self.start(input)? {
            if !found.is_empty() && !fuel::take_output() {
                return Err(format!("stopped after {} outputs: too many steps", found.len()));
            }
            found.push(output?);
        }
        match found.is_empty() {
            true => Err(NO_OUTPUT.to_owned()),
            false => Ok(found),
        }
    }

    /// The outputs, which are computed one by one.
    fn start(&self, input: Value) -> Result<impl Iterator<Item = Result<Value, String>>, String> {
        let input: Val = serde_json::from_value(input).map_err(|error| error.to_string())?;
        fuel::refill();
        let context = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        Ok(self.filter.id.run((context, input)).map(unwrap_valr).map(|output| match output {
            Ok(output) => serde_json::from_str(&output.to_string()).map_err(|error| error.to_string()),
            Err(error) => Err(raised(error)),
        }))
    }

    /// Whether the first output is neither false nor null; without an output it is false.
    ///
    /// # Errors
    /// What the program says is wrong with the input.
    pub(super) fn holds(&self, input: Value) -> Result<bool, String> {
        match self.run(input) {
            Ok(output) => Ok(!matches!(output, Value::Null | Value::Bool(false))),
            Err(error) if error == NO_OUTPUT => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What a program says is wrong.
fn raised(error: jaq_core::Error<Val>) -> String {
    match error.into_val() {
        Val::TStr(text) | Val::BStr(text) if !text.is_empty() => String::from_utf8_lossy(&text).into_owned(),
        other => format!("the program calls error with {other} (give it a text that says what is wrong)"),
    }
}

/// What is wrong with a program, and before which part of it.
fn wrong(errors: &load::Errors<&str, ()>) -> String {
    let expected = |what: &str, rest: &str| {
        let rest: String = rest.trim().chars().take(40).collect();
        match rest.is_empty() {
            true => format!("{what} is missing at the end"),
            false => format!("{what} is missing before {rest:?}"),
        }
    };
    match errors.first().map(|(_, error)| error) {
        Some(load::Error::Lex(errors)) => errors.first().map(|(expect, rest)| match expect {
            // The rest begins with the bracket that is open.
            load::lex::Expect::Delim(open) => format!("{open} is not closed"),
            load::lex::Expect::Token => format!("{:?} is not jq", rest.chars().take(40).collect::<String>()),
            other => expected(&format!("a {}", other.as_str()), rest),
        }),
        Some(load::Error::Parse(errors)) => errors.first().map(|(expect, rest)| match expect {
            load::parse::Expect::Nothing => format!("it should end before {rest:?}"),
            other => expected(&format!("a {}", other.as_str()), rest),
        }),
        Some(load::Error::Io(_)) => Some("no file can be imported".to_owned()),
        None => None,
    }
    .unwrap_or_else(|| "it cannot be parsed".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_without_an_end_is_stopped() {
        for endless in [
            "[repeat(1)]",
            "[range(infinite)]",
            "[range(0; 1; 0)]",
            "def f: f; f",
            "def f: [f]; f",
            "def f: 1 + f; f",
            "def f(x): def g: f(x); g; f(.)",
            "until(false; .)",
            "[while(true; .)]",
            "[recurse(.)] | length",
            "reduce range(infinite) as $i (0; . + $i)",
            "first(repeat(empty))",
            "{a: (def f: f; f)}",
            "\"\\(def f: f; f)\"",
            ". as {(def f: f; f): $x} | $x",
            ".[(def f: f; f)]",
            "try (def f: f; f) catch error",
            "last(range(1e9))",
            "def f($x): f($x + 1); f(0)",
        ] {
            let program = Program::parse(endless).unwrap();
            let error = program.run(json!({"value": 1})).unwrap_err();
            assert!(error.contains("steps"), "{endless}: {error}");
            // The next run has all its steps again.
            assert!(program.run(json!({})).is_err());
        }
        let long = Program::parse("[range(1000)] | map(. * 2) | add").unwrap();
        for _ in 0..200 {
            assert_eq!(long.run(json!({})), Ok(json!(999_000)));
        }
        let deep =
            Program::parse(".value |= walk(if type == \"number\" then . + 1 else . end) | .value").unwrap();
        assert_eq!(deep.run(json!({"value": [1, {"a": 2}]})), Ok(json!([2, {"a": 3}])));
        let gets_through = Program::parse("first(range(1; infinite) | select(. * . > 200))").unwrap();
        assert_eq!(gets_through.run(json!({})), Ok(json!(15)));
    }

    #[test]
    fn a_program_has_as_many_outputs_as_it_makes_and_not_more_than_its_steps() {
        let outputs = |text: &str, input: Value| Program::parse(text).unwrap().outputs(input);
        assert_eq!(outputs(".value[]", json!({"value": [1, {"a": 2}]})), Ok(vec![json!(1), json!({"a": 2})]));
        assert_eq!(outputs(".value[]", json!({"value": []})), Err("no output".to_owned()));
        assert!(outputs(".value[] | error", json!({"value": [1]})).is_err());
        assert!(outputs("1, error", json!({})).is_err(), "an output after the first counts");
        let many = "[range(400)] as $a | $a[] | $a[]";
        let error = outputs(many, json!({})).unwrap_err();
        assert!(error.contains("outputs: too many steps"), "{error}");
    }

    #[test]
    fn a_wrong_program_and_its_own_errors_are_described_in_words() {
        for (text, word) in [
            (".value.i =", "a term is missing at the end"),
            (".a | )", "\")\" is not jq"),
            ("[.a", "[ is not closed"),
            ("if . then", "is missing at the end"),
            (".a .b §", "is not jq"),
        ] {
            let error = Program::parse(text).unwrap_err();
            assert!(error.contains(word) && !error.contains("File {"), "{text}: {error}");
        }
        let error = |text: &str| Program::parse(text).unwrap().run(json!({"value": 1})).unwrap_err();
        assert_eq!(error("error(\"no id\")"), "no id");
        assert!(error("error(1)").contains("calls error with 1 "), "{}", error("error(1)"));
        assert!(error(".value.a").starts_with("cannot index"), "{}", error(".value.a"));
    }

    #[test]
    fn a_value_does_not_nest_without_an_end() {
        for deep in [
            "reduce range(90000) as $i (0; [.])",
            "reduce range(90000) as $i (0; {a: .})",
            "reduce range(90000) as $i (0; [$i, [range(3)], .])",
            "reduce range(90000) as $i (0; [[[[[[[[.]]]]]]]])",
            "reduce range(90000) as $i ([0]; .[0] = .)",
            "reduce range(90000) as $i ([range(2000)]; [.])",
            "reduce range(90000) as $i ({}; {a: .}) | tojson | length",
            "last(foreach range(90000) as $i (0; [.]))",
            "last(recurse([.]))",
            "def f($x): f([$x]); f(0)",
            "def f: [.] | f; f",
            "until(false; [.])",
            "(\"[\" * 50000) + (\"]\" * 50000) | fromjson",
            "(\"{\\\"a\\\":\" * 50000) | fromjson",
            ".value |= (reduce range(90000) as $i (0; [.]))",
        ] {
            let program = Program::parse(deep).unwrap();
            for _ in 0..3 {
                let error = program.run(json!({"value": 1})).unwrap_err();
                assert!(error.contains("stopped"), "{deep}: {error}");
            }
        }
        for (good, output) in [
            ("reduce range(100) as $i (0; [.]) | flatten", json!([0])),
            ("[range(50000)] | map([.]) | length", json!(50_000)),
            ("reduce range(20000) as $i ([]; . + [$i]) | length", json!(20_000)),
            ("\"[[1]]\" | fromjson", json!([[1]])),
            ("\"\\\"\\([range(2000) | \"[\"] | add)\\\"\" | fromjson | length", json!(2000)),
            ("[paths]", json!([["value"]])),
            (".value |= getpath([])", json!({"value": 1})),
            ("setpath([\"value\"]; 2)", json!({"value": 2})),
            ("delpaths([[\"value\"]])", json!({})),
        ] {
            assert_eq!(Program::parse(good).unwrap().run(json!({"value": 1})), Ok(output), "{good}");
        }
        assert!(Program::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn programs_select_and_transform() {
        let holds = |program: &str| Program::parse(program).unwrap().holds(json!({"value": {"f_port": 2}}));
        assert_eq!(holds(".value.f_port == 2"), Ok(true));
        assert_eq!(holds(".value.join"), Ok(false));
        assert_eq!(holds("empty"), Ok(false));
        assert!(holds(".value.f_port.x").is_err());
        let program = Program::parse("[.value | to_entries[] | {name: .key, v: .value}]").unwrap();
        assert_eq!(
            program.run(json!({"value": {"a": 1.5, "b": "x"}})),
            Ok(json!([{"name": "a", "v": 1.5}, {"name": "b", "v": "x"}]))
        );
        for wrong in [".a |", "nothing_of_this_name", "["] {
            assert!(Program::parse(wrong).is_err(), "{wrong}");
        }
    }
}
