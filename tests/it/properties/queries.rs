//! A grammar of queries that covers every aggregate, what stands above it, and every sink and mode.

use std::fmt::Write as _;

use proptest::prelude::*;

/// Aggregates that equal the batch result.
pub const AGGREGATES: [&str; 48] = [
    "count(*)",
    "count(n)",
    "sum(n)",
    "min(n)",
    "max(n)",
    "sum(i)",
    "avg(i)",
    "sum(m)",
    "avg(m)",
    "min(m)",
    "min(k)",
    "max(p)",
    "min(t)",
    "max(t)",
    "min(x)",
    "max(x)",
    "count(x)",
    "sum(d)",
    "avg(d)",
    "stddev(d)",
    "stddev_pop(d)",
    "variance(d)",
    "var_pop(d)",
    "corr(d, i)",
    "covar_samp(d, i)",
    "regr_slope(d, i)",
    "regr_count(d, i)",
    "count(DISTINCT p)",
    "count(DISTINCT n)",
    "sum(DISTINCT i)",
    "approx_distinct(p)",
    "approx_distinct(n)",
    "bool_and(b)",
    "bool_or(b)",
    "bit_and(n)",
    "bit_or(i)",
    "bit_xor(n)",
    "median(i)",
    "percentile_cont(0.25) WITHIN GROUP (ORDER BY i)",
    "array_agg(p ORDER BY seq)",
    "array_agg(i)",
    "array_agg(DISTINCT p ORDER BY p)",
    "string_agg(p, '|' ORDER BY seq)",
    "first_value(n ORDER BY seq)",
    "last_value(p ORDER BY seq DESC)",
    "nth_value(n, 2 ORDER BY seq)",
    "sum(n) FILTER (WHERE b)",
    "count(*) FILTER (WHERE p IN (80, 443))",
];

/// Aggregates whose result depends on where batches end: equal from run to run only.
pub const APPROXIMATE: [&str; 2] = ["approx_median(d)", "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY i)"];

pub const KEYS: [&str; 9] = [
    "k",
    "CASE p WHEN 80 THEN 'web' WHEN 443 THEN 'web' ELSE p END",
    "p",
    "b",
    "upper(k)",
    "n % 3",
    "coalesce(p, 'none')",
    "date_bin(INTERVAL '1 hour', t)",
    "character_length(k)",
];
pub const FILTERS: [&str; 12] = [
    "p IN (80, 443)",
    "n > 0",
    "b",
    "k IS NOT NULL AND k <> ''",
    "p = 80 OR p BETWEEN 10 AND 90",
    "x * 2 > 1",
    "k LIKE '%a%'",
    "CASE p WHEN 80 THEN b WHEN n THEN true ELSE i > 0 END",
    "80 IN (p, k) OR n NOT IN (p, 5)",
    "p IN (80, 400 + 43)",
    "(p IS DISTINCT FROM 80) AND (k IS NOT DISTINCT FROM i)",
    "80 BETWEEN k AND p OR n NOT BETWEEN p AND 7",
];
pub const HAVINGS: [&str; 3] = ["count(*) > 1", "max(n) IS NOT NULL", "count(*) % 2 = 1"];
pub const PLAIN: [&str; 11] =
    ["k", "p", "n", "i + 1", "x", "b", "upper(p)", "CASE WHEN b THEN 'yes' ELSE p END", "t", "m * 2", "d / i"];

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SinkKind {
    Memory,
    Console,
    Json,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grouping {
    Plain,
    Rollup,
    Sets,
}

#[derive(Debug, Clone)]
pub enum Body {
    /// Keys, aggregates, HAVING, and for complete mode ORDER BY the first column with LIMIT.
    Group {
        keys: Vec<usize>,
        aggregates: Vec<usize>,
        having: Option<usize>,
        limit: Option<(u8, bool)>,
        grouping: Grouping,
        hide_keys: bool,
    },
    Distinct {
        columns: Vec<usize>,
    },
    Plain {
        columns: Vec<usize>,
    },
}

#[derive(Debug, Clone)]
pub struct Query {
    pub body: Body,
    pub filter: Option<usize>,
    pub sink: SinkKind,
    pub update: bool,
    pub through_view: bool,
    /// Of the second source, where there is one.
    pub other: bool,
    pub approximate: Option<usize>,
    /// How many batches, and how often; of what groups.
    pub window: Option<(u8, u8)>,
}

pub fn several(upto: usize, count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..upto, count)
}

pub fn query() -> impl Strategy<Value = Query> {
    let limit = prop::option::weighted(0.3, (1_u8..5, any::<bool>()));
    let having = prop::option::weighted(0.2, 0..HAVINGS.len());
    let group = (
        several(KEYS.len(), 0..=2),
        several(AGGREGATES.len(), 1..=5),
        having,
        limit,
        prop_oneof![8 => Just(Grouping::Plain), 1 => Just(Grouping::Rollup), 1 => Just(Grouping::Sets)],
        prop::bool::weighted(0.1),
    );
    let body = prop_oneof![
        6 => group.prop_map(|(keys, aggregates, having, limit, grouping, hide_keys)| Body::Group { keys, aggregates, having, limit, grouping, hide_keys }),
        1 => several(PLAIN.len(), 1..=2).prop_map(|columns| Body::Distinct { columns }),
        1 => several(PLAIN.len(), 1..=4).prop_map(|columns| Body::Plain { columns }),
    ];
    let sink = prop::sample::select(vec![SinkKind::Memory, SinkKind::Console, SinkKind::Json, SinkKind::Csv]);
    let filter = prop::option::weighted(0.4, 0..FILTERS.len());
    let approximate = prop::option::weighted(0.1, 0..APPROXIMATE.len());
    let window = prop::option::weighted(0.25, (1_u8..4, 1_u8..4));
    (body, filter, sink, any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), approximate, window).prop_map(
        |(body, filter, sink, update, through_view, other, approximate, window)| Query {
            body,
            filter,
            sink,
            update,
            through_view,
            other,
            approximate,
            window,
        },
    )
}

