//! How deep values nest. A value is looked at as it is made: all of it, but only now and then, so that a program that adds to a
//! large array pays for the array once and not with each element. Which one is looked at depends on nothing but those before.

use std::cell::Cell;

use jaq_json::Val;

/// Far deeper than any message: what a mapping reads may nest 128 deep.
pub(super) const MAX_DEPTH: usize = 500;

/// A value is looked at after so many others at least, and after so many at most.
const OFTEN: u64 = 8;
const RARELY: u64 = 128;
/// For each value that is looked at, so many parts of it.
const PARTS: u64 = 64;

thread_local! {
    /// Values until the next that is looked at, and what that number is drawn from.
    static NEXT: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

pub(super) fn begin() {
    NEXT.set((0, 0x9e37_79b9_7f4a_7c15));
}

/// Whether a value nests too deep, if it is one that is looked at.
pub(super) fn is_too_deep(value: &Val) -> bool {
    if !matches!(value, Val::Arr(_) | Val::Obj(_)) {
        return false;
    }
    let (left, seed) = NEXT.get();
    if left > 0 {
        NEXT.set((left - 1, seed));
        return false;
    }
    let mut parts = 0;
    let is_too_deep = is_deeper(value, MAX_DEPTH, &mut parts);
    // Drawn, so that values that take turns are all looked at some time (an xorshift of Marsaglia).
    let mut seed = seed ^ (seed << 13);
    seed ^= seed >> 7;
    seed ^= seed << 17;
    let about = (parts / PARTS).clamp(OFTEN, RARELY);
    NEXT.set((seed % (2 * about), seed));
    is_too_deep
}

fn is_deeper(value: &Val, depth: usize, parts: &mut u64) -> bool {
    *parts += 1;
    match value {
        Val::Arr(_) | Val::Obj(_) if depth == 0 => true,
        Val::Arr(elements) => elements.iter().any(|element| is_deeper(element, depth - 1, parts)),
        Val::Obj(members) => members
            .iter()
            .any(|(name, member)| is_deeper(name, depth - 1, parts) || is_deeper(member, depth - 1, parts)),
        _ => false,
    }
}

/// Whether JSON in a text nests too deep to be read.
pub(super) fn is_text_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut is_string, mut is_escape) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escape => is_escape = false,
            b'\\' if is_string => is_escape = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => depth += 1,
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Whether the text of a program nests deeper than it can be read; brackets in its strings count too.
pub(super) fn is_program_too_deep(text: &str) -> bool {
    const MAX_BRACKETS: usize = 64;
    let mut depth = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_BRACKETS
    })
}
