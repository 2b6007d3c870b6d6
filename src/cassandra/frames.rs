//! The bytes that a server sends, cut into frames (native protocol v4, section 2) and checked before the driver's own
//! readers see them.
//!
//! Those readers trust their server: a length that lies makes them panic inside of the task that reads the
//! connection, whose requests then wait for their deadlines. Here whatever is malformed ends the connection with an
//! error, and the node is tried again. What only the driver reads (errors, answers to a login) is checked field by
//! field; results are read by [`super::Rows`], which trusts nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cassandra_protocol::compression::Compression;
use cassandra_protocol::error::{Error as DriverError, Result as DriverResult};
use cassandra_protocol::frame::frame_decoder::FrameDecoder;
use cassandra_protocol::frame::{Direction, Envelope, Flags, Opcode};

use super::VERSION;
use super::rows::{take_int, take_short, take_short_bytes};

const HEADER: usize = 9;
/// Cassandra's own limit on a frame; the driver's during the login.
const MAX_BODY: usize = 256 << 20;
/// The first byte of every answer: version 4, from the server.
const ANSWER: u8 = 0x84;
/// Longer explanations are cut. The driver reads the length as a signed number, so 32 KiB would be the end anyway.
const MAX_MESSAGE: usize = 4_096;

/// Cuts one connection's bytes into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a frame whose end has not come yet.
    pending: Vec<u8>,
    greeted: Greeted,
}

/// Whether the login is over. Until then nothing was asked that rows could answer, and the driver would read them.
#[derive(Debug, Clone, Default)]
pub(super) struct Greeted(Arc<AtomicBool>);

impl Greeted {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Frames {
    pub(super) fn new(greeted: Greeted) -> Self {
        Self { pending: Vec::new(), greeted }
    }

    /// The frames at the start of `bytes`, and how many bytes they take.
    fn cut(&self, bytes: &[u8]) -> Result<(Vec<Envelope>, usize), Malformed> {
        let mut envelopes = Vec::new();
        let mut at = 0;
        while let Some((header, rest)) = bytes[at..].split_first_chunk::<HEADER>() {
            let [version, flags, stream_high, stream_low, opcode, length @ ..] = *header;
            if version != ANSWER {
                return Err(Malformed("a frame that is no answer of native protocol v4"));
            }
            let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|it| *it <= MAX_BODY);
            let length = length.ok_or(Malformed("a frame of a length that no frame has"))?;
            let opcode =
                Opcode::try_from(opcode).map_err(|_| Malformed("a frame of no kind that is known"))?;
            let Some(body) = rest.get(..length) else { break };
            let body = self.body(flags, opcode, body)?;
            envelopes.push(Envelope {
                version: VERSION,
                direction: Direction::Response,
                flags: Flags::empty(),
                opcode,
                stream_id: i16::from_be_bytes([stream_high, stream_low]),
                body,
                tracing_id: None,
                warnings: Vec::new(),
            });
            at += HEADER + length;
        }
        Ok((envelopes, at))
    }

    fn body(&self, flags: u8, opcode: Opcode, body: &[u8]) -> Result<Vec<u8>, Malformed> {
        let body = without_preface(flags, body).ok_or(Malformed("a frame with a cut preface"))?;
        let checked = match opcode {
            Opcode::Error => error(body),
            Opcode::Result if !self.greeted.0.load(Ordering::Acquire) => None,
            Opcode::Result => result(body).then(|| body.to_vec()),
            // Nobody looks at what it says: it answers a heartbeat.
            Opcode::Supported => Some(vec![0, 0]),
            Opcode::Authenticate => whole(body, |rest| text(rest).map(drop)),
            Opcode::AuthChallenge | Opcode::AuthSuccess => whole(body, |rest| match take_int(rest)? {
                ..0 => Some(()),
                length => rest.split_off(..usize::try_from(length).ok()?).map(drop),
            }),
            Opcode::Ready | Opcode::Event => Some(Vec::new()),
            _ => None,
        };
        checked.ok_or(Malformed("a frame that is cut or malformed"))
    }
}

impl FrameDecoder for Frames {
    fn consume(&mut self, data: &mut Vec<u8>, _: Compression) -> DriverResult<Vec<Envelope>> {
        if self.pending.is_empty() {
            let (envelopes, length) = self.cut(data)?;
            self.pending.extend_from_slice(&data[length..]);
            data.clear();
            return Ok(envelopes);
        }
        self.pending.append(data);
        let (envelopes, length) = self.cut(&self.pending)?;
        self.pending.drain(..length);
        Ok(envelopes)
    }
}

