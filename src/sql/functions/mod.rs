//! Functions for time series, beside those of DataFusion.

use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

mod json;
mod ordered;
mod time_bucket;

/// Makes the functions known to a session.
pub(super) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::new_from_impl(time_bucket::TimeBucket::new()));
    for function in json::Member::ALL {
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
    for function in ordered::Ordered::ALL {
        context.register_udaf(AggregateUDF::new_from_impl(function));
    }
    let percentile = approx_percentile_cont_udaf();
    context.register_udaf(percentile.as_ref().clone().with_aliases(["approx_percentile"]));
}
