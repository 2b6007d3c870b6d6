//! An end for every program. jq repeats itself by definitions that call themselves (`repeat`, `while`, `until`, `recurse` and
//! `limit`'s sources are such definitions too) and by `range`; nothing else is without an end. So each of these takes a step,
//! and a run has only so many. The count depends on the program and its input alone: a message that is refused is refused
//! again by a replay.
//!
//! Values do not nest without end either ([`nesting`]): they are compared, written and let go by calls within calls.

use std::cell::Cell;

use super::nesting;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{Fun, bome, v};
use jaq_core::path::Part;
use jaq_core::{DataT, Error, Native};
use jaq_json::Val;

/// Steps of one run: a fraction of a second, and far more than a message's mapping needs.
pub(super) const STEPS: u32 = 100_000;

/// What a call costs: each may hold the arguments of the one before, and all of them are let go within each other.
const CALL: u32 = 10;

/// How much of the thread's stack calls within calls may take; a thread of the program has 2 MiB.
const STACK: usize = 512 << 10;

/// What the text of the programs cannot say.
const STEP: &str = "@step";
const CALL_STEP: &str = "@call";
const NATIVE_RANGE: &str = "@range";
const NATIVE_FROMJSON: &str = "@fromjson";
const NEST_STEP: &str = "@nest";
const TEXT_STEP: &str = "@text";

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(0) };
    /// Where the stack was when the run began.
    static BEGIN: Cell<usize> = const { Cell::new(0) };
}

/// Each run begins with all steps.
pub(super) fn refill() {
    LEFT.set(STEPS);
    BEGIN.set(stack());
    nesting::begin();
}

/// Where the stack is: the address of something on it.
#[inline(never)]
fn stack() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// `true` while steps are left, and while their input does not nest too deep.
pub(super) fn steps<D>() -> [Fun<D>; 4]
where
    D: for<'a> DataT<V<'a> = Val>,
{
    [
        (STEP, v(0), Native::new(|_| bome(take(1)))),
        (CALL_STEP, v(0), Native::new(|(_, input)| bome(nested(&input).and_then(|()| take(CALL))))),
        (NEST_STEP, v(0), Native::new(|(_, input)| bome(nested(&input).and_then(|()| take(0))))),
        (TEXT_STEP, v(0), Native::new(|(_, input)| bome(nested_text(&input)))),
    ]
}

fn nested(value: &Val) -> Result<(), Error<Val>> {
    match nesting::is_too_deep(value) {
        true => Err(Error::str(format_args!("stopped: a value nests deeper than {}", nesting::MAX_DEPTH))),
        false => Ok(()),
    }
}

fn nested_text(value: &Val) -> Result<Val, Error<Val>> {
    match value {
        Val::BStr(text) | Val::TStr(text) if nesting::is_text_too_deep(text) => Err(Error::str(
            format_args!("stopped: fromjson of what nests deeper than {}", nesting::MAX_DEPTH),
        )),
        _ => Ok(Val::from(true)),
    }
}

fn take(steps: u32) -> Result<Val, Error<Val>> {
    if BEGIN.get().abs_diff(stack()) > STACK {
        let problem = "stopped: too many steps within each other (let the definition call itself last)";
        return Err(Error::str(problem));
    }
    match LEFT.get().checked_sub(steps) {
        None => Err(Error::str(format_args!(
            "stopped after {STEPS} steps (a definition that calls itself, or a range, has no end; give it one)"
        ))),
        Some(left) => {
            LEFT.set(left);
            Ok(Val::from(true))
        }
    }
}

/// Whether a step is left for one more output.
pub(super) fn take_output() -> bool {
    take(1).is_ok()
}

/// Gives `range` and `fromjson` names that programs cannot call; [`definitions`] has those that they do.
pub(super) fn hide<D: DataT>(mut function: Fun<D>) -> Fun<D> {
    match function.0 {
        "range" => function.0 = NATIVE_RANGE,
        "fromjson" => function.0 = NATIVE_FROMJSON,
        _ => {}
    }
    function
}

/// `def range(from; to; by): @range(from; to; by) | if @step then . end;`
/// `def fromjson: if @text then @fromjson end;`
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let names = ["from", "to", "by"];
    let arguments = names.iter().map(|name| Term::Call(*name, Vec::new())).collect();
    let body = Term::BinOp(
        Box::new(Term::Call(NATIVE_RANGE, arguments)),
        BinaryOp::Pipe(None),
        Box::new(Term::IfThenElse(vec![(Term::Call(STEP, Vec::new()), Term::Id)], None)),
    );
    let read = limited_by(TEXT_STEP, Term::Call(NATIVE_FROMJSON, Vec::new()));
    [
        Def { name: "range", args: names.to_vec(), body },
        Def { name: "fromjson", args: Vec::new(), body: read },
    ]
    .into_iter()
}

