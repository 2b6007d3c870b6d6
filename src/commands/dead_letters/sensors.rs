//! Which sensor a dead letter is about, and what it is called: as its message says it, and in the registry where Cassandra answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::cassandra::Session;
use crate::commands::Context;
use crate::commands::support::{decode_limits, sensor_cells, sensor_headings};
use crate::kafka::dead_letters::StoredLetter;
use crate::mapping::Mapping;
use crate::mapping::subject::Subject;
use crate::output::Format;
use crate::output::record::Cell;
use crate::reading::DecodeLimits;
use crate::store::sensors::SensorNames;

/// How long Cassandra may take: dead letters are in Kafka, and are listed without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Sensors that are looked up, each by a question of its own.
const MOST_LOOKED_UP: usize = 1_000;

pub(super) struct Sensors {
    mapping: Option<Arc<Mapping>>,
    limits: DecodeLimits,
    session: Option<Session>,
    names: SensorNames,
    looked_up: HashSet<Uuid>,
    runtime: Handle,
}

impl Sensors {
    /// Dead letters are listed also where neither the mapping nor Cassandra is there.
    pub(super) fn open(context: &Context) -> Self {
        let place = context.config.ingest.mapping.as_deref();
        let mapping = place.and_then(|place| match Mapping::load(place) {
            Ok(mapping) => Some(Arc::new(mapping)),
            Err(error) => {
                context.output.note(format!("the sensors of mapped messages are not known: {error}"));
                None
            }
        });
        let runtime = Handle::current();
        let connected = Session::connect(&context.config.cassandra);
        let session = runtime.block_on(timeout(PATIENCE, connected)).ok().and_then(Result::ok);
        Self {
            mapping,
            limits: decode_limits(&context.config.ingest),
            session,
            names: SensorNames::default(),
            looked_up: HashSet::new(),
            runtime,
        }
    }

    /// The sensor of a letter, by the name that people gave it if there is one.
    pub(super) fn of(&mut self, letter: &StoredLetter) -> Option<Subject> {
        let mut subject = match &self.mapping {
            Some(mapping) => mapping.subject(&letter.record(), &letter.error, &self.limits),
            None => Subject::of_wire(letter.key.as_deref(), letter.bytes()),
        }?;
        if let Some(id) = subject.id {
            self.learn(id);
            if let Some(name) = self.names.get(id) {
                subject.name = Some(name.to_owned());
            }
        }
        Some(subject)
    }

    fn learn(&mut self, sensor: Uuid) {
        let Some(session) = &self.session else { return };
        if self.looked_up.len() >= MOST_LOOKED_UP || !self.looked_up.insert(sensor) {
            return;
        }
        let learned = timeout(PATIENCE, self.names.learn_by_id(session, [sensor]));
        if !matches!(self.runtime.block_on(learned), Ok(Ok(()))) {
            self.session = None;
        }
    }
}

/// The cells under [`sensor_headings`].
pub(super) fn cells(format: Format, subject: Option<&Subject>) -> Vec<Cell<'_>> {
    let name = subject.and_then(|subject| subject.name.as_deref());
    match (subject.and_then(|subject| subject.id), format) {
        (Some(id), _) => sensor_cells(format, id, name).collect(),
        (None, Format::Table) => vec![name.map_or(Cell::Missing, Cell::Text)],
        (None, _) => {
            let mut cells: Vec<_> = sensor_headings(format).iter().map(|_| Cell::Missing).collect();
            if let (Some(last), Some(name)) = (cells.last_mut(), name) {
                *last = Cell::Text(name);
            }
            cells
        }
    }
}

/// A sensor in words.
pub(super) fn text(subject: &Subject) -> String {
    match (&subject.name, subject.id) {
        (Some(name), _) => crate::output::text::visible(name).into_owned(),
        (None, Some(id)) => id.to_string(),
        (None, None) => String::new(),
    }
}
