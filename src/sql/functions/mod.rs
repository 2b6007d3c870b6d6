//! Functions for time series, beside those of DataFusion.

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

mod histogram;
mod intervals;
mod json;
mod ordered;
mod percentile;
pub(super) mod sizes;
pub(super) mod time_bucket;
mod to_char;
mod zones;

/// Makes the functions known to a session.
pub(super) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::new_from_impl(time_bucket::TimeBucket::new()));
    context.register_udf(ScalarUDF::new_from_impl(zones::TimeZone::new()));
    context.register_udf(ScalarUDF::new_from_impl(to_char::ToChar::new()));
    for function in json::Operator::ALL {
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
    for function in json::Member::ALL {
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
    for function in ordered::Ordered::ALL {
        context.register_udaf(AggregateUDF::new_from_impl(function));
    }
    context.register_udaf(AggregateUDF::new_from_impl(percentile::Percentile));
    context.register_udaf(AggregateUDF::new_from_impl(histogram::Histogram));
    sizes::register(context);
    intervals::register(context);
}