impl Query {
    pub fn stateful(&self) -> bool {
        !matches!(self.body, Body::Plain { .. })
    }

    /// Its result equals the batch result.
    pub fn exact(&self) -> bool {
        self.approximate.is_none() || !matches!(self.body, Body::Group { .. })
    }

    /// The window over batches that it has.
    pub fn window(&self) -> Option<(u8, u8)> {
        self.window.filter(|_| matches!(self.body, Body::Group { .. }))
    }

    pub fn mode(&self) -> &'static str {
        if let Some((_, slide)) = self.window() {
            return if slide == 1 && self.update { "complete" } else { "append" };
        }
        match (&self.body, self.update) {
            (Body::Plain { .. }, false) | (Body::Distinct { .. }, true) => "append",
            (Body::Plain { .. }, true) | (Body::Group { .. }, true) => "update",
            (Body::Group { .. } | Body::Distinct { .. }, false) => "complete",
        }
    }

    pub fn select(&self, from: &str) -> String {
        let filter = self.filter.map_or(String::new(), |filter| format!(" WHERE {}", FILTERS[filter]));
        let columns = |columns: &[usize], of: &[&str]| {
            (0..).zip(columns).map(|(place, column)| format!("{} AS c{place}", of[*column])).collect::<Vec<_>>()
        };
        match &self.body {
            Body::Plain { columns: chosen } => {
                format!("SELECT {} FROM {from}{filter}", columns(chosen, &PLAIN).join(", "))
            }
            Body::Distinct { columns: chosen } => {
                format!("SELECT DISTINCT {} FROM {from}{filter}", columns(chosen, &PLAIN).join(", "))
            }
            Body::Group { keys, aggregates, having, limit, grouping, hide_keys } => {
                let mut keys = keys.clone();
                keys.dedup();
                let shown = if *hide_keys { vec![] } else { columns(&keys, &KEYS) };
                let chosen = || aggregates.iter().map(|which| AGGREGATES[*which]);
                // An order inside one aggregate and none, or another one, inside another is refused.
                let has_order = |aggregate: &str| aggregate.contains("ORDER BY seq");
                let has_other = |aggregate: &str| aggregate.contains("(DISTINCT p ORDER BY p)");
                let (ordered, other) = (chosen().any(has_order), chosen().any(has_other));
                let chosen = chosen().map(|aggregate| {
                    let refused =
                        (ordered && has_other(aggregate)) || ((ordered || other) && aggregate == "array_agg(i)");
                    if refused { "max(i)" } else { aggregate }.to_owned()
                });
                let approximate = self.approximate.map(|which| APPROXIMATE[which]);
                let numbered = (0..).zip(chosen.chain(approximate.map(str::to_owned)));
                let shown: Vec<String> = shown
                    .into_iter()
                    .chain(numbered.map(|(place, aggregate)| format!("{aggregate} AS a{place}")))
                    .collect();
                let mut sql = format!("SELECT {} FROM {from}{filter}", shown.join(", "));
                let list = keys.iter().map(|key| KEYS[*key]).collect::<Vec<_>>().join(", ");
                match (keys.is_empty(), grouping) {
                    (true, _) => {}
                    (false, Grouping::Plain) => write!(sql, " GROUP BY {list}").expect("text grows"),
                    (false, Grouping::Rollup) => write!(sql, " GROUP BY ROLLUP ({list})").expect("text grows"),
                    (false, Grouping::Sets) => {
                        let sets = keys.iter().map(|key| format!("({})", KEYS[*key])).collect::<Vec<_>>().join(", ");
                        write!(sql, " GROUP BY GROUPING SETS ({sets}, ({list}))").expect("text grows");
                    }
                }
                if let Some(having) = having {
                    write!(sql, " HAVING {}", HAVINGS[*having]).expect("text grows");
                }
                if let Some((limit, down)) = limit.filter(|_| self.mode() != "update") {
                    write!(sql, " ORDER BY count(*) {} LIMIT {limit}", if down { "DESC" } else { "ASC" })
                        .expect("text grows");
                }
                sql
            }
        }
    }

    /// CSV has no lists; of floats that were read back it is not known how large their addends were.
    pub fn sink(&self) -> SinkKind {
        let floats = |which: &usize| AGGREGATES[*which].contains("(d");
        let read_back = self.window.is_some() && self.mode() == "append" && !matches!(self.sink, SinkKind::Console);
        if matches!(&self.body, Body::Group { aggregates, .. } if read_back && aggregates.iter().any(floats)) {
            return SinkKind::Memory;
        }
        let lists = matches!(&self.body, Body::Group { aggregates, .. } if aggregates.iter().any(|which| AGGREGATES[*which].starts_with("array_agg")));
        if lists && self.sink == SinkKind::Csv { SinkKind::Json } else { self.sink }
    }
}