/// What the server sent.
struct Malformed(&'static str);

impl From<Malformed> for DriverError {
    fn from(Malformed(what): Malformed) -> Self {
        DriverError::General(format!("the server sent {what}"))
    }
}

/// Steps over what flags put before the body: a trace's id, and warnings. Compression was never agreed on.
fn without_preface(flags: u8, body: &[u8]) -> Option<&[u8]> {
    let flags = Flags::from_bits_truncate(flags);
    let mut rest = body;
    if flags.contains(Flags::COMPRESSION) {
        return None;
    }
    if flags.contains(Flags::TRACING) {
        rest.split_off(..16)?;
    }
    if flags.contains(Flags::WARNING) {
        for _ in 0..take_short(&mut rest)? {
            take_short_bytes(&mut rest)?;
        }
    }
    Some(rest)
}

/// `body` as it is, if `read` finds all that it looks for in it.
fn whole(body: &[u8], read: impl FnOnce(&mut &[u8]) -> Option<()>) -> Option<Vec<u8>> {
    read(&mut &*body).map(|()| body.to_vec())
}

/// A text as the driver can read it.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let bytes = take_short_bytes(rest)?;
    i16::try_from(bytes.len()).ok()?;
    std::str::from_utf8(bytes).ok()
}

/// Whether the driver may look at a result's kind. It acts upon `USE` itself, which nobody here ever sends.
fn result(body: &[u8]) -> bool {
    const SET_KEYSPACE: i32 = 3;
    take_int(&mut &*body).is_some_and(|kind| (1..=5).contains(&kind) && kind != SET_KEYSPACE)
}

/// An error (section 9) with its explanation cut to what a person reads, and every field that belongs to its code.
fn error(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = body;
    let code = take_int(&mut rest)?;
    let message = String::from_utf8_lossy(take_short_bytes(&mut rest)?);
    let message = &message[..message.floor_char_boundary(MAX_MESSAGE)];
    let details = rest;
    match code {
        // Unavailable: consistency, required, alive.
        0x1000 => fixed(&mut rest, 2 + 4 + 4)?,
        // Write timeout, write failure: consistency, received, required, (failures,) write type.
        0x1100 => {
            fixed(&mut rest, 2 + 4 + 4)?;
            text(&mut rest)?;
        }
        0x1500 => {
            fixed(&mut rest, 2 + 4 + 4 + 4)?;
            text(&mut rest)?;
        }
        // Read timeout, read failure: consistency, received, required, (failures,) whether data came.
        0x1200 => fixed(&mut rest, 2 + 4 + 4 + 1)?,
        0x1300 => fixed(&mut rest, 2 + 4 + 4 + 4 + 1)?,
        // Function failure: keyspace, function, its argument types.
        0x1400 => {
            text(&mut rest)?;
            text(&mut rest)?;
            for _ in 0..i16::try_from(take_short(&mut rest)?).ok()? {
                text(&mut rest)?;
            }
        }
        // Already exists: keyspace, table.
        0x2400 => {
            text(&mut rest)?;
            text(&mut rest)?;
        }
        // Unprepared: the statement's id.
        0x2500 => drop(i16::try_from(take_short_bytes(&mut rest)?.len()).ok()?),
        _ => {}
    }
    let mut checked = Vec::with_capacity(6 + message.len() + details.len());
    checked.extend_from_slice(&code.to_be_bytes());
    checked.extend_from_slice(&u16::try_from(message.len()).ok()?.to_be_bytes());
    checked.extend_from_slice(message.as_bytes());
    checked.extend_from_slice(details);
    Some(checked)
}

