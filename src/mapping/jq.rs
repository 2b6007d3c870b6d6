//! Conditions and transformations in the language of jq.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, data, unwrap_valr};
use jaq_json::Val;
use serde_json::Value;

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
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code: text, path: () })
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
    /// What the program says is wrong with the input; also if it has no output.
    pub(crate) fn run(&self, input: Value) -> Result<Value, String> {
        let input: Val = serde_json::from_value(input).map_err(|error| error.to_string())?;
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
