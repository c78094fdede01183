//! Windows of event time: `window`, `session_window` and `window_time`, as in Spark. Times are microseconds.

use std::{any::Any, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMicrosecondArray},
        buffer::{NullBuffer, OffsetBuffer},
        datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType},
    },
    common::{Result, plan_err},
    error::DataFusionError,
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    scalar::ScalarValue,
};

use crate::job::parse_duration;

const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Windows that one row may be in.
const WINDOWS_MAX: i64 = 10_000;

fn fields() -> Fields {
    Fields::from(vec![Field::new("start", TIME, true), Field::new("end", TIME, true)])
}

/// What a window is to SQL: a struct of `start` and `end`.
pub(super) fn window_type() -> DataType {
    DataType::Struct(fields())
}

/// One of the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `window(time, size[, slide[, start]])`: the newest window that holds the time; each window holds its start and
    /// not its end.
    Window,
    /// All windows that hold the time, oldest first: what [`Kind::Window`] becomes where windows overlap.
    Windows,
    /// `session_window(time, gap)`: the session that a row makes by itself.
    Session,
    /// `window_time(window)`: the last microsecond of a window, so that it can be the event time of the next aggregate.
    WindowTime,
}

/// Which of the functions a call is, if it is one.
pub(super) fn kind_of(expr: &Expr) -> Option<(Kind, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let function = (call.func.inner().as_ref() as &dyn Any).downcast_ref::<WindowFunction>()?;
    Some((function.kind, &call.args))
}

/// The functions that SQL may call.
pub(super) fn functions() -> [ScalarUDF; 3] {
    [Kind::Window, Kind::Session, Kind::WindowTime].map(function)
}

pub(super) fn function(kind: Kind) -> ScalarUDF {
    ScalarUDF::from(WindowFunction { kind, signature: Signature::user_defined(Volatility::Immutable) })
}

/// Tumbling or sliding windows, aligned to the epoch plus `start_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub size_us: i64,
    pub slide_us: i64,
    pub start_us: i64,
}

impl Layout {
    /// From the arguments behind the time: strings such as `'10 minutes'`.
    ///
    /// # Errors
    /// In words, what is wrong with them.
    pub fn parse(arguments: &[Option<&str>]) -> std::result::Result<Layout, String> {
        let duration = |what: &str, text: &Option<&str>| {
            let text = text.ok_or_else(|| format!("the {what} of a window must be a string like '10 minutes'"))?;
            let (negative, text) = text.trim().strip_prefix('-').map_or((false, text), |text| (true, text));
            let parsed = parse_duration(text).and_then(|duration| i64::try_from(duration.as_micros()).ok());
            let us =
                parsed.ok_or_else(|| format!("the {what} of a window is no duration like '10 minutes': '{text}'"))?;
            Ok::<i64, String>(if negative { -us } else { us })
        };
        let size_us = duration("size", arguments.first().unwrap_or(&None))?;
        let slide_us = arguments.get(1).map_or(Ok(size_us), |slide| duration("slide", slide))?;
        let start_us = arguments.get(2).map_or(Ok(0), |start| duration("start", start))?;
        if size_us <= 0 || slide_us <= 0 {
            return Err("the size and the slide of a window must be more than nothing".to_owned());
        }
        if slide_us > size_us {
            return Err(
                "the slide of a window must not be more than its size: rows between windows would be lost".to_owned()
            );
        }
        if start_us.abs() >= slide_us {
            return Err("the start of a window must be less than its slide".to_owned());
        }
        if size_us / slide_us > WINDOWS_MAX {
            return Err(format!(
                "a row would be in more than {WINDOWS_MAX} windows: let them slide further, or be smaller"
            ));
        }
        Ok(Layout { size_us, slide_us, start_us })
    }

    /// Whether windows overlap.
    pub fn slides(&self) -> bool {
        self.slide_us < self.size_us
    }

