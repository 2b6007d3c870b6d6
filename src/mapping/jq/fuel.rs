//! An end for every program. jq repeats itself by definitions that call themselves (`repeat`, `while`, `until`, `recurse` and
//! `limit`'s sources are such definitions too) and by `range`; nothing else is without an end. So each of these takes a step,
//! and a run has only so many. The count depends on the program and its input alone: a message that is refused is refused
//! again by a replay.

use std::cell::Cell;

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

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(0) };
    /// Where the stack was when the run began.
    static BEGIN: Cell<usize> = const { Cell::new(0) };
}

/// Each run begins with all steps.
pub(super) fn refill() {
    LEFT.set(STEPS);
    BEGIN.set(stack());
}

/// Where the stack is: the address of something on it.
#[inline(never)]
fn stack() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// `true` while steps are left.
pub(super) fn steps<D>() -> [Fun<D>; 2]
where
    D: for<'a> DataT<V<'a> = Val>,
{
    [(STEP, v(0), Native::new(|_| bome(take(1)))), (CALL_STEP, v(0), Native::new(|_| bome(take(CALL))))]
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

/// Gives `range` a name that programs cannot call; [`definitions`] has the one that they do.
pub(super) fn hide_range<D: DataT>(mut function: Fun<D>) -> Fun<D> {
    if function.0 == "range" {
        function.0 = NATIVE_RANGE;
    }
    function
}

/// `def range(from; to; by): @range(from; to; by) | if @step then . end;`
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let names = ["from", "to", "by"];
    let arguments = names.iter().map(|name| Term::Call(*name, Vec::new())).collect();
    let body = Term::BinOp(
        Box::new(Term::Call(NATIVE_RANGE, arguments)),
        BinaryOp::Pipe(None),
        Box::new(Term::IfThenElse(vec![(Term::Call(STEP, Vec::new()), Term::Id)], None)),
    );
    std::iter::once(Def { name: "range", args: names.to_vec(), body })
}

/// A definition that takes a step with each call, if it calls itself.
pub(super) fn limited(mut definition: Def<&str>) -> Def<&str> {
    limit_definition(&mut definition);
    definition
}

fn limit_definition(definition: &mut Def<&str>) {
    limit(&mut definition.body);
    if calls(&definition.body, definition.name, definition.args.len()) {
        let body = std::mem::take(&mut definition.body);
        definition.body = Term::IfThenElse(vec![(Term::Call(CALL_STEP, Vec::new()), body)], None);
    }
}

/// Limits the definitions within a term.
pub(super) fn limit(term: &mut Term<&str>) {
    if let Term::Def(definitions, _) = term {
        definitions.iter_mut().for_each(limit_definition);
    }
    each_part(term, &mut limit);
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