/// `if STEP then TERM end`, which is a path where the term is one.
fn limited_by<'s>(step: &'static str, term: Term<&'s str>) -> Term<&'s str> {
    Term::IfThenElse(vec![(Term::Call(step, Vec::new()), term)], None)
}

/// A definition that takes a step with each call, if it calls itself.
pub(super) fn limited(mut definition: Def<&str>) -> Def<&str> {
    limit_definition(&mut definition);
    definition
}

fn limit_definition(definition: &mut Def<&str>) {
    limit(&mut definition.body);
    if calls(&definition.body, definition.name, definition.args.len()) {
        definition.body = limited_by(CALL_STEP, std::mem::take(&mut definition.body));
    }
}

/// Limits the definitions within a term, and how deep the values nest that it makes.
pub(super) fn limit(term: &mut Term<&str>) {
    if let Term::Def(definitions, _) = term {
        definitions.iter_mut().for_each(limit_definition);
    }
    each_part(term, &mut limit);
    match term {
        // What is made is looked at as it is passed on; it is no path.
        Term::Arr(_) | Term::Obj(_) => {
            let made = std::mem::take(term);
            let passed = limited_by(NEST_STEP, Term::Id);
            *term = Term::BinOp(Box::new(made), BinaryOp::Pipe(None), Box::new(passed));
        }
        // What a round of reduce or foreach is given is what the one before has made.
        Term::Fold(_, _, _, arguments) => {
            for argument in arguments {
                *argument = limited_by(NEST_STEP, std::mem::take(argument));
            }
        }
        _ => {}
    }
}

/// Whether a term has a call of this name and number of arguments, or a definition in it has.
fn calls(term: &Term<&str>, name: &str, count: usize) -> bool {
    // The parts are only read; one walk over them serves both.
    let mut term = term.clone();
    let mut is_there = false;
    look(&mut term, name, count, &mut is_there);
    is_there
}

fn look(term: &mut Term<&str>, name: &str, count: usize, is_there: &mut bool) {
    if let Term::Call(called, arguments) = term {
        *is_there |= *called == name && arguments.len() == count;
    }
    if let Term::Def(definitions, _) = term {
        definitions.iter_mut().for_each(|definition| look(&mut definition.body, name, count, is_there));
    }
    each_part(term, &mut |part| look(part, name, count, is_there));
}

/// The terms right below a term, but for the bodies of its definitions.
fn each_part<'s>(term: &mut Term<&'s str>, take: &mut dyn FnMut(&mut Term<&'s str>)) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Str(_, parts) => {
            for part in parts {
                if let StrPart::Term(part) = part {
                    take(part);
                }
            }
        }
        Term::Arr(inner) => inner.iter_mut().for_each(|inner| take(inner)),
        Term::Obj(members) => {
            for (key, value) in members {
                take(key);
                value.iter_mut().for_each(&mut *take);
            }
        }
        Term::Neg(inner) | Term::Label(_, inner) | Term::Def(_, inner) => take(inner),
        Term::BinOp(left, operator, right) => {
            take(left);
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                each_of_pattern(pattern, take);
            }
            take(right);
        }
        Term::Fold(_, over, pattern, arguments) => {
            take(over);
            each_of_pattern(pattern, take);
            arguments.iter_mut().for_each(take);
        }
        Term::TryCatch(tried, catch) => {
            take(tried);
            catch.iter_mut().for_each(|catch| take(catch));
        }
        Term::IfThenElse(branches, otherwise) => {
            for (condition, then) in branches {
                take(condition);
                take(then);
            }
            otherwise.iter_mut().for_each(|otherwise| take(otherwise));
        }
        Term::Call(_, arguments) => arguments.iter_mut().for_each(take),
        Term::Path(inner, path) => {
            take(inner);
            for (part, _) in &mut path.0 {
                match part {
                    Part::Index(index) => take(index),
                    Part::Range(from, to) => from.iter_mut().chain(to).for_each(&mut *take),
                }
            }
        }
    }
}

fn each_of_pattern<'s>(pattern: &mut Pattern<&'s str>, take: &mut dyn FnMut(&mut Term<&'s str>)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(patterns) => patterns.iter_mut().for_each(|pattern| each_of_pattern(pattern, take)),
        Pattern::Obj(members) => {
            for (key, pattern) in members {
                take(key);
                each_of_pattern(pattern, take);
            }
        }
    }
}
