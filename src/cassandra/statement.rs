//! Requests in wire format (native protocol v4, sections 4.1.4 to 4.1.7): executions, plain queries and batches are
//! written straight from [`Values`], without an object per cell.

use cassandra_protocol::frame::{Direction, Envelope, Flags, Opcode};
use cassandra_protocol::token::Murmur3Token;

use super::rows::{take_int, take_short, take_short_bytes};
use super::{VERSION, Values};
use crate::config::Consistency;

/// A prepared statement; get one from [`super::Session::prepare`], which prepares each text once.
#[derive(Debug)]
pub struct Statement {
    pub(super) cql: String,
    pub(super) id: Vec<u8>,
    /// Which markers are the partition key's components, in the key's order; empty where they are not all bound.
    pub(super) partition_key: Vec<usize>,
}

impl Statement {
    /// A statement that no server has prepared; for benches.
    #[doc(hidden)]
    pub fn sample(partition_key: Vec<usize>) -> Self {
        Self { cql: String::new(), id: vec![7; 16], partition_key }
    }

    /// Whether it reads, and so is sent at the read consistency.
    pub(super) fn is_read(&self) -> bool {
        self.cql.trim_start().get(..6).is_some_and(|verb| verb.eq_ignore_ascii_case("select"))
    }
}

mod flag {
    pub(super) const VALUES: u8 = 0x01;
    pub(super) const PAGE_SIZE: u8 = 0x04;
    pub(super) const PAGING_STATE: u8 = 0x08;
    pub(super) const DEFAULT_TIMESTAMP: u8 = 0x20;
}

const KIND_PREPARED: u8 = 1;
const BATCH_UNLOGGED: u8 = 1;

impl Statement {
    /// The token of the partition that these values belong to.
    pub(super) fn token(&self, values: &Values) -> Option<i64> {
        if self.partition_key.is_empty() {
            return None;
        }
        let components: Option<Vec<&[u8]>> =
            self.partition_key.iter().map(|&index| values.get(index)).collect();
        Some(partition_token(&components?))
    }
}

/// The Murmur3 token of a partition key. A key of several components is each one's length (u16), bytes and a zero
/// byte (Cassandra's CompositeType).
pub(super) fn partition_token(components: &[&[u8]]) -> i64 {
    if let [only] = components {
        return Murmur3Token::generate(only).value;
    }
    let mut key = Vec::with_capacity(components.iter().map(|component| component.len() + 3).sum());
    for component in components {
        // Components are bounded to 64 KiB by Cassandra and to far less by decoding.
        key.extend_from_slice(&u16::try_from(component.len()).unwrap_or(u16::MAX).to_be_bytes());
        key.extend_from_slice(component);
        key.push(0);
    }
    Murmur3Token::generate(&key).value
}

/// One page of an execution.
pub(super) fn execute(
    statement: &Statement,
    values: &Values,
    consistency: Consistency,
    page_size: i32,
    paging_state: Option<&[u8]>,
) -> Envelope {
    let mut body = Vec::with_capacity(64 + statement.id.len() + values.as_bytes().len());
    short_bytes(&mut body, &statement.id);
    parameters(&mut body, consistency, Some(values), page_size, paging_state);
    request(Opcode::Execute, body)
}

/// One page of a plain query without values.
pub(super) fn query(
    cql: &str,
    consistency: Consistency,
    page_size: i32,
    paging_state: Option<&[u8]>,
) -> Envelope {
    let mut body = Vec::with_capacity(64 + cql.len());
    body.extend_from_slice(&i32::try_from(cql.len()).unwrap_or(i32::MAX).to_be_bytes());
    body.extend_from_slice(cql.as_bytes());
    parameters(&mut body, consistency, None, page_size, paging_state);
    request(Opcode::Query, body)
}

pub(super) fn prepare(cql: &str) -> Envelope {
    Envelope::new_req_prepare(cql.to_owned(), None, Flags::empty(), VERSION)
}

