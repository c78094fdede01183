//! DataFusion, set up so that results are a function of the input alone.

use std::sync::Arc;

use datafusion::{
    execution::session_state::SessionStateBuilder,
    functions_aggregate::variance::var_samp_udaf,
    logical_expr::AggregateUDF,
    optimizer::{Analyzer, AnalyzerRule, Optimizer},
    prelude::{SessionConfig, SessionContext},
};

use super::{feed::StreamPlanner, json_text, now::BatchTime, text_numbers::TextNumbers, urls, windows};

/// Rules that would take away or double the aggregate at which a plan is cut: `count(DISTINCT x)` as two aggregates,
/// and plans that know already that they are empty; and those that move fields of a struct below an aggregate by a name that
/// they read as a qualified one.
const RULES_OFF: [&str; 6] = [
    "single_distinct_aggregation_to_group_by",
    "propagate_empty_relation",
    "eliminate_filter",
    "eliminate_group_by_constant",
    "extract_leaf_expressions",
    "push_down_leaf_projections",
];

/// One partition, so that rows are met in input order; no rule that depends on statistics or on run-time filters.
pub(super) fn context(time: &BatchTime) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.execution.skip_partial_aggregation_probe_rows_threshold = usize::MAX;
    options.execution.collect_statistics = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // for errors that point at what is wrong
    options.sql_parser.collect_spans = true;
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    let rules = Optimizer::new().rules.into_iter().filter(|rule| !RULES_OFF.contains(&rule.name())).collect();
    let mut analyzer: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(TextNumbers)];
    analyzer.extend(Analyzer::new().rules);
    let state = SessionStateBuilder::new()
        .with_config(config)
        // asked before the defaults, which come behind it
        .with_expr_planners(vec![Arc::new(TextNumbers)])
        .with_default_features()
        .with_optimizer_rules(rules)
        .with_analyzer_rules(analyzer)
        .with_query_planner(Arc::new(StreamPlanner))
        .build();
    let context = SessionContext::new_with_state(state);
    for function in
        time.functions().into_iter().chain(windows::functions()).chain([urls::function(), json_text::function()])
    {
        context.register_udf(function);
    }
    // Spark's name for what DataFusion calls var().
    context.register_udaf(AggregateUDF::clone(&var_samp_udaf()).with_aliases(["variance"]));
    context
}
