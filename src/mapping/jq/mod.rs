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
            return Err(format!("not a jq program: {text:?} ({errors:?})"));
        };
        fuel::limit(&mut body);
        // The program is a definition, so that what it says is limited before it is compiled.
        let main = Def { name: MAIN, args: Vec::new(), body };
        let modules = Loader::new(defs.into_iter().chain([main]))
            .load(&arena, File { code: MAIN, path: () })
            .map_err(|errors| format!("not a jq program: {text:?} ({errors:?})"))?;
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
        let input: Val = serde_json::from_value(input).map_err(|error| error.to_string())?;
        fuel::refill();
        let context = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let output = self.filter.id.run((context, input)).map(unwrap_valr).next();
        match output {
            Some(Ok(output)) => serde_json::from_str(&output.to_string()).map_err(|error| error.to_string()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("no output".to_owned()),
        }
    }

    /// Whether the first output is neither false nor null; without an output it is false.
    ///
    /// # Errors
    /// What the program says is wrong with the input.
    pub(super) fn holds(&self, input: Value) -> Result<bool, String> {
        match self.run(input) {
            Ok(output) => Ok(!matches!(output, Value::Null | Value::Bool(false))),
            Err(error) if error == "no output" => Ok(false),
            Err(error) => Err(error),
        }
    }
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