/// Reads the body of a RESULT message that answers PREPARE (section 4.2.5.4): the statement's id, and which markers
/// are the partition key's components. What follows describes the columns, as deep as the server likes; nobody here
/// needs it.
pub(super) fn prepared(body: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
    const KIND_PREPARED: i32 = 4;

    let mut rest = body;
    if take_int(&mut rest)? != KIND_PREPARED {
        return None;
    }
    let id = take_short_bytes(&mut rest)?.to_vec();
    let _flags = take_int(&mut rest)?;
    let _columns = take_int(&mut rest)?;
    let key = take_int(&mut rest)?;
    let partition_key = (0..key).map(|_| take_short(&mut rest).map(usize::from)).collect::<Option<_>>()?;
    Some((id, partition_key))
}

fn parameters(
    body: &mut Vec<u8>,
    consistency: Consistency,
    values: Option<&Values>,
    page_size: i32,
    paging_state: Option<&[u8]>,
) {
    body.extend_from_slice(&consistency.code().to_be_bytes());
    let mut flags = flag::PAGE_SIZE;
    if values.is_some() {
        flags |= flag::VALUES;
    }
    if paging_state.is_some() {
        flags |= flag::PAGING_STATE;
    }
    body.push(flags);
    if let Some(values) = values {
        body.extend_from_slice(&values.count().to_be_bytes());
        body.extend_from_slice(values.as_bytes());
    }
    body.extend_from_slice(&page_size.to_be_bytes());
    if let Some(state) = paging_state {
        body.extend_from_slice(&i32::try_from(state.len()).unwrap_or(i32::MAX).to_be_bytes());
        body.extend_from_slice(state);
    }
}

/// Rows of one partition written in one request: an unlogged batch of prepared statements, built row by row.
///
/// One partition means one mutation on the replicas: a batch across partitions would only load its coordinator.
#[derive(Debug, Clone)]
pub struct Batch {
    token: i64,
    rows: u16,
    body: Vec<u8>,
    /// The statement's id as each row repeats it, with the kind byte before it.
    row_head: Vec<u8>,
}

impl Batch {
    /// An empty batch of `statement` for the partition with this key.
    pub fn new(statement: &Statement, partition_key: &[&[u8]]) -> Self {
        let mut row_head = vec![KIND_PREPARED];
        short_bytes(&mut row_head, &statement.id);
        // The row count is filled in when the batch is closed.
        Self { token: partition_token(partition_key), rows: 0, body: vec![BATCH_UNLOGGED, 0, 0], row_head }
    }

    /// Adds a row. The values' partition key must be the batch's own.
    pub fn push(&mut self, values: &Values) {
        self.body.extend_from_slice(&self.row_head);
        self.push_values(values);
    }

    /// Adds a row by another statement than the batch's own.
    pub fn push_by(&mut self, statement: &Statement, values: &Values) {
        self.body.push(KIND_PREPARED);
        short_bytes(&mut self.body, &statement.id);
        self.push_values(values);
    }

    fn push_values(&mut self, values: &Values) {
        debug_assert!(self.rows < u16::MAX, "callers close batches far earlier");
        self.rows += 1;
        self.body.extend_from_slice(&values.count().to_be_bytes());
        self.body.extend_from_slice(values.as_bytes());
    }

    pub fn rows(&self) -> usize {
        self.rows.into()
    }

    /// The memory that the rows take, also roughly their size on the wire.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Closes the batch. `timestamp` (µs since the epoch) orders its cells among other writes of the same cells.
    pub fn seal(mut self, consistency: Consistency, timestamp: i64) -> SealedBatch {
        self.body[1..3].copy_from_slice(&self.rows.to_be_bytes());
        self.body.extend_from_slice(&consistency.code().to_be_bytes());
        self.body.push(flag::DEFAULT_TIMESTAMP);
        self.body.extend_from_slice(&timestamp.to_be_bytes());
        SealedBatch { token: self.token, rows: self.rows(), envelope: request(Opcode::Batch, self.body) }
    }
}

/// A batch that can be written, any number of times with the same effect.
#[derive(Debug, Clone)]
pub struct SealedBatch {
    pub(super) token: i64,
    pub(super) envelope: Envelope,
    rows: usize,
}

impl SealedBatch {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.envelope.body.len()
    }
}

fn short_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(bytes);
}

fn request(opcode: Opcode, body: Vec<u8>) -> Envelope {
    Envelope::new(VERSION, Direction::Request, Flags::empty(), opcode, 0, body, None, Vec::new())
}