    /// Where the newest window begins that holds a time.
    fn newest(&self, time_us: i64) -> i64 {
        let behind = i128::from(time_us) - i128::from(self.start_us);
        time_us.saturating_sub(behind.rem_euclid(i128::from(self.slide_us)) as i64)
    }

    /// The starts of all windows that hold a time, oldest first.
    fn starts(&self, time_us: i64) -> impl Iterator<Item = i64> {
        let (newest, slide) = (self.newest(time_us), self.slide_us);
        // the window that began n slides before the newest holds the time as long as n * slide < size - behind
        let behind = time_us.saturating_sub(newest);
        let count = (self.size_us - behind).saturating_add(slide - 1).div_euclid(slide);
        (0..count).rev().map(move |n| newest.saturating_sub(n.saturating_mul(slide)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    kind: Kind,
    signature: Signature,
}

impl WindowFunction {
    fn time_argument(&self, given: &DataType) -> Result<DataType> {
        match given {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Null => Ok(TIME),
            other => plan_err!("{}() is over a TIMESTAMP, and this is {other}", self.name()),
        }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Window => "window",
            Kind::Windows => "windows",
            Kind::Session => "session_window",
            Kind::WindowTime => "window_time",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let wanted = match self.kind {
            Kind::Window | Kind::Windows => 2..=4,
            Kind::Session => 2..=2,
            Kind::WindowTime => 1..=1,
        };
        if !wanted.contains(&given.len()) {
            return plan_err!(
                "{}() takes {} to {} arguments, and these are {}",
                self.name(),
                wanted.start(),
                wanted.end(),
                given.len()
            );
        }
        if self.kind == Kind::WindowTime {
            return match &given[0] {
                DataType::Struct(given) if given.len() == 2 && given[1].name() == "end" => Ok(vec![window_type()]),
                other => plan_err!("window_time() is of a window, and this is {other}"),
            };
        }
        let mut types = vec![self.time_argument(&given[0])?];
        types.extend(given[1..].iter().map(|_| DataType::Utf8));
        Ok(types)
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Window | Kind::Session => window_type(),
            Kind::Windows => DataType::List(Arc::new(Field::new_list_field(window_type(), true))),
            Kind::WindowTime => TIME,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let first = arguments.args[0].to_array(rows)?;
        let array: ArrayRef = match self.kind {
            Kind::Window => Arc::new(windows(&first, &layout(&arguments.args[1..])?)),
            Kind::Windows => Arc::new(all_windows(&first, &layout(&arguments.args[1..])?)?),
            Kind::Session => Arc::new(sessions(&first, &arguments.args[1].to_array(rows)?)),
            Kind::WindowTime => Arc::new(window_times(&first)),
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The layout that literal arguments give.
fn layout(arguments: &[ColumnarValue]) -> Result<Layout> {
    let texts: Vec<Option<&str>> = arguments
        .iter()
        .map(|argument| match argument {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    Layout::parse(&texts).map_err(DataFusionError::Execution)
}

/// The fields of a window that is null are null as well: who takes them does not ask for the window.
fn structs(starts: Vec<i64>, ends: Vec<i64>, nulls: Option<NullBuffer>) -> StructArray {
    let column = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::new(values.into(), nulls.clone())) as ArrayRef;
    let columns = vec![column(starts), column(ends)];
    StructArray::new(fields(), columns, nulls)
}

fn windows(times: &ArrayRef, layout: &Layout) -> StructArray {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    // whatever stands under a null is no time
    let starts: Vec<i64> = times.iter().map(|time| time.map_or(0, |time| layout.newest(time))).collect();
    let ends = starts.iter().map(|start| start.saturating_add(layout.size_us)).collect();
    structs(starts, ends, times.nulls().cloned())
}

fn all_windows(times: &ArrayRef, layout: &Layout) -> Result<ListArray> {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut starts = Vec::with_capacity(times.len());
    let mut lengths = Vec::with_capacity(times.len());
    for time in times {
        let before = starts.len();
        starts.extend(time.into_iter().flat_map(|time| layout.starts(time)));
        lengths.push(starts.len() - before);
    }
    let ends = starts.iter().map(|start| start.saturating_add(layout.size_us)).collect();
    let field = Arc::new(Field::new_list_field(window_type(), true));
    let values = Arc::new(structs(starts, ends, None));
    Ok(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, times.nulls().cloned())?)
}

/// A row whose gap is null, unreadable or not more than nothing makes no session, as in Spark.
fn sessions(times: &ArrayRef, gaps: &ArrayRef) -> StructArray {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let gaps = gaps.as_string::<i32>();
    let mut known: Option<(&str, Option<i64>)> = None;
    let (mut starts, mut ends, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for (time, gap) in times.iter().zip(gaps) {
        let gap = gap.and_then(|text| match known {
            Some((before, us)) if before == text => us,
            _ => {
                let us = parse_duration(text).and_then(|gap| i64::try_from(gap.as_micros()).ok()).filter(|us| *us > 0);
                known = Some((text, us));
                us
            }
        });
        let session = time.zip(gap);
        valid.push(session.is_some());
        let (time, gap) = session.unwrap_or_default();
        starts.push(time);
        ends.push(time.saturating_add(gap));
    }
    structs(starts, ends, Some(NullBuffer::from(valid)))
}

fn window_times(windows: &ArrayRef) -> TimestampMicrosecondArray {
    let windows = windows.as_struct();
    let ends = windows.column(1).as_primitive::<TimestampMicrosecondType>();
    ends.iter().map(|end| end.map(|end| end.saturating_sub(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn starts(arguments: &[&str], time_s: i64) -> Vec<i64> {
        let arguments: Vec<Option<&str>> = arguments.iter().copied().map(Some).collect();
        let layout = Layout::parse(&arguments).unwrap();
        let starts: Vec<i64> = layout.starts(time_s * S).map(|start| start / S).collect();
        assert_eq!(starts.last().copied(), Some(layout.newest(time_s * S) / S));
        starts
    }

    #[test]
    fn windows_are_half_open_and_aligned_to_the_epoch() {
        assert_eq!(starts(&["10s"], 0), [0]);
        assert_eq!(starts(&["10s"], 9), [0]);
        assert_eq!(starts(&["10s"], 10), [10]);
        assert_eq!(starts(&["10s"], -1), [-10]);
        assert_eq!(starts(&["10s", "5s"], 7), [0, 5]);
        assert_eq!(starts(&["10s", "5s"], 5), [0, 5]);
        assert_eq!(starts(&["10s", "4s"], 7), [0, 4]);
        assert_eq!(starts(&["10s", "4s"], 8), [0, 4, 8]);
        assert_eq!(starts(&["10s", "4s"], 10), [4, 8]);
        assert_eq!(starts(&["10s", "10s", "3s"], 2), [-7]);
        assert_eq!(starts(&["10s", "5s", "-1s"], 4), [-1, 4]);
    }

    #[test]
    fn every_window_that_holds_a_time_is_found() {
        for (size, slide, start) in [(10, 3, 0), (10, 3, 2), (9, 3, -1), (7, 7, 0), (7, 6, 5), (1, 1, 0)] {
            let layout = Layout { size_us: size, slide_us: slide, start_us: start };
            for time in -40..40 {
                let expected: Vec<i64> =
                    (-60..60).map(|n| n * slide + start).filter(|at| *at <= time && time < at + size).collect();
                assert_eq!(layout.starts(time).collect::<Vec<_>>(), expected, "{layout:?} {time}");
            }
        }
    }

    #[test]
    fn what_is_no_window_is_said_so() {
        for (arguments, wrong) in [
            (&["ten"][..], "no duration"),
            (&["0s"], "more than nothing"),
            (&["5s", "6s"], "must not be more than its size"),
            (&["10s", "5s", "5s"], "less than its slide"),
        ] {
            let arguments: Vec<Option<&str>> = arguments.iter().copied().map(Some).collect();
            let error = Layout::parse(&arguments).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(Layout::parse(&[None]).is_err());
    }
}
