//! The tables that can be asked, and their columns.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session as PlanningSession, TableProvider};
use datafusion::common::ToDFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::access::Access;
use super::scan::{Reads, TableScan};
use super::selection::Selection;
use crate::cassandra::Session;
use crate::config::Config;
use crate::reading::Metric;

/// What a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Raw readings.
    Readings,
    /// The newest reading of each sensor.
    Latest,
    Sensors,
    Groups,
    /// What the readings of an hour or a day (UTC) amount to, by sensor and metric.
    Hourly,
    Daily,
    /// Alerts of `ingest --detect`, from their topic.
    Alerts,
    /// Messages that were not stored, from their topic.
    DeadLetters,
    /// Steps of stored forecasts.
    Forecasts,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Readings,
        Self::Latest,
        Self::Sensors,
        Self::Groups,
        Self::Hourly,
        Self::Daily,
        Self::Alerts,
        Self::DeadLetters,
        Self::Forecasts,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Latest => "latest",
            Self::Sensors => "sensors",
            Self::Groups => "groups",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Alerts => "alerts",
            Self::DeadLetters => "dead_letters",
            Self::Forecasts => "forecasts",
        }
    }

    /// The columns that no two rows have in common, in the order of the key in Cassandra. `None` where rows may come twice, or where
    /// a part of the key may be missing.
    pub(super) fn key(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Readings => Some(&READING_KEYS),
            Self::Latest | Self::Sensors => Some(&["location", "device_type", "iot_sensor_id"]),
            Self::Groups => Some(&["location", "device_type"]),
            Self::Hourly => Some(&["location", "device_type", "hour", "metric", "iot_sensor_id"]),
            Self::Daily => Some(&["location", "device_type", "day", "metric", "iot_sensor_id"]),
            Self::DeadLetters => Some(&["id"]),
            Self::Alerts | Self::Forecasts => None,
        }
    }

    /// What a row is.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Readings => "readings as they were measured",
            Self::Latest => "the newest reading of each sensor",
            Self::Sensors => "sensors with their names and tags",
            Self::Groups => "locations and device types",
            Self::Hourly => "summaries by sensor, metric and hour (UTC)",
            Self::Daily => "summaries by sensor, metric and day (UTC)",
            Self::Alerts => "alerts of ingest --detect",
            Self::DeadLetters => "messages that were not stored",
            Self::Forecasts => "steps of the forecasts that forecast --store has kept",
        }
    }

    /// The column of the moments by which partitions are chosen.
    pub(super) fn time_column(self) -> Option<&'static str> {
        match self {
            Self::Readings | Self::Latest | Self::Alerts => Some("recorded_timestamp"),
            Self::Hourly => Some("hour"),
            Self::Daily => Some("day"),
            Self::DeadLetters => Some("message_timestamp"),
            Self::Forecasts => Some("at"),
            Self::Sensors | Self::Groups => None,
        }
    }
}

/// A moment: milliseconds since the epoch.
pub(super) fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
}

/// A table of DataFusion.
#[derive(Debug)]
pub(super) struct Table {
    kind: Kind,
    sources: Arc<Sources>,
    schema: SchemaRef,
}

/// Where rows come from.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) session: Session,
    pub(super) config: Config,
    /// What the session may see of them.
    pub(super) access: Access,
}

impl Table {
    /// `metrics` are the names of other metrics that become columns of the readings.
    pub(super) fn new(kind: Kind, sources: &Arc<Sources>, metrics: &[Arc<str>]) -> Self {
        let schema = Arc::new(Schema::new(fields(kind, metrics)));
        Self { kind, sources: sources.clone(), schema }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }
}

/// Columns of a reading before and after those of its other metrics.
pub(super) const READING_KEYS: [&str; 4] = ["location", "device_type", "iot_sensor_id", "recorded_timestamp"];