impl Consistency {
    /// The native protocol's code (section 3, "consistency").
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Any => 0x00,
            Self::One => 0x01,
            Self::Two => 0x02,
            Self::Three => 0x03,
            Self::Quorum => 0x04,
            Self::All => 0x05,
            Self::LocalQuorum => 0x06,
            Self::EachQuorum => 0x07,
            Self::LocalOne => 0x0A,
        }
    }
}

#[cfg(test)]
mod tests {
    use cassandra_protocol::frame::message_batch::{BatchQuery, BatchQuerySubj, BatchType, BodyReqBatch};
    use cassandra_protocol::frame::{FromCursor, Serialize};
    use cassandra_protocol::query::QueryValues;
    use cassandra_protocol::types::CBytesShort;
    use cassandra_protocol::types::value::{Bytes, Value};

    use super::*;

    fn statement() -> Statement {
        Statement::sample(vec![0, 1])
    }

    #[test]
    fn a_prepared_answer_is_read_no_deeper_than_needed() {
        let start =
            [&4_i32.to_be_bytes()[..], b"\0\x02id", &[0; 4], &[0, 0, 0, 2], &[0, 0, 0, 1], &[0, 1]].concat();
        let nested = [&start[..], &[0, 0x20].repeat(1 << 20)].concat();
        for body in [&start, &nested] {
            assert_eq!(prepared(body), Some((b"id".to_vec(), vec![1])));
        }
        for length in 0..start.len() {
            assert_eq!(prepared(&start[..length]), None, "{length} bytes");
        }
        let endless = [&4_i32.to_be_bytes()[..], b"\0\x02id", &[0; 8], &i32::MAX.to_be_bytes()].concat();
        assert_eq!(prepared(&endless), None);
    }

    #[test]
    fn a_batch_is_byte_for_byte_what_the_driver_would_send() {
        let mut batch = Batch::new(&statement(), &[b"a", b"b"]);
        batch.push(&Values::new().text("a").text("b").bigint(5));
        let mut unset = Values::new().text("a").text("b");
        unset.push_float(None);
        batch.push(&unset);
        let envelope = batch.seal(Consistency::LocalQuorum, 42).envelope;

        let text = |text: &str| Value::Some(text.as_bytes().to_vec());
        let row = |last: Value| BatchQuery {
            subject: BatchQuerySubj::PreparedId(CBytesShort::new(vec![7; 16])),
            values: QueryValues::SimpleValues(vec![text("a"), text("b"), last]),
        };
        let expected = BodyReqBatch {
            batch_type: BatchType::Unlogged,
            queries: vec![row(Value::new(Bytes::from(5i64))), row(Value::NotSet)],
            consistency: cassandra_protocol::consistency::Consistency::LocalQuorum,
            serial_consistency: None,
            timestamp: Some(42),
            keyspace: None,
            now_in_seconds: None,
        };
        assert_eq!(envelope.body, expected.serialize_to_vec(VERSION));
        assert!(BodyReqBatch::from_cursor(&mut std::io::Cursor::new(&envelope.body), VERSION).is_ok());
    }

    #[test]
    fn a_batch_may_have_rows_of_other_statements() {
        let mut batch = Batch::new(&statement(), &[b"a", b"b"]);
        let values = Values::new().text("a").text("b");
        let other = Statement { cql: String::new(), id: vec![8; 3], partition_key: vec![0, 1] };
        batch.push(&values);
        batch.push_by(&other, &values);
        assert_eq!(batch.rows(), 2);
        let body = batch.seal(Consistency::One, 42).envelope.body;
        let sent = BodyReqBatch::from_cursor(&mut std::io::Cursor::new(&body), VERSION).unwrap();
        let id = |id: &[u8]| BatchQuerySubj::PreparedId(CBytesShort::new(id.to_vec()));
        let subjects: Vec<_> = sent.queries.into_iter().map(|query| query.subject).collect();
        assert_eq!(subjects, [id(&[7; 16]), id(&[8; 3])]);
    }

    #[test]
    fn the_partition_token_is_the_servers() {
        // SELECT token(location, device_type) and token(text) on Cassandra 5.0.6.
        assert_eq!(partition_token(&[b"a"]), -8_839_064_797_231_613_815);
        let values = Values::new().text("a").text("b");
        assert_eq!(statement().token(&values), Some(partition_token(&[b"a", b"b"])));
    }
}