fn fixed(rest: &mut &[u8], length: usize) -> Option<()> {
    rest.split_off(..length).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(flags: u8, opcode: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![ANSWER, flags, 0, 7, opcode];
        bytes.extend_from_slice(&(body.len() as i32).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn greeted() -> Frames {
        let greeted = Greeted::default();
        greeted.set();
        Frames::new(greeted)
    }

    fn consume(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<Envelope>, String> {
        frames.consume(&mut bytes.to_vec(), Compression::None).map_err(|error| error.to_string())
    }

    fn error_body(code: i32, message: &[u8], details: &[u8]) -> Vec<u8> {
        let length = u16::try_from(message.len()).unwrap();
        [&code.to_be_bytes()[..], &length.to_be_bytes(), message, details].concat()
    }

    const ERROR: u8 = 0x00;
    const READY: u8 = 0x02;
    const AUTHENTICATE: u8 = 0x03;
    const SUPPORTED: u8 = 0x06;
    const RESULT: u8 = 0x08;
    const AUTH_SUCCESS: u8 = 0x10;
    const VOID: [u8; 4] = [0, 0, 0, 1];

    /// What the driver does with a frame, which must not panic.
    fn read_as_the_driver_does(envelope: &Envelope) {
        if envelope.opcode != Opcode::Result {
            let _ = envelope.response_body();
        }
    }

    #[test]
    fn frames_come_out_the_same_however_the_bytes_are_cut() {
        let bytes = [
            frame(0, RESULT, &VOID),
            frame(0, SUPPORTED, &[0, 0]),
            frame(0, RESULT, &[&[0, 0, 0, 2][..], &[9; 300]].concat()),
        ]
        .concat();
        for size in [1, 2, 8, 9, 10, 13, 100, 1000] {
            let mut frames = greeted();
            let envelopes: Vec<_> =
                bytes.chunks(size).flat_map(|chunk| consume(&mut frames, chunk).unwrap()).collect();
            let lengths: Vec<_> = envelopes.iter().map(|envelope| envelope.body.len()).collect();
            assert_eq!(lengths, [4, 2, 304], "in pieces of {size}");
            assert!(envelopes.iter().all(|envelope| envelope.stream_id == 7));
            assert!(frames.pending.is_empty());
        }
    }

    #[test]
    fn a_trace_and_warnings_are_stepped_over() {
        let warned = [&[0, 1, 0, 3][..], b"old", &VOID].concat();
        let both = [&[5; 16][..], &warned].concat();
        for bytes in [frame(0x08, RESULT, &warned), frame(0x0A, RESULT, &both)] {
            assert_eq!(consume(&mut greeted(), &bytes).unwrap()[0].body, VOID);
        }
    }

    #[test]
    fn lengths_that_lie_end_the_connection() {
        let header = |length: i32| [&[ANSWER, 0, 0, 7, RESULT][..], &length.to_be_bytes()].concat();
        let unavailable = error_body(0x1000, b"no", &[0, 6]);
        let hostile = [
            header(-1),
            header(i32::MIN),
            header(i32::MAX),
            frame(0, RESULT, &[]),
            frame(0, RESULT, &[0, 0, 0, 3, 0x7F, 0xFF]),
            frame(0x02, RESULT, &VOID),
            frame(0x08, RESULT, &[0xFF, 0xFF, 0, 1]),
            frame(0x01, RESULT, &VOID),
            frame(0, ERROR, &[0, 0]),
            frame(0, ERROR, &[0, 0, 0, 0, 0x7F, 0xFF]),
            frame(0, ERROR, &unavailable),
            frame(0, ERROR, &error_body(0x2500, b"what?", &[0xFF, 0xFF])),
            frame(0, ERROR, &error_body(0x1400, b"f", &[0, 0, 0, 0, 0xFF, 0xFF])),
            frame(0, AUTHENTICATE, &[0x7F, 0xFF]),
            frame(0, AUTH_SUCCESS, &[0x7F, 0xFF, 0xFF, 0xFF]),
            frame(0, 0x77, &[]),
            vec![0x04; 9],
        ];
        for bytes in hostile {
            let answer = consume(&mut greeted(), &bytes);
            assert!(answer.is_err(), "{bytes:x?} gave {answer:?}");
        }
    }

    #[test]
    fn a_long_explanation_is_cut_and_keeps_its_code() {
        let long = "ä".repeat(30_000);
        let bytes = frame(0, ERROR, &error_body(0x2200, long.as_bytes(), &[]));
        let envelope = &consume(&mut greeted(), &bytes).unwrap()[0];
        let body = envelope.response_body().unwrap();
        let cassandra_protocol::frame::message_response::ResponseBody::Error(error) = body else {
            panic!("no error")
        };
        assert_eq!(error.message.len(), MAX_MESSAGE);
        assert_eq!(error.ty, cassandra_protocol::frame::message_error::ErrorType::Invalid);
    }

    #[test]
    fn rows_before_the_login_is_over_are_refused() {
        let bytes = frame(0, RESULT, &VOID);
        assert!(consume(&mut Frames::default(), &bytes).is_err());
        assert!(consume(&mut Frames::default(), &frame(0, READY, &[1, 2])).unwrap()[0].body.is_empty());
    }

    /// A body whose fields are likely to be what some opcode looks for.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let field = prop_oneof![
            prop::sample::select(vec![
                0, 1, 2, 3, 4, 5, 0x1000, 0x1100, 0x1200, 0x1300, 0x1400, 0x1500, 0x2400, 0x2500
            ])
            .prop_map(|code: i32| code.to_be_bytes().to_vec()),
            any::<i32>().prop_map(|number| number.to_be_bytes().to_vec()),
            any::<u16>().prop_map(|number| number.to_be_bytes().to_vec()),
            "[a-zA-Z_]{0,12}"
                .prop_map(|text| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()),
            Just(b"\0\x06SIMPLE".to_vec()),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(field, 0..8).prop_map(|fields| fields.concat())
    }

    proptest! {
        #[test]
        fn whatever_passes_is_read_by_the_driver_without_a_panic(
            flags in prop_oneof![4 => Just(0u8), 1 => any::<u8>()],
            opcode in prop_oneof![Just(ERROR), Just(AUTHENTICATE), Just(RESULT), 0u8..0x12],
            body in body(),
        ) {
            for envelope in consume(&mut greeted(), &frame(flags, opcode, &body)).unwrap_or_default() {
                read_as_the_driver_does(&envelope);
            }
        }
    }
}