fn fields(kind: Kind, metrics: &[Arc<str>]) -> Vec<Field> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let optional = |name: &str| Field::new(name, DataType::Utf8, true);
    let at = |name: &str| Field::new(name, moment(), false);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = match kind {
        Kind::DeadLetters => Vec::new(),
        _ => vec![text("location"), text("device_type")],
    };
    match kind {
        Kind::Readings | Kind::Latest => {
            fields.extend([text("iot_sensor_id"), at("recorded_timestamp")]);
            fields.extend(Metric::COLUMNS.iter().map(|metric| number(metric.name())));
            fields.push(Field::new("motion_detected", DataType::Boolean, true));
            let known = |name: &str| {
                READING_KEYS.contains(&name)
                    || ["motion_detected", "other_metrics", "states"].contains(&name)
                    || !matches!(Metric::named(name), Metric::Other(_))
            };
            fields.extend(metrics.iter().filter(|name| !known(name)).map(|name| number(name)));
            fields.extend([optional("other_metrics"), optional("states")]);
        }
        Kind::Sensors => fields.extend([text("iot_sensor_id"), optional("name"), optional("tags")]),
        Kind::Groups => {
            fields.push(Field::new("sensors", DataType::Int64, false));
            fields.push(Field::new("last_recorded_timestamp", moment(), true));
        }
        Kind::Hourly | Kind::Daily => {
            fields.extend([at(kind.time_column().unwrap_or("hour")), text("metric"), text("iot_sensor_id")]);
            fields.push(Field::new("count", DataType::Int64, false));
            fields.extend(["sum", "avg", "stddev"].map(number));
            for name in ["min", "max", "first", "last"] {
                fields.extend([number(name), at(&format!("{name}_at"))]);
            }
        }
        Kind::Alerts => {
            fields.extend([text("iot_sensor_id"), optional("sensor_name"), at("recorded_timestamp")]);
            fields.extend(["rule", "severity", "state", "metric"].map(text));
            fields.extend(["value", "expected", "score"].map(number));
            fields.extend(["since", "detected_timestamp"].map(at));
            fields.extend(["message", "id"].map(text));
        }
        Kind::DeadLetters => {
            fields.extend([text("id"), at("message_timestamp")]);
            fields.extend(["reason", "error", "topic"].map(text));
            fields.extend(
                ["topic_partition", "topic_offset"].map(|name| Field::new(name, DataType::Int64, false)),
            );
            fields.extend(["message_key", "payload"].map(optional));
            fields.push(Field::new("is_replayed", DataType::Boolean, false));
        }
        Kind::Forecasts => {
            fields.extend([text("metric"), optional("iot_sensor_id"), at("made_at"), at("at")]);
            fields.extend([Field::new("step_seconds", DataType::Int64, false), text("model")]);
            fields.extend(["value", "low", "high", "level"].map(number));
        }
    }
    fields
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Every condition is held by the scan itself, so that nothing stands between it and an order or a limit.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match filter.is_volatile() || has_subquery(filter) {
                true => TableProviderFilterPushDown::Unsupported,
                false => TableProviderFilterPushDown::Exact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn PlanningSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (selection, rest) = Selection::of(filters, self.kind.time_column());
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        // The columns that are shown, then those that only conditions need.
        let mut columns = projection.clone();
        for column in rest.iter().flat_map(Expr::column_refs) {
            let index = self.schema.index_of(&column.name)?;
            if !columns.contains(&index) {
                columns.push(index);
            }
        }
        let built = Arc::new(self.schema.project(&columns)?);
        let filter = match conjunction(rest) {
            Some(condition) => {
                Some(state.create_physical_expr(condition, &built.as_ref().clone().to_dfschema()?)?)
            }
            None => None,
        };
        let reads = Reads::plan(self.kind, &self.sources, selection).await?;
        Ok(Arc::new(TableScan::new(Arc::new(reads), built, projection.len(), filter, limit)))
    }
}

fn has_subquery(expression: &Expr) -> bool {
    expression
        .exists(|inner| {
            Ok(matches!(
                inner,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        })
        .unwrap_or(true)
}
